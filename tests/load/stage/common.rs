//! What all scenarios can be told.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::clip::Clip;
use crate::fanout::Fanout;
use crate::floor::{FloorConfig, FloorReport};

/// Which server is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// This program.
    Seodang,
    /// Debian's Janus, for comparison; needs `--address` with an address that is not a loopback one.
    Janus,
}

/// What all scenarios can be told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// Which server is under test.
    #[arg(long, value_enum, default_value = "seodang")]
    pub(super) target: Target,
    /// The program under test, best a release build; `janus` for the target of that name.
    #[arg(long, default_value = "target/release/seodang")]
    pub(super) server: PathBuf,
    /// Media workers of the server.
    #[arg(long, default_value_t = 1)]
    pub(super) workers: u16,
    /// How much nicer than this tool the server is to other programs; below zero it goes first, as where it has the machine to
    /// itself (needs root).
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    pub(super) server_nice: i8,
    /// Server and tool run on half of the processors each, media workers on one of their own, as where each has a machine.
    #[arg(long)]
    pub(super) apart: bool,
    /// The address at which media is exchanged.
    #[arg(long, default_value = "127.0.0.1")]
    pub(super) address: Ipv4Addr,
    /// Threads that play the participants.
    #[arg(long, default_value_t = 2)]
    pub(super) threads: usize,
    /// Bits per second of each camera (640x360, 25 pictures a second).
    #[arg(long, default_value_t = 600_000)]
    pub(crate) camera_bps: u32,
    /// Cameras send three encodings (160x90, 320x180, 640x360; a tenth, a quarter and all of the bits).
    #[arg(long)]
    pub(crate) simulcast: bool,
    /// Everyone agrees to recording and captures.
    #[arg(long)]
    pub(crate) recorded: bool,
    /// Seconds before measuring begins, after everybody sees everything.
    #[arg(long, default_value_t = 1.5)]
    settle_s: f64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 6.0)]
    pub(crate) window_s: f64,
    /// Seconds for which the floor is measured afterwards, half of them in each of two ways; 0 leaves it out.
    #[arg(long, default_value_t = 4.0)]
    floor_s: f64,
    /// Microseconds for which the floor gathers packets in the second of its two ways.
    #[arg(long, default_value_t = 1_000)]
    floor_gather_us: u64,
}

impl Common {
    /// How long is measured.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs_f64(self.window_s)
    }

    /// How long nothing is done before.
    pub(crate) fn settle(&self) -> Duration {
        Duration::from_secs_f64(self.settle_s)
    }

    /// The encodings every camera sends, the smallest first.
    ///
    /// # Errors
    /// When they cannot be encoded.
    pub(super) fn clips(&self) -> anyhow::Result<Vec<Arc<Clip>>> {
        let bps = self.camera_bps;
        let sizes = [(160, 90, bps / 10), (320, 180, bps / 4), (640, 360, bps)];
        let from = if self.simulcast { 0 } else { 2 };
        sizes[from..]
            .iter()
            .map(|(width, height, bps)| Clip::encode(*width, *height, *bps))
            .collect()
    }

    /// The floor under a fan-out, if it is wanted: the cheaper of two ways, with and without waiting for more packets. Waiting
    /// makes larger batches, but where little comes it only wakes the thread once more.
    pub(crate) fn floor(&self, fanout: &Fanout) -> anyhow::Result<Option<FloorReport>> {
        if self.floor_s <= 0.0 {
            return Ok(None);
        }
        let bps = if self.simulcast {
            self.camera_bps / 4
        } else {
            self.camera_bps
        };
        let mut lowest: Option<FloorReport> = None;
        for gather_us in [0, self.floor_gather_us] {
            let report = crate::floor::measure(&FloorConfig {
                fanout: fanout.clone(),
                camera_bps: bps,
                gather: Duration::from_micros(gather_us),
                window: Duration::from_secs_f64(self.floor_s / 2.0),
                address: self.address,
                apart: self.apart,
            })?;
            let cheaper = |lowest: &FloorReport| report.us_a_forwarded_packet < lowest.us_a_forwarded_packet;
            if lowest.as_ref().is_none_or(cheaper) {
                lowest = Some(report);
            }
        }
        Ok(lowest)
    }

    /// What every line of results begins with.
    pub(crate) fn head(&self, scenario: &str) -> serde_json::Value {
        serde_json::json!({
            "scenario": scenario, "target": self.target, "camera_bps": self.camera_bps,
            "simulcast": self.simulcast, "recorded": self.recorded, "workers": self.workers,
            "client_threads": self.threads, "server_nice": self.server_nice,
            "apart": self.apart,
        })
    }
}
