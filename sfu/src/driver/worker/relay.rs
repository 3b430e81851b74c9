//! Lessons that have rooms on other workers, too: what they send one another.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use seodang_model::LessonId;

use super::Worker;
use crate::room::Parcel;

impl Worker {
    /// Hands parcels of other workers to their rooms. Who does not know yet that a lesson has ended here is told so.
    pub(super) fn handle_parcels(&mut self, now: Instant, came: &mut Vec<(usize, LessonId, Parcel)>) {
        for (worker, lesson, parcel) in came.drain(..) {
            if let Some(room) = self.rooms.get_mut(&lesson) {
                let out = &mut self.out;
                let handle = AssertUnwindSafe(|| room.handle_parcel(now, worker, &parcel, out));
                if catch_unwind(handle).is_err() {
                    self.end_faulty(now, lesson);
                }
            } else if !parcel.is_farewell()
                && let Some(mut answer) = self.links.empty_for(worker)
            {
                answer.say_farewell();
                self.links.send(worker, lesson, answer);
            }
            self.links.give_back(worker, parcel);
        }
    }

    /// Sends what rooms have for those of other workers, and drops the rooms that nobody needs any more. Whether something
    /// waits for a worker that is too busy to take it.
    pub(super) fn send_parcels(&mut self) -> bool {
        let mut waits = false;
        let mut over = Vec::new();
        for (lesson, room) in &mut self.rooms {
            self.addressees.clear();
            room.addressees(&mut self.addressees);
            for worker in &self.addressees {
                let Some(mut parcel) = self.links.empty_for(*worker) else {
                    waits = true;
                    continue;
                };
                room.post(*worker, &mut parcel);
                self.links.send(*worker, *lesson, parcel);
            }
            if room.is_over() {
                over.push(*lesson);
            }
        }
        over.into_iter().for_each(|lesson| self.drop_room(lesson));
        waits
    }
}
