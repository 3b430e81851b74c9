-- The id is the order that everyone sees; AUTOINCREMENT because a deleted line's id must not come again.
CREATE TABLE chat_messages (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    room_id TEXT NOT NULL REFERENCES rooms (id),
    lesson_id TEXT NOT NULL REFERENCES lessons (id),
    participant_id TEXT NOT NULL REFERENCES participants (id),
    text TEXT NOT NULL CHECK (length(text) BETWEEN 1 AND 2000),
    sent_at INTEGER NOT NULL
) STRICT;

CREATE INDEX chat_messages_of_room ON chat_messages (room_id, id);
CREATE INDEX chat_messages_of_lesson ON chat_messages (lesson_id, id);
