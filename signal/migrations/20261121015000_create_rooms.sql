-- A room is a lasting place. Rows are never deleted: a number is never given out twice.
CREATE TABLE rooms (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 26),
    number TEXT NOT NULL UNIQUE CHECK (length(number) BETWEEN 1 AND 32 AND number NOT GLOB '*[^a-z0-9-]*'),
    title TEXT NOT NULL CHECK (length(title) BETWEEN 1 AND 256),
    kind TEXT NOT NULL CHECK (kind IN ('meeting', 'seminar')),
    listed INTEGER NOT NULL CHECK (listed IN (0, 1)),
    capacity INTEGER NOT NULL CHECK (capacity BETWEEN 1 AND 1000),
    host_token_hash BLOB NOT NULL CHECK (length(host_token_hash) = 32),
    created_at INTEGER NOT NULL
) STRICT;
