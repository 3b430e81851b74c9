-- One participant's file of one lesson. The path is below the recordings folder; it holds a name, so it goes when the
-- file is erased, and the rest of the row stays as the proof.
CREATE TABLE recordings (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 26),
    lesson_id TEXT NOT NULL REFERENCES lessons (id),
    participant_id TEXT NOT NULL REFERENCES participants (id),
    kind TEXT NOT NULL CHECK (kind IN ('camera', 'screen')),
    path TEXT UNIQUE CHECK (path NOT GLOB '/*' AND instr(path, '..') = 0),
    state TEXT NOT NULL CHECK (state IN ('recording', 'finishing', 'finished', 'recovered', 'truncated')),
    offset_ms INTEGER CHECK (offset_ms >= 0),
    duration_ms INTEGER CHECK (duration_ms >= 0),
    size_bytes INTEGER CHECK (size_bytes >= 0),
    sha256 TEXT CHECK (length(sha256) = 64 AND sha256 NOT GLOB '*[^0-9a-f]*'),
    created_at INTEGER NOT NULL,
    finished_at INTEGER,
    erased_at INTEGER,
    UNIQUE (lesson_id, participant_id, kind),
    CHECK ((finished_at IS NULL) = (state IN ('recording', 'finishing'))),
    CHECK (finished_at IS NULL OR (size_bytes IS NOT NULL AND sha256 IS NOT NULL)),
    CHECK (path IS NOT NULL OR erased_at IS NOT NULL)
) STRICT;
