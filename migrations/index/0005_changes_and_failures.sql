-- Events that changed a map, an element or a pin, and those that were refused: found among many others. The index is made again from the log.
CREATE TABLE changes  (seq INTEGER PRIMARY KEY) STRICT;
CREATE TABLE failures (seq INTEGER PRIMARY KEY) STRICT;
DELETE FROM progress;
