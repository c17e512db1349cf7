import { test } from "tap";
import { replay } from "../../conformance/replay.ts";
import { HOST, Service } from "../../conformance/service.ts";
import { readTranscripts } from "../../conformance/transcript.ts";
import { BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { CMD } from "../../src/abi/service.ts";
import { IGNORE } from "../../src/engine/followers.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { changedElements } from "../../src/past/diff.ts";
import { History, type PastLog } from "../../src/past/history.ts";
import { Past } from "../../src/past/past.ts";
import { touchedCells } from "../../src/past/touched_cells.ts";
import { OPERATOR, OpenMap } from "../../src/syscall/open_map.ts";
import { State } from "../../src/syscall/state.ts";
import { createAttr } from "../support/commands.ts";

const MOMENTS = 4;

function openAt(history: History, seq: number, id: number): OpenMap | null {
  const state = new State(history.at(seq), HOST, IGNORE);
  const map = state.map(id);
  return map === undefined ? null : new OpenMap(state, map, OPERATOR);
}

let differences = 0;

for (const transcript of readTranscripts())
  test(`the events of ${transcript.name} give the differences that all elements give`, async (t) => {
    const service = new Service();
    replay(service, transcript);
    service.end();
    const { lastSeq } = service.log;
    const history = new History(service.log, new MemoryCells(), HOST);
    await history.reach(lastSeq);
    for (let map = 1; map <= 5; map++)
      for (let part = 0; part < MOMENTS; part++) {
        const [after, until] = [part, part + 1].map((at) => Math.floor((lastSeq * at) / MOMENTS)) as [number, number];
        const [before, now] = [openAt(history, after, map), openAt(history, until, map)];
        if (before === null || now === null) continue;
        const { value, keyFd } = before.type.facts;
        if (value !== null || keyFd !== null) continue;
        const touched = await touchedCells(service.log, history.at(after), HOST, { map, after, until });
        if (touched === null) throw new Error("the events are few, and at hand");
        const found = [...changedElements(before, now, touched)];
        t.same(found, [...changedElements(before, now)], `map ${map}, ${after} to ${until}`);
        t.same([...changedElements(now, before, touched)], [...changedElements(now, before)], "backwards");
        differences += found.length;
      }
    t.ok(lastSeq > 0);
  });

test("elements differed", async (t) => t.ok(differences > 100, `${differences}`));

/** A log that counts how often its changes are read. */
function counted(log: PastLog): PastLog & { reads: number } {
  return {
    reads: 0,
    lastSeq: log.lastSeq,
    archivedThrough: 0,
    atHandAfter: 0,
    changesAfter(seq, last) {
      this.reads++;
      return log.changesAfter(seq, last);
    },
    origin: (seq) => log.origin(seq),
    seqAt: (timeUs) => log.seqAt(timeUs),
  };
}

test("a difference goes through the events if the map has many more elements, and only then", async (t) => {
  const service = new Service();
  const create = { mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, maxEntries: 1000 };
  const { outcome } = service.run({ cmd: CMD.BPF_MAP_CREATE, attr: createAttr(create) });
  const target = { by: "fd", fd: outcome.ret } as const;
  const put = (number: number, value: number): void => {
    const key = Buffer.from([number, number >> 8, 0, 0]);
    service.run({ cmd: CMD.BPF_MAP_UPDATE_ELEM, target, key, value: Buffer.alloc(8, value), flags: 0n });
  };
  for (let number = 0; number < 500; number++) put(number, 1);
  const filled = service.log.lastSeq;
  for (let number = 7; number < 10; number++) put(number, 2);
  const { lastSeq } = service.log;
  const history = new History(service.log, new MemoryCells(), HOST);
  await history.reach(lastSeq);
  const log = counted(service.log);
  const past = new Past(log, history, HOST);
  const ask = (from: number) =>
    past.ask("diff", {
      reference: { id: outcome.map },
      from: { seq: from },
      to: { seq: lastSeq },
      after: null,
      limit: 9,
    });
  t.match(await ask(filled), { counts: { added: 0, changed: 3, removed: 0 }, more: false });
  t.ok(log.reads > 0);
  log.reads = 0;
  t.match(await ask(filled - 300), { counts: { added: 300, changed: 3, removed: 0 }, more: true });
  t.equal(log.reads, 0);
});
