import fc from "fast-check";
import t from "tap";
import { BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { CMD } from "../../src/abi/service.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { Moments } from "../../src/engine/moments.ts";
import { PendingCells } from "../../src/engine/pending.ts";
import type { Ran, Reply, Request } from "../../src/engine/request.ts";
import { u32Key } from "../../src/maps/cells.ts";
import { elementsOf } from "../../src/syscall/elements.ts";
import { OPERATOR, OpenMap } from "../../src/syscall/open_map.ts";
import { createAttr, HOST } from "../support/commands.ts";
import { memoryEngine } from "../support/memory_engine.ts";
import { MemoryLog } from "../support/memory_log.ts";
import { SEED } from "../support/seed.ts";

const T = BPF_MAP_TYPE;
const WHO = { session: 1, caller: "a" } as const;

function start(): { engine: Engine; log: MemoryLog; run: (request: Request) => Reply } {
  const log = new MemoryLog();
  const engine = memoryEngine({ log });
  const run = (request: Request): Reply => engine.run([request])[0] as Reply;
  run({ cmd: CMD.SESSION_OPEN, session: 0, caller: "a", attr: { name: "", ttlMs: 60_000 } });
  return { engine, log, run };
}

function key(number: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number);
  return bytes;
}

function update(fd: number, at: number, value: number): Request {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(value);
  return { cmd: CMD.BPF_MAP_UPDATE_ELEM, ...WHO, target: { by: "fd", fd }, key: key(at), value: bytes, flags: 0n };
}

function remove(fd: number, at: number): Request {
  return { cmd: CMD.BPF_MAP_DELETE_ELEM, ...WHO, target: { by: "fd", fd }, key: key(at), value: null, flags: 0n };
}

function page(limit: number): Request {
  return { cmd: CMD.MAP_ELEMENTS, session: 0, caller: "a", target: { by: "id", id: 1 }, attr: { after: null, limit } };
}

function elements(engine: Engine): string[] {
  const map = engine.state.map(1);
  if (map === undefined) return [];
  return [...elementsOf(new OpenMap(engine.state, map, OPERATOR), null)].map(pair);
}

function pair({ key, value }: { key: Buffer; value: Buffer }): string {
  return `${key.toString("hex")}=${value.toString("hex")}`;
}

/** What an outcome has, as `elements` has it. */
function pairs({ outcome }: Pick<Ran, "outcome">): string[] {
  const count = outcome.out?.count ?? 0;
  const [keys, values] = [outcome.key as Buffer, outcome.value as Buffer];
  const valueBytes = values.length / count;
  return Array.from({ length: count }, (_, at) =>
    pair({ key: keys.subarray(at * 4, at * 4 + 4), value: values.subarray(at * valueBytes, (at + 1) * valueBytes) }),
  );
}

const TYPES = [
  { mapType: T.BPF_MAP_TYPE_HASH },
  { mapType: T.BPF_MAP_TYPE_LRU_HASH },
  { mapType: T.BPF_MAP_TYPE_ARRAY },
  { mapType: T.BPF_MAP_TYPE_PERCPU_HASH },
] as const;

t.test("a map is read page by page as it was at one moment, whatever is done to it meanwhile", async (t) => {
  const change = fc.record({ what: fc.constantFrom("update", "delete", "free"), at: fc.nat(6000), value: fc.nat() });
  const run = fc.property(
    fc.constantFrom(...TYPES),
    fc.array(fc.array(change, { maxLength: 40 }), { minLength: 3, maxLength: 8 }),
    fc.integer({ min: 100, max: 900 }),
    (type, rounds, limit) => {
      const { engine, run } = start();
      const create = { cmd: CMD.BPF_MAP_CREATE, ...WHO, attr: createAttr({ ...type, maxEntries: 5500 }) } as const;
      run(create);
      for (let at = 0; at < 5000; at++) run(update(3, at, at));
      const then = elements(engine);
      const first = run(page(2 ** 32 - 1)) as Ran;
      const found = pairs(first);
      let { outcome } = first;
      for (let round = 0; outcome.out?.more === true; round++) {
        for (const { what, at, value } of rounds[round] ?? [])
          if (what === "update") run(update(3, at, value));
          else if (what === "delete") run(remove(3, at));
          else run({ cmd: CMD.CLOSE, ...WHO, fd: 3, attr: { reason: "close" } });
        while (engine.state.garbage.reclaim(1000));
        const after = Buffer.from((found.at(-1) as string).slice(0, 8), "hex");
        outcome = engine.moments.read(first.seq, 1, after, limit) as Ran["outcome"];
        t.ok(outcome !== null);
        found.push(...pairs({ outcome }));
      }
      t.same(found, then);
    },
  );
  fc.assert(run, { numRuns: 20, seed: SEED });
});

t.test("objects are shown as they were, when what they refer to is gone", async (t) => {
  const { engine, run } = start();
  const attr = createAttr({ mapType: T.BPF_MAP_TYPE_SOCKMAP, maxEntries: 8 });
  run({ cmd: CMD.BPF_MAP_CREATE, ...WHO, attr });
  const socket = run({ cmd: CMD.OPEN, ...WHO, attr: { kind: "udp_bound" } }) as Ran;
  run(update(3, 5, socket.outcome.ret));
  const then = elements(engine);
  t.equal(then.length, 1);
  engine.moments.open(engine.seq, 1);
  run({ cmd: CMD.CLOSE, ...WHO, fd: socket.outcome.ret, attr: { reason: "close" } });
  t.same(elements(engine), [], "a socket that is closed leaves the map");
  t.same(pairs({ outcome: engine.moments.read(engine.seq - 1, 1, null, 10) as Ran["outcome"] }), then);
});

t.test("only who asked for more than a page has a moment, and an event that did not happen has none", async (t) => {
  const { engine, log, run } = start();
  run({ cmd: CMD.BPF_MAP_CREATE, ...WHO, attr: createAttr({ mapType: T.BPF_MAP_TYPE_ARRAY, maxEntries: 9000 }) });
  run(page(1000));
  t.equal(engine.moments.count, 0, "a page that is full says no more");
  const { seq } = run(page(9000)) as Ran;
  t.equal(engine.moments.count, 1);
  t.equal(engine.moments.read(seq, 2, null, 10), null, "a moment is one map's");
  log.broken = new Error("full");
  t.match(run(page(9000)), { failure: "log failed" });
  t.equal(engine.moments.count, 1);
  engine.moments.close(seq);
  t.equal(engine.moments.read(seq, 1, null, 10), null);
});

t.test("moments are let go if nobody reads them, and if they keep too much", async (t) => {
  const cells = new PendingCells(new MemoryCells());
  let nowMs = 0;
  const moments = new Moments(cells, HOST, { nowMs: () => nowMs });
  const table = Array.from({ length: 40 }, (_, at) => `e${u32Key(1)}${u32Key(at)}`);
  for (const key of table) cells.put(key, Buffer.alloc(1024 * 1024));
  moments.open(1, 1);
  nowMs = 5000;
  moments.open(2, 1);
  nowMs = 10_001;
  moments.trim();
  t.equal(moments.count, 1, "unread for ten seconds");
  nowMs = 5000;
  moments.open(3, 1);
  for (const key of table) cells.delete(key);
  moments.trim();
  t.equal(moments.count, 1, "two with 40 MiB are more than all may keep; the one read longest ago goes");
  moments.close(2);
  t.equal(moments.count, 1, "which was the first");
  moments.close(3);
  for (let seq = 10; seq < 100; seq++) moments.open(seq, 1);
  t.equal(moments.count, 64, "so many at once");
});

t.test("a slow reader keeps its moment, and what it has passed is kept no longer", async (t) => {
  const log = new MemoryLog();
  let nowMs = 0;
  const engine = memoryEngine({ log, clock: { nowUs: () => 1_000_000, nowMs: () => nowMs } });
  const run = (request: Request): Reply => engine.run([request])[0] as Reply;
  run({ cmd: CMD.SESSION_OPEN, session: 0, caller: "a", attr: { name: "", ttlMs: 3_600_000 } });
  const attr = createAttr({ mapType: T.BPF_MAP_TYPE_HASH, valueSize: 8, maxEntries: 9000 });
  run({ cmd: CMD.BPF_MAP_CREATE, ...WHO, attr });
  for (let at = 0; at < 9000; at++) run(update(3, at, at));
  const then = elements(engine);
  const first = run(page(2 ** 32 - 1)) as Ran;
  const found = pairs(first);
  const lastKey = (): Buffer => Buffer.from((found.at(-1) as string).slice(0, 8), "hex");
  const next = (): void => {
    const outcome = engine.moments.read(first.seq, 1, lastKey(), 2 ** 32 - 1);
    if (outcome === null) throw new Error("the moment was closed");
    found.push(...pairs({ outcome }));
  };
  next();
  for (let at = 0; at < 9000; at++) run(update(3, at, at + 1));
  const kept = engine.moments.bytes;
  t.ok(kept > 0 && kept < 9000 * 200, `${kept} bytes`);
  for (let pages = 0; found.length < then.length; pages++) {
    nowMs += 300_000;
    engine.moments.trim();
    next();
    t.ok(pages < 9, "pages have many elements");
  }
  t.same(found, then);
  t.ok(engine.moments.bytes < kept / 4, `${engine.moments.bytes} bytes of ${kept} are kept at the end`);
  nowMs += 600_001;
  engine.moments.trim();
  t.equal(engine.moments.count, 0, "a reader that has gone without a word");
});
