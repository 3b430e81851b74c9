//! The thread `analyzer`: carries commands and time to the rounds, and key frames to the decoding threads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use seodang_model::ParticipantId;
use seodang_rtp::Frame;

use crate::analyzer::LateLeaves;
use crate::counts::Counters;
use crate::develop::{Developed, Developer};
use crate::frame_clock::Arrival;
use crate::picture::Thumbnail;
use crate::round::{Decision, RoundAction, Rounds, Shot, WINDOW_AFTER};
use crate::row::{CaptureRow, CaptureStatus};
use crate::store::Entry;
use crate::subject::{CameraState, MediaOrigin, Subject};
use crate::tick::Moment;

/// What the handle and the decoding threads tell the driver.
#[derive(Debug)]
pub(crate) enum Command {
    Enter {
        subject: Box<Subject>,
        since: Instant,
    },
    Camera(ParticipantId, CameraState, Instant),
    MediaOrigin(ParticipantId, MediaOrigin),
    Keyframe(ParticipantId, Box<Frame>, Arrival),
    Leave(ParticipantId, Instant),
    /// A decoding thread is done with this participant's picture.
    Done(ParticipantId, Option<Thumbnail>),
    Shutdown,
}

/// Longest sleep: how soon a set clock is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Pictures waiting for the disk; beyond that a further one is not decoded, its row says `disk`.
const MOST_PICTURES_WAITING: usize = 64;

/// Everything the thread owns.
pub(crate) struct Driver {
    pub(crate) rounds: Rounds,
    pub(crate) period: Duration,
    pub(crate) time_zone: TimeZone,
    pub(crate) developer: Developer,
    pub(crate) pool: rayon::ThreadPool,
    pub(crate) wishes: Box<dyn Fn(ParticipantId) + Send>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) late_leaves: Arc<LateLeaves>,
    /// Leaves that overtook what waited in the queue: it does not count when it was said before them.
    pub(crate) overtaken: BTreeMap<ParticipantId, Instant>,
    pub(crate) keyframes_waiting: Arc<AtomicUsize>,
    /// For the decoding threads.
    pub(crate) sender: SyncSender<Command>,
    pub(crate) entries: SyncSender<Entry>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) work: Work,
}

/// Decisions waiting for a decoding thread. Bounded by time: what has not begun when the next round is decided is a
/// `missed_tick`, so there are never more than two rounds of them.
#[derive(Debug, Default)]
pub(crate) struct Work {
    waiting: VecDeque<Box<Decision>>,
    /// One decoder for each participant at a time.
    running: BTreeSet<ParticipantId>,
    /// What the next picture of each participant is compared with.
    previous: BTreeMap<ParticipantId, Thumbnail>,
    pictures_waiting: Arc<AtomicUsize>,
}

/// What the machine's clocks say.
pub(crate) fn clocks() -> Moment {
    Moment {
        at: Instant::now(),
        wall: Timestamp::now(),
    }
}

impl Driver {
    /// Runs until told to shut down; then finishes what is decided.
    pub(crate) fn run(mut self) {
        let mut ending = false;
        while !(ending && self.work.is_done()) {
            let wait = self
                .rounds
                .poll_time()
                .saturating_duration_since(Instant::now())
                .min(LONGEST_SLEEP);
            let command = self.commands.recv_timeout(wait);
            self.handle_late_leaves();
            match command {
                Ok(Command::Shutdown) => {
                    ending = true;
                    self.rounds.handle_shutdown(Instant::now());
                }
                Ok(command) => self.handle_command(command),
                Err(RecvTimeoutError::Timeout) => self.overtaken.clear(),
                // The driver holds a sender itself.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if !ending {
                self.rounds.handle_time(clocks());
            }
            for action in self.rounds.take_actions() {
                match action {
                    RoundAction::Wish(participant) => (self.wishes)(participant),
                    RoundAction::Decide(decision) => self.handle_decision(decision),
                }
            }
            self.give_up_late(Instant::now());
            self.start_work();
        }
    }

    fn handle_late_leaves(&mut self) {
        for (participant, at) in self.late_leaves.take() {
            self.leave(participant, at);
            self.overtaken.insert(participant, at);
        }
    }

    fn leave(&mut self, participant: ParticipantId, at: Instant) {
        self.rounds.handle_leave(at, participant);
        self.work.previous.remove(&participant);
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Enter { subject, since }
                if self
                    .overtaken
                    .get(&subject.participant)
                    .is_some_and(|left| since <= *left) => {}
            Command::Enter { subject, since } => self.rounds.handle_enter(*subject, since),
            Command::Camera(participant, camera, at) => self.rounds.handle_camera(at, participant, camera),
            Command::MediaOrigin(participant, origin) => self.rounds.handle_media_origin(participant, origin),
            Command::Keyframe(participant, frame, arrival) => {
                self.keyframes_waiting.fetch_sub(1, Ordering::Relaxed);
                // Rounds that are due are decided before a later key frame is looked at.
                self.rounds.handle_time(clocks());
                self.rounds.handle_keyframe(participant, *frame, arrival);
            }
            Command::Leave(participant, at) => self.leave(participant, at),
            Command::Done(participant, thumbnail) => {
                self.work.running.remove(&participant);
                // A picture that failed says nothing about the one before it.
                if let Some(thumbnail) = thumbnail.filter(|_| self.rounds.is_present(participant)) {
                    self.work.previous.insert(participant, thumbnail);
                }
            }
            Command::Shutdown => {}
        }
    }

    fn handle_decision(&mut self, decision: Box<Decision>) {
        match decision.outcome {
            Ok(_) => self.work.waiting.push_back(decision),
            Err(status) => self.write(&decision, status),
        }
    }

    /// A row without a picture.
    fn write(&self, decision: &Decision, status: CaptureStatus) {
        let row = CaptureRow::of(decision, &self.time_zone, status);
        let storage_name = decision.subject.storage_name.clone();
        let entry = Entry {
            storage_name,
            developed: Developed { row, picture: None },
        };
        // Full only when the disk hangs; waiting for it here would end the key-frame wishes of every room.
        if self.entries.try_send(entry).is_err() {
            self.counters.lost_rows.add(1);
        }
    }

    fn give_up_late(&mut self, now: Instant) {
        let longest = self.period + WINDOW_AFTER;
        while let Some(decision) = self
            .work
            .waiting
            .pop_front_if(|decision| now >= decision.tick.at + longest)
        {
            self.write(&decision, CaptureStatus::MissedTick);
        }
    }

    fn start_work(&mut self) {
        let most_running = self.pool.current_num_threads();
        while self.work.running.len() < most_running {
            let running = &self.work.running;
            let mut waiting = self.work.waiting.iter();
            let next = waiting.position(|decision| !running.contains(&decision.subject.participant));
            let Some(next) = next else { return };
            let Some(decision) = self.work.waiting.remove(next) else {
                return;
            };
            if self.work.pictures_waiting.load(Ordering::Relaxed) >= MOST_PICTURES_WAITING {
                self.write(&decision, CaptureStatus::Disk);
                continue;
            }
            self.start(*decision);
        }
    }

    fn start(&mut self, decision: Decision) {
        let participant = decision.subject.participant;
        let row = CaptureRow::of(&decision, &self.time_zone, CaptureStatus::RejectedFrame);
        let Decision {
            subject,
            outcome: Ok(Shot { frame, .. }),
            ..
        } = decision
        else {
            return;
        };
        self.work.running.insert(participant);
        let previous = self.work.previous.get(&participant).cloned();
        let (developer, entries, sender) =
            (self.developer.clone(), self.entries.clone(), self.sender.clone());
        let pictures_waiting = Arc::clone(&self.work.pictures_waiting);
        self.pool.spawn(move || {
            let (developed, thumbnail) = developer.develop(row, &frame, previous.as_ref());
            let has_picture = developed.picture.is_some();
            pictures_waiting.fetch_add(usize::from(has_picture), Ordering::Relaxed);
            let entry = Entry {
                storage_name: subject.storage_name.clone(),
                developed,
            };
            // Both wait only on threads that never wait on this one. They fail only after the shutdown's deadline.
            let _ = entries.send(entry);
            let _ = sender.send(Command::Done(participant, thumbnail));
        });
    }
}

impl Work {
    /// The count of pictures decoded but not stored yet, shared with the writing thread.
    pub(crate) fn pictures_waiting(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.pictures_waiting)
    }

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }
}
