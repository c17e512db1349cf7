import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import t from "tap";
import { CMD } from "../../src/abi/service.ts";
import { CanonicalWriter, entryOf, rowBytes } from "../../src/log/canonical.ts";
import { type Event, elementChange, eventRow } from "../../src/log/event.ts";
import { SqliteEventLog } from "../../src/sqlite/event_log.ts";
import { giveNewLife } from "../../src/sqlite/life.ts";
import { SqliteLogRows } from "../../src/sqlite/log_rows.ts";
import { writeLog } from "../support/write_log.ts";

const data = mkdtempSync(join(tmpdir(), "mapledger-event-log-"));
const file = join(data, "events.sqlite");
t.teardown(() => rmSync(data, { recursive: true }));
await writeLog(data);

function opened<T>(use: (log: SqliteEventLog) => T): T {
  const log = new SqliteEventLog(file);
  const found = use(log);
  log.close();
  return found;
}

t.test("a ledger's life is made once; a log that has none gets one", async (t) => {
  const { id, life } = opened((log) => log);
  t.match(life, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  t.not(life, id);
  t.same(
    opened((log) => [log.id, log.life]),
    [id, life],
  );
  const db = new Sqlite(file);
  db.exec("DELETE FROM ledger WHERE name = 'life'");
  db.close();
  const made = opened((log) => log);
  t.equal(made.id, id);
  t.match(made.life, /^[0-9a-f-]{36}$/);
  t.not(made.life, life);
  t.equal(
    opened((log) => log.life),
    made.life,
  );
});

t.test("a new life is an event, and leaves all else as it is", async (t) => {
  const before = opened((log) => ({ id: log.id, life: log.life, events: [...log.read(0)] }));
  giveNewLife(file, { continues: null, signer: null });
  const after = opened((log) => ({ id: log.id, life: log.life, events: [...log.read(0)] }));
  t.not(after.life, before.life);
  const { seq, command } = after.events.pop() as Event;
  t.match(command, { cmd: CMD.BACKUP_RESTORE, attr: { life: after.life, was: before.life, continues: null } });
  t.equal(seq, before.events.length + 1);
  t.same({ ...after, life: "" }, { ...before, life: "" });
});

t.test("an event's hash is the same before it is in the log, from its row, and in the tree", async (t) => {
  const bytes = Buffer.from("01000000", "hex");
  const events: Event[] = opened((log) => [...log.read(0)]);
  const { command, outcome } = elementChange(0, CMD.BPF_MAP_UPDATE_ELEM, 1, bytes, Buffer.alloc(9000, 7), null);
  for (const flags of [0n, 2n ** 53n + 1n, 2n ** 63n + 1n])
    events.push({ seq: events.length + 1, command: { ...command, flags, caller: "ä" } as Event["command"], outcome });
  const copy = join(data, "copy.sqlite");
  const log = new SqliteEventLog(copy);
  log.append(events);
  const hashes = events.map(({ seq }) => log.hashOf(seq));
  t.same(
    hashes,
    events.map((event) => new CanonicalWriter().hash(rowBytes(eventRow(event)))),
  );
  t.equal(new Set(hashes.map(String)).size, events.length);
  t.equal(hashes[0]?.length, 32);
  t.equal(log.hashOf(events.length + 1), null);
  const rows = new SqliteLogRows(copy, false);
  const writer = new CanonicalWriter();
  t.same(
    [...rows.rows(0, events.length)].map((row) => writer.entry(row)),
    hashes.map((hash) => Buffer.concat([entryOf(Buffer.alloc(0)).subarray(0, -32), hash as Buffer])),
  );
  rows.close();
  log.close();
});
