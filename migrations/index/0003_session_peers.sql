-- Who opened each session: events of a session have its peer, unless they name another. Events from before have none.
CREATE TABLE session_peers (session INTEGER PRIMARY KEY, peer TEXT NOT NULL) STRICT;
