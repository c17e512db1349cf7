-- What GET /v1/events filters by, derived from the log behind the commit. It may be deleted: it is made again.
CREATE TABLE progress (id INTEGER PRIMARY KEY CHECK (id = 0), log TEXT NOT NULL, seq INTEGER NOT NULL) STRICT;

CREATE TABLE by_map     (map     INTEGER, seq INTEGER, PRIMARY KEY (map, seq))     STRICT, WITHOUT ROWID;
CREATE TABLE by_session (session INTEGER, seq INTEGER, PRIMARY KEY (session, seq)) STRICT, WITHOUT ROWID;
CREATE TABLE by_caller  (caller  TEXT,    seq INTEGER, PRIMARY KEY (caller, seq))  STRICT, WITHOUT ROWID;
CREATE TABLE by_cmd     (cmd     INTEGER, seq INTEGER, PRIMARY KEY (cmd, seq))     STRICT, WITHOUT ROWID;
-- Failures alone.
CREATE TABLE by_errno   (errno   INTEGER, seq INTEGER, PRIMARY KEY (errno, seq))   STRICT, WITHOUT ROWID;
-- The first 64 bytes of each key that a command named; a batch has a row a key.
CREATE TABLE by_key     (key     BLOB,    seq INTEGER, PRIMARY KEY (key, seq))     STRICT, WITHOUT ROWID;

-- To take the keys of batches apart.
CREATE TABLE key_sizes (map INTEGER PRIMARY KEY, key_size INTEGER NOT NULL) STRICT;
