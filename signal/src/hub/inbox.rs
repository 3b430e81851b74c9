//! News from the media workers and the mirror on their way to the lesson they belong to.
//!
//! Only the newest state of each participant counts, so news never wait in a line: an inbox holds at most one of
//! each kind for each participant, however slow its lesson is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use seodang_model::ParticipantId;
use seodang_sfu::SfuEvent;
use tokio::sync::{Notify, mpsc};

use super::Shared;
use crate::lesson::MediaNews;
use crate::mirror::KeptReport;

/// News for one lesson.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    news: Mutex<BTreeMap<ParticipantId, MediaNews>>,
    filled: Notify,
}

impl Inbox {
    fn put(&self, participant: ParticipantId, note: impl FnOnce(&mut MediaNews)) {
        note(
            self.news
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(participant)
                .or_default(),
        );
        self.filled.notify_one();
    }

    /// Waits for news and takes all there are.
    pub(super) async fn take(&self) -> BTreeMap<ParticipantId, MediaNews> {
        loop {
            let news = std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner));
            if !news.is_empty() {
                return news;
            }
            self.filled.notified().await;
        }
    }
}

impl Shared {
    /// From here on news of a participant go to `inbox`.
    pub(super) fn route_news(&self, participant: ParticipantId, inbox: &Arc<Inbox>) {
        self.inboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(participant, inbox.clone());
    }

    /// News of a participant go nowhere.
    pub(super) fn drop_news(&self, participant: ParticipantId) {
        self.inboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&participant);
    }

    fn put_news(&self, participant: ParticipantId, note: impl FnOnce(&mut MediaNews)) {
        let inbox = self
            .inboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&participant)
            .cloned();
        if let Some(inbox) = inbox {
            inbox.put(participant, note);
        }
    }

    fn put_event(&self, event: SfuEvent) {
        match event {
            SfuEvent::States {
                participant,
                ice,
                media,
            } => {
                self.put_news(participant, |news| news.states = Some((ice, media)));
            }
            SfuEvent::Slots {
                participant,
                generation,
                slots,
            } => {
                self.put_news(participant, |news| news.slots = Some((generation, slots)));
            }
            SfuEvent::Layers { publication, rids } => {
                self.put_news(publication.participant, |news| {
                    news.layers.insert(publication.source, rids);
                });
            }
            SfuEvent::ReofferNeeded { participant, reason } => {
                self.put_news(participant, |news| news.reoffer = Some(reason));
            }
            SfuEvent::Flowing { publication } => {
                tracing::debug!(participant.id = %publication.participant, source = publication.source.as_str(), "media flows");
            }
        }
    }
}

/// Puts every event where it belongs until the server stops. Never waits for a lesson.
pub(super) async fn distribute(
    shared: Arc<Shared>,
    mut events: mpsc::Receiver<SfuEvent>,
    mut reports: mpsc::Receiver<KeptReport>,
) {
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            Some(event) = events.recv() => shared.put_event(event),
            Some(report) = reports.recv() => {
                shared.put_news(report.participant, |news| news.kept = Some(report.kept));
            }
            else => return,
        }
    }
}
