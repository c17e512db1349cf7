-- Who signed before, under which name: checkpoints of sizes up to `until`. Their signatures stay verifiable.
CREATE TABLE signers (
  until  INTEGER PRIMARY KEY,
  origin TEXT NOT NULL,
  vkey   TEXT NOT NULL
) STRICT;
