//! What happens around each tick: whom to ask for a key frame, which one becomes the picture, and why there is none.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use seodang_model::ParticipantId;
use seodang_rtp::{ClockSource, Frame};

use crate::frame_clock::{Arrival, FrameClock};
use crate::row::CaptureStatus;
use crate::subject::{CameraState, MediaOrigin, Subject};
use crate::tick::{Moment, Tick, TickClock};

/// A key frame is wished this long before the tick, plus the camera's own offset.
pub(crate) const ASK_BEFORE: Duration = Duration::from_millis(400);
/// Cameras are asked spread over this time, so that their key frames do not fill every downlink at one instant.
const ASK_SPREAD_MS: u64 = 300;
/// Who sent nothing by then is asked once more.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(300);
/// The picture is the key frame nearest the tick that was captured at most this long before it ...
const WINDOW_BEFORE: Duration = Duration::from_millis(400);
/// ... or after it. Also when a round is decided at the latest.
pub(crate) const WINDOW_AFTER: Duration = Duration::from_millis(1_500);
/// A round looked at this late was slept through: that a camera sent nothing says nothing about the camera.
const SLEPT_THROUGH: Duration = Duration::from_millis(1_000);
/// Both clocks drifting apart by more than this since the tick was planned means that the wall clock was set.
const CLOCK_SET: Duration = Duration::from_millis(20);

/// A key frame with the time at which it was captured, on the monotonic clock.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    pub(crate) frame: Frame,
    pub(crate) captured: Instant,
    pub(crate) clock: ClockSource,
}

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum RoundAction {
    /// Ask this participant's camera for a key frame.
    Wish(ParticipantId),
    /// Write this participant's row.
    Decide(Box<Decision>),
}

/// The outcome of one round for one participant.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) subject: Arc<Subject>,
    pub(crate) tick: Tick,
    pub(crate) media_origin: MediaOrigin,
    /// The key frame that becomes the picture, or why there is none.
    pub(crate) outcome: Result<Shot, CaptureStatus>,
}

/// Everyone pictures may be taken of, and the round that is planned or open. Windows of two rounds never overlap:
/// the shortest period, 2 s less 5 % while a set clock is made up, equals both sides of the window.
#[derive(Debug)]
pub(crate) struct Rounds {
    clock: TickClock,
    present: BTreeMap<ParticipantId, Presence>,
    tick: Tick,
    previous: Option<Tick>,
    planned: Moment,
    begun: bool,
    slept_through: bool,
    actions: Vec<RoundAction>,
}

#[derive(Debug)]
struct Presence {
    subject: Arc<Subject>,
    since: Instant,
    camera: CameraState,
    media_origin: MediaOrigin,
    frame_clock: FrameClock,
    best: Option<Shot>,
    asked: bool,
    asked_again: bool,
    decided: bool,
}

impl Rounds {
    pub(crate) fn new(period: Duration, now: Moment) -> Self {
        let clock = TickClock::new(period);
        let tick = clock.first(now, ASK_BEFORE);
        Self {
            clock,
            present: BTreeMap::new(),
            tick,
            previous: None,
            planned: now,
            begun: false,
            slept_through: false,
            actions: Vec::new(),
        }
    }

    /// A participant may be pictured `since` then. Entering again takes the later description.
    pub(crate) fn handle_enter(&mut self, subject: Subject, since: Instant) {
        let participant = subject.participant;
        let subject = Arc::new(subject);
        self.present
            .entry(participant)
            .and_modify(|presence| presence.subject = Arc::clone(&subject))
            .or_insert(Presence {
                subject,
                since,
                camera: CameraState::None,
                media_origin: MediaOrigin::Unknown,
                frame_clock: FrameClock::default(),
                best: None,
                asked: false,
                asked_again: false,
                decided: false,
            });
    }

    pub(crate) fn handle_camera(&mut self, now: Instant, participant: ParticipantId, camera: CameraState) {
        let Some(presence) = self.present.get_mut(&participant) else {
            return;
        };
        presence.camera = camera;
        // A camera switched off before the tick was off at the tick. Nothing is kept of anyone who talks in private.
        if camera == CameraState::PrivateTalk || (camera != CameraState::On && now < self.tick.at) {
            presence.best = None;
        }
    }

    /// The participant's webm begins there. Decides at once when only that was missing.
    pub(crate) fn handle_media_origin(&mut self, participant: ParticipantId, origin: MediaOrigin) {
        if let Some(presence) = self.present.get_mut(&participant) {
            presence.media_origin = origin;
            self.actions
                .extend(presence.decide_early(self.tick, self.slept_through));
        }
    }

    /// A key frame came. Decides at once when none nearer the tick can follow and its place is known.
    pub(crate) fn handle_keyframe(&mut self, participant: ParticipantId, frame: Frame, arrival: Arrival) {
        let tick = self.tick;
        let Some(presence) = self.present.get_mut(&participant) else {
            return;
        };
        let (captured, clock) = presence.frame_clock.handle_frame(&frame, arrival);
        let in_window = captured >= presence.since
            && captured + WINDOW_BEFORE >= tick.at
            && captured <= tick.at + WINDOW_AFTER;
        if presence.camera != CameraState::On || presence.decided || !in_window {
            return;
        }
        let best = presence.best.as_ref();
        if best.is_none_or(|best| distance(captured, tick.at) < distance(best.captured, tick.at)) {
            presence.best = Some(Shot {
                frame,
                captured,
                clock,
            });
        }
        self.actions
            .extend(presence.decide_early(tick, self.slept_through));
    }

    /// The participant left, or withdrew the consent. Who was present at the tick still gets the row of that round.
    pub(crate) fn handle_leave(&mut self, now: Instant, participant: ParticipantId) {
        let Some(mut presence) = self.present.remove(&participant) else {
            return;
        };
        if now >= self.tick.at && presence.since <= self.tick.at {
            if presence.best.is_none() && presence.camera == CameraState::On {
                presence.camera = CameraState::Disconnected;
            }
            self.actions
                .extend(presence.decide(self.tick, self.slept_through));
        }
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_time(&mut self, now: Moment) {
        loop {
            if !self.begun && self.clock_was_set(now) {
                self.plan(now);
            }
            if now.at + ASK_BEFORE < self.tick.at {
                return;
            }
            self.begun = true;
            if now.at < self.tick.at + WINDOW_AFTER {
                self.ask(now.at);
                return;
            }
            self.slept_through |= now.at >= self.tick.at + WINDOW_AFTER + SLEPT_THROUGH;
            self.close();
            self.plan(now);
        }
    }

    /// When [`Self::handle_time`] has something to do again.
    pub(crate) fn poll_time(&self) -> Instant {
        let start = self.tick.at - ASK_BEFORE;
        if !self.begun {
            return start;
        }
        let first = |presence: &&Presence| presence.camera == CameraState::On && !presence.decided;
        self.present
            .values()
            .filter(first)
            .filter_map(|presence| {
                if !presence.asked {
                    Some(start + presence.ask_offset())
                } else if !presence.asked_again && presence.best.is_none() {
                    Some(self.tick.at + ASK_AGAIN_AFTER)
                } else {
                    None
                }
            })
            .min()
            .unwrap_or(self.tick.at + WINDOW_AFTER)
    }

    /// Ends everything: whoever was present at an open round's tick gets its row with what there is.
    pub(crate) fn handle_shutdown(&mut self, now: Instant) {
        for participant in self.present.keys().copied().collect::<Vec<_>>() {
            self.handle_leave(now, participant);
        }
    }

    /// Takes what is to be done, in order.
    pub(crate) fn take_actions(&mut self) -> Vec<RoundAction> {
        std::mem::take(&mut self.actions)
    }

    pub(crate) fn is_present(&self, participant: ParticipantId) -> bool {
        self.present.contains_key(&participant)
    }

    fn ask(&mut self, now: Instant) {
        let start = self.tick.at - ASK_BEFORE;
        for (participant, presence) in &mut self.present {
            if presence.camera != CameraState::On || presence.decided {
                continue;
            }
            let mut wish = false;
            if !presence.asked && now >= start + presence.ask_offset() {
                presence.asked = true;
                wish = true;
            }
            if !presence.asked_again && now >= self.tick.at + ASK_AGAIN_AFTER {
                presence.asked_again = true;
                wish |= presence.best.is_none();
            }
            if wish {
                self.actions.push(RoundAction::Wish(*participant));
            }
        }
    }

    fn close(&mut self) {
        for presence in self.present.values_mut() {
            if presence.since <= self.tick.at {
                self.actions
                    .extend(presence.decide(self.tick, self.slept_through));
            }
            presence.best = None;
            presence.asked = false;
            presence.asked_again = false;
            presence.decided = false;
        }
        self.previous = Some(self.tick);
        self.begun = false;
        self.slept_through = false;
    }

    fn plan(&mut self, now: Moment) {
        self.tick = match self.previous {
            Some(previous) => self.clock.next(previous, now, ASK_BEFORE),
            None => self.clock.first(now, ASK_BEFORE),
        };
        self.planned = now;
    }

    fn clock_was_set(&self, now: Moment) -> bool {
        let wall = now.wall.as_nanosecond() - self.planned.wall.as_nanosecond();
        let passed = now.at.saturating_duration_since(self.planned.at).as_nanos();
        wall.abs_diff(i128::try_from(passed).unwrap_or(i128::MAX)) > CLOCK_SET.as_nanos()
    }
}

impl Presence {
    /// The same for all of a participant's rounds.
    fn ask_offset(&self) -> Duration {
        let mut hasher = DefaultHasher::new();
        self.subject.participant.hash(&mut hasher);
        Duration::from_millis(hasher.finish() % (ASK_SPREAD_MS + 1))
    }

    /// Decides before the round ends if nothing can change any more.
    fn decide_early(&mut self, tick: Tick, slept_through: bool) -> Option<RoundAction> {
        // Frames come in the order they were captured, so every later one is farther from the tick.
        let is_nearest = self.best.as_ref().is_some_and(|best| best.captured >= tick.at);
        let is_placed = self.media_origin != MediaOrigin::Awaited;
        (is_nearest && is_placed && self.since <= tick.at)
            .then(|| self.decide(tick, slept_through))
            .flatten()
    }

    fn decide(&mut self, tick: Tick, slept_through: bool) -> Option<RoundAction> {
        if std::mem::replace(&mut self.decided, true) {
            return None;
        }
        let outcome = match (self.camera, self.best.take()) {
            (CameraState::PrivateTalk, _) => Err(CaptureStatus::PrivateTalk),
            (_, Some(shot)) => Ok(shot),
            (CameraState::On, None) if slept_through => Err(CaptureStatus::MissedTick),
            (CameraState::On, None) => Err(CaptureStatus::NoKeyframe),
            (CameraState::Off, None) => Err(CaptureStatus::CameraOff),
            (CameraState::None, None) => Err(CaptureStatus::NoCamera),
            (CameraState::Disconnected, None) => Err(CaptureStatus::Disconnected),
        };
        let subject = Arc::clone(&self.subject);
        Some(RoundAction::Decide(Box::new(Decision {
            subject,
            tick,
            media_origin: self.media_origin,
            outcome,
        })))
    }
}

fn distance(one: Instant, other: Instant) -> Duration {
    one.saturating_duration_since(other)
        .max(other.saturating_duration_since(one))
}

#[cfg(test)]
mod tests;
