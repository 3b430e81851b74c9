//! People who join and leave, hundreds of times: what stays behind in the server?

use std::time::{Duration, Instant};

use anyhow::Context as _;
use seodang_model::RoomKind;
use seodang_model::protocol::ClientMessage;
use serde_json::json;

use super::Line;
use super::class::DRAIN;
use crate::fanout::{Fanout, Watch};
use crate::machine::Process;
use crate::stage::{Common, Stage};
use crate::tally::quantiles;
use crate::wire::Faults;

/// A class others pass through.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many send and receive all the while.
    #[arg(long, default_value_t = 3)]
    publishers: usize,
    /// How often somebody joins, is connected and leaves.
    #[arg(long, default_value_t = 500)]
    joins: usize,
    /// The same before anything is measured: what a server allocates once.
    #[arg(long, default_value_t = 100)]
    warm_up: usize,
    #[command(flatten)]
    common: Common,
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    threads: u64,
    descriptors: u64,
    resident_bytes: u64,
}

impl Held {
    fn by(process: Process) -> anyhow::Result<Self> {
        Ok(Self {
            threads: process.threads()?,
            descriptors: process.descriptors()?,
            resident_bytes: process.resident_bytes()?,
        })
    }
}

/// Plays it. The cost of a join is what the server used beyond what it uses while nobody joins.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Line> {
    let common = &arguments.common;
    let without = (Faults::default(), Faults::default());
    let fanout = Fanout::classes(1, arguments.publishers, 0, usize::MAX, usize::MAX);
    let mut stage = Stage::open(common, fanout, RoomKind::Meeting, 1).await?;
    stage.fill(without).await?;
    stage.watch(without).await?;
    pass_through(&mut stage, arguments.publishers, arguments.warm_up).await?;
    tokio::time::sleep(HISTORY).await;

    let process = stage.server.process();
    let settled = Held::by(process)?;
    let quiet = costs_of(process, async {
        tokio::time::sleep(QUIET).await;
        Ok(())
    })
    .await?;
    let before = Held::by(process)?;
    stage.joins_ms.clear();
    let joining = costs_of(
        process,
        pass_through(&mut stage, arguments.publishers, arguments.joins),
    )
    .await?;
    tokio::time::sleep(QUIET).await;
    let after = Held::by(process)?;
    let (join_p50_ms, join_p99_ms) = quantiles(&stage.joins_ms);
    stage.close(DRAIN).await?;

    let joins = arguments.joins.max(1) as f64;
    let a_join = |during: Duration, quiet_s: f64| {
        (during.as_secs_f64() - quiet_s * joining.seconds / quiet.seconds).max(0.0) * 1e3 / joins
    };
    Line::default().with(&common.head("churn"))?.with(&json!({
        "publishers": arguments.publishers, "joins": arguments.joins, "seconds": joining.seconds,
        "threads_before": before.threads, "threads_after": after.threads,
        "descriptors_before": before.descriptors, "descriptors_after": after.descriptors,
        "resident_before_bytes": before.resident_bytes, "resident_after_bytes": after.resident_bytes,
        "resident_growth_in_quiet_bytes": before.resident_bytes as i64 - settled.resident_bytes as i64,
        "resident_growth_bytes": after.resident_bytes as i64 - before.resident_bytes as i64,
        "server_ms_a_join": a_join(joining.all, quiet.all.as_secs_f64()),
        "media_thread_ms_a_join": a_join(joining.media, quiet.media.as_secs_f64()),
        "join_p50_ms": join_p50_ms, "join_p99_ms": join_p99_ms,
    }))
}

/// What a process used.
struct Spent {
    seconds: f64,
    all: Duration,
    media: Duration,
}

async fn costs_of(
    process: Process,
    during: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Spent> {
    let (begun, all, media) = (
        Instant::now(),
        process.cpu_time_of_all()?,
        process.cpu_time_of("media-")?,
    );
    during.await?;
    Ok(Spent {
        seconds: begun.elapsed().as_secs_f64(),
        all: process.cpu_time_of_all()? - all,
        media: process.cpu_time_of("media-")? - media,
    })
}

/// Lets so many people join, be connected and leave, one after the other.
async fn pass_through(stage: &mut Stage, publishers: usize, joins: usize) -> anyhow::Result<()> {
    let watch = Watch {
        cameras: (0..publishers).collect(),
        microphones: (0..publishers).collect(),
    };
    let without = (Faults::default(), Faults::default());
    for number in 0..joins {
        let person = stage.join(0, publishers + number, None, &watch, without).await?;
        let seat = person.seat.as_ref().context("churn is played with seodang")?;
        seat.send(ClientMessage::Leave).await?;
        stage.crew.remove(person.peer)?;
    }
    Ok(())
}

/// Until the packets a server keeps of each camera have come round: their places grow to the largest packet each has held,
/// by 2 MB in 20 s of three cameras, whether somebody joins or not.
const HISTORY: Duration = Duration::from_secs(24);
/// For what goes on after somebody left: threads of tokio that have nothing to do end after ten seconds.
const QUIET: Duration = Duration::from_secs(4);
