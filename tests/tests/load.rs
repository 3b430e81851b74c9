//! The load tool against the real server: a tiny class, and whether its figures make sense.

use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

fn play(arguments: &[&str]) -> anyhow::Result<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_seodang-load"))
        .args(arguments)
        .arg("--server")
        .arg(seodang_tests::server_binary()?)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("one JSON line")
}

#[test]
fn two_people_see_and_hear_everything_of_each_other() -> anyhow::Result<()> {
    let short = ["--settle-s", "0.2", "--window-s", "1", "--floor-s", "0.4"];
    let line = play(&[&["class", "--publishers", "2"], &short[..]].concat())?;
    let number = |field: &str| {
        line[field]
            .as_f64()
            .with_context(|| format!("a number {field}: {line}"))
    };
    // Two cameras and two microphones: 25 pictures and 50 packets of sound a second of each.
    ensure!(number("tracks")? == 4.0, "{line}");
    ensure!((48.0..=54.0).contains(&number("pictures_expected")?), "{line}");
    ensure!((96.0..=106.0).contains(&number("sounds_expected")?), "{line}");
    ensure!(number("pictures_complete_share")? == 1.0, "{line}");
    ensure!(number("sounds_complete_share")? == 1.0, "{line}");
    ensure!(number("packets_repeated")? == 0.0, "{line}");
    ensure!(number("us_a_forwarded_packet")? > 0.1, "{line}");
    ensure!(number("floor_us_a_forwarded_packet")? > 0.1, "{line}");
    ensure!(number("delay_p50_ms")? > 0.0, "{line}");
    ensure!(number("delay_p50_ms")? <= number("delay_p99_ms")?, "{line}");
    ensure!(number("joins")? == 2.0 && number("join_p50_ms")? > 0.0, "{line}");
    ensure!(number("resident_bytes")? > number("idle_bytes")?, "{line}");
    Ok(())
}
