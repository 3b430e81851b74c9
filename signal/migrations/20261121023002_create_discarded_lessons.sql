-- Lessons whose host did not keep the recordings: out of sight at once, erased after a while.
CREATE TABLE discarded_lessons (
    lesson_id TEXT NOT NULL PRIMARY KEY REFERENCES lessons (id),
    discarded_at INTEGER NOT NULL,
    erase_after INTEGER NOT NULL CHECK (erase_after >= discarded_at),
    erased_at INTEGER
) STRICT;
