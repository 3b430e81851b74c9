//! Classes in which everybody sends and receives, and seminars in which one sends to many.

use std::time::Duration;

use seodang_model::RoomKind;
use seodang_tests::files_below;
use serde_json::json;

use super::Line;
use crate::fanout::Shape;
use crate::floor::FloorReport;
use crate::machine::Usage;
use crate::stage::{Common, Stage};
use crate::tally::{Arrivals, quantiles};
use crate::wire::Faults;

/// One class, or several of a kind.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    common: Common,
}

/// One person sends to many.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SeminarArguments {
    /// How many receive.
    #[arg(long, default_value_t = 100)]
    watchers: usize,
    #[command(flatten)]
    common: Common,
}

impl SeminarArguments {
    /// The class that a seminar is.
    pub(crate) fn class(&self) -> Arguments {
        Arguments {
            shape: Shape::seminar(self.watchers),
            common: self.common.clone(),
        }
    }
}

/// Plays the class.
pub(crate) async fn run(arguments: &Arguments, scenario: &str) -> anyhow::Result<Line> {
    let (common, shape) = (&arguments.common, &arguments.shape);
    let fanout = shape.fanout();
    let kind = if shape.watchers > 0 {
        RoomKind::Seminar
    } else {
        RoomKind::Meeting
    };
    let without = (Faults::default(), Faults::default());

    let mut stage = Stage::open(common, fanout.clone(), kind, shape.classes).await?;
    stage.fill(without).await?;
    stage.watch(without).await?;
    let (usage, batches) = stage.measure().await?;
    let memory = memory(&stage)?;
    let joins = joins(&stage);
    let files = common.recorded.then(|| files(&stage));
    let window = stage.crew.shared.window();
    let outcome = stage.close(DRAIN).await?;
    let arrivals = outcome.tally.settle(window);
    let floor = common.floor(&fanout)?;
    let longest = |lines: fn(&crate::fanout::Watch) -> usize| fanout.subscribers.iter().map(lines).max();
    Line::default()
        .with(&common.head(scenario))?
        .with(&json!({
            "publishers": shape.publishers, "watchers": shape.watchers, "classes": shape.classes,
            "page": longest(|watch| watch.cameras.len()), "voices": longest(|watch| watch.microphones.len()),
        }))?
        .with(&costs(&usage, &arrivals, floor.as_ref()))?
        .with(&memory)?
        .with(&arrivals)?
        .with(&joins)?
        .with(&files)?
        .with(&usage)?
        .with(&batches)?
        .with(&json!({ "floor": floor }))
}

/// What recordings and captures wrote so far.
fn files(stage: &Stage) -> serde_json::Value {
    let data = stage.server.data();
    let captures = files_below(&data.join("captures"));
    let captures = captures
        .iter()
        .filter(|file| file.extension().is_some_and(|end| end == "jpg"));
    let folder = data.join("recordings");
    let bytes: u64 = files_below(&folder)
        .iter()
        .filter_map(|file| folder.join(file).metadata().ok())
        .map(|file| file.len())
        .sum();
    json!({ "captures": captures.count(), "recording_bytes": bytes })
}

/// The cost of a packet, in microseconds and against the floor.
pub(super) fn costs(usage: &Usage, arrivals: &Arrivals, floor: Option<&FloorReport>) -> serde_json::Value {
    let us = usage.server_cores * usage.seconds * 1e6 / arrivals.packets.max(1) as f64;
    json!({
        "us_a_forwarded_packet": us,
        "floor_us_a_forwarded_packet": floor.map(|floor| floor.us_a_forwarded_packet),
        "times_the_floor": floor.map(|floor| us / floor.us_a_forwarded_packet),
        "packets_a_second": arrivals.packets as f64 / usage.seconds,
    })
}

/// The server's memory at this moment.
pub(super) fn memory(stage: &Stage) -> anyhow::Result<serde_json::Value> {
    let resident_bytes = stage.server.process().resident_bytes()?;
    Ok(json!({
        "resident_bytes": resident_bytes, "idle_bytes": stage.idle_bytes,
        "above_idle_bytes": resident_bytes.saturating_sub(stage.idle_bytes),
    }))
}

/// How long joining took.
pub(super) fn joins(stage: &Stage) -> serde_json::Value {
    let (p50, p99) = quantiles(&stage.joins_ms);
    json!({ "joins": stage.joins_ms.len(), "join_p50_ms": p50, "join_p99_ms": p99 })
}

/// For packets under way at the end.
pub(super) const DRAIN: Duration = Duration::from_millis(300);
