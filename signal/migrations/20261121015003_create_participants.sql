-- A person in one lesson. The name on disk is allocated here, once, and stays taken until the lesson is gone.
CREATE TABLE participants (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 26),
    lesson_id TEXT NOT NULL REFERENCES lessons (id),
    person_id TEXT NOT NULL REFERENCES persons (id),
    display_name TEXT NOT NULL CHECK (length(display_name) BETWEEN 1 AND 96),
    storage_name TEXT NOT NULL CHECK (length(storage_name) BETWEEN 1 AND 120 AND instr(storage_name, '_') = 0),
    storage_name_folded TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('host', 'cohost', 'student')),
    may_publish INTEGER NOT NULL CHECK (may_publish IN (0, 1)),
    may_share_screen INTEGER NOT NULL CHECK (may_share_screen IN (0, 1)),
    resume_token_hash BLOB NOT NULL UNIQUE CHECK (length(resume_token_hash) = 32),
    joined_at INTEGER NOT NULL,
    left_at INTEGER CHECK (left_at >= joined_at),
    UNIQUE (lesson_id, storage_name_folded)
) STRICT;

CREATE INDEX participants_of_person ON participants (person_id);
