import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import t from "tap";
import { ERRNO } from "../../src/abi/errno.ts";
import { CMD } from "../../src/abi/service.ts";
import type { Event } from "../../src/log/event.ts";
import { EventIndex } from "../../src/sqlite/event_index.ts";
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

t.test("each filter finds its events, alone and with others, ascending and in pages", (t) => {
  const index = new EventIndex(file, join(folder, "index.sqlite"));
  const seqs = (filter: Partial<Parameters<EventIndex["query"]>[0]>): number[] =>
    index.query({ afterSeq: 0, limit: 100, ...filter }).map(({ seq }) => seq);
  const hex = (text: string): Buffer => Buffer.from(text, "hex");
  t.strictSame(seqs({}), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  t.strictSame(seqs({ afterSeq: 3, limit: 2 }), [4, 5]);
  t.strictSame(seqs({ map: 1 }), [2, 3, 4, 5, 6, 9]);
  t.strictSame(seqs({ session: 2 }), [7, 8]);
  t.strictSame(seqs({ session: 0 }), [1, 10]);
  t.strictSame(seqs({ caller: "b" }), [7, 8]);
  t.strictSame(seqs({ cmd: CMD.BPF_MAP_LOOKUP_ELEM }), [3, 5, 6, 8]);
  t.strictSame(seqs({ errno: ERRNO.ENOENT }), [3, 6, 8, 10]);
  t.strictSame(seqs({ errno: 0 }), [1, 2, 4, 5, 7, 9]);
  t.strictSame(seqs({ map: 1, errno: ERRNO.ENOENT }), [3, 6]);
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
  index.close();
  t.end();
});

t.test("a query sees what was appended a moment ago", (t) => {
  const index = new EventIndex(file, join(folder, "index.sqlite"));
  log.append([{ seq: 11, command: { ...lookup("77000000"), timeUs: 11_000_000 }, outcome: absent }]);
  t.strictSame(
    index.query({ afterSeq: 0, limit: 9, key: Buffer.from("77", "hex") }).map(({ seq }) => seq),
    [11],
  );
  index.close();
  t.end();
});

t.test("an index of another log is made anew", (t) => {
  const other = join(folder, "other.sqlite");
  new SqliteEventLog(other).close();
  const index = new EventIndex(other, join(folder, "index.sqlite"));
  t.strictSame(index.query({ afterSeq: 0, limit: 9 }), []);
  index.close();
  t.end();
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
