-- Rows for tiles. Among the keys of a B-tree, where they stood, a tile's bytes fill pages of their own, so that the tree was
-- one of few branches, and deep: to read or write a tile took three times as long.

CREATE TABLE rows (
  level  INTEGER,
  tile   INTEGER,
  hashes BLOB NOT NULL,
  PRIMARY KEY (level, tile)
) STRICT;

INSERT INTO rows SELECT level, tile, hashes FROM tiles ORDER BY level, tile;
DROP TABLE tiles;
ALTER TABLE rows RENAME TO tiles;
