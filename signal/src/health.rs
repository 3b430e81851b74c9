//! Whether the program can do its work: what is checked and what is said about it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

/// Below this share of free space, or this many bytes if that is less, captures stop.
const LOW_SHARE: u64 = 10;
const LOW_BYTES: u64 = 10_000_000_000;
/// Below this many free bytes not even the database can be written with confidence: joins would fail.
const LEAST_BYTES: u64 = 64_000_000;

/// What the probes look at.
#[derive(Debug)]
pub struct Health {
    data: PathBuf,
    draining: AtomicBool,
    missing_elements: Vec<&'static str>,
    media: Vec<SocketAddr>,
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether people can join.
    pub ready: bool,
    /// Why not: `draining`, `database`, `disk_full`, `media`.
    pub reasons: Vec<&'static str>,
    /// What does not work while the class goes on: `disk`, `gstreamer`.
    pub degraded: Vec<&'static str>,
}

impl Health {
    /// Health of a server whose files lie in `data`.
    #[must_use]
    pub const fn new(data: PathBuf, missing_elements: Vec<&'static str>, media: Vec<SocketAddr>) -> Self {
        Self {
            data,
            draining: AtomicBool::new(false),
            missing_elements,
            media,
        }
    }

    /// From here on the server is stopping.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Judges the state; `database` is whether it answered just now.
    #[must_use]
    pub fn readiness(&self, database: bool) -> Readiness {
        let disk = crate::disk::space(&self.data).ok();
        let mut reasons = Vec::new();
        let mut degraded = Vec::new();
        if self.draining.load(Ordering::Relaxed) {
            reasons.push("draining");
        }
        if !database {
            reasons.push("database");
        }
        if self.media.is_empty() {
            reasons.push("media");
        }
        match disk {
            Some(space) if space.free_bytes < LEAST_BYTES => reasons.push("disk_full"),
            Some(space) if space.free_bytes < LOW_BYTES.min(space.total_bytes / 100 * LOW_SHARE) => {
                degraded.push("disk");
            }
            Some(_) => {}
            None => degraded.push("disk"),
        }
        if !self.missing_elements.is_empty() {
            degraded.push("gstreamer");
        }
        Readiness {
            ready: reasons.is_empty(),
            reasons,
            degraded,
        }
    }

    /// Free bytes where the files are, if the system says.
    #[must_use]
    pub fn free_bytes(&self) -> Option<u64> {
        crate::disk::space(&self.data).ok().map(|space| space.free_bytes)
    }
}
