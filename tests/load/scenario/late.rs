//! Somebody comes late into a class that goes on: when do they see the first picture, when all of them?

use std::time::Instant;

use seodang_model::RoomKind;
use serde_json::json;

use super::Line;
use super::class::DRAIN;
use crate::crew::Note;
use crate::fanout::{Fanout, Watch};
use crate::stage::{Common, Stage};
use crate::tally::quantiles;
use crate::wire::Faults;

/// Watchers who come one after the other.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many send and receive in the class.
    #[arg(long, default_value_t = 20)]
    publishers: usize,
    /// How many come late.
    #[arg(long, default_value_t = 8)]
    joins: usize,
    #[command(flatten)]
    common: Common,
}

/// Plays it. A late joiner asks for every camera as soon as their offer is answered.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Line> {
    let without = (Faults::default(), Faults::default());
    let fanout = Fanout::classes(1, arguments.publishers, 0, usize::MAX, usize::MAX);
    let mut stage = Stage::open(&arguments.common, fanout, RoomKind::Meeting, 1).await?;
    stage.fill(without).await?;
    stage.watch(without).await?;
    tokio::time::sleep(arguments.common.settle()).await;
    stage.joins_ms.clear();

    let everyone: Vec<usize> = (0..arguments.publishers).collect();
    let participants = stage.participants(&everyone);
    let watch = Watch {
        cameras: everyone.clone(),
        microphones: everyone.clone(),
    };
    let (mut first_ms, mut all_ms) = (Vec::new(), Vec::new());
    for number in 0..arguments.joins {
        let begun = Instant::now();
        let mut person = stage
            .join(0, arguments.publishers + number, None, &watch, without)
            .await?;
        let awaited = everyone.iter().map(|source| *source as u16).collect();
        stage.crew.await_pictures(person.peer, awaited)?;
        person.view(&participants, arguments.common.simulcast).await?;
        let mut seen_ms = Vec::new();
        while seen_ms.len() < arguments.publishers {
            let note = stage.note(begun + PATIENCE).await?;
            if let Note::Picture { peer, at, .. } = note
                && peer == person.peer
            {
                seen_ms.push((at - begun).as_secs_f64() * 1e3);
            }
        }
        first_ms.extend(seen_ms.first());
        all_ms.extend(seen_ms.last());
        stage.people.push(person);
        // The next one comes into a class that has settled.
        tokio::time::sleep(PAUSE).await;
    }
    let joins = super::class::joins(&stage);
    stage.close(DRAIN).await?;
    let ((first_p50, first_max), (all_p50, all_max)) = (quantiles(&first_ms), quantiles(&all_ms));
    Line::default()
        .with(&arguments.common.head("late"))?
        .with(&json!({
            "publishers": arguments.publishers,
            "first_picture_p50_ms": first_p50, "first_picture_max_ms": first_max,
            "all_pictures_p50_ms": all_p50, "all_pictures_max_ms": all_max,
        }))?
        .with(&joins)
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
/// More than the second within which the key frames that somebody asked for serve the next one as well.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(1_300);
