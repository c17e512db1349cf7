import { join } from "node:path";
import { type Test, test } from "tap";
import { replay } from "../../conformance/replay.ts";
import { HOST, Service } from "../../conformance/service.ts";
import { readTranscripts } from "../../conformance/transcript.ts";
import { BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { CMD } from "../../src/abi/service.ts";
import { IGNORE } from "../../src/engine/followers.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { afterPrefix, type CellKey, type Cells } from "../../src/maps/cells.ts";
import { History } from "../../src/past/history.ts";
import { groupOf, imageAt, VERSION_FILTER } from "../../src/past/versions.ts";
import { RunsStore } from "../../src/runs/store.ts";
import { redo } from "../../src/syscall/execute.ts";
import { State } from "../../src/syscall/state.ts";
import { createAttr } from "../support/commands.ts";

const END_OF_CELLS = "\u0100";

/** The cells of some groups, in hex. */
function dump(cells: Cells, groups: Iterable<string>): [string, string][] {
  const hex = (key: CellKey): string => Buffer.from(key, "latin1").toString("hex");
  return [...groups].flatMap((group) =>
    [...cells.range(group, afterPrefix(group))].map(
      ([key, bytes]) => [hex(key), bytes.toString("hex")] as [string, string],
    ),
  );
}

/** Folds a log event by event, and tells of the cells after each of some. */
function* foldAt(service: Service, moments: ReadonlySet<number>): Iterable<readonly [seq: number, MemoryCells]> {
  const cells = new MemoryCells();
  const state = new State(cells, HOST, IGNORE);
  if (moments.has(0)) yield [0, cells];
  for (const { seq, command, outcome } of service.log.read(0)) {
    redo(state, command, outcome);
    if (moments.has(seq)) yield [seq, cells];
  }
}

/** The store that services have. */
function storeIn(t: Test): RunsStore {
  const store = new RunsStore(join(t.testdir(), "history"), "log", { filtered: VERSION_FILTER });
  t.teardown(() => store.close());
  return store;
}

const MOMENTS = 12;

for (const transcript of readTranscripts().filter(({ name }) => !name.startsWith("random")))
  test(`as of any seq of ${transcript.name} the cells are the fold of the log up to it`, async (t) => {
    const service = new Service();
    replay(service, transcript);
    service.end();
    const { lastSeq } = service.log;
    const store = storeIn(t);
    await new History(service.log, store, HOST).reach(Math.floor(lastSeq / 2));
    const history = new History(service.log, store, HOST);
    await history.reach(lastSeq);
    t.equal(history.seq, lastSeq);

    const moments = new Set(Array.from({ length: MOMENTS + 1 }, (_, at) => Math.floor((lastSeq * at) / MOMENTS)));
    const groups = new Set<string>();
    for (const [seq, cells] of foldAt(service, moments)) {
      for (const [key] of cells.range("", END_OF_CELLS)) groups.add(groupOf(key));
      t.same(dump(history.at(seq), groups), dump(cells, groups), `seq ${seq} of ${lastSeq}`);
    }
  });

/** Cells in memory that count what ranges have given out. */
class CountedCells extends MemoryCells {
  walked = 0;

  override *range(from: CellKey, to: CellKey): ReturnType<MemoryCells["range"]> {
    for (const cell of super.range(from, to)) {
      this.walked++;
      yield cell;
    }
  }
}

test("to walk a map as of a moment costs what the map holds then, however much went through it", async (t) => {
  const service = new Service();
  const { outcome } = service.run({
    cmd: CMD.BPF_MAP_CREATE,
    attr: createAttr({ mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, maxEntries: 64 }),
  });
  const target = { by: "fd", fd: outcome.ret } as const;
  const key = (number: number): Buffer => Buffer.from([number, number >> 8, number >> 16, 0]);
  const ROUNDS = 40_000;
  const LIVING = 10;
  for (let round = 0; round < ROUNDS; round++) {
    const value = Buffer.alloc(8, round);
    service.run({ cmd: CMD.BPF_MAP_UPDATE_ELEM, target, key: key(round), value, flags: 0n });
    if (round >= LIVING)
      service.run({ cmd: CMD.BPF_MAP_DELETE_ELEM, target, key: key(round - LIVING), value: null, flags: 0n });
  }
  const store = new CountedCells();
  const history = new History(service.log, store, HOST);
  const { lastSeq } = service.log;
  await history.reach(lastSeq);

  const moments = new Set([1000, 30_000, 50_000, lastSeq]);
  const group = groupOf(service.cellsOf(outcome.map)[0] as CellKey);
  for (const [seq, cells] of foldAt(service, moments)) {
    store.walked = 0;
    t.same(dump(history.at(seq), [group]), dump(cells, [group]), `as of ${seq}`);
    t.ok(store.walked < 3000, `${store.walked} versions were passed`);
  }
  const [cell] = service.cellsOf(outcome.map) as [CellKey];
  const versions = [...history.versions(cell, lastSeq)];
  t.equal(versions.length, 1, "a copy in a new image is no version of its own");

  const begun = new History(service.log, store, HOST);
  await begun.reach(lastSeq);
  t.same(
    dump(begun.at(lastSeq), [group]),
    dump(history.at(lastSeq), [group]),
    "what is begun again goes on where it was",
  );
});

// The last: more than one piece of the copy has.
for (const LIVING of [200, 9000, 17_000])
  test(`a map of ${LIVING} whose others go is copied into new images, and is what it was before and after`, async (t) => {
    const GOING = 3000;
    const service = new Service();
    const { outcome } = service.run({
      cmd: CMD.BPF_MAP_CREATE,
      attr: createAttr({ mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, maxEntries: LIVING + GOING }),
    });
    const target = { by: "fd", fd: outcome.ret } as const;
    const batch = (cmd: "update" | "delete", from: number, count: number): void => {
      const key = Buffer.alloc(4 * count);
      for (let at = 0; at < count; at++) key.writeUInt32LE((from + at) * 7919, 4 * at);
      const attr = { count, elemFlags: 0n, inBatch: null, outBatch: null };
      const common = { target, key, flags: 0n, attr };
      if (cmd === "delete") service.run({ cmd: CMD.BPF_MAP_DELETE_BATCH, ...common, value: null });
      else service.run({ cmd: CMD.BPF_MAP_UPDATE_BATCH, ...common, value: Buffer.alloc(8 * count, from % 251) });
    };
    batch("update", 0, LIVING);
    const store = storeIn(t);
    const history = new History(service.log, store, HOST);
    const group = groupOf(service.cellsOf(outcome.map)[0] as CellKey);
    const images: number[] = [];
    for (let round = 0; round < 8; round++) {
      batch("update", LIVING, GOING);
      batch("delete", LIVING, GOING);
      batch("update", 1000 * round, 10);
      await history.reach(service.log.lastSeq);
      const { start } = imageAt(store, group, Number.MAX_SAFE_INTEGER);
      if (start !== images.at(-1)) images.push(start);
    }
    t.ok(images.length >= 2, `images begin at ${images.join(", ")}`);
    const { lastSeq } = service.log;
    for (const [seq, cells] of foldAt(service, new Set(Array.from({ length: lastSeq + 1 }, (_, at) => at))))
      if (dump(history.at(seq), [group]).join() !== dump(cells, [group]).join()) t.fail(`as of ${seq} of ${lastSeq}`);
    const [cell] = service.cellsOf(outcome.map) as [CellKey];
    t.ok(history.at(lastSeq).get(cell), "and it is found by its key");
  });

/** The most cells of one write. */
class WrittenCells extends MemoryCells {
  most = 0;

  override async write(changes: Parameters<MemoryCells["write"]>[0], seq: number): Promise<void> {
    const cells = [...changes];
    this.most = Math.max(this.most, cells.length);
    await super.write(cells, seq);
  }
}

test("the history is written in pieces although each event has many elements", async (t) => {
  const service = new Service();
  const PAIRS = 10_000;
  const { outcome } = service.run({
    cmd: CMD.BPF_MAP_CREATE,
    attr: createAttr({ mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, maxEntries: PAIRS }),
  });
  const key = Buffer.alloc(4 * PAIRS);
  for (let pair = 0; pair < PAIRS; pair++) key.writeUInt32LE(pair, 4 * pair);
  const attr = { count: PAIRS, elemFlags: 0n, inBatch: null, outBatch: null };
  const EVENTS = 20;
  for (let value = 1; value <= EVENTS; value++)
    service.run({
      cmd: CMD.BPF_MAP_UPDATE_BATCH,
      target: { by: "fd", fd: outcome.ret },
      key,
      value: Buffer.alloc(8 * PAIRS, value),
      flags: 0n,
      attr,
    });
  const store = new WrittenCells();
  const history = new History(service.log, store, HOST);
  await history.reach(service.log.lastSeq);
  t.ok(store.most < 65_536 + 2 * PAIRS, `${store.most} cells in one write of ${EVENTS * PAIRS}`);
  const [cell] = service.cellsOf(outcome.map) as [CellKey];
  t.equal([...history.versions(cell, service.log.lastSeq)].length, EVENTS);
});
