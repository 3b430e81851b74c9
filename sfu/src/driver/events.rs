//! Events on their way out: never lost, never waited for.

use std::collections::BTreeMap;

use seodang_model::protocol::{IceState, MediaState};
use seodang_model::{ParticipantId, Publication};
use tokio::sync::mpsc;

use crate::SfuEvent;

/// The outgoing end. When the channel is full, the newest state of each participant is kept and sent as soon as there
/// is room: bounded by the number of participants, and nothing that is still true is lost.
pub(super) struct Events {
    channel: mpsc::Sender<SfuEvent>,
    waiting: BTreeMap<Key, SfuEvent>,
}

/// What a later event of the same key replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    States(ParticipantId),
    Slots(ParticipantId),
    Layers(Publication),
    Flowing(Publication),
    Reoffer(ParticipantId),
}

impl Events {
    pub(super) fn new(channel: mpsc::Sender<SfuEvent>) -> Self {
        Self {
            channel,
            waiting: BTreeMap::new(),
        }
    }

    pub(super) fn send(&mut self, event: SfuEvent) {
        if self.waiting.is_empty() {
            match self.channel.try_send(event) {
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                Err(mpsc::error::TrySendError::Full(event)) => self.keep(event),
            }
        } else {
            self.keep(event);
        }
    }

    pub(super) fn states(&mut self, participant: ParticipantId, ice: IceState, media: MediaState) {
        self.send(SfuEvent::States {
            participant,
            ice,
            media,
        });
    }

    /// Sends what had no room before.
    pub(super) fn flush(&mut self) {
        while let Some((key, event)) = self.waiting.pop_first() {
            if let Err(mpsc::error::TrySendError::Full(event)) = self.channel.try_send(event) {
                self.waiting.insert(key, event);
                return;
            }
        }
    }

    /// Drops what waits about a participant who left.
    pub(super) fn forget(&mut self, participant: ParticipantId) {
        self.waiting.retain(|key, _| match key {
            Key::States(about) | Key::Slots(about) | Key::Reoffer(about) => *about != participant,
            Key::Layers(publication) | Key::Flowing(publication) => publication.participant != participant,
        });
    }

    /// Whether [`Self::flush`] has something to do.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn keep(&mut self, event: SfuEvent) {
        let key = match &event {
            SfuEvent::States { participant, .. } => Key::States(*participant),
            SfuEvent::Slots { participant, .. } => Key::Slots(*participant),
            SfuEvent::Layers { publication, .. } => Key::Layers(*publication),
            SfuEvent::Flowing { publication } => Key::Flowing(*publication),
            SfuEvent::ReofferNeeded { participant, .. } => Key::Reoffer(*participant),
        };
        self.waiting.insert(key, event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_waits_about_who_left() {
        let (channel, _receiver) = mpsc::channel(1);
        let mut events = Events::new(channel);
        let (a, b) = (ParticipantId::from_bits(1), ParticipantId::from_bits(2));
        events.states(a, IceState::New, MediaState::New);
        events.states(b, IceState::New, MediaState::New);
        assert!(events.is_waiting());
        events.forget(b);
        assert!(!events.is_waiting());
    }

    #[test]
    fn a_full_channel_keeps_the_newest_state_of_each_participant() {
        let (channel, mut receiver) = mpsc::channel(1);
        let mut events = Events::new(channel);
        let (a, b) = (ParticipantId::from_bits(1), ParticipantId::from_bits(2));
        for media in [MediaState::New, MediaState::Ready, MediaState::Stalled] {
            events.states(a, IceState::Connected, media);
            events.states(b, IceState::Connected, media);
        }
        let mut last = BTreeMap::new();
        while let Ok(event) = receiver.try_recv() {
            let SfuEvent::States {
                participant, media, ..
            } = event
            else {
                panic!("a state")
            };
            last.insert(participant, media);
            events.flush();
        }
        assert_eq!(
            last,
            BTreeMap::from([(a, MediaState::Stalled), (b, MediaState::Stalled)])
        );
    }
}
