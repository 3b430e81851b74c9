//! The seam between a class and its files: what the hub tells the mirror, and what the mirror tells back.
//!
//! The hub calls [`Mirror`] after the database has committed, never before; only what ends the keeping of somebody
//! comes at once. Commands arrive in the order in which
//! things happened in a lesson; none is dropped, because a lost one could be a withdrawn consent.

mod assembler;
mod books;
mod desk;
mod keeping;
mod kept;
mod opener;
mod person;
mod plan;
mod recording;
mod sink;

pub use books::{Recovered, recover_recordings};
pub(crate) use keeping::Alive;
pub use keeping::{Keeping, KeepingConfig};
pub(crate) use sink::Overload;

use std::collections::BTreeSet;

use seodang_model::protocol::Consents;
use seodang_model::{
    DisplayName, LessonFolder, LessonId, ParticipantId, PersonId, Publication, Role, RoomId, RoomNumber,
    StorageName,
};
use seodang_recorder::LessonPlace;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};

/// Commands on their way to the mirror: some seconds of the busiest class. When full, the lesson waits.
const COMMANDS: usize = 1_024;
/// Reports on their way to the hub. When full, the mirror waits.
const REPORTS: usize = 1_024;

/// What happened in a class that matters to its files.
#[derive(Debug)]
pub enum MirrorCommand {
    /// A lesson began, or goes on after a restart of the server.
    LessonOpened(LessonInfo),
    /// Somebody took a seat, or took it again after having left. The answers about consent are committed.
    Joined(Subject),
    /// Changed answers about consent, committed.
    ConsentsChanged {
        /// Whose.
        participant: ParticipantId,
        /// The newest answers.
        consents: Consents,
    },
    /// Somebody took an answer back, and the row may still be on its way: nothing that is refused is kept any longer.
    /// Never begins anything.
    Withdrawn {
        /// Whose.
        participant: ParticipantId,
        /// What is not refused.
        still: Consents,
    },
    /// A source is being sent from now on.
    Published(Publication),
    /// A source is not sent any more ("camera off"), or may not be.
    Unpublished(Publication),
    /// The WebSocket is lost; the media may go on. The seat is kept for the grace time.
    Away(ParticipantId),
    /// The WebSocket is back.
    Back(ParticipantId),
    /// The seat is free; its holder may still take it again with [`MirrorCommand::Joined`].
    Left(ParticipantId),
    /// The lesson ends. The SFU has dropped every sink of it; nobody joins any more.
    LessonClosing {
        /// Which.
        lesson: LessonId,
        /// Whether the files are kept; otherwise they are put aside to be erased.
        keep_recordings: bool,
        /// Who said no to being recorded without the database having stored it.
        unstored: BTreeSet<ParticipantId>,
        /// Answered when the files are finished and have their rows; dropped when they could not be.
        closed: oneshot::Sender<()>,
    },
}

/// A lesson as its files know it.
#[derive(Clone, Debug)]
pub struct LessonInfo {
    /// The lesson.
    pub lesson: LessonId,
    /// Its room.
    pub room: RoomId,
    /// The room's folder.
    pub number: RoomNumber,
    /// The lesson's folder.
    pub folder: LessonFolder,
    /// Zero of the lesson clock.
    pub started_at: OffsetDateTime,
    /// Whether it goes on after a restart of the server.
    pub reopened: bool,
}

/// A participant as its files know it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The lesson.
    pub lesson: LessonId,
    /// Who.
    pub participant: ParticipantId,
    /// The lasting identity behind.
    pub person: PersonId,
    /// Shown name.
    pub name: DisplayName,
    /// Name on disk, unique in the lesson.
    pub storage_name: StorageName,
    /// Role.
    pub role: Role,
    /// The committed answers.
    pub consents: Consents,
    /// Version of the text they were given to.
    pub consent_version: &'static str,
    /// When the seat was first taken.
    pub joined_at: OffsetDateTime,
    /// Whether it was taken before.
    pub resumed: bool,
}

/// What is being kept of somebody from now on, as the mirror sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptReport {
    /// Of whom.
    pub participant: ParticipantId,
    /// What.
    pub kept: Consents,
}

/// The files of a lesson could not be finished; closing it again finishes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the files of a lesson are not finished")]
pub struct NotFinished;

/// Sends commands to the mirror. Cloning is cheap; when the last one is dropped the mirror's commands end.
#[derive(Clone, Debug)]
pub struct Mirror {
    commands: mpsc::Sender<MirrorCommand>,
}

/// The four ends of the seam.
#[derive(Debug)]
pub struct MirrorEnds {
    /// For the hub: what happened.
    pub mirror: Mirror,
    /// For the hub: what is kept.
    pub reports: mpsc::Receiver<KeptReport>,
    /// For the mirror: what happened.
    pub commands: mpsc::Receiver<MirrorCommand>,
    /// For the mirror: what is kept.
    pub reporter: mpsc::Sender<KeptReport>,
}

impl Mirror {
    /// The seam. A mirror that drops its ends makes a class of which nothing is kept.
    #[must_use]
    pub fn ends() -> MirrorEnds {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let (reporter, reports) = mpsc::channel(REPORTS);
        MirrorEnds {
            mirror: Self { commands: sender },
            reports,
            commands,
            reporter,
        }
    }

    /// Tells what happened; waits while the mirror is behind. Without a mirror nothing is kept, and that is fine.
    pub async fn tell(&self, command: MirrorCommand) {
        if self.commands.send(command).await.is_err() {
            tracing::debug!("no mirror: nothing is kept");
        }
    }

    /// Ends at once what `still` refuses.
    pub async fn withdraw(&self, participant: ParticipantId, still: Consents) {
        if !(still.recording && still.captures) {
            self.tell(MirrorCommand::Withdrawn { participant, still }).await;
        }
    }

    /// Ends a lesson's files and waits until they are finished.
    ///
    /// # Errors
    /// When they could not be finished, or there is no mirror to finish them: the lesson must be closed again.
    pub async fn close_lesson(
        &self,
        lesson: LessonId,
        keep_recordings: bool,
        unstored: BTreeSet<ParticipantId>,
    ) -> Result<(), NotFinished> {
        let (closed, finished) = oneshot::channel();
        self.tell(MirrorCommand::LessonClosing {
            lesson,
            keep_recordings,
            unstored,
            closed,
        })
        .await;
        finished.await.map_err(|_| NotFinished)
    }
}

/// Where a lesson's recordings are.
fn lesson_place(lesson: &LessonInfo) -> LessonPlace {
    LessonPlace {
        room: lesson.number.clone(),
        folder: lesson.folder,
    }
}

/// The version of the consent text as files carry it: the digits of its date, `20261121`.
fn consent_number(version: &str) -> u32 {
    version
        .bytes()
        .filter(u8::is_ascii_digit)
        .fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}
