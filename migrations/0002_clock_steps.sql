-- Where times go back: between these events they ascend, so that a moment is found without reading the log. No command of a client's is
-- in it, and a log whose clock was never put back has none: no commit waits for it.
CREATE INDEX clock_steps ON events (seq) WHERE cmd = 4131;
