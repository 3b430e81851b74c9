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
    pub(super) fn send_parcels(&mut self, now: Instant) -> bool {
        let mut waits = false;
        let (mut over, mut faulty) = (Vec::new(), Vec::new());
        for (lesson, room) in &mut self.rooms {
            // Outside of what may panic: a parcel that is lost never goes round again.
            let mut at_hand = None;
            let post = AssertUnwindSafe(|| {
                self.addressees.clear();
                room.addressees(&mut self.addressees);
                for worker in &self.addressees {
                    let Some(empty) = self.links.empty_for(*worker) else {
                        waits = true;
                        continue;
                    };
                    let (_, parcel) = at_hand.insert((*worker, empty));
                    room.post(*worker, parcel);
                    if let Some((worker, parcel)) = at_hand.take() {
                        self.links.send(worker, *lesson, parcel);
                    }
                }
            });
            if catch_unwind(post).is_err() {
                room.part_after_fault();
                faulty.push(*lesson);
            }
            if let Some((worker, mut parcel)) = at_hand {
                parcel.say_farewell();
                self.links.send(worker, *lesson, parcel);
            }
            if room.is_over() {
                over.push(*lesson);
            }
        }
        faulty.into_iter().for_each(|lesson| self.end_faulty(now, lesson));
        over.into_iter().for_each(|lesson| self.drop_room(lesson));
        waits
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use seodang_model::{ParticipantId, Rights};
    use seodang_rtp::FrameSize;
    use tokio::sync::{mpsc, oneshot};

    use super::super::{Command, WorkerConfig};
    use super::*;
    use crate::driver::links::{Links, PARCELS};
    use crate::net::BatchSocket;
    use crate::room::RoomConfig;
    use crate::transport::dtls::Identity;

    const LESSON: LessonId = LessonId::from_bits(7);
    const OTHER_LESSON: LessonId = LessonId::from_bits(8);

    /// Two workers that take their turns by hand.
    fn pair() -> [Worker; 2] {
        let provider = rtc_crypto::default_provider().expect("a provider");
        let identity = Arc::new(Identity::generate(&provider).expect("made"));
        let size = FrameSize {
            width: 640,
            height: 480,
        };
        let [(mut first, one), (mut second, other)] = [(); 2].map(|()| {
            let (events, _) = mpsc::channel(1);
            Worker::new(WorkerConfig {
                socket: BatchSocket::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port"),
                streams: None,
                candidates: Vec::new(),
                identity: Arc::clone(&identity),
                provider: Arc::clone(&provider),
                room: RoomConfig {
                    publisher_bitrate_bps: 1_000_000,
                    recording_size: size,
                    capture_size: size,
                },
                events,
            })
            .expect("a poll")
        });
        let mut links = Links::between(&[one.waker, other.waker]);
        second.links = links.pop().expect("two ends");
        first.links = links.pop().expect("two ends");
        [first, second]
    }

    fn join(workers: &mut [Worker; 2], place: usize, lesson: LessonId, number: u128) {
        let (done, _) = oneshot::channel();
        let others = if workers[1 - place].rooms.contains_key(&lesson) {
            vec![1 - place]
        } else {
            Vec::new()
        };
        let command = Command::Join {
            lesson,
            participant: ParticipantId::from_bits(number),
            rights: Rights {
                may_publish: true,
                may_share_screen: true,
            },
            others,
            done,
        };
        workers[place].handle_command(Instant::now(), command);
    }

    fn leave(worker: &mut Worker, number: u128) {
        let command = Command::Leave(ParticipantId::from_bits(number));
        worker.handle_command(Instant::now(), command);
    }

    /// One turn of a worker; whether it was told something.
    fn turn(worker: &mut Worker) -> bool {
        let mut came = Vec::new();
        worker.links.receive(&mut came);
        let told = !came.is_empty();
        worker.handle_parcels(Instant::now(), &mut came);
        worker.send_parcels(Instant::now());
        told
    }

    /// Until nobody was told anything for a round, nor in the next one what was said in that.
    fn settle(workers: &mut [Worker; 2]) {
        let mut quiet = 0;
        for _ in 0..20 {
            let told = workers.each_mut().map(turn);
            quiet = if told == [false; 2] { quiet + 1 } else { 0 };
            if quiet == 2 {
                return;
            }
        }
        panic!("the workers talk without end");
    }

    /// Parcels that go round from each worker to the other.
    fn parcels(workers: &[Worker; 2]) -> [usize; 2] {
        [0, 1].map(|from: usize| std::iter::from_fn(|| workers[from].links.empty_for(1 - from)).count())
    }

    #[test]
    fn a_lesson_whose_workers_empty_in_the_same_turn_is_gone_from_both() {
        // Whatever they had told each other by then, and whoever comes first.
        for turns in 0..8 {
            for first in [0, 1] {
                let mut workers = pair();
                join(&mut workers, 0, LESSON, 1);
                join(&mut workers, 1, LESSON, 2);
                for count in 0..turns {
                    turn(&mut workers[(first + count) % 2]);
                }
                leave(&mut workers[first], 1 + first as u128);
                leave(&mut workers[1 - first], 2 - first as u128);
                turn(&mut workers[first]);
                settle(&mut workers);
                let stay = workers.each_ref().map(|worker| worker.rooms.len());
                assert_eq!(stay, [0, 0], "after {turns} turns, worker {first} first");
                assert_eq!(parcels(&workers), [PARCELS; 2]);
            }
        }
    }

    #[test]
    fn an_emptied_workers_half_of_a_lesson_is_dropped_and_the_other_half_goes_on_alone() {
        let mut workers = pair();
        for (place, number) in [(0, 1), (1, 2), (0, 3), (1, 4)] {
            join(&mut workers, place, LESSON, number);
        }
        settle(&mut workers);
        for round in 0..3 {
            for number in [2, 4] {
                assert!(workers[1].rooms.contains_key(&LESSON) && workers[0].rooms[&LESSON].is_spread());
                leave(&mut workers[1], number);
            }
            settle(&mut workers);
            assert!(
                workers[1].rooms.is_empty() && workers[1].lessons.is_empty(),
                "round {round}"
            );
            assert!(!workers[0].rooms[&LESSON].is_spread());
            for number in [2, 4] {
                join(&mut workers, 1, LESSON, number);
            }
            settle(&mut workers);
        }
        assert_eq!(parcels(&workers), [PARCELS; 2]);
    }

    #[test]
    fn a_panic_over_a_parcel_ends_neither_the_worker_nor_other_lessons_and_is_not_due_again() {
        // While there is something to tell, and when there is nothing more.
        for settled in [false, true] {
            let mut workers = pair();
            for lesson in [LESSON, OTHER_LESSON] {
                let number = if lesson == LESSON { 1 } else { 11 };
                join(&mut workers, 1, lesson, number);
                join(&mut workers, 0, lesson, number + 1);
            }
            if settled {
                settle(&mut workers);
            }
            workers[0].rooms.get_mut(&LESSON).expect("joined").break_parcels();
            settle(&mut workers);
            settle(&mut workers);
            assert_eq!(workers[0].out.counters.panics_contained, 1, "settled: {settled}");
            assert_eq!(workers[1].out.counters.panics_contained, 0);
            for worker in &workers {
                assert!(!worker.rooms[&LESSON].is_spread(), "the others were told");
                assert!(worker.rooms[&OTHER_LESSON].is_spread());
            }
            assert_eq!(parcels(&workers), [PARCELS; 2], "none is lost");
        }
    }
}
