-- What a witness has cosigned. It must never forget: whoever has lost this file makes another witness, with other keys.

-- Which witness it is: its name, and its verifier keys, a line each.
CREATE TABLE witness (
  id    INTEGER PRIMARY KEY CHECK (id = 0),
  name  TEXT NOT NULL,
  vkeys TEXT NOT NULL
) STRICT;

-- Of each log the checkpoint that was cosigned last, with the signatures of the log and of the witness.
CREATE TABLE latest (
  origin TEXT    PRIMARY KEY,
  size   INTEGER NOT NULL,
  root   BLOB    NOT NULL,
  note   TEXT    NOT NULL,
  time_s INTEGER NOT NULL
) STRICT;

CREATE TRIGGER latest_grows BEFORE UPDATE ON latest WHEN new.size < old.size
BEGIN SELECT raise(ABORT, 'no smaller tree is cosigned'); END;
CREATE TRIGGER latest_stays BEFORE DELETE ON latest
BEGIN SELECT raise(ABORT, 'what was cosigned is kept'); END;
