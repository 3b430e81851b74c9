//! Which worker carries whom: a room on one worker, and on further ones only when it outgrows that.

use std::collections::{BTreeMap, HashMap};

use seodang_model::{LessonId, ParticipantId};

/// The seats of all workers.
#[derive(Debug)]
pub(crate) struct Placing {
    /// Participants of each worker.
    loads: Vec<usize>,
    /// A worker that carries as many of a lesson takes nobody else of it while another one carries less.
    most_seats: usize,
    /// For each lesson its workers, and how many of its participants each of them has.
    lessons: HashMap<LessonId, BTreeMap<usize, usize>>,
    participants: HashMap<ParticipantId, (LessonId, usize)>,
}

impl Placing {
    /// Of `workers` workers without participants; a room spreads when it has more than `most_seats` participants on each
    /// of its own.
    pub(crate) fn new(workers: usize, most_seats: usize) -> Self {
        Self {
            loads: vec![0; workers.max(1)],
            most_seats: most_seats.max(1),
            lessons: HashMap::new(),
            participants: HashMap::new(),
        }
    }

    /// The worker for a participant of a lesson: its own if it has a seat there, else the one with the fewest
    /// participants of those that may take it.
    pub(crate) fn worker_for(&self, lesson: LessonId, participant: ParticipantId) -> usize {
        if let Some((_, worker)) = self.place_of(participant).filter(|(of, _)| *of == lesson) {
            return worker;
        }
        let least =
            |workers: &mut dyn Iterator<Item = usize>| workers.min_by_key(|worker| self.loads[*worker]);
        let all = least(&mut (0..self.loads.len())).unwrap_or_default();
        let Some(own) = self.lessons.get(&lesson) else {
            return all;
        };
        let with_room = own.iter().filter(|(_, seats)| **seats < self.most_seats);
        if let Some(worker) = least(&mut with_room.map(|(worker, _)| *worker)) {
            return worker;
        }
        // Another worker helps only if it has more time than those that the room is on.
        let own = least(&mut own.keys().copied()).unwrap_or(all);
        if self.loads[all] < self.loads[own] {
            all
        } else {
            own
        }
    }

    /// Notes a seat.
    pub(crate) fn take(&mut self, lesson: LessonId, participant: ParticipantId, worker: usize) {
        if self.place_of(participant) == Some((lesson, worker)) {
            return;
        }
        self.leave(participant);
        self.loads[worker] += 1;
        *self.lessons.entry(lesson).or_default().entry(worker).or_default() += 1;
        self.participants.insert(participant, (lesson, worker));
    }

    /// Forgets a participant, its lesson's worker with the last one there, and the lesson with the last one of all.
    pub(crate) fn leave(&mut self, participant: ParticipantId) {
        let Some((lesson, worker)) = self.participants.remove(&participant) else {
            return;
        };
        self.loads[worker] -= 1;
        let Some(workers) = self.lessons.get_mut(&lesson) else {
            return;
        };
        if let Some(seats) = workers.get_mut(&worker) {
            *seats -= 1;
            if *seats == 0 {
                workers.remove(&worker);
            }
        }
        if workers.is_empty() {
            self.lessons.remove(&lesson);
        }
    }

    /// Forgets a lesson's participants on one worker.
    pub(crate) fn close(&mut self, lesson: LessonId, worker: usize) {
        let here = self
            .participants
            .iter()
            .filter(|(_, place)| **place == (lesson, worker));
        let here: Vec<_> = here.map(|(participant, _)| *participant).collect();
        here.into_iter().for_each(|participant| self.leave(participant));
    }

    /// The lesson and the worker of a participant.
    pub(crate) fn place_of(&self, participant: ParticipantId) -> Option<(LessonId, usize)> {
        self.participants.get(&participant).copied()
    }

    /// The workers of a lesson.
    pub(crate) fn workers_of(&self, lesson: LessonId) -> Vec<usize> {
        let workers = self.lessons.get(&lesson);
        workers
            .into_iter()
            .flat_map(|workers| workers.keys().copied())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOM: LessonId = LessonId::from_bits(1);
    const OTHER: LessonId = LessonId::from_bits(2);

    fn who(number: u128) -> ParticipantId {
        ParticipantId::from_bits(number)
    }

    /// Seats `numbers` in turn; the worker of each.
    fn join(placing: &mut Placing, lesson: LessonId, numbers: impl IntoIterator<Item = u128>) -> Vec<usize> {
        let seat = |number| {
            let worker = placing.worker_for(lesson, who(number));
            placing.take(lesson, who(number), worker);
            worker
        };
        numbers.into_iter().map(seat).collect()
    }

    #[test]
    fn a_lesson_stays_on_its_worker_and_the_next_goes_to_the_least_loaded() {
        let mut placing = Placing::new(2, 100);
        assert_eq!(join(&mut placing, ROOM, 0..30), [0; 30], "a class never spreads");
        assert_eq!(join(&mut placing, OTHER, 30..60), [1; 30]);
        for number in 0..29 {
            placing.leave(who(number));
        }
        assert_eq!(placing.workers_of(ROOM), [0]);
        placing.leave(who(29));
        assert!(placing.workers_of(ROOM).is_empty());
    }

    #[test]
    fn a_room_that_outgrows_a_worker_spreads_and_fills_the_next() {
        let mut placing = Placing::new(3, 2);
        assert_eq!(join(&mut placing, ROOM, 0..6), [0, 0, 1, 1, 2, 2]);
        assert_eq!(placing.workers_of(ROOM), [0, 1, 2]);
        assert_eq!(
            join(&mut placing, ROOM, 6..9),
            [0, 1, 2],
            "evenly, when all are full"
        );
        placing.leave(who(4));
        placing.leave(who(5));
        placing.leave(who(8));
        assert_eq!(placing.workers_of(ROOM), [0, 1]);
        assert_eq!(join(&mut placing, ROOM, [9]), [2]);
    }

    #[test]
    fn a_room_does_not_spread_to_a_worker_with_less_time() {
        let mut placing = Placing::new(2, 2);
        assert_eq!(join(&mut placing, ROOM, 0..2), [0, 0]);
        assert_eq!(join(&mut placing, OTHER, 10..12), [1, 1]);
        assert_eq!(join(&mut placing, OTHER, [12]), [1], "no better elsewhere");
        assert_eq!(join(&mut placing, ROOM, [2]), [0]);
        placing.leave(who(11));
        placing.leave(who(12));
        assert_eq!(join(&mut placing, ROOM, [3]), [1]);
    }

    #[test]
    fn one_worker_carries_everybody() {
        let mut placing = Placing::new(1, 2);
        assert_eq!(join(&mut placing, ROOM, 0..50), [0; 50]);
    }

    #[test]
    fn who_joins_again_stays_and_who_changes_the_lesson_leaves_the_first() {
        let mut placing = Placing::new(2, 1);
        assert_eq!(join(&mut placing, ROOM, [1, 2, 1, 2]), [0, 1, 0, 1]);
        join(&mut placing, OTHER, [2]);
        assert_eq!(placing.workers_of(ROOM), [0]);
        placing.close(ROOM, 0);
        assert_eq!(placing.place_of(who(1)), None);
        assert!(placing.workers_of(ROOM).is_empty());
    }

    proptest! {
        #[test]
        fn the_books_agree_whoever_comes_and_goes(
            steps in prop::collection::vec((0u128..4, 0u128..30, any::<bool>()), 1..200),
        ) {
            let mut placing = Placing::new(3, 4);
            for (lesson, number, comes) in steps {
                if comes {
                    join(&mut placing, LessonId::from_bits(lesson), [number]);
                } else {
                    placing.leave(who(number));
                }
                for (worker, load) in placing.loads.iter().enumerate() {
                    let seats = placing.lessons.values().filter_map(|workers| workers.get(&worker));
                    prop_assert_eq!(seats.sum::<usize>(), *load);
                    let there = placing.participants.values().filter(|(_, on)| *on == worker);
                    prop_assert_eq!(there.count(), *load);
                }
                prop_assert!(placing.lessons.values().all(|workers| !workers.is_empty()));
            }
        }
    }
}
