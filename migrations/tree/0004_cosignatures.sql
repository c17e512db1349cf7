-- Cosignatures of checkpoints, each verified before it came here: by which witness' key, when, and what stands in the note's line (the
-- key's id, the time, the signature). A table of rows: the signatures of ML-DSA-44 have 2,420 bytes.
CREATE TABLE cosignatures (
  size   INTEGER NOT NULL REFERENCES checkpoints (size),
  name   TEXT    NOT NULL,
  key_id TEXT    NOT NULL,
  bytes  BLOB    NOT NULL,
  PRIMARY KEY (size, name, key_id)
) STRICT;

CREATE TRIGGER cosignatures_stay BEFORE UPDATE ON cosignatures
BEGIN SELECT raise(ABORT, 'cosignatures stay'); END;
CREATE TRIGGER cosignatures_are_kept BEFORE DELETE ON cosignatures
BEGIN SELECT raise(ABORT, 'cosignatures are kept'); END;
