-- One opening of a room. An end reason without an end time is a lesson that is being closed: a restart
-- finishes that instead of going on with the lesson.
CREATE TABLE lessons (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 26),
    room_id TEXT NOT NULL REFERENCES rooms (id),
    folder TEXT NOT NULL CHECK (folder GLOB '[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]_[0-9][0-9][0-9][0-9][0-9][0-9]'),
    started_at INTEGER NOT NULL,
    ended_at INTEGER CHECK (ended_at >= started_at),
    end_reason TEXT CHECK (end_reason IN ('closed', 'empty', 'host_missing')),
    keep_recordings INTEGER NOT NULL DEFAULT 1 CHECK (keep_recordings IN (0, 1)),
    UNIQUE (room_id, folder),
    CHECK (ended_at IS NULL OR end_reason IS NOT NULL)
) STRICT;

CREATE UNIQUE INDEX lessons_open ON lessons (room_id) WHERE ended_at IS NULL;
