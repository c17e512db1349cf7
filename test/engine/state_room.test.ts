import t from "tap";
import { CMD } from "../../src/abi/service.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import type { Reply, Request } from "../../src/engine/request.ts";
import type { Pending } from "../../src/engine/state_writes.ts";
import type { CellKey } from "../../src/maps/cells.ts";
import { createAttr } from "../support/commands.ts";
import { memoryEngine } from "../support/memory_engine.ts";
import { MemoryLog } from "../support/memory_log.ts";

/** A store whose disk fails until it is mended. */
class FailingCells extends MemoryCells {
  code: string | null = "ENOSPC";
  tries = 0;

  override async write(changes: Iterable<readonly [CellKey, Buffer | null]>, seq: number): Promise<void> {
    this.tries++;
    if (this.code !== null) throw Object.assign(new Error("the disk fails"), { code: this.code });
    await super.write(changes, seq);
  }
}

const LARGE: Pending = { cells: 20, bytes: 1_000_000 };
/** How far what is pending may outgrow that. */
const MOST = 3 * LARGE.cells;
const who = { session: 1, caller: "a" } as const;
const target = { by: "fd", fd: 3 } as const;
const open: Request = { cmd: CMD.SESSION_OPEN, session: 0, caller: "a", attr: { name: "", ttlMs: 60_000 } };
const keyOf = (at: number): Buffer => {
  const key = Buffer.alloc(4);
  key.writeUInt32LE(at);
  return key;
};
const element = { ...who, target, flags: 0n } as const;
const update = (at: number): Request => ({
  ...element,
  cmd: CMD.BPF_MAP_UPDATE_ELEM,
  key: keyOf(at),
  value: Buffer.alloc(8, at),
});
const lookup = (at: number): Request => ({ ...element, cmd: CMD.BPF_MAP_LOOKUP_ELEM, key: keyOf(at), value: null });

const run = (engine: Engine, request: Request): Reply => engine.run([request])[0] as Reply;

function begun(log: MemoryLog, store: MemoryCells): Engine {
  const engine = memoryEngine({ log, store, large: LARGE });
  run(engine, open);
  run(engine, { ...who, cmd: CMD.BPF_MAP_CREATE, attr: createAttr({ maxEntries: 1000 }) });
  return engine;
}

t.test("while the state's disk fails changes are pending up to a bound, and reads go on beyond it", async (t) => {
  const rows = [
    ["ENOSPC", "disk full"],
    ["EIO", "state failed"],
  ] as const;
  for (const [code, failure] of rows) {
    const log = new MemoryLog();
    const store = new FailingCells();
    store.code = code;
    const engine = begun(log, store);
    await engine.written();
    let done = 0;
    while ("seq" in run(engine, update(done))) {
      done++;
      engine.writeLarge();
      if (done > 2 * MOST) break;
    }
    t.ok(done > LARGE.cells && done < MOST, `${code}: ${done} changes are pending`);
    const { seq } = engine;
    const refused = [
      update(0),
      { ...element, cmd: CMD.BPF_MAP_DELETE_ELEM, key: keyOf(0), value: null },
      { ...who, cmd: CMD.BPF_MAP_CREATE, attr: createAttr({}) },
      { ...who, cmd: CMD.BPF_MAP_GET_FD_BY_ID, attr: { mapId: 1, openFlags: 0 } },
      open,
    ] as Request[];
    for (const request of refused)
      t.match(run(engine, request), { failure, done: "nothing", detail: /pending.*the disk fails/ }, `${request.cmd}`);
    t.match(engine.runWhole([update(0)], { map: 1, seq }), { failure, done: "nothing" }, "nor as one");
    t.equal(engine.seq, seq, "nothing of that is in the log");
    t.match(run(engine, lookup(done - 1)), { outcome: { errno: 0, value: Buffer.alloc(8, done - 1) } });
    t.match(run(engine, { ...who, cmd: CMD.SESSION_RENEW, attr: { ttlMs: 60_000 } }), { outcome: { errno: 0 } });

    store.code = null;
    await engine.written();
    t.match(run(engine, update(done)), { outcome: { errno: 0 } }, "there is room again");
    await engine.written();
    t.equal(store.seq, log.lastSeq);
    await engine.close();
  }
});

t.test("a store that is busy writing is waited for, and refuses nobody", async (t) => {
  const store = new MemoryCells();
  const engine = begun(new MemoryLog(), store);
  for (let at = 0; at < 2 * MOST; at++) {
    t.match(run(engine, update(at)), { outcome: { errno: 0 } });
    if (engine.room !== null) await engine.room;
    engine.writeLarge();
  }
  await engine.close();
});

/** A store whose writes end when they are let. */
class SlowCells extends MemoryCells {
  release: () => void = () => {};

  override async write(changes: Iterable<readonly [CellKey, Buffer | null]>, seq: number): Promise<void> {
    await new Promise<void>((resolve) => {
      this.release = resolve;
    });
    await super.write(changes, seq);
  }
}

t.test("large commands wait for a busy store before others do", async (t) => {
  const store = new SlowCells();
  const engine = begun(new MemoryLog(), store);
  const waiting: [piece: boolean, other: boolean][] = [];
  for (let at = 0; at < LARGE.cells + MOST + 1; at++) {
    run(engine, update(at));
    engine.writeLarge();
    waiting.push([engine.roomForPiece !== null, engine.room !== null]);
  }
  const first = (which: 0 | 1): number => waiting.findIndex((each) => each[which]);
  t.ok(first(0) > LARGE.cells && first(0) <= 3 * LARGE.cells, `large commands wait after ${first(0)} changes`);
  t.ok(first(1) >= first(0) + LARGE.cells, `others after ${first(1)}`);
  const { room, roomForPiece } = engine;
  store.release();
  await Promise.all([room, roomForPiece]);
  engine.writeLarge();
  t.same([engine.room, engine.roomForPiece], [null, null]);
  store.release();
  await engine.close();
});

t.test("a replay whose store fails keeps a state in memory up to a bound, and waits for room beyond it", async (t) => {
  const log = new MemoryLog();
  const former = begun(log, new MemoryCells());
  for (let at = 0; at < 900; at++) run(former, update(at));
  await former.close();

  const small = new FailingCells();
  const served = memoryEngine({ log, store: small, large: { cells: 10, bytes: 1_000_000 } });
  await served.recover(() => {});
  t.match(run(served, lookup(899)), { outcome: { errno: 0 } }, "what is below it is served");

  const store = new FailingCells();
  const faults: unknown[] = [];
  const stateTold = (fault: unknown): void => {
    faults.push(fault);
    store.code = null;
  };
  const waiting = memoryEngine({ log, store, large: { cells: 4, bytes: 1_000_000 }, stateTold });
  await waiting.recover(() => {});
  t.match(faults.slice(0, 2), [{ full: true }, null], "it goes on when it could be written to");
  t.equal(store.seq, log.lastSeq);
  t.match(run(waiting, lookup(899)), { outcome: { errno: 0 } });
});
