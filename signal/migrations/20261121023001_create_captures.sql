-- One line of a room's captures.jsonl for each participant and tick; the order in which they were written is the
-- cursor of readers. AUTOINCREMENT because a cursor must never point at another row.
CREATE TABLE captures (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE CHECK (length(id) = 26),
    room_id TEXT NOT NULL REFERENCES rooms (id),
    lesson_id TEXT NOT NULL REFERENCES lessons (id),
    participant_id TEXT NOT NULL REFERENCES participants (id),
    tick INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (length(status) BETWEEN 1 AND 32),
    path TEXT UNIQUE CHECK (path NOT GLOB '/*' AND instr(path, '..') = 0),
    sha256 TEXT CHECK (length(sha256) = 64 AND sha256 NOT GLOB '*[^0-9a-f]*'),
    line TEXT NOT NULL CHECK (json_valid(line)),
    UNIQUE (participant_id, tick),
    CHECK ((path IS NULL) = (sha256 IS NULL))
) STRICT;

CREATE INDEX captures_of_room ON captures (room_id, number);
