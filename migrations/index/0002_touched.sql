-- Since this version events are also found by what their effects touched, and those of no session and no map by that:
-- the index is made again from the log.
DELETE FROM progress;
