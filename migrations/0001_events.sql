-- The log: every command with its outcome, one row an event. See src/log/event.ts for what each column holds.
-- No secondary index stands here: what queries need is derived behind the commit, in another file.
CREATE TABLE events (
  seq     INTEGER PRIMARY KEY,
  time_us INTEGER NOT NULL,
  session INTEGER NOT NULL,
  caller  TEXT    NOT NULL,
  cmd     INTEGER NOT NULL,
  map     INTEGER NOT NULL,
  fd      INTEGER,
  key     BLOB,
  value   BLOB,
  flags   INTEGER NOT NULL,
  ret     INTEGER NOT NULL,
  errno   INTEGER NOT NULL,
  detail  TEXT,
  attr    TEXT,
  out     TEXT
) STRICT;

-- Facts about this log. id: which log this is, also to the kernel's maps that follow it.
CREATE TABLE ledger (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Names of commands and errors; filled from the service's tables at every start.
CREATE TABLE commands (cmd INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
CREATE TABLE errors (errno INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;

-- For people with the sqlite3 shell: SELECT * FROM readable ORDER BY seq DESC LIMIT 20;
CREATE VIEW readable AS
SELECT
  e.seq,
  strftime('%Y-%m-%dT%H:%M:%S', e.time_us / 1000000, 'unixepoch') || printf('.%06dZ', e.time_us % 1000000) AS time,
  nullif(e.session, 0) AS session,
  e.caller,
  coalesce(c.name, 'command ' || e.cmd) AS cmd,
  nullif(e.map, 0) AS map,
  e.fd,
  lower(hex(e.key)) AS key,
  lower(hex(e.value)) AS value,
  e.flags,
  e.ret,
  CASE WHEN e.errno = 0 THEN NULL ELSE coalesce(x.name, 'E' || e.errno) END AS errno,
  e.detail,
  e.attr,
  e.out
FROM events AS e
LEFT JOIN commands AS c ON c.cmd = e.cmd
LEFT JOIN errors AS x ON x.errno = e.errno;
