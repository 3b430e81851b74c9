//! Order and history of the chat: a late joiner sees every line once, in order, without a gap.
//!
//! A lesson commits a line and then hands it to every outbox; a line's id is its place in the order. Somebody who
//! joins is given an outbox first and is told then which line was the newest (`up_to`). Everything up to it is
//! read from the database, everything above it is behind the history in the outbox.

use seodang_model::protocol::{ChatLine, ErrorCode, MOST_CHAT_CHARACTERS, MOST_MESSAGE_BYTES, ServerMessage};
use seodang_model::{LessonId, RoomId};

/// Lines read from the database at a time.
pub(crate) const LINES_A_READ: u32 = 200;
/// Room in a message for what is around the lines.
const ENVELOPE_BYTES: usize = 256;
/// Longest nonce in bytes.
const MOST_NONCE_BYTES: usize = 64;

/// Whose lines somebody may read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A student: those of the lesson.
    Lesson(LessonId),
    /// A host: those of all lessons of the room.
    Room(RoomId),
}

/// Reads a history from the database, some lines at a time.
#[derive(Clone, Debug)]
pub(crate) struct History {
    scope: Scope,
    after: i64,
    up_to: i64,
}

impl History {
    /// The history of somebody who joined when `up_to` was the newest committed line.
    pub(crate) const fn new(scope: Scope, up_to: i64) -> Self {
        Self {
            scope,
            after: 0,
            up_to,
        }
    }

    /// What to read next: scope, the line behind which to begin, and the last line wanted.
    pub(crate) const fn wanted(&self) -> (Scope, i64, i64) {
        (self.scope, self.after, self.up_to)
    }

    /// The messages for the lines that were read, each below the size limit, and whether that was all.
    pub(crate) fn handle_lines(&mut self, lines: Vec<ChatLine>, most: usize) -> (Vec<ServerMessage>, bool) {
        let complete = lines.len() < most;
        if let Some(last) = lines.last() {
            self.after = last.id;
        }
        let mut messages = Vec::new();
        let mut page = Vec::new();
        let mut page_bytes = ENVELOPE_BYTES;
        for line in lines {
            let line_bytes = json_bytes(&line);
            if page_bytes + line_bytes > MOST_MESSAGE_BYTES && !page.is_empty() {
                messages.push(ServerMessage::ChatHistory {
                    messages: std::mem::take(&mut page),
                    complete: false,
                });
                page_bytes = ENVELOPE_BYTES;
            }
            page_bytes += line_bytes;
            page.push(line);
        }
        if complete || !page.is_empty() {
            messages.push(ServerMessage::ChatHistory {
                messages: page,
                complete,
            });
        }
        (messages, complete)
    }
}

/// Checks a line as typed and returns it as it will be stored.
///
/// # Errors
/// With the code and a sentence when it is empty, too long, or holds what cannot be shown.
pub(crate) fn check(text: &str, nonce: &str) -> Result<String, (ErrorCode, &'static str)> {
    let text = text.trim();
    if text.is_empty() {
        return Err((ErrorCode::BadText, "the line is empty"));
    }
    if text.chars().count() > MOST_CHAT_CHARACTERS {
        return Err((ErrorCode::BadText, "the line is longer than 2000 characters"));
    }
    if text
        .chars()
        .any(|character| character.is_control() && !matches!(character, '\n' | '\t'))
    {
        return Err((ErrorCode::BadText, "the line holds a control character"));
    }
    if nonce.len() > MOST_NONCE_BYTES {
        return Err((ErrorCode::BadText, "the nonce is longer than 64 bytes"));
    }
    Ok(text.to_owned())
}

fn json_bytes(line: &ChatLine) -> usize {
    // One more for the comma.
    serde_json::to_string(line).map_or(0, |text| text.len() + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use seodang_model::{DisplayName, ParticipantId};
    use time::macros::datetime;

    use super::*;

    #[test]
    fn messages_of_a_history_stay_below_the_size_limit() {
        // Quotes double in JSON; every line of 2000 of them has 4 kB there.
        let lines: Vec<ChatLine> = (1..=60)
            .map(|id| line(id, &"\"".repeat(MOST_CHAT_CHARACTERS)))
            .collect();
        let mut history = History::new(Scope::Room(RoomId::from_bits(1)), 60);
        let (messages, complete) = history.handle_lines(lines, 200);
        assert!(complete);
        assert!(messages.len() > 3);
        for message in &messages {
            assert!(serde_json::to_string(message).expect("json").len() <= MOST_MESSAGE_BYTES);
        }
        let ids: Vec<i64> = messages.iter().flat_map(ids_of).collect();
        assert_eq!(ids, (1..=60).collect::<Vec<_>>());
    }

    #[test]
    fn an_empty_history_is_complete_at_once() {
        let mut history = History::new(Scope::Room(RoomId::from_bits(1)), 0);
        let (messages, complete) = history.handle_lines(Vec::new(), 200);
        assert!(complete);
        assert_eq!(
            messages,
            [ServerMessage::ChatHistory {
                messages: Vec::new(),
                complete: true
            }]
        );
    }

    #[test]
    fn lines_that_cannot_be_shown_are_refused() {
        for text in [
            "",
            "  \n ",
            "a\0b",
            "\u{1b}[31m",
            &"x".repeat(MOST_CHAT_CHARACTERS + 1),
        ] {
            assert!(
                matches!(check(text, "n"), Err((ErrorCode::BadText, _))),
                "{text:?}"
            );
        }
        assert_eq!(check(" 안녕\n하세요 ", "n"), Ok("안녕\n하세요".to_owned()));
        assert_eq!(
            check(&"민".repeat(MOST_CHAT_CHARACTERS), "n").map(|text| text.chars().count()),
            Ok(2_000)
        );
    }

    /// What a lesson and a late joiner do, in any order.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A line is committed and broadcast.
        Line,
        /// The late joiner's writer reads some lines from the database, or takes a live one from its outbox.
        Write,
    }

    proptest! {
        #[test]
        fn a_late_joiner_sees_every_line_once_and_in_order(
            before in 0_i64..12,
            most in 1_usize..5,
            steps in proptest::collection::vec(prop_oneof![Just(Step::Line), Just(Step::Write)], 0..60),
        ) {
            let mut stored: Vec<ChatLine> = (1..=before).map(|id| line(id, "x")).collect();
            // The outbox exists before the newest line is looked up; nothing is between the two for the lesson.
            let mut outbox = std::collections::VecDeque::new();
            let mut history = History::new(Scope::Room(RoomId::from_bits(1)), before);
            let mut complete = false;
            let mut seen = Vec::new();
            let mut write = |stored: &[ChatLine], outbox: &mut std::collections::VecDeque<i64>| {
                if complete {
                    seen.extend(outbox.pop_front());
                } else {
                    let (_, after, up_to) = history.wanted();
                    let read = stored.iter().filter(|line| line.id > after && line.id <= up_to).take(most).cloned();
                    let (messages, end) = history.handle_lines(read.collect(), most);
                    seen.extend(messages.iter().flat_map(ids_of));
                    complete = end;
                }
            };
            for step in steps {
                match step {
                    Step::Line => {
                        let id = i64::try_from(stored.len()).expect("few") + 1;
                        stored.push(line(id, "x"));
                        outbox.push_back(id);
                    }
                    Step::Write => write(&stored, &mut outbox),
                }
            }
            for _ in 0..200 {
                write(&stored, &mut outbox);
            }
            prop_assert_eq!(seen, stored.iter().map(|line| line.id).collect::<Vec<_>>());
        }
    }

    fn ids_of(message: &ServerMessage) -> Vec<i64> {
        match message {
            ServerMessage::ChatHistory { messages, .. } => messages.iter().map(|line| line.id).collect(),
            _ => Vec::new(),
        }
    }

    fn line(id: i64, text: &str) -> ChatLine {
        ChatLine {
            id,
            participant: ParticipantId::from_bits(7),
            name: DisplayName::parse("민수").expect("a name"),
            text: text.to_owned(),
            sent_at: datetime!(2026-11-21 00:00 UTC),
            nonce: None,
        }
    }
}
