//! A class whose participants all have a bad line, the same one for the same seed.

use std::time::Duration;

use seodang_model::RoomKind;
use serde_json::json;

use super::Line;
use super::class::{costs, joins, memory};
use crate::fanout::Fanout;
use crate::stage::{Common, Stage};
use crate::wire::{Faults, WireCounts};

/// A class with loss.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many send and receive.
    #[arg(long, default_value_t = 5)]
    publishers: usize,
    /// Share of datagrams that vanish on every way to the server, in percent.
    #[arg(long, default_value_t = 2.0)]
    up_percent: f64,
    /// The same on every way from it.
    #[arg(long, default_value_t = 2.0)]
    down_percent: f64,
    /// How long each datagram takes, each way.
    #[arg(long, default_value_t = 15)]
    delay_ms: u64,
    #[command(flatten)]
    common: Common,
}

/// Plays it.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Line> {
    let common = &arguments.common;
    let delay = Duration::from_millis(arguments.delay_ms);
    let fault = |percent: f64| Faults {
        loss: percent / 100.0,
        delay,
    };
    let faults = (fault(arguments.up_percent), fault(arguments.down_percent));
    let fanout = Fanout::classes(1, arguments.publishers, 0, usize::MAX, usize::MAX);
    let mut stage = Stage::open(common, fanout, RoomKind::Meeting, 1).await?;
    stage.fill(faults).await?;
    stage.watch(faults).await?;
    stage.crew.begin_faults();
    let (usage, _) = stage.measure().await?;
    let (memory, joins) = (memory(&stage)?, joins(&stage));
    let window = stage.crew.shared.window();
    let outcome = stage.close(REPAIR).await?;
    let arrivals = outcome.tally.settle(window);
    Line::default()
        .with(&common.head("loss"))?
        .with(&json!({
            "publishers": arguments.publishers, "delay_ms": arguments.delay_ms,
            "up_percent": arguments.up_percent, "down_percent": arguments.down_percent,
            "up": outcome.up, "up_resends_a_lost": resends_a_lost(outcome.up),
            "down": outcome.down, "down_resends_a_lost": resends_a_lost(outcome.down),
        }))?
        .with(&costs(&usage, &arrivals, None))?
        .with(&memory)?
        .with(&arrivals)?
        .with(&joins)?
        .with(&usage)
}

fn resends_a_lost(counts: WireCounts) -> f64 {
    counts.resends as f64 / counts.media_lost.max(1) as f64
}

/// For what is still being repaired at the end.
const REPAIR: Duration = Duration::from_secs(1);
