//! Order and history of the chat: a late joiner sees every line once, in order, without a gap.

use std::collections::VecDeque;

use seodang_model::{LessonId, RoomId};

/// Whose lines somebody may read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A student: those of the lesson.
    Lesson(LessonId),
    /// A host: those of all lessons of the room.
    Room(RoomId),
}

/// Puts history and live lines of one subscriber into order.
///
/// The subscriber is added first, and the newest committed id at that moment is `up_to`: what is not above it is
/// history and read from the database, what is above it comes live and waits until the history is through.
#[derive(Debug)]
pub(crate) struct Feed<T> {
    up_to: i64,
    complete: bool,
    waiting: VecDeque<T>,
}

impl<T> Feed<T> {
    /// A subscriber added when `up_to` was the newest committed line.
    pub(crate) fn new(up_to: i64) -> Self {
        Self {
            up_to,
            complete: false,
            waiting: VecDeque::new(),
        }
    }

    /// A live line; returned when it may go out at once.
    pub(crate) fn handle_live(&mut self, id: i64, line: T) -> Option<T> {
        if id <= self.up_to {
            return None;
        }
        if self.complete {
            return Some(line);
        }
        self.waiting.push_back(line);
        None
    }

    /// The last line of the history went out; returns the live lines that waited for it.
    pub(crate) fn handle_history_end(&mut self) -> impl Iterator<Item = T> {
        self.complete = true;
        std::mem::take(&mut self.waiting).into_iter()
    }

    /// Live lines that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
