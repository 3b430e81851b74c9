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
use crate::peer::PeerId;
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

/// The pages that were asked for, and which pictures of them came before the next one.
#[derive(Debug, Default)]
struct Pages {
    /// How long a page is looked at.
    turn: Duration,
    asked: HashMap<(PeerId, u16), Instant>,
    /// Of each picture that came in time.
    took_ms: Vec<f64>,
    missed: usize,
}

impl Pages {
    /// Somebody turns to these cameras; what did not come of the page before is missed.
    fn turn(&mut self, now: Instant, peer: PeerId, cameras: &[u16]) {
        let before = self.asked.len();
        self.asked.retain(|(other, _), _| *other != peer);
        self.missed += before - self.asked.len();
        self.asked
            .extend(cameras.iter().map(|camera| ((peer, *camera), now)));
    }

    /// A whole key frame came.
    fn came(&mut self, peer: PeerId, camera: u16, at: Instant) {
        match self.asked.remove(&(peer, camera)).map(|since| at - since) {
            Some(took) if took <= self.turn => self.took_ms.push(took.as_secs_f64() * 1e3),
            Some(_) => self.missed += 1,
            None => {}
        }
    }

    /// When all that did not come is missed: whoever turned last had as much time as the others.
    fn decided_at(&self) -> Option<Instant> {
        self.asked.values().max().map(|last| *last + self.turn)
    }

    /// Nothing more comes in time.
    fn close(&mut self) {
        self.missed += self.asked.drain().count();
    }
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
    let mut pages = Pages {
        turn: Duration::from_millis(arguments.turn_ms),
        ..Pages::default()
    };
    let mut turns = 0_usize;
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
        let sources: Vec<u16> = cameras.iter().map(|camera| *camera as u16).collect();
        stage
            .crew
            .await_pictures(peer, sources.iter().copied().collect())?;
        pages.turn(Instant::now(), peer, &sources);
        stage.people[person].view(&participants, common.simulcast).await?;
        turns += 1;
        turn_at += pause;
        while let Ok(note) = stage.note(turn_at).await {
            if let Note::Picture { peer, source, at } = note {
                pages.came(peer, source, at);
            }
        }
    }
    let usage = stage.end(before)?;
    while let Some(decided_at) = pages.decided_at()
        && let Ok(note) = stage.note(decided_at).await
    {
        if let Note::Picture { peer, source, at } = note {
            pages.came(peer, source, at);
        }
    }
    pages.close();
    let (memory, joins) = (memory(&stage)?, joins(&stage));
    let window = stage.crew.shared.window();
    let outcome = stage.close(DRAIN).await?;
    let arrivals = outcome.tally.settle(window);
    let floor = common.floor(&fanout)?;
    let (p50, p99) = quantiles(&pages.took_ms);
    Line::default()
        .with(&common.head("paging"))?
        .with(&json!({
            "publishers": arguments.publishers, "page": page, "voices": arguments.voices,
            "turns": turns, "pictures": pages.took_ms.len(),
            "pictures_not_seen_before_the_next_turn": pages.missed,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_turned_last_waits_as_long_as_the_others_before_a_picture_is_missed() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut pages = Pages {
            turn: Duration::from_secs(2),
            ..Pages::default()
        };
        pages.turn(start, 0, &[1, 2]);
        pages.turn(after(1900), 1, &[2, 3]);
        pages.came(0, 1, after(100));
        pages.turn(after(2000), 0, &[4, 5]);
        assert_eq!(
            (pages.took_ms.len(), pages.missed),
            (1, 1),
            "camera 2 came too late"
        );
        assert_eq!(pages.decided_at(), Some(after(4000)));
        pages.came(1, 2, after(2100));
        pages.came(1, 3, after(3950));
        pages.came(0, 4, after(2200));
        pages.came(0, 9, after(2200));
        pages.close();
        assert_eq!((pages.took_ms.len(), pages.missed), (3, 3));
        assert_eq!(pages.decided_at(), None);
    }
}
