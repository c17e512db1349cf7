-- The Merkle tree over the log, as src/log/tiles.ts has it, and what was signed of it. Built behind the commit; it needs
-- the log only to grow. Where checkpoints were handed out it cannot be replaced: keep it with the log.

-- Whose tree it is: the ledger's facts, and the name and key that sign. closed: where it ended when the service stopped.
CREATE TABLE tree (
  id            INTEGER PRIMARY KEY CHECK (id = 0),
  log           TEXT NOT NULL,
  possible_cpus TEXT NOT NULL,
  origin        TEXT NOT NULL,
  vkey          TEXT NOT NULL,
  closed        INTEGER
) STRICT;

-- Up to 256 hashes of 32 bytes, of which only the last tile of a level may have fewer.
CREATE TABLE tiles (
  level  INTEGER,
  tile   INTEGER,
  hashes BLOB NOT NULL,
  PRIMARY KEY (level, tile)
) STRICT, WITHOUT ROWID;

-- Every checkpoint that was ever signed. What is signed later must be consistent with it.
CREATE TABLE checkpoints (
  size    INTEGER PRIMARY KEY,
  root    BLOB    NOT NULL,
  note    TEXT    NOT NULL,
  time_us INTEGER NOT NULL
) STRICT;

CREATE TRIGGER checkpoints_stay BEFORE UPDATE ON checkpoints
BEGIN SELECT raise(ABORT, 'checkpoints that were signed stay'); END;
CREATE TRIGGER checkpoints_are_kept BEFORE DELETE ON checkpoints
BEGIN SELECT raise(ABORT, 'checkpoints that were signed are kept'); END;
