//! One seat of a lesson, and how it looks to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use seodang_model::protocol::{
    Consents, IceState, MediaState, ServerMessage, SignalingState, SlotInfo, States, UserInfo,
};
use seodang_model::{LessonId, Role, Source};

use super::SocketId;
use crate::mirror::Subject;
use crate::store::SeatRecord;

/// Somebody's place in a lesson.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    /// As stored.
    pub(crate) record: SeatRecord,
    /// Place in the order of arrival.
    pub(super) arrival: u64,
    /// The socket that speaks for it.
    pub(super) socket: Option<SocketId>,
    /// When the last socket was lost.
    pub(super) lost_at: Option<Instant>,
    /// When its holder is due for other credentials for relays.
    pub(super) relays_due: Option<Instant>,
    /// What is being sent.
    pub(super) publications: BTreeSet<Source>,
    /// States of path and media.
    pub(super) media: (IceState, MediaState),
    /// An offer is with the SFU.
    pub(super) is_offering: bool,
    /// What the slots carry, held back until the offer is answered.
    pub(super) waiting_slots: Option<(u32, Vec<SlotInfo>)>,
    /// The encodings its connection shall send of each source, as far as it was ever told.
    pub(super) layers: BTreeMap<Source, Vec<String>>,
    /// The connection went while nobody could be told.
    pub(super) reoffer_due: Option<&'static str>,
    /// Whether the mirror knows of it.
    pub(super) mirrored: bool,
    /// What is kept, as the mirror says; nothing until it says so.
    pub(super) kept: Consents,
    /// What the holder was last told of its own and everyone's keeping.
    pub(super) told_kept: Option<(Consents, Consents)>,
}

impl Seat {
    pub(super) fn new(record: SeatRecord, arrival: u64) -> Self {
        Self {
            record,
            arrival,
            socket: None,
            lost_at: None,
            relays_due: None,
            publications: BTreeSet::new(),
            media: (IceState::New, MediaState::New),
            is_offering: false,
            waiting_slots: None,
            layers: BTreeMap::new(),
            reoffer_due: None,
            mirrored: false,
            kept: Consents::default(),
            told_kept: None,
        }
    }

    /// Whether its holder sees and may do what hosts may.
    pub(crate) const fn is_host(&self) -> bool {
        matches!(self.record.role, Role::Host | Role::Cohost)
    }

    /// What everyone sees.
    pub(super) fn info_for_students(&self) -> UserInfo {
        UserInfo {
            participant: self.record.participant,
            name: self.record.name.clone(),
            role: self.record.role,
            rights: self.record.rights,
            publications: self.publications.iter().copied().collect(),
            states: States {
                signaling: self.signaling(),
                ice: None,
                media: None,
            },
            consents: None,
        }
    }

    /// What its holder sees.
    pub(super) fn info_for_itself(&self) -> UserInfo {
        if self.is_host() {
            return self.info_for_hosts();
        }
        UserInfo {
            consents: Some(self.record.consents),
            ..self.info_for_students()
        }
    }

    /// What hosts see.
    pub(super) fn info_for_hosts(&self) -> UserInfo {
        let (ice, media) = self.media;
        UserInfo {
            states: States {
                signaling: self.signaling(),
                ice: Some(ice),
                media: Some(media),
            },
            consents: Some(self.record.consents),
            ..self.info_for_students()
        }
    }

    /// What its holder has to know to send the right encodings.
    pub(super) fn layers_messages(&self) -> impl Iterator<Item = ServerMessage> {
        self.layers.iter().map(|(source, rids)| ServerMessage::Layers {
            source: *source,
            rids: rids.clone(),
        })
    }

    /// How the mirror knows it.
    pub(super) fn subject(&self, lesson: LessonId, consent_version: &'static str, resumed: bool) -> Subject {
        Subject {
            lesson,
            participant: self.record.participant,
            person: self.record.person,
            name: self.record.name.clone(),
            storage_name: self.record.storage_name.clone(),
            role: self.record.role,
            consents: self.record.consents,
            consent_version,
            joined_at: self.record.joined_at,
            resumed,
        }
    }

    fn signaling(&self) -> SignalingState {
        if self.lost_at.is_some() {
            SignalingState::Lost
        } else {
            SignalingState::Connected
        }
    }
}
