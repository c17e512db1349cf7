import { isDeepStrictEqual } from "node:util";
import t from "tap";
import { BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { CMD } from "../../src/abi/service.ts";
import type { Engine, EngineParts } from "../../src/engine/engine.ts";
import { IGNORE } from "../../src/engine/followers.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import type { Request } from "../../src/engine/request.ts";
import { type EventRow, rowEvent } from "../../src/log/event.ts";
import { History } from "../../src/past/history.ts";
import { Past } from "../../src/past/past.ts";
import { redo } from "../../src/syscall/execute.ts";
import type { Outcome } from "../../src/syscall/outcome.ts";
import { State } from "../../src/syscall/state.ts";
import { createAttr, HOST } from "../support/commands.ts";
import { dump, foldRows } from "../support/fold.ts";
import { memoryEngine } from "../support/memory_engine.ts";
import { MemoryLog } from "../support/memory_log.ts";
import { u32 } from "../support/mirror.ts";

const { BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_DEVMAP_HASH, BPF_MAP_TYPE_HASH_OF_MAPS, BPF_MAP_TYPE_SOCKMAP } = BPF_MAP_TYPE;
const ALICE = { session: 1, caller: "alice" };
/** More than go in one moment, and in two. */
const MANY = 4500;
const PIECES = [2048, 2048, MANY - 2 * 2048];

class Ledger {
  readonly log: MemoryLog;
  readonly engine: Engine;

  constructor(log = new MemoryLog(), parts: Partial<EngineParts> = {}) {
    this.log = log;
    this.engine = memoryEngine({ log, ...parts });
  }

  run(...requests: readonly Request[]): Outcome {
    const replies = this.engine.run(requests);
    const last = replies.at(-1);
    if (last === undefined || "failure" in last) throw new Error(last?.failure);
    return last.outcome;
  }

  /** Through the descriptor of a map. */
  put(fd: number, values: readonly number[]): void {
    const target = { by: "fd", fd } as const;
    const requests = values.map(
      (value, at): Request => ({
        ...ALICE,
        cmd: CMD.BPF_MAP_UPDATE_ELEM,
        target,
        key: u32(at),
        value: u32(value),
        flags: 0n,
      }),
    );
    const refused = this.engine.run(requests).find((reply) => !("outcome" in reply) || reply.outcome.errno !== 0);
    if (refused !== undefined) throw new Error(JSON.stringify(refused));
  }

  close(fd: number): Outcome {
    return this.run({ ...ALICE, cmd: CMD.CLOSE, fd, attr: { reason: "close" } });
  }

  /** Events of what was put off. */
  get freed(): { attr: object; out: Record<string, unknown> }[] {
    return this.log.rows
      .filter(({ cmd }) => cmd === CMD.FREE_DEFERRED)
      .map(({ attr, out }) => ({ attr: JSON.parse(attr ?? ""), out: JSON.parse(out ?? "") }));
  }

  /** Whether the state is what the log adds up to. */
  get isTheFold(): boolean {
    while (this.engine.state.garbage.reclaim(1000));
    return isDeepStrictEqual(dump(this.engine.state.cells), foldRows(this.log.rows, HOST));
  }
}

/** Descriptors 3 and 4: an inner map and an outer one, whose slots all hold it. */
function outerMap(): Ledger {
  const ledger = new Ledger();
  ledger.run(
    { session: 0, caller: "alice", cmd: CMD.SESSION_OPEN, attr: { name: "", ttlMs: 60_000 } },
    { ...ALICE, cmd: CMD.BPF_MAP_CREATE, attr: createAttr({ mapType: BPF_MAP_TYPE_ARRAY }) },
    {
      ...ALICE,
      cmd: CMD.BPF_MAP_CREATE,
      attr: createAttr({ mapType: BPF_MAP_TYPE_HASH_OF_MAPS, valueSize: 4, maxEntries: MANY, innerMapFd: 3 }),
    },
  );
  ledger.put(4, Array(MANY).fill(3));
  return ledger;
}

t.test("slots of a map of maps let go of their maps in pieces, each an event of its own", async (t) => {
  const ledger = outerMap();
  const { state } = ledger.engine;
  ledger.close(3);
  t.equal(state.holds(1), MANY);
  t.match(ledger.close(4).out, { freed: [2], deferred: { maps: [2] } });
  t.equal(state.map(2), undefined, "the map itself is gone at once");
  for (let left = MANY, pieces = 0; left > 0; left -= PIECES[pieces++] ?? left) {
    t.equal(state.holds(1), left);
    t.ok(ledger.isTheFold);
    t.ok(state.map(1), "what slots hold is there");
    ledger.engine.idle(true);
  }
  t.same(
    ledger.freed.map(({ attr, out }) => ({ attr, count: out.count })),
    PIECES.map((count) => ({ attr: { map: 2, elements: 2048 }, count })),
  );
  t.same(ledger.freed.at(-1)?.out.freed, [1], "the last of them frees it");
  t.equal(state.map(1), undefined);
  t.ok(ledger.isTheFold);
  t.notOk(ledger.engine.idle(true), "there is no more to do");
  t.equal(ledger.freed.length, PIECES.length);
});

t.test("what went at once in an event of an earlier release goes at once when it is done again", async (t) => {
  const ledger = outerMap();
  ledger.close(4);
  const rows = ledger.log.rows.map((row): EventRow => {
    if (row.cmd !== CMD.CLOSE) return row;
    const { deferred: _, ...out } = JSON.parse(row.out as string);
    return { ...row, out: JSON.stringify(out) };
  });
  const state = new State(new MemoryCells(), HOST, IGNORE);
  for (const row of rows) {
    const { command, outcome } = rowEvent(row);
    redo(state, command, outcome);
  }
  t.equal(state.holds(1), 1, "the descriptor is left");
  t.equal(state.deferred(), null);
});

t.test("elements that go with an object go in pieces, too", async (t) => {
  const ledger = sockets();
  const { state } = ledger.engine;
  t.match(ledger.close(4).out, { deferred: { objects: [1] } });
  for (let left = MANY, pieces = 0; left > 0; left -= PIECES[pieces++] ?? left) {
    t.equal(state.entryCount(1), left);
    t.ok(ledger.isTheFold);
    ledger.engine.idle(true);
  }
  t.same(
    ledger.freed.map(({ attr, out }) => ({ attr, gone: (out.gone as unknown[]).length })),
    PIECES.map((gone) => ({ attr: { object: 1, elements: 2048 }, gone })),
  );
  t.equal(state.object(1), undefined, "and then the object");
  t.ok(ledger.isTheFold);
});

t.test("an object that is held again keeps what has not gone yet", async (t) => {
  const ledger = sockets();
  const { state } = ledger.engine;
  ledger.close(4);
  ledger.engine.idle(true);
  state.holdObject(1);
  ledger.engine.idle(true);
  t.equal(state.entryCount(1), MANY - 2048);
  t.equal(state.deferred(), null);
  t.ok(state.object(1));
});

t.test("a map that is freed meanwhile takes its ties along", async (t) => {
  const ledger = sockets();
  ledger.close(4);
  t.match(ledger.close(3).out, { freed: [1], deferred: { maps: [1] } });
  for (let pieces = 0; pieces < 3 * PIECES.length; pieces++) {
    t.ok(ledger.isTheFold);
    ledger.engine.idle(true);
  }
  t.equal(ledger.engine.state.deferred(), null);
  t.equal(ledger.engine.state.object(1), undefined);
  t.same(
    [...ledger.engine.state.cells.range("t", "u")].map(([key]) => key),
    [],
  );
});

/** Descriptors 3 and 4: a sockmap, and the socket that is in all its slots. */
function sockets(): Ledger {
  const ledger = new Ledger();
  ledger.run(
    { session: 0, caller: "alice", cmd: CMD.SESSION_OPEN, attr: { name: "", ttlMs: 60_000 } },
    {
      ...ALICE,
      cmd: CMD.BPF_MAP_CREATE,
      attr: createAttr({ mapType: BPF_MAP_TYPE_SOCKMAP, valueSize: 4, maxEntries: MANY }),
    },
    { ...ALICE, cmd: CMD.OPEN, attr: { kind: "udp_bound" } },
  );
  ledger.put(3, Array(MANY).fill(4));
  return ledger;
}

t.test("elements of interfaces that are gone go in pieces where a map is large", async (t) => {
  let interfaces = [1, 2];
  const log = new MemoryLog();
  const ledger = new Ledger(log, { interfaces: () => interfaces });
  ledger.run(
    { session: 0, caller: "alice", cmd: CMD.SESSION_OPEN, attr: { name: "", ttlMs: 60_000 } },
    { session: 0, caller: "mapledger", cmd: CMD.INTERFACES, attr: { ifindexes: interfaces } },
    {
      ...ALICE,
      cmd: CMD.BPF_MAP_CREATE,
      attr: createAttr({ mapType: BPF_MAP_TYPE_DEVMAP_HASH, valueSize: 4, maxEntries: MANY }),
    },
  );
  ledger.put(
    3,
    Array.from({ length: MANY }, (_, at) => 1 + (at % 2)),
  );
  const { state } = ledger.engine;
  interfaces = [1];
  ledger.run({ session: 0, caller: "mapledger", cmd: CMD.INTERFACES, attr: { ifindexes: interfaces } });
  t.match(JSON.parse(log.rows.at(-1)?.out as string), { deferred: { interfaces: [1] } });
  t.equal(state.entryCount(1), MANY);
  for (const looked of PIECES) {
    t.ok(ledger.isTheFold);
    ledger.engine.idle(true);
    t.match(ledger.freed.at(-1), { attr: { interfaces: 1, elements: 2048 }, out: { count: looked } });
  }
  t.equal(state.entryCount(1), MANY / 2);
  t.same(
    [...state.cells.range("e", "f")].filter(([, value]) => value.readUInt32LE(4) === 2),
    [],
  );
  t.ok(ledger.isTheFold);
  t.equal(state.deferred(), null);
});

t.test("the history of an element ends with its map, not with its cell", async (t) => {
  const ledger = outerMap();
  ledger.close(4);
  const freed = ledger.log.lastSeq;
  while (ledger.engine.idle(true));
  const { lastSeq } = ledger.log;
  const past = new Past(ledger.log, new History(ledger.log, new MemoryCells(), HOST), HOST);
  const key = u32(7).toString("hex");
  for (const range of [{ limit: 10 }, { limit: 10, after: 1 }, { limit: 1 }, { limit: 10, before: lastSeq }]) {
    const told = await past.ask("elementVersions", { reference: { id: 2 }, key, ...range });
    if (told === null || typeof told === "string" || !("versions" in told)) throw new Error(JSON.stringify(told));
    const versions = told.versions.map(({ seq, value }) => ({ seq, value }));
    const made = { seq: 11, value: u32(1).toString("hex") };
    t.same(versions, range.limit === 1 ? [{ seq: freed, value: null }] : [made, { seq: freed, value: null }]);
    t.equal(told.newer, false);
  }
});

t.test("of sessions that are over at once as many end in a turn as have few descriptors", async (t) => {
  const ledger = new Ledger();
  for (let session = 1; session <= 5; session++) {
    const opened: Request = { session, caller: "alice", cmd: CMD.OPEN, attr: { kind: "pipe" } };
    ledger.run({ session: 0, caller: "alice", cmd: CMD.SESSION_OPEN, attr: { name: "", ttlMs: 0 } });
    ledger.run(...Array<Request>(1000).fill(opened));
  }
  const ends = (): number => ledger.log.rows.filter(({ cmd }) => cmd === CMD.SESSION_END).length;
  t.ok(ledger.engine.idle(true), "there is more to do");
  t.equal(ends(), 4);
  t.notOk(ledger.engine.idle(true));
  t.equal(ends(), 5);
});
