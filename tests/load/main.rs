//! Plays classes of many against a server of its own and prints what a forwarded packet cost, as one JSON line.
//!
//! The participants are an independent stack (str0m) that sends ready-made packets, so that one core plays thirty
//! of them; every packet carries its send time and its place in the frame, so loss and delay are measured exactly.
//! `seodang-load files` plays scripted participants instead, whose media can be judged in the files it becomes.

mod clip;
mod fanout;
mod files;
mod floor;
mod participant;
mod server;
mod signaling;
mod sizes;
mod tally;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};
use seodang_model::RoomKind;

/// Plays a class against a fresh server and prints its cost for each forwarded packet.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    other: Option<Other>,
    /// The program under test, best a release build.
    #[arg(long, default_value = "target/release/seodang")]
    server: PathBuf,
    /// How many send camera and microphone.
    #[arg(long, default_value_t = 1)]
    publishers: usize,
    /// How many only watch.
    #[arg(long, default_value_t = 30)]
    watchers: usize,
    /// Cameras each participant asks for at most.
    #[arg(long, default_value_t = 9)]
    page: usize,
    /// Seconds before measuring begins, after everybody is connected.
    #[arg(long, default_value_t = 2.0)]
    settle_s: f64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 8.0)]
    window_s: f64,
    /// Bits per second of each camera.
    #[arg(long, default_value_t = 1_500_000)]
    camera_bps: u32,
    /// Everyone agrees to recording and captures.
    #[arg(long)]
    recorded: bool,
}

/// What is measured instead.
#[derive(Debug, Subcommand)]
enum Other {
    /// Plays a class that is recorded and judges the files.
    Files(files::Arguments),
    /// Measures the least a forwarded packet can cost on this machine.
    Floor(floor::Arguments),
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match &arguments.other {
        Some(Other::Files(arguments)) => return files::run(arguments),
        Some(Other::Floor(arguments)) => return floor::run(arguments),
        None => {}
    }
    ensure!(arguments.publishers >= 1, "somebody has to send");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let server = server::Server::start(&arguments.server).context("starting the server")?;
    let idle_bytes = server.resident_bytes()?;

    let kind = if arguments.watchers > 0 {
        RoomKind::Seminar
    } else {
        RoomKind::Meeting
    };
    let room = runtime.block_on(signaling::create_room(server.address(), kind))?;
    let mut class = participant::Class::new();
    for index in 0..arguments.publishers + arguments.watchers {
        let sends = index < arguments.publishers;
        let seat = participant::Seat {
            sends,
            slots: arguments.page.min(arguments.publishers - usize::from(sends)),
            voices: 5.min(arguments.publishers - usize::from(sends)),
            camera_bps: arguments.camera_bps,
        };
        // In a seminar only a host publishes; every publisher of the tool holds the host token.
        let token = sends.then_some(room.host_token.as_str());
        runtime.block_on(class.join(server.address(), &room.number, token, seat, arguments.recorded))?;
    }
    runtime.block_on(class.watch_each_other())?;
    class.play(Duration::from_secs_f64(arguments.settle_s))?;
    class.begin_measuring();
    let before = server.cpu_time()?;
    let started = std::time::Instant::now();
    class.play(Duration::from_secs_f64(arguments.window_s))?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu = server.cpu_time()? - before;
    let tally = class.tally();
    let report = tally::Report {
        publishers: arguments.publishers,
        watchers: arguments.watchers,
        recorded: arguments.recorded,
        seconds,
        server_cores: cpu.as_secs_f64() / seconds,
        us_a_forwarded_packet: cpu.as_secs_f64() * 1e6 / tally.packets.max(1) as f64,
        resident_bytes: server.resident_bytes()?,
        idle_bytes,
        tally,
    };
    println!("{}", serde_json::to_string(&report)?);
    runtime.block_on(class.leave());
    server.stop()
}
