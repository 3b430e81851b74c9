-- A lasting identity that a browser remembers by its key.
CREATE TABLE persons (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 26),
    key_hash BLOB NOT NULL UNIQUE CHECK (length(key_hash) = 32),
    created_at INTEGER NOT NULL
) STRICT;
