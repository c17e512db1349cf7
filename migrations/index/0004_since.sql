-- The index has every event above `since`, up to `seq`; it began behind those that were archived before. Of an index from before it is not known.
ALTER TABLE progress ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
UPDATE progress SET since = seq;
