//! What the hub is started with.

use std::time::Duration;

use crate::config::Config;
use crate::lesson::LessonLimits;
use crate::session::{PlaceLimits, SessionLimits};
use crate::turn::Turn;

/// Configuration of rooms, lessons and sockets.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Zone of the lesson folders' names.
    pub time_zone: jiff::tz::TimeZone,
    /// Seconds between captures, told to the pages; `None` when there are none.
    pub capture_period_s: Option<u32>,
    /// The relay for browsers behind a firewall.
    pub turn: Option<Turn>,
    /// Most participants of a room.
    pub room_capacity: u32,
    /// How long the seat of somebody who vanished is kept.
    pub seat_grace: Duration,
    /// How long a lesson goes on with nobody in it.
    pub empty_end: Duration,
    /// How long a lesson goes on without a host.
    pub hostless_end: Duration,
    /// How long the end of a lesson waits for its files. Finishing goes on behind it.
    pub finish_within: Duration,
    /// Time limits of a socket.
    pub session: SessionLimits,
    /// Sockets of one address.
    pub places: PlaceLimits,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            time_zone: jiff::tz::TimeZone::UTC,
            capture_period_s: Some(10),
            turn: None,
            room_capacity: 40,
            seat_grace: Duration::from_secs(30),
            empty_end: Duration::from_secs(300),
            hostless_end: Duration::from_secs(600),
            finish_within: Duration::from_secs(60),
            session: SessionLimits::default(),
            places: PlaceLimits::default(),
        }
    }
}

impl HubConfig {
    /// The hub's part of the program's configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            // The configuration was checked; the system's zone stands in for a zone that vanished since.
            time_zone: config.zone().unwrap_or_else(|_| jiff::tz::TimeZone::system()),
            capture_period_s: (config.capture_period_s > 0).then_some(config.capture_period_s),
            turn: Turn::of(config),
            room_capacity: config.room_capacity,
            seat_grace: Duration::from_secs(config.seat_grace_s),
            empty_end: Duration::from_secs(config.lesson_empty_end_s),
            hostless_end: Duration::from_secs(config.lesson_hostless_end_s),
            ..Self::default()
        }
    }

    pub(super) fn lesson_limits(&self) -> LessonLimits {
        LessonLimits {
            seat_grace: self.seat_grace,
            empty_end: self.empty_end,
            hostless_end: self.hostless_end,
            relay_renewal: self.turn.as_ref().map(Turn::renewal),
        }
    }
}
