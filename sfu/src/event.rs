//! What the SFU tells the outside.

use seodang_model::protocol::{IceState, MediaState, SlotInfo};
use seodang_model::{ParticipantId, Publication};

/// Something that happened on a media worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SfuEvent {
    /// A participant's ICE or media state changed.
    States {
        /// Whose.
        participant: ParticipantId,
        /// The path.
        ice: IceState,
        /// The media.
        media: MediaState,
    },
    /// What the slots of a participant carry changed.
    Slots {
        /// Whose slots.
        participant: ParticipantId,
        /// The newest `view` in effect.
        generation: u32,
        /// All slots of the connection.
        slots: Vec<SlotInfo>,
    },
    /// The sender shall send these encodings of a publication and no others; only of one that has several.
    Layers {
        /// Which.
        publication: Publication,
        /// The encodings' names, as the offer has them.
        rids: Vec<String>,
    },
    /// The first packet of a publication arrived since it was published.
    Flowing {
        /// Which.
        publication: Publication,
    },
    /// The media connection is gone; the participant must offer again.
    ReofferNeeded {
        /// Whose.
        participant: ParticipantId,
        /// Why, for logs.
        reason: &'static str,
    },
}

/// A room as its worker sees it.
#[derive(Clone, Debug, Default)]
pub struct RoomReport {
    /// Everyone who joined and has not left.
    pub participants: Vec<ParticipantReport>,
}

/// A participant as the worker sees it.
#[derive(Clone, Debug)]
pub struct ParticipantReport {
    /// Who.
    pub participant: ParticipantId,
    /// The path.
    pub ice: IceState,
    /// The media.
    pub media: MediaState,
    /// What it sends.
    pub publications: Vec<PublicationReport>,
    /// What its slots carry.
    pub slots: Vec<SlotInfo>,
}

/// A publication as the worker sees it.
#[derive(Clone, Copy, Debug)]
pub struct PublicationReport {
    /// Which.
    pub publication: Publication,
    /// Packets received since it was published.
    pub packets: u64,
    /// Whether a sink is attached.
    pub mirrored: bool,
}

/// Counters of all workers since the start, by name without prefix (`packets_in`, `dropped_unrouted`, ...).
pub type SfuStats = std::collections::BTreeMap<&'static str, u64>;
