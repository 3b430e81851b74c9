//! Whether the program can do its work: what is observed, and what is made of it.

use serde::Serialize;

use crate::disk::Space;

/// Below a tenth of the disk, or this many bytes if that is less, captures stop.
const LOW_BYTES: u64 = 10_000_000_000;
/// Below this many free bytes not even the database can be written with confidence: joins would fail.
const LEAST_BYTES: u64 = 64_000_000;

/// What was seen when the question was asked.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// The server is stopping.
    pub draining: bool,
    /// The database answered.
    pub database: bool,
    /// The media workers answered; their sockets have been open since the start.
    pub media: bool,
    /// The thread that keeps classes and ends their files is at work.
    pub mirror: bool,
    /// Every GStreamer element is installed.
    pub elements: bool,
    /// The disk of the data folder, if the system says.
    pub disk: Option<Space>,
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether people can join.
    pub ready: bool,
    /// Why not: `draining`, `database`, `media`, `mirror`, `disk_full`.
    pub reasons: Vec<&'static str>,
    /// What does not work while the class goes on: `disk`, `gstreamer`.
    pub degraded: Vec<&'static str>,
}

impl Readiness {
    /// Judges what was seen.
    #[must_use]
    pub fn of(observed: Observed) -> Self {
        let Observed {
            draining,
            database,
            media,
            mirror,
            elements,
            disk,
        } = observed;
        let full = disk.is_some_and(|disk| disk.free_bytes < LEAST_BYTES);
        let low = disk.is_none_or(|disk| disk.free_bytes < LOW_BYTES.min(disk.total_bytes / 10));
        let named = |name, holds: bool| holds.then_some(name);
        let reasons: Vec<_> = [
            named("draining", draining),
            named("database", !database),
            named("media", !media),
            named("mirror", !mirror),
            named("disk_full", full),
        ]
        .into_iter()
        .flatten()
        .collect();
        let degraded = [named("disk", low), named("gstreamer", !elements)]
            .into_iter()
            .flatten()
            .collect();
        Self {
            ready: reasons.is_empty(),
            reasons,
            degraded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Observed = Observed {
        draining: false,
        database: true,
        media: true,
        mirror: true,
        elements: true,
        disk: Some(Space {
            free_bytes: 50_000_000_000,
            total_bytes: 100_000_000_000,
        }),
    };

    fn with_free(free_bytes: u64) -> Readiness {
        Readiness::of(Observed {
            disk: Some(Space {
                free_bytes,
                total_bytes: 100_000_000_000,
            }),
            ..WELL
        })
    }

    #[test]
    fn all_is_well_when_nothing_is_wrong() {
        assert_eq!(
            Readiness::of(WELL),
            Readiness {
                ready: true,
                reasons: vec![],
                degraded: vec![]
            }
        );
    }

    #[test]
    fn a_low_disk_degrades_and_a_full_one_stops_joins() {
        assert_eq!(
            (with_free(9_000_000_000).ready, with_free(9_000_000_000).degraded),
            (true, vec!["disk"])
        );
        assert_eq!(
            (with_free(1_000_000).ready, with_free(1_000_000).reasons),
            (false, vec!["disk_full"])
        );
    }

    #[test]
    fn every_cause_is_named() {
        let worst = Observed {
            draining: true,
            database: false,
            media: false,
            mirror: false,
            elements: false,
            disk: None,
        };
        let readiness = Readiness::of(worst);
        assert_eq!(readiness.reasons, ["draining", "database", "media", "mirror"]);
        assert_eq!(readiness.degraded, ["disk", "gstreamer"]);
    }
}
