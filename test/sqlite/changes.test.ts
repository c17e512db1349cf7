import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import t from "tap";
import { makeLog } from "../../bench/log_maker.ts";
import { BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { CMD } from "../../src/abi/service.ts";
import { IGNORE } from "../../src/engine/followers.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import type { Event } from "../../src/log/event.ts";
import { SqliteEventLog } from "../../src/sqlite/event_log.ts";
import type { Action } from "../../src/syscall/command.ts";
import { execute, redo } from "../../src/syscall/execute.ts";
import { State } from "../../src/syscall/state.ts";
import { createAttr, HOST } from "../support/commands.ts";
import { dump } from "../support/fold.ts";

/** Long enough for a thread of its own. */
const LONG = 24_000;

const long = makeLog(LONG);
t.teardown(() => long.remove());

/** What a log's changes add up to, and all that it has, as texts. */
async function fold(log: SqliteEventLog): Promise<{ changes: Event[]; cells: string; all: string }> {
  const [quick, slow] = [new MemoryCells(), new MemoryCells()];
  const [replayed, whole] = [new State(quick, HOST, IGNORE), new State(slow, HOST, IGNORE)];
  const changes: Event[] = [];
  for await (const events of log.changes(0)) changes.push(...events);
  for (const { command, outcome } of changes) redo(replayed, command, outcome);
  for (const { command, outcome } of log.read(0)) redo(whole, command, outcome);
  return { changes, cells: JSON.stringify(dump(quick)), all: JSON.stringify(dump(slow)) };
}

/** A log in memory of what one session does to a hash (fd 3), a queue (4), an LRU hash (5) and a trie (6). */
function logOf(...actions: Action[]): SqliteEventLog {
  const log = new SqliteEventLog(":memory:");
  const state = new State(new MemoryCells(), HOST, IGNORE);
  const shapes = [
    { mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, maxEntries: 100, valueSize: 8192 },
    { mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE, keySize: 0 },
    { mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH, maxEntries: 2 },
    { mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_LPM_TRIE, keySize: 8, mapFlags: 1 },
  ];
  const begin: Action[] = [
    { cmd: CMD.SESSION_OPEN, attr: { name: "s", ttlMs: 1000 } },
    ...shapes.map((shape) => ({ cmd: CMD.BPF_MAP_CREATE, attr: createAttr(shape) })),
  ];
  log.append(
    [...begin, ...actions].map((action, at) => {
      const command = { session: at === 0 ? 0 : 1, caller: "t", timeUs: at, ...action };
      return { seq: at + 1, command, outcome: execute(state, command) };
    }),
  );
  t.teardown(() => log.close());
  return log;
}

function element(cmd: Extract<Action, { key: Buffer | null }>["cmd"], fd: number, key: string, value = ""): Action {
  return { cmd, target: { by: "fd", fd }, key: bytesOf(key), value: bytesOf(value), flags: 0n } as Action;
}

/** Nothing is the null pointer. */
function bytesOf(hex: string): Buffer | null {
  return hex === "" ? null : Buffer.from(hex, "hex");
}

const { BPF_MAP_UPDATE_ELEM, BPF_MAP_DELETE_ELEM, BPF_MAP_LOOKUP_ELEM, BPF_MAP_LOOKUP_AND_DELETE_ELEM } = CMD;

t.test("changes of a long log add up to what all its events do, and no event of them reads only", async (t) => {
  const log = new SqliteEventLog(join(long.folder, "events.sqlite"));
  const { changes, cells, all } = await fold(log);
  t.ok(cells === all);
  t.ok(
    changes.every(({ seq }, at) => at === 0 || seq > (changes[at - 1] as Event).seq),
    "in their order",
  );
  t.notOk(changes.some(({ command }) => command.cmd === BPF_MAP_LOOKUP_ELEM));
  const tail: Event[] = [];
  for await (const events of log.changes(LONG - 1000)) tail.push(...events);
  t.strictSame(
    tail.map(({ seq }) => seq),
    changes.map(({ seq }) => seq).filter((seq) => seq > LONG - 1000),
    "from anywhere on, by a thread or without",
  );
  log.close();
});

t.test("changes keep every byte of keys and values, be it text or not", async (t) => {
  const keys = ["00000000", "ffffffff", "c3280061", "5d2c5b22", "61000062", "e2828200"];
  const log = logOf(
    ...keys.map((key, at) => element(BPF_MAP_UPDATE_ELEM, 3, key, `${key}ff00`.padEnd(16384, `0${at}fe`))),
    ...keys.map((key) => element(BPF_MAP_UPDATE_ELEM, 5, key, `${key}00c328ff`)),
    element(BPF_MAP_DELETE_ELEM, 5, "61000062"),
  );
  const { changes, cells, all } = await fold(log);
  t.ok(cells === all);
  const written = changes.flatMap(({ command }) => (command.cmd === BPF_MAP_UPDATE_ELEM ? [command] : []));
  t.strictSame(
    written.map((command) => ("key" in command ? command.key?.toString("hex") : null)),
    [...keys, ...keys],
  );
});

t.test("changes of maps without keys, of values long and short, of refusals and of reads in between", async (t) => {
  const log = logOf(
    element(BPF_MAP_UPDATE_ELEM, 4, "", "0102030405060708"),
    element(BPF_MAP_UPDATE_ELEM, 3, "01000000", "aa".repeat(8192)),
    element(BPF_MAP_LOOKUP_ELEM, 3, "01000000"),
    element(BPF_MAP_DELETE_ELEM, 3, "02000000"),
    element(BPF_MAP_LOOKUP_AND_DELETE_ELEM, 3, "01000000", "00"),
    element(BPF_MAP_UPDATE_ELEM, 4, "", "1112131415161718"),
    element(BPF_MAP_LOOKUP_AND_DELETE_ELEM, 4, ""),
    element(BPF_MAP_UPDATE_ELEM, 6, "080000000a0000ff", "0000000000000001"),
    element(BPF_MAP_UPDATE_ELEM, 9, "01000000", "00"),
  );
  const { changes, cells, all } = await fold(log);
  t.ok(cells === all);
  t.strictSame(
    changes.map(({ seq, outcome }) => [seq, outcome.errno]),
    [
      [1, 0],
      [2, 0],
      [3, 0],
      [4, 0],
      [5, 0],
      [6, 0],
      [7, 0],
      // A take-out whose value found no room: the element is gone all the same.
      [10, 14],
      [11, 0],
      [12, 0],
      [13, 0],
    ],
  );
});

t.test("changes end with an error that says which event is none, or why the log cannot be read", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-"));
  const file = join(folder, "events.sqlite");
  copyFileSync(join(long.folder, "events.sqlite"), file);
  const db = new Sqlite(file);
  db.prepare("UPDATE events SET attr = '{' WHERE seq = 3").run();
  const log = new SqliteEventLog(file);
  await t.rejects(fold(log), { message: /^reading event 3: / });
  db.exec("DROP VIEW readable; DROP TABLE events");
  await t.rejects(fold(log), { message: /no such table: events/ });
  for (const one of [db, log]) one.close();
  rmSync(folder, { recursive: true });
});

t.test("an event that has a peer beside comes in bulk like one that has none", async (t) => {
  const put = (peer?: string): Action =>
    ({ ...element(BPF_MAP_UPDATE_ELEM, 5, "01000000", "0000000000000001"), ...(peer && { peer }) }) as Action;
  const log = logOf(put(), put("127.0.0.1"), put("uid=0 pid=7"), put("a,b"));
  const { changes, cells, all } = await fold(log);
  t.ok(cells === all);
  const elements = changes.filter(({ command }) => command.cmd === BPF_MAP_UPDATE_ELEM);
  t.strictSame(
    elements.map(({ command }) => command.caller),
    ["", "", "", "t"],
    "as a whole row, of which no service writes any",
  );
});
