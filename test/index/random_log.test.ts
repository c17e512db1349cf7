/**
 * Random logs of all commands and effects: what the index finds is what a look at every event finds, wherever the
 * indexed events end, whichever segments they are in.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import t from "tap";
import { CMD } from "../../src/abi/service.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { EventIndex } from "../../src/index/event_index.ts";
import type { EventRow } from "../../src/log/event.ts";
import { type EventFilter, matches } from "../../src/log/event_filter.ts";
import { effectsIn, touchedKeys } from "../../src/log/event_subjects.ts";
import { SqliteEventLog } from "../../src/sqlite/event_log.ts";
import { cmdsThat, commandFacts } from "../../src/syscall/command_facts.ts";
import type { Out } from "../../src/syscall/outcome.ts";
import { random, SEED } from "../support/seed.ts";

const folder = mkdtempSync(join(tmpdir(), "mapledger-random-log-"));
t.teardown(() => rmSync(folder, { recursive: true }));
t.comment(`SEED=${SEED}`);
const roll = random(SEED);

const INSERT = `
  INSERT INTO events (seq, time_us, session, caller, cmd, map, fd, key, value, flags, ret, errno, detail, attr, out)
  VALUES (:seq, :time_us, :session, :caller, :cmd, :map, :fd, :key, :value, :flags, :ret, :errno, :detail, :attr, :out)`;
const CMDS = cmdsThat(() => true);
const CALLERS = ["ann", "bo", "a\0b", "\u{1f41d}", "c".repeat(200), `${"c".repeat(199)}d`];
/** Of maps 1 to 9, by id. */
const KEY_BYTES = [0, 1, 2, 4, 8, 9, 12, 20, 70, 300];

function pick<Item>(items: readonly Item[]): Item {
  return items[roll(items.length)] as Item;
}

/** Few keys, which have much in common; of any length in places. */
function key(map: number): Buffer {
  const bytes = Buffer.alloc(roll(8) === 0 ? roll(24) : (KEY_BYTES[map] ?? 4), pick([0, 255, 7]));
  if (bytes.length > 0) bytes[bytes.length - 1] = roll(3);
  if (bytes.length > 8 && roll(2) === 0) bytes[8] = roll(3);
  if (bytes.length > 2 && roll(4) === 0) bytes[roll(3)] = roll(256);
  return bytes;
}

function effects(cmd: number, map: number): Out | null {
  const named = (): [number, string] => [1 + roll(9), key(1 + roll(9)).toString("hex")];
  const is = (chance: number): boolean => roll(chance) === 0;
  const out: Out = {
    ...(commandFacts(cmd)?.elements === "batch" && { count: roll(3) }),
    ...(cmd === CMD.SESSION_OPEN && { session_id: 1 + roll(40) }),
    ...(is(8) && { unchanged: true as const }),
    ...(is(12) && { freed: [1 + roll(9), 1 + roll(400)] }),
    ...(is(12) && { gone: Array.from({ length: 1 + roll(3) }, named) }),
    ...(is(12) && { evicted: Array.from({ length: is(20) ? 300 : 1 }, named) }),
    ...(is(12) && { known_as: [named()] }),
    ...(is(20) && { taken: true as const }),
  };
  const size = commandFacts(cmd)?.elements === "batch" ? (KEY_BYTES[map] as number) : -1;
  if (is(12) && (size < 0 || (map > 0 && out.count !== 0)))
    return { ...out, stored_keys: (size < 0 ? key(map) : Buffer.alloc(size, 7)).toString("hex") };
  return Object.keys(out).length === 0 ? null : out;
}

/** A row that a log might have; its map's keys have the size that the map was created with. */
function row(seq: number): EventRow {
  const cmd = roll(3) === 0 ? pick(CMDS) : pick([CMD.BPF_MAP_LOOKUP_ELEM, CMD.BPF_MAP_UPDATE_ELEM, 1 + roll(9999)]);
  const map = roll(9) === 0 ? 0 : 1 + roll(9);
  const facts = commandFacts(cmd);
  const out = effects(cmd, map);
  const isBatch = facts?.elements === "batch" && map > 0;
  const count = facts?.answers === "elements" ? (out?.count ?? 0) : 1 + roll(4);
  const size = KEY_BYTES[map] as number;
  const keys = Array.from({ length: count }, () => Buffer.concat([key(map), Buffer.alloc(size)]).subarray(0, size));
  const attr =
    cmd === CMD.BPF_MAP_CREATE
      ? { key_size: size }
      : cmd === CMD.SESSION_OPEN
        ? { ...(roll(2) === 0 && { peer: `unix:${roll(9)}` }) }
        : isBatch
          ? { count }
          : null;
  return {
    seq,
    time_us: 1_000_000 * (Math.floor(seq / 3) + 1),
    session: pick([0, 1, 2, 3, 4, 300 + roll(30)]),
    caller: pick(CALLERS),
    cmd,
    map,
    fd: null,
    key: isBatch ? Buffer.concat(keys) : roll(4) === 0 || facts?.elements === "batch" ? null : key(map),
    value: null,
    flags: 0,
    ret: 0,
    errno: pick([0, 0, 0, 2, 22]),
    detail: null,
    attr: attr === null ? null : JSON.stringify(attr),
    out: out === null ? null : JSON.stringify(out),
  };
}

interface Made {
  readonly file: string;
  readonly rows: readonly EventRow[];
}

let logs = 0;

/** `gaps`: some events are missing, as in a log that somebody has changed. */
function made(events: number, gaps = false): Made {
  const file = join(folder, `${++logs}.sqlite`);
  new SqliteEventLog(file).close();
  const db = new Sqlite(file);
  const insert = db.prepare(INSERT);
  const rows = Array.from({ length: events }, (_, at) => row(at + 1)).filter(() => !gaps || roll(50) > 0);
  db.transaction(() => {
    for (const one of rows) insert.run(one);
  })();
  db.close();
  return { file, rows };
}

function hasKey(row: EventRow, asked: Buffer | undefined): boolean {
  if (asked === undefined || asked.length === 0) return true;
  const keys = touchedKeys(row, effectsIn(row), (map) => (map === 0 ? undefined : KEY_BYTES[map]));
  return keys.some((touched) => touched.subarray(0, asked.length).equals(asked));
}

/** Each field alone, and any of them together. */
function filters(rows: readonly EventRow[]): EventFilter[] {
  const some = (): EventRow => pick(rows);
  const fields: readonly (() => EventFilter)[] = [
    () => ({ map: pick([0, 1 + roll(9), 1 + roll(400), some().map]) }),
    () => ({ session: pick([some().session, 77]) }),
    () => ({ caller: pick([some().caller, "nobody"]) }),
    () => ({ cmd: some().cmd }),
    () => ({ errno: pick([0, 2, 22, 5]) }),
    () => ({ failed: roll(2) === 0 }),
    () => ({ changed: roll(2) === 0 }),
    () => ({ changing: true }),
    () => {
      const found = some().key ?? key(1 + roll(9));
      return { key: found.subarray(0, pick([1, 4, 8, 9, found.length, found.length])) };
    },
  ];
  return [
    {},
    ...fields.flatMap((field) => [field(), field()]),
    ...Array.from({ length: 15 }, () =>
      Object.assign({}, ...fields.filter(() => roll(3) === 0).map((field) => field())),
    ),
  ];
}

/** All pages of a filter, in the order of events. */
function pages(index: EventIndex, filter: EventFilter, limit: number, isBackward: boolean, last: number): number[] {
  const found: number[] = [];
  for (let at = isBackward ? last + 1 : 0; ; ) {
    const range = isBackward ? { afterSeq: 0, beforeSeq: at, limit } : { afterSeq: at, limit };
    const { rows, reached, more } = index.query(filter, range);
    const seqs = rows.map(({ seq }) => seq);
    if (isBackward) found.unshift(...seqs);
    else found.push(...seqs);
    if (!more) return found;
    at = reached;
  }
}

/** Compares all filters, both ways, with pages of a few sizes; answers what is wrong. */
function wrong(index: EventIndex, { rows }: Made, asked: readonly EventFilter[]): object[] {
  const last = rows.at(-1)?.seq ?? 0;
  return asked.flatMap((filter) => {
    const wanted = rows.filter((row) => matches(row, filter) && hasKey(row, filter.key)).map(({ seq }) => seq);
    return [false, true].flatMap((isBackward) => {
      const limit = pick([1, 2, 3, 7, 64, 10_000]);
      const found = pages(index, filter, Math.max(limit, Math.ceil(wanted.length / 200)), isBackward, last);
      const unlike = Array.from({ length: Math.max(found.length, wanted.length) }, (_, at) => at).find(
        (at) => found[at] !== wanted[at],
      );
      return unlike === undefined ? [] : [{ filter, isBackward, limit, found: found[unlike], wanted: wanted[unlike] }];
    });
  });
}

t.test("every filter finds what a look at each event finds, at every split of indexed and not indexed", async (t) => {
  for (const gaps of [false, true]) {
    const log = made(1500, gaps);
    const asked = filters(log.rows);
    // As many events as a chunk has are taken in at once: the log is cut, so that it ends in other places, too.
    for (const ends of [[], [1, 2], [350, 351, 750], [1500]]) {
      const store = new MemoryCells();
      const index = new EventIndex(log.file, store);
      for (const end of ends) {
        await index.catchUp(end);
        await index.write();
      }
      t.strictSame(wrong(index, log, asked), [], `stored up to ${ends.join()}, gaps: ${gaps}`);
      await index.catchUp(roll(1501));
      t.strictSame(wrong(index, log, asked), [], `some more in memory, behind ${ends.join()}, gaps: ${gaps}`);
      await index.close();
      const again = new EventIndex(log.file, store);
      t.strictSame(wrong(again, log, asked), [], `opened again, with ${ends.join()}, gaps: ${gaps}`);
      await again.close();
    }
    const none = new EventIndex(log.file, null);
    t.strictSame(wrong(none, log, asked), [], "without an index");
    await none.close();
  }
});

/** Of 70,000 events. */
const MANY = 3000;

t.test("segments that are full are stored, and pages end after so much work", async (t) => {
  const log = made(70_000);
  // Every event that is found is read and hashed, twice: most filters here find few.
  const isFew = (filter: EventFilter): boolean => log.rows.filter((row) => matches(row, filter)).length < MANY;
  const asked = [{ changing: true }, ...filters(log.rows).filter(isFew).slice(0, 20)];
  const index = new EventIndex(log.file, new MemoryCells());
  // Each of them reads the whole log, twice.
  t.strictSame(wrong(index, log, asked.slice(0, 6)), [], "nothing is indexed");
  while (await index.catchUp());
  t.strictSame(wrong(index, log, asked), []);
  const few = { caller: "nobody", map: 1 };
  t.match(index.query(few, { afterSeq: 0, limit: 9 }), { rows: [], reached: 70_000, more: false });
  await index.close();
  const none = new EventIndex(log.file, null);
  t.match(none.query(few, { afterSeq: 0, limit: 9 }), { rows: [], reached: 20_000, lookedAt: 20_000, more: true });
  t.match(none.query(few, { afterSeq: 0, beforeSeq: 70_001, limit: 9 }), { rows: [], reached: 50_001, more: true });
  await none.close();
});

t.test("a map is untouched where its events only read, as far as the index goes", async (t) => {
  const log = made(2000);
  for (const ends of [[], [500], [500, 1200]]) {
    const index = new EventIndex(log.file, new MemoryCells());
    for (const end of ends) {
      await index.catchUp(end);
      await index.write();
    }
    await index.catchUp(1600);
    const wrong: object[] = [];
    for (let time = 0; time < 3000; time++) {
      const [map, after] = [roll(410), roll(1600)];
      const until = after + roll(12);
      const touching = log.rows.filter(
        (row) => row.seq > after && row.seq <= until && matches(row, { map, changing: true }),
      );
      const wanted = until <= 1600 && touching.length === 0;
      if (index.isUntouched(map, after, until) !== wanted) wrong.push({ map, after, until, wanted });
    }
    t.strictSame(wrong, []);
    await index.close();
  }
});

t.test("the peers of sessions are known, wherever the indexed events end", async (t) => {
  const log = made(2000);
  const peers = new Map<number, string>();
  for (const one of log.rows) {
    const { peer } = JSON.parse(one.attr ?? "{}");
    const session = effectsIn(one)?.session_id;
    if (one.cmd === CMD.SESSION_OPEN && peer !== undefined && session !== undefined) peers.set(session, peer);
  }
  const sessions = Array.from({ length: 50 }, (_, at) => at);
  const wanted = sessions.map((session) => peers.get(session) ?? null);
  const store = new MemoryCells();
  for (const end of [0, 0, 600, 1300, 2000]) {
    const index = new EventIndex(log.file, store);
    await index.catchUp(end);
    t.strictSame(index.peers(sessions), wanted, `in memory up to ${end}`);
    await index.write();
    t.strictSame(index.peers(sessions), wanted, `stored up to ${end}`);
    await index.close();
  }
  const none = new EventIndex(log.file, null);
  t.strictSame(none.peers(sessions), wanted, "without an index");
  await none.close();
});
