import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import t, { type Test } from "tap";
import { ERRNO } from "../../src/abi/errno.ts";
import { CMD } from "../../src/abi/service.ts";
import { openIndex } from "../../src/data/open_index.ts";
import type { EventRange } from "../../src/engine/events.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { EventIndex } from "../../src/index/event_index.ts";
import type { Event } from "../../src/log/event.ts";
import type { EventFilter } from "../../src/log/event_filter.ts";
import { SqliteEventLog } from "../../src/sqlite/event_log.ts";
import type { Command } from "../../src/syscall/command.ts";
import { done, type Outcome, opened } from "../../src/syscall/outcome.ts";
import { createAttr } from "../support/commands.ts";

const target = { by: "fd", fd: 3 } as const;
const absent: Outcome = { ...done(1), ret: -1, errno: ERRNO.ENOENT, detail: "no element has this key" };

function lookup(key: string): Command {
  return {
    session: 1,
    caller: "a",
    timeUs: 0,
    cmd: CMD.BPF_MAP_LOOKUP_ELEM,
    target,
    key: Buffer.from(key, "hex"),
    value: null,
    flags: 0n,
  };
}

/** Ten events; seq 1 to 10, a second apart. */
function events(): Event[] {
  const batch = { count: 2, elemFlags: 0n, inBatch: null, outBatch: null };
  const commands: [Command, Outcome][] = [
    [
      { session: 0, caller: "a", timeUs: 0, cmd: CMD.SESSION_OPEN, attr: { name: "", ttlMs: 1 } },
      done(0, null, { session_id: 1 }),
    ],
    [
      { session: 1, caller: "a", timeUs: 0, cmd: CMD.BPF_MAP_CREATE, attr: createAttr({}) },
      opened(3, 1, { map_id: 1 }),
    ],
    [lookup("01000000"), absent],
    [{ ...lookup("01000000"), cmd: CMD.BPF_MAP_UPDATE_ELEM, value: Buffer.alloc(8) } as Command, done(1)],
    [lookup("01000000"), done(1, Buffer.alloc(8))],
    [lookup("01ff0000"), absent],
    [
      { session: 2, caller: "b", timeUs: 0, cmd: CMD.BPF_MAP_CREATE, attr: createAttr({}) },
      opened(3, 2, { map_id: 2 }),
    ],
    [{ ...lookup("ffffffff"), session: 2, caller: "b" } as Command, { ...absent, map: 2 }],
    [
      {
        ...(lookup("") as Command & { cmd: 1 }),
        cmd: CMD.BPF_MAP_UPDATE_BATCH,
        key: Buffer.from("0100000002000000", "hex"),
        value: Buffer.alloc(16),
        attr: batch,
      } as Command,
      done(1, null, { count: 2 }),
    ],
    [
      { session: 0, caller: "mapledger", timeUs: 0, cmd: CMD.UNLINK, attr: { pathname: "/x" } },
      { ...absent, map: 0 },
    ],
  ];
  return commands.map(([command, outcome], at) => ({
    seq: at + 1,
    command: { ...command, timeUs: (at + 1) * 1_000_000 },
    outcome,
  }));
}

const folder = mkdtempSync(join(tmpdir(), "mapledger-index-"));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const file = join(folder, "events.sqlite");
const log = new SqliteEventLog(file);
log.append(events());

t.test("each filter finds its events, alone and with others, ascending and in pages", async (t) => {
  const index = new EventIndex(file, new MemoryCells());
  const seqs = (filter: EventFilter, range: Partial<EventRange> = {}): number[] =>
    index.query(filter, { afterSeq: 0, limit: 100, ...range }).rows.map(({ seq }) => seq);
  const hex = (text: string): Buffer => Buffer.from(text, "hex");
  t.strictSame(seqs({}), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  t.strictSame(seqs({}, { afterSeq: 3, limit: 2 }), [4, 5]);
  t.strictSame(seqs({ map: 1 }), [2, 3, 4, 5, 6, 9]);
  t.strictSame(seqs({ session: 2 }), [7, 8]);
  t.strictSame(seqs({ session: 0 }), [1, 10]);
  t.strictSame(seqs({ caller: "b" }), [7, 8]);
  t.strictSame(seqs({ cmd: CMD.BPF_MAP_LOOKUP_ELEM }), [3, 5, 6, 8]);
  t.strictSame(seqs({ errno: ERRNO.ENOENT }), [3, 6, 8, 10]);
  t.strictSame(seqs({ errno: 0 }), [1, 2, 4, 5, 7, 9]);
  t.strictSame(seqs({ map: 1, errno: ERRNO.ENOENT }), [3, 6]);
  t.strictSame(seqs({ failed: true }), [3, 6, 8, 10]);
  t.strictSame(seqs({ failed: false }), [1, 2, 4, 5, 7, 9]);
  t.strictSame(seqs({ failed: true, session: 2 }), [8]);
  t.strictSame(seqs({ changed: true }), [2, 4, 7, 9]);
  t.strictSame(seqs({ changed: false }), [1, 3, 5, 6, 8, 10]);
  t.strictSame(seqs({ changed: true, caller: "b" }), [7]);
  t.strictSame(seqs({ changed: true }, { beforeSeq: 9, limit: 2 }), [4, 7]);
  t.strictSame(seqs({ failed: true }, { beforeSeq: 9, limit: 2 }), [6, 8]);
  t.strictSame(seqs({ key: hex("01000000") }), [3, 4, 5, 9], "a batch is found by each of its keys");
  t.strictSame(seqs({ key: hex("02") }), [9]);
  t.strictSame(seqs({ key: hex("01") }), [3, 4, 5, 6, 9], "a prefix will do");
  t.strictSame(seqs({ key: hex("ffff") }), [8], "a prefix of 255s, too");
  t.strictSame(seqs({ key: hex("01"), cmd: CMD.BPF_MAP_UPDATE_ELEM }), [4]);
  t.strictSame(seqs({ sinceUs: 3_000_000, untilUs: 5_000_000 }), [3, 4, 5]);
  t.strictSame(seqs({ sinceUs: 3_000_001, untilUs: 4_999_999 }), [4]);
  t.strictSame(seqs({ sinceUs: 99_000_000 }), []);
  t.equal(index.event(4)?.cmd, CMD.BPF_MAP_UPDATE_ELEM);
  t.equal(index.event(11), null);
  t.equal(index.lastSeq(), 10);
  await index.close();
});

t.test("a query sees what was appended a moment ago", async (t) => {
  const index = new EventIndex(file, new MemoryCells());
  log.append([{ seq: 11, command: { ...lookup("77000000"), timeUs: 11_000_000 }, outcome: absent }]);
  t.strictSame(
    index.query({ key: Buffer.from("77", "hex") }, { afterSeq: 0, limit: 9 }).rows.map(({ seq }) => seq),
    [11],
  );
  await index.close();
});

const SEQS = (rows: readonly { seq: number }[]): number[] => rows.map(({ seq }) => seq);

t.test("a page below a seq is the nearest to it, and says from where on all was looked at", async (t) => {
  const index = new EventIndex(file, new MemoryCells());
  const back = (filter: EventFilter, beforeSeq: number, limit: number, afterSeq = 0) => {
    const { rows, reached, more } = index.query(filter, { afterSeq, beforeSeq, limit });
    return [SEQS(rows), reached, more];
  };
  t.strictSame(back({}, 5, 2), [[3, 4], 3, true]);
  t.strictSame(back({}, 3, 9), [[1, 2], 1, false]);
  t.strictSame(back({}, 1000, 2), [[10, 11], 10, true]);
  t.strictSame(back({ map: 1 }, 9, 2), [[5, 6], 5, true]);
  t.strictSame(back({ map: 1 }, 9, 9, 3), [[4, 5, 6], 4, false]);
  t.strictSame(back({ cmd: CMD.BPF_MAP_LOOKUP_ELEM, map: 1 }, 9, 2), [[5, 6], 5, true]);
  t.strictSame(back({ key: Buffer.from("01", "hex") }, 9, 3), [[4, 5, 6], 4, true]);
  t.strictSame(back({ key: Buffer.from("01000000", "hex") }, 9, 1), [[5], 5, true]);
  t.strictSame(back({ untilUs: 4_000_000 }, 9, 2), [[3, 4], 3, true]);
  await index.close();
});

t.test("who follows is told up to where all was looked at, and when nothing can match any more", async (t) => {
  const index = new EventIndex(file, new MemoryCells());
  const on = (filter: EventFilter, afterSeq: number, limit = 9) => {
    const { rows, reached, more, over } = index.query(filter, { afterSeq, limit });
    return [SEQS(rows), reached, more, over];
  };
  for (const indexed of [false, true]) {
    t.strictSame(on({ session: 2 }, 0), [[7, 8], 11, false, false]);
    t.strictSame(on({ session: 2 }, 0, 1), [[7], 7, true, false]);
    t.strictSame(on({ session: 2 }, 8), [[], 11, false, false]);
    t.strictSame(on({ untilUs: 3_000_000 }, 1), [[2, 3], 11, false, true]);
    t.strictSame(on({ map: 2, untilUs: 3_000_000 }, 1), [[], 11, false, true]);
    t.strictSame(on({ changing: true }, 2), [[4, 7, 9, 10], 11, false, false]);
    t.strictSame(on({ changed: true }, 2), [[4, 7, 9], 11, false, false]);
    t.strictSame(on({ failed: true }, 6), [[8, 10, 11], 11, false, false]);
    t.strictSame(on({}, 11), [[], 11, false, false]);
    if (!indexed) while (await index.catchUp());
  }
  await index.close();
});

t.test("an event is found by what its effects touched, whether it is indexed yet or not", async (t) => {
  const other = join(folder, "touched.sqlite");
  const effects = new SqliteEventLog(other);
  const key = (text: string): Buffer => Buffer.from(text, "hex");
  const long = "ab".repeat(64);
  const write = (given: string): Command =>
    ({ ...lookup(given), cmd: CMD.BPF_MAP_UPDATE_ELEM, value: Buffer.alloc(8) }) as Command;
  const close: Command = { session: 1, caller: "a", timeUs: 0, cmd: CMD.CLOSE, fd: 3, attr: { reason: "close" } };
  const commands: [Command, Outcome][] = [
    [write("01000000"), done(1, null, { evicted: [[0, "02000000"]] })],
    [write("03000000"), done(1, null, { stored_keys: "04000000" })],
    [close, done(5, null, { freed: [5, 6] })],
    [write(`${long}01`), done(1)],
    [write(`${long}02`), done(1)],
    [write("05000000"), done(1, null, { unchanged: true })],
    [close, done(7)],
  ];
  effects.append(commands.map(([command, outcome], at) => ({ seq: at + 1, command, outcome })));
  effects.close();
  const index = new EventIndex(other, new MemoryCells());
  const seqs = (filter: EventFilter): number[] => SEQS(index.query(filter, { afterSeq: 0, limit: 9 }).rows);
  t.strictSame(seqs({ map: 6 }), [3], "before it is indexed");
  t.strictSame(seqs({ key: key("02") }), [1]);
  t.strictSame(seqs({ key: key("03000000") }), [2]);
  t.strictSame(seqs({ key: key("04000000") }), [2]);
  t.strictSame(seqs({ map: 6 }), [3]);
  t.strictSame(seqs({ map: 5, session: 1 }), [3]);
  t.strictSame(seqs({ key: key(long) }), [4, 5]);
  t.strictSame(
    seqs({ changed: true }),
    [1, 2, 3, 4, 5],
    "what freed maps has changed them, an update that found the value there has not",
  );
  t.strictSame(seqs({ key: key(`${long}02`) }), [5], "also by what stands behind the indexed bytes");
  await index.close();
});

/** A data directory with the events, and its index. */
async function indexed(t: Test): Promise<string> {
  const data = mkdtempSync(join(folder, "data-"));
  const log = new SqliteEventLog(join(data, "events.sqlite"));
  log.append(events());
  log.close();
  await taken(t, data, 0);
  return data;
}

/** Opens the index, which has the events up to `wanted` then, and takes in all. */
async function taken(t: Test, data: string, wanted: number): Promise<void> {
  const index = await openIndex(data);
  t.equal(index.seq, wanted);
  while (await index.catchUp());
  await index.write();
  const { rows } = index.query({ map: 1 }, { afterSeq: 0, limit: 9 });
  t.strictSame(SEQS(rows).at(-1), Math.min(index.lastSeq(), 9));
  await index.close();
}

t.test("an index of another log is made anew", async (t) => {
  const data = await indexed(t);
  await taken(t, data, 10);
  rmSync(join(data, "events.sqlite"));
  const other = new SqliteEventLog(join(data, "events.sqlite"));
  other.append(events().slice(0, 5));
  other.close();
  await taken(t, data, 0);
});

t.test("an index that is ahead of a log which has lost its end is made anew", async (t) => {
  const data = await indexed(t);
  const db = new Sqlite(join(data, "events.sqlite"));
  db.exec("DELETE FROM events WHERE seq > 4");
  db.close();
  await taken(t, data, 0);
});

t.test("an index of the former form is removed", async (t) => {
  const data = await indexed(t);
  for (const suffix of ["", "-wal", "-shm"]) writeFileSync(join(data, `index.sqlite${suffix}`), "x");
  await taken(t, data, 10);
  t.strictSame(
    readdirSync(data).filter((name) => name.startsWith("index.sqlite")),
    [],
  );
});

t.test("an index that was written up to another event than its segments have is damaged", async (t) => {
  const data = await indexed(t);
  const store = new MemoryCells();
  const index = new EventIndex(join(data, "events.sqlite"), store);
  while (await index.catchUp());
  await index.write();
  await index.close();
  for (const change of [
    () => store.write([], 9),
    () => store.write([["n\0\0\0\0\0\x01", Buffer.from([0, 0, 0, 0, 0, 7])]], 10),
    () => store.write([["n\0\0\0\0\0\x01", Buffer.alloc(0)]], 10),
    () => store.write([["n\0\0\0\0\0\x01", null]], 10),
  ]) {
    await change();
    t.throws(() => new EventIndex(join(data, "events.sqlite"), store), { name: "Damaged" });
  }
});

t.test("a segment that cannot be stored is found in memory, and stored later", async (t) => {
  const data = await indexed(t);
  const store = new MemoryCells();
  const fault = { now: true };
  const failing = Object.assign(Object.create(store), {
    write: (changes: [], seq: number) => (fault.now ? Promise.reject(new Error("full")) : store.write(changes, seq)),
    get: (key: string) => store.get(key),
    range: (from: string, to: string) => store.range(from, to),
    rangeDown: (from: string, to: string) => store.rangeDown(from, to),
    close: () => store.close(),
  });
  const index = new EventIndex(join(data, "events.sqlite"), failing);
  while (await index.catchUp());
  for (const written of [false, true]) {
    fault.now = !written;
    if (written) await index.write();
    else await t.rejects(index.write(), { message: "full" });
    t.equal(index.isUnwritten, !written);
    t.equal(index.isWhole(), written);
    t.strictSame(SEQS(index.query({ session: 2 }, { afterSeq: 0, limit: 9 }).rows), [7, 8]);
  }
  await index.close();
});

t.test("an auditor reads the log with names and hex", (t) => {
  const db = new Sqlite(file, { readonly: true });
  const row = db.prepare("SELECT * FROM readable WHERE seq = 3").get();
  t.match(row, {
    time: "1970-01-01T00:00:03.000000Z",
    cmd: "BPF_MAP_LOOKUP_ELEM",
    key: "01000000",
    errno: "ENOENT",
    map: 1,
    fd: 3,
  });
  t.match(row, { detail: "no element has this key", value: "" });
  db.close();
  log.close();
  t.end();
});
