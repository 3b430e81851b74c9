//! A class that sees a page of tiles at a time and turns pages all the while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use seodang_model::RoomKind;
use serde_json::json;

use super::Line;
use super::class::{DRAIN, costs, joins, memory};
use crate::crew::Note;
use crate::fanout::Fanout;
use crate::stage::{Common, Stage};
use crate::tally::quantiles;
use crate::wire::Faults;

/// A class that turns pages.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many send and receive.
    #[arg(long, default_value_t = 30)]
    publishers: usize,
    /// Cameras of a page.
    #[arg(long, default_value_t = 6)]
    page: usize,
    /// Microphones everyone receives.
    #[arg(long, default_value_t = 5)]
    voices: usize,
    /// How often everyone turns a page, in milliseconds; not all at the same time.
    #[arg(long, default_value_t = 2_000)]
    turn_ms: u64,
    #[command(flatten)]
    common: Common,
}

/// Plays it. Measured is the time from asking for a page to the first whole key frame of each camera on it.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Line> {
    let (common, page) = (&arguments.common, arguments.page);
    ensure!(page * 2 < arguments.publishers, "two pages have to differ");
    let without = (Faults::default(), Faults::default());
    let fanout = Fanout::classes(1, arguments.publishers, 0, page, arguments.voices);
    let mut stage = Stage::open(common, fanout.clone(), RoomKind::Meeting, 1).await?;
    stage.fill(without).await?;
    stage.watch(without).await?;
    tokio::time::sleep(common.settle()).await;

    let pause = Duration::from_millis(arguments.turn_ms) / arguments.publishers as u32;
    let mut asked: HashMap<(usize, u16), Instant> = HashMap::new();
    let (mut pictures_ms, mut turns) = (Vec::new(), 0_usize);
    let before = stage.begin()?;
    let begun = Instant::now();
    let mut turn_at = begun;
    while begun.elapsed() < common.window() {
        let person = turns % arguments.publishers;
        let number = turns / arguments.publishers + 1;
        let cameras: Vec<usize> = (0..page)
            .map(|tile| 1 + (number * page + tile) % (arguments.publishers - 1))
            .map(|step| (person + step) % arguments.publishers)
            .collect();
        let participants = stage.participants(&cameras);
        let peer = stage.people[person].peer;
        asked.retain(|(other, _), _| *other != peer);
        asked.extend(
            cameras
                .iter()
                .map(|camera| ((peer, *camera as u16), Instant::now())),
        );
        stage
            .crew
            .await_pictures(peer, cameras.iter().map(|camera| *camera as u16).collect())?;
        stage.people[person].view(&participants, common.simulcast).await?;
        turns += 1;
        turn_at += pause;
        while let Ok(note) = stage.note(turn_at).await {
            if let Note::Picture { peer, source, at } = note
                && let Some(since) = asked.remove(&(peer, source))
            {
                pictures_ms.push((at - since).as_secs_f64() * 1e3);
            }
        }
    }
    let usage = stage.end(before)?;
    let (memory, joins) = (memory(&stage)?, joins(&stage));
    let window = stage.crew.shared.window();
    let outcome = stage.close(DRAIN).await?;
    let arrivals = outcome.tally.settle(window);
    let floor = common.floor(&fanout)?;
    let (p50, p99) = quantiles(&pictures_ms);
    Line::default()
        .with(&common.head("paging"))?
        .with(&json!({
            "publishers": arguments.publishers, "page": page, "voices": arguments.voices,
            "turns": turns, "pictures": pictures_ms.len(), "pictures_not_seen_before_the_next_turn":
            (turns * page).saturating_sub(pictures_ms.len()),
            "picture_p50_ms": p50, "picture_p99_ms": p99,
        }))?
        .with(&costs(&usage, &arrivals, floor.as_ref()))?
        .with(&memory)?
        .with(&json!({
            "packets": arrivals.packets, "delay_p50_ms": arrivals.delay_p50_ms,
            "delay_p99_ms": arrivals.delay_p99_ms,
        }))?
        .with(&joins)?
        .with(&usage)?
        .with(&json!({ "floor": floor }))
}
