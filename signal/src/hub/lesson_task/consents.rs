//! Answers about consent: a no counts at once, a yes from its commit on.

use std::collections::BTreeSet;

use seodang_model::protocol::Consents;
use seodang_model::{ParticipantId, PersonId};
use time::OffsetDateTime;

use super::messages::refused;
use super::{LessonTask, Unstored};
use crate::lesson::{Output, Refusal};
use crate::store::StoreError;

impl LessonTask {
    /// A changed answer.
    pub(super) async fn consent(
        &mut self,
        participant: ParticipantId,
        wish: Consents,
    ) -> Result<Vec<Output>, Refusal> {
        let Some(seat) = self.lesson.seat(participant) else {
            return Ok(Vec::new());
        };
        let (person, before) = (seat.record.person, seat.record.consents);
        match self.store_answer(participant, person, wish).await {
            Ok(()) => Ok(self.lesson.handle_consents(participant, wish)),
            Err(error) => {
                self.take_back(participant, person, before, wish).await;
                Err(refused(&error))
            }
        }
    }

    /// An answer that was on its way when the lesson ended: what it takes back counts, what it gives is too late.
    pub(super) async fn late_consent(&mut self, participant: ParticipantId, wish: Consents) {
        let Some(seat) = self.lesson.seat(participant) else {
            return;
        };
        let wish = seat.record.consents.and(wish);
        if wish == seat.record.consents {
            return;
        }
        if let Ok(outputs) = self.consent(participant, wish).await {
            self.carry_out(outputs).await;
        }
    }

    /// Commits an answer. What it takes back has no effect on the files from before the commit.
    pub(super) async fn store_answer(
        &mut self,
        participant: ParticipantId,
        person: PersonId,
        wish: Consents,
    ) -> Result<(), StoreError> {
        self.shared.mirror.withdraw(participant, wish).await;
        self.store_earlier(participant).await?;
        self.add(participant, person, wish).await
    }

    /// The database took no answer. A yes needs its row; a no counts all the same.
    pub(super) async fn take_back(
        &mut self,
        participant: ParticipantId,
        person: PersonId,
        before: Consents,
        wish: Consents,
    ) {
        let consents = before.and(wish);
        if consents != before {
            self.unstored.insert(participant, Unstored { person, consents });
            let outputs = self.lesson.handle_consents(participant, consents);
            self.carry_out(outputs).await;
        }
    }

    /// Tries once more to store the noes that have no row; who said no to being recorded and still has none.
    pub(super) async fn settle_answers(&mut self) -> BTreeSet<ParticipantId> {
        let waiting: Vec<ParticipantId> = self.unstored.keys().copied().collect();
        for participant in waiting {
            if let Err(error) = self.store_earlier(participant).await {
                // The others would wait as long for the same answer.
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a withdrawn consent is not stored"
                );
                break;
            }
        }
        let refusing = |(participant, answer): (&ParticipantId, &Unstored)| {
            (!answer.consents.recording).then_some(*participant)
        };
        self.unstored.iter().filter_map(refusing).collect()
    }

    /// Stores the answer that could not be stored when it was given, if there is one.
    async fn store_earlier(&mut self, participant: ParticipantId) -> Result<(), StoreError> {
        if let Some(Unstored { person, consents }) = self.unstored.get(&participant).copied() {
            self.add(participant, person, consents).await?;
            self.unstored.remove(&participant);
        }
        Ok(())
    }

    async fn add(
        &self,
        participant: ParticipantId,
        person: PersonId,
        consents: Consents,
    ) -> Result<(), StoreError> {
        let room = self.lesson.room().id;
        self.shared
            .store
            .add_consents(person, room, participant, consents, OffsetDateTime::now_utc())
            .await
    }
}
