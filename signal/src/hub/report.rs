//! A lesson in all its states, for hosts.

use seodang_model::protocol::{SlotInfo, UserInfo};
use seodang_model::{LessonId, ParticipantId, Source};
use seodang_sfu::RoomReport;
use serde::Serialize;
use time::OffsetDateTime;

/// The lesson of a room as it is at the moment.
#[derive(Clone, Debug, Serialize)]
pub struct LessonReport {
    /// Its id.
    pub lesson: LessonId,
    /// Its folder, `YYYYMMDD_HHMMSS` in the server's time zone.
    pub folder: String,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// Whether it is ending: its files are being finished.
    pub ending: bool,
    /// Everyone with a seat, in the order of arrival.
    pub participants: Vec<ParticipantState>,
}

/// A participant as signaling and the media workers see it.
#[derive(Clone, Debug, Serialize)]
pub struct ParticipantState {
    /// What hosts are told on the WebSocket too.
    #[serde(flatten)]
    pub user: UserInfo,
    /// What arrives from it.
    pub received: Vec<Received>,
    /// What its slots carry.
    pub slots: Vec<SlotInfo>,
}

/// A publication that arrives.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Received {
    /// Of which source.
    pub source: Source,
    /// Packets since it was published.
    pub packets: u64,
    /// Whether it is copied to the files.
    pub mirrored: bool,
}

impl ParticipantState {
    pub(super) const fn new(user: UserInfo) -> Self {
        Self {
            user,
            received: Vec::new(),
            slots: Vec::new(),
        }
    }

    const fn id(&self) -> ParticipantId {
        self.user.participant
    }
}

impl LessonReport {
    /// Adds what the media workers know.
    pub(super) fn add_media(&mut self, media: RoomReport) {
        for report in media.participants {
            let Some(state) = self
                .participants
                .iter_mut()
                .find(|state| state.id() == report.participant)
            else {
                continue;
            };
            state.user.states.ice = Some(report.ice);
            state.user.states.media = Some(report.media);
            state.slots = report.slots;
            state.received = report
                .publications
                .iter()
                .map(|publication| Received {
                    source: publication.publication.source,
                    packets: publication.packets,
                    mirrored: publication.mirrored,
                })
                .collect();
        }
    }
}
