import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import Sqlite from "better-sqlite3";
import fc from "fast-check";
import t from "tap";
import { CMD } from "../../src/abi/service.ts";
import { Engine } from "../../src/engine/engine.ts";
import { IGNORE } from "../../src/engine/followers.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import type { EventLog } from "../../src/engine/ports.ts";
import type { Request } from "../../src/engine/request.ts";
import { LmdbStore } from "../../src/lmdb/store.ts";
import type { Event } from "../../src/log/event.ts";
import { disabledMirror } from "../../src/mirror/mirror.ts";
import { SqliteEventLog } from "../../src/sqlite/event_log.ts";
import { redo } from "../../src/syscall/execute.ts";
import { State } from "../../src/syscall/state.ts";
import { createAttr, HOST } from "../support/commands.ts";
import { noPast } from "../support/no_past.ts";
import { noProcesses } from "../support/processes.ts";
import { SEED } from "../support/seed.ts";

function identity(real: SqliteEventLog): Pick<EventLog, "id" | "life" | "hashOf"> {
  return { id: real.id, life: real.life, hashOf: (seq) => real.hashOf(seq) };
}

/** A service's data on disk, opened, killed and opened again. */
class Ledger {
  readonly folder = mkdtempSync(join(tmpdir(), "mapledger-"));
  log!: SqliteEventLog;
  store!: LmdbStore;
  engine!: Engine;
  timeUs = 1_000_000;
  readonly reports: string[] = [];

  async open(log?: (real: SqliteEventLog) => EventLog): Promise<this> {
    this.log = new SqliteEventLog(join(this.folder, "events.sqlite"));
    this.store = new LmdbStore(join(this.folder, "state"), "test");
    this.engine = new Engine({
      log: log?.(this.log) ?? this.log,
      store: this.store,
      mirror: disabledMirror("not in this test"),
      past: noPast,
      clock: { nowUs: () => this.timeUs, nowMs: () => performance.now() },
      host: HOST,
      interfaces: () => [1],
      processes: noProcesses,
      graceMs: 1000,
      report: (message) => this.reports.push(message),
    });
    await this.engine.recover(() => {});
    return this;
  }

  /** What was not written to the store is lost. */
  async kill(): Promise<void> {
    this.log.close();
    await this.store.close();
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Every cell that the log adds up to. */
  fold(): [string, string][] {
    const cells = new MemoryCells();
    const state = new State(cells, HOST, IGNORE);
    for (const { command, outcome } of this.log.read(0)) redo(state, command, outcome);
    while (state.garbage.reclaim(1000));
    return dump(cells);
  }

  /** Every cell that the engine has, freed maps' reclaimed. */
  cells(): [string, string][] {
    while (this.engine.state.garbage.reclaim(1000));
    return dump(this.engine.state.cells);
  }
}

function dump(cells: Pick<MemoryCells, "range">): [string, string][] {
  return [...cells.range("\x01", "\xff")].map(([key, value]) => [key, value.toString("hex")]);
}

const MIB = 1024 * 1024;
const session = { session: 1, caller: "t" };

function update(fd: number, key: number, value: number): Request {
  const [k, v] = [Buffer.alloc(4), Buffer.alloc(8)];
  k.writeUInt32LE(key);
  v.writeUInt32LE(value);
  return { ...session, cmd: CMD.BPF_MAP_UPDATE_ELEM, target: { by: "fd", fd }, key: k, value: v, flags: 0n };
}

const begin: Request[] = [
  { session: 0, caller: "t", cmd: CMD.SESSION_OPEN, attr: { name: "s", ttlMs: 60_000 } },
  { ...session, cmd: CMD.BPF_MAP_CREATE, attr: createAttr({ maxEntries: 100 }) },
  { ...session, cmd: CMD.BPF_MAP_CREATE, attr: createAttr({ mapType: 2, maxEntries: 10 }) },
  { ...session, cmd: CMD.BPF_MAP_CREATE, attr: createAttr({ mapType: 11, keySize: 8, mapFlags: 1, maxEntries: 50 }) },
];

t.test("a killed engine finds every event's effect again", async (t) => {
  const ledger = await new Ledger().open();
  ledger.engine.run([...begin, update(3, 1, 10), update(3, 2, 20)]);
  await ledger.kill();
  await ledger.open();
  t.equal(ledger.engine.seq, 6);
  t.strictSame(ledger.cells(), ledger.fold());
  t.equal(ledger.engine.state.entryCount(1), 2);
  await ledger.engine.close();
  await ledger.open();
  t.equal(ledger.store.seq, 6, "a closed store has everything");
  t.strictSame(ledger.cells(), ledger.fold());
  await ledger.kill();
  ledger.remove();
});

t.test("random commands with kills in between: the state is the fold of the log", async (t) => {
  const action = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant("update" as const),
        fd: fc.integer({ min: 3, max: 6 }),
        key: fc.nat(8),
        value: fc.nat(9),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constant("delete" as const), fd: fc.integer({ min: 3, max: 6 }), key: fc.nat(8) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant("take" as const), fd: fc.integer({ min: 3, max: 6 }), count: fc.nat(5) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant("create" as const), maxEntries: fc.integer({ min: 0, max: 9 }) }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("close" as const), fd: fc.integer({ min: 3, max: 8 }) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant("pin" as const),
        fd: fc.integer({ min: 3, max: 6 }),
        name: fc.constantFrom("a", "b"),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("unlink" as const), name: fc.constantFrom("a", "b") }) },
    { weight: 1, arbitrary: fc.constant({ do: "kill" as const }) },
    { weight: 1, arbitrary: fc.constant({ do: "write" as const }) },
    { weight: 1, arbitrary: fc.constant({ do: "idle" as const }) },
  );
  t.comment(`SEED=${SEED}`);
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 5, maxLength: 60 }), async (actions) => {
      const ledger = await new Ledger().open();
      try {
        ledger.engine.run(begin);
        for (const one of actions) {
          const request = requestOf(one);
          if (request !== null) ledger.engine.run([request]);
          else if (one.do === "idle") ledger.engine.idle(false);
          else if (one.do === "write") await ledger.engine.written();
          else {
            await ledger.kill();
            await ledger.open();
          }
        }
        const cells = JSON.stringify(ledger.cells());
        if (cells !== JSON.stringify(ledger.fold())) throw new Error("the state is not the fold of the log");
        const events = [...ledger.log.read(0)];
        if (!events.every(({ seq }, at) => seq === at + 1)) throw new Error("the log has a gap");
      } finally {
        await ledger.kill();
        ledger.remove();
      }
    }),
    { seed: SEED, numRuns: 60 },
  );
  t.pass("60 streams");

  function requestOf(one: {
    do: string;
    fd?: number;
    key?: number;
    value?: number;
    count?: number;
    maxEntries?: number;
    name?: string;
  }): Request | null {
    const target = { by: "fd", fd: one.fd ?? 0 } as const;
    const pathname = `/sys/fs/bpf/${one.name}`;
    switch (one.do) {
      case "update":
        return update(one.fd as number, one.key as number, one.value as number);
      case "delete":
        return {
          ...update(one.fd as number, one.key as number, 0),
          cmd: CMD.BPF_MAP_DELETE_ELEM,
          value: null,
        } as Request;
      case "take":
        return {
          ...session,
          cmd: CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH,
          target,
          key: null,
          value: null,
          flags: 0n,
          attr: { count: one.count as number, elemFlags: 0n, inBatch: null, outBatch: null },
        };
      case "create":
        return { ...session, cmd: CMD.BPF_MAP_CREATE, attr: createAttr({ maxEntries: one.maxEntries as number }) };
      case "close":
        return { ...session, cmd: CMD.CLOSE, fd: one.fd as number, attr: { reason: "close" } };
      case "pin":
        return { ...session, cmd: CMD.BPF_OBJ_PIN, target, attr: { pathname, fileFlags: 0, pathFd: 0 } };
      case "unlink":
        return { session: 0, caller: "t", cmd: CMD.UNLINK, attr: { pathname } };
      default:
        return null;
    }
  }
});

t.test("when the log cannot be written, nothing has happened", async (t) => {
  let full = false;
  const failing = (real: SqliteEventLog): EventLog => ({
    ...identity(real),
    get lastSeq() {
      return real.lastSeq;
    },
    get lastTimeUs() {
      return real.lastTimeUs;
    },
    append(events) {
      if (full) throw Object.assign(new Error("database or disk is full"), { code: "SQLITE_FULL" });
      real.append(events);
    },
    deleteArchived: (limit) => real.deleteArchived(limit),
    read: (after) => real.read(after),
    changes: (after) => real.changes(after),
    close: () => real.close(),
  });
  const ledger = await new Ledger().open(failing);
  ledger.engine.run([...begin, update(3, 1, 10)]);
  const before = ledger.cells();
  full = true;
  const replies = ledger.engine.run([
    update(3, 1, 11),
    update(3, 2, 12),
    { ...session, cmd: CMD.SESSION_END, attr: { reason: "ended by request" } },
  ]);
  t.match(replies, [{ failure: "disk full" }, { failure: "disk full" }, { failure: "disk full" }]);
  t.strictSame(ledger.cells(), before);
  full = false;
  t.match(ledger.engine.run([update(3, 2, 12)]), [{ seq: 6, outcome: { errno: 0 } }], "and it goes on");
  t.strictSame(ledger.cells(), ledger.fold());
  await ledger.kill();
  ledger.remove();
});

t.test("when the store cannot be written, what it lacks stays pending, and the log has it", async (t) => {
  const ledger = await new Ledger().open();
  const { write } = ledger.store;
  ledger.store.write = () => Promise.reject(new Error("no room"));
  ledger.engine.run([...begin, update(3, 1, 10)]);
  await ledger.engine.written();
  ledger.engine.run([update(3, 2, 20)]);
  t.equal(ledger.store.seq, 0, "nothing was written");
  t.strictSame(ledger.cells(), ledger.fold(), "reads see it all the same");
  t.match(ledger.reports, [/^writing to the state/]);
  ledger.store.write = write;
  await ledger.engine.written();
  t.equal(ledger.store.seq, 6, "it is written when there is room");
  t.strictSame(ledger.cells(), ledger.fold());
  await ledger.kill();
  ledger.remove();
});

t.test("a replay that dies on its way goes on from what it has written", async (t) => {
  const ledger = await new Ledger().open();
  const large = { ...session, cmd: CMD.BPF_MAP_CREATE, attr: createAttr({ maxEntries: 100, valueSize: MIB }) };
  ledger.engine.run([begin[0] as Request, large]);
  // More than the engine keeps pending.
  for (let key = 0; key < 80; key++)
    ledger.engine.run([{ ...update(3, key, 0), value: Buffer.alloc(MIB, key) } as Request]);
  await ledger.kill();
  rmSync(join(ledger.folder, "state"), { recursive: true });
  const dying = (real: SqliteEventLog): EventLog => {
    const { store } = ledger;
    const { write } = store;
    let written: Promise<void> | null = null;
    store.write = (...change) => {
      written = write.apply(store, change);
      return written;
    };
    return {
      ...identity(real),
      lastSeq: real.lastSeq,
      lastTimeUs: real.lastTimeUs,
      append: (events) => real.append(events),
      deleteArchived: (limit) => real.deleteArchived(limit),
      async *changes(after) {
        for await (const events of real.changes(after)) {
          yield events;
          await written;
          if (written !== null) throw new Error("killed");
        }
      },
      read: (after) => real.read(after),
      close: () => real.close(),
    };
  };
  await t.rejects(ledger.open(dying), { message: "killed" });
  t.ok(ledger.store.seq > 0 && ledger.store.seq < 82, "it has a part of the log");
  await ledger.kill();
  await ledger.open();
  t.ok(isDeepStrictEqual(ledger.cells(), ledger.fold()));
  t.equal(ledger.engine.state.entryCount(1), 80);
  await ledger.kill();
  ledger.remove();
});

t.test("a replay that cannot be says which event", async (t) => {
  const ledger = await new Ledger().open();
  ledger.engine.run([...begin, update(3, 1, 10)]);
  const [event] = [...ledger.log.read(4)] as [Event];
  ledger.log.append([{ ...event, seq: 6, outcome: { ...event.outcome, map: 99 } }]);
  await ledger.kill();
  await t.rejects(ledger.open(), { message: "replaying event 6: there is no map 99" });
  await ledger.kill();
  ledger.remove();
});

t.test("the clock steps back: the log's times do not", async (t) => {
  const ledger = await new Ledger().open();
  ledger.engine.run(begin);
  ledger.timeUs = 5;
  ledger.engine.run([update(3, 1, 1)]);
  await ledger.kill();
  await ledger.open();
  ledger.engine.run([update(3, 2, 1)]);
  const times = [...ledger.log.read(0)].map(({ command }) => command.timeUs);
  t.strictSame(
    times,
    [...times].sort((a, b) => a - b),
  );
  t.equal(times.at(-1), 1_000_000);
  await ledger.kill();
  ledger.remove();
});

t.test("a state that is missing, damaged, cut short or of another layout is made again", async (t) => {
  const damages: Record<string, (state: string) => void> = {
    missing: (state) => rmSync(state, { recursive: true }),
    damaged: (state) => writeFileSync(join(state, "data.mdb"), Buffer.alloc(16_384, 0x5a), { flag: "r+" }),
    "cut short": (state) => truncateSync(join(state, "data.mdb"), 8192),
    "killing the process that opens it": (state) =>
      writeFileSync(join(state, "marker.json"), '{"layout":1,"boot":"","closedBytes":null,"opening":true}'),
    "of another layout": (state) => writeFileSync(join(state, "marker.json"), '{"layout":0,"boot":"","closedBytes":1}'),
    "left open by an earlier boot": (state) =>
      writeFileSync(join(state, "marker.json"), '{"layout":1,"boot":"another","closedBytes":null}'),
  };
  for (const [name, damage] of Object.entries(damages)) {
    const ledger = await new Ledger().open();
    ledger.engine.run([...begin, update(3, 1, 10)]);
    await ledger.engine.close();
    damage(join(ledger.folder, "state"));
    await ledger.open();
    t.strictSame(ledger.cells(), ledger.fold(), name);
    t.equal(ledger.engine.state.entryCount(1), 1, name);
    await ledger.kill();
    ledger.remove();
  }
});

t.test("the log refuses what a newer mapledger wrote, by name", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-"));
  const file = join(folder, "events.sqlite");
  new SqliteEventLog(file).close();
  const db = new Sqlite(file);
  db.pragma("user_version = 9999");
  db.close();
  t.throws(() => new SqliteEventLog(file), /events\.sqlite: it was written by a newer mapledger \(version 9999/);
  rmSync(folder, { recursive: true });
  t.end();
});

t.test("sessions end when their lease is over; their descriptors close one by one, with the reason", async (t) => {
  const ledger = await new Ledger().open();
  ledger.engine.run([
    { session: 0, caller: "t", cmd: CMD.SESSION_OPEN, attr: { name: "s", ttlMs: 0 } },
    ...begin.slice(1),
    { ...session, cmd: CMD.BPF_OBJ_PIN, target: { by: "fd", fd: 4 }, attr: { pathname: "p", fileFlags: 0, pathFd: 0 } },
  ]);
  ledger.engine.idle(true);
  const ending = [...ledger.log.read(5)].map(({ command, outcome }) => ({ command, outcome }));
  t.match(ending, [
    { command: { cmd: CMD.CLOSE, fd: 3, attr: { reason: "lease expired" } }, outcome: { out: { freed: [1] } } },
    { command: { cmd: CMD.CLOSE, fd: 4, attr: { reason: "lease expired" } }, outcome: { out: null } },
    { command: { cmd: CMD.CLOSE, fd: 5, attr: { reason: "lease expired" } }, outcome: { out: { freed: [3] } } },
    { command: { cmd: CMD.SESSION_END, attr: { reason: "lease expired" } } },
  ]);
  t.match(ledger.engine.run([update(4, 1, 1)]), [{ outcome: { errno: 9, out: { session: "ended" } } }]);
  t.ok(ledger.engine.state.map(2), "the pinned map lives on");
  t.equal(ledger.engine.leases.count, 0);
  await ledger.kill();
  ledger.remove();
});

t.test("a young state that loses all its cells at once does not take the process along", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-"));
  const store = new LmdbStore(join(folder, "state"), "test");
  for (let round = 1; round <= 20; round++) {
    const cells = Array.from({ length: 300 }, (_, at) => [`s${round}.${at}`, Buffer.alloc(100, at)] as const);
    await store.write(cells, 2 * round - 1, 40_000);
    await store.write(
      cells.map(([key]) => [key, null] as const),
      2 * round,
      40_000,
    );
  }
  t.strictSame([...store.range("s", "t")], []);
  await store.close();
  rmSync(folder, { recursive: true });
});
