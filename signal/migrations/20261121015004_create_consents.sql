-- Every answer ever given, in order; the newest one counts, none is a no.
CREATE TABLE consents (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    person_id TEXT NOT NULL REFERENCES persons (id),
    room_id TEXT NOT NULL REFERENCES rooms (id),
    participant_id TEXT NOT NULL REFERENCES participants (id),
    purpose TEXT NOT NULL CHECK (purpose IN ('recording', 'captures', 'scoring')),
    answer INTEGER NOT NULL CHECK (answer IN (0, 1)),
    given_by TEXT NOT NULL CHECK (given_by IN ('self', 'guardian', 'school')),
    text_version TEXT NOT NULL CHECK (length(text_version) BETWEEN 1 AND 32),
    given_at INTEGER NOT NULL
) STRICT;

CREATE INDEX consents_of_participant ON consents (participant_id, purpose, id);

CREATE TRIGGER consents_are_never_changed BEFORE UPDATE ON consents
BEGIN
    SELECT RAISE(ABORT, 'consents are append-only');
END;
