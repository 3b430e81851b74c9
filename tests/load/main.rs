//! Plays classes of many against a server of its own and prints what a forwarded packet cost, as one JSON line.
//!
//! The participants are an independent stack (str0m) that sends ready-made packets of real VP8, so that one core plays
//! thirty of them; every packet carries its number and its send time, so loss and delay are measured exactly. Every
//! cost stands beside the floor of the same run: what receiving, opening, copying, sealing and sending cost with nothing else.
//! `seodang-load files` plays scripted participants instead, whose media can be judged in the files it becomes.

mod apart;
mod clip;
mod crew;
mod fanout;
mod files;
mod floor;
mod janus;
mod machine;
mod peer;
mod post;
mod scenario;
mod server;
mod signaling;
mod sizes;
mod stage;
mod tally;
mod traffic;
mod wire;

use clap::{Parser, Subcommand};

use scenario::{churn, class, late, loss, paging};

/// Plays a class against a fresh server and prints one JSON line: what it cost, what arrived, how late.
///
/// Build server and tool with `cargo build --release -p seodang-signal -p seodang-tests --bins`; docs/benchmarks.md explains
/// the fields. Fields end in their unit. `client_cores`, `other_cores` and `steal_cores` tell whether a run is to be
/// believed: the first near `client_threads`, or the last above a tenth, and it measured the machine.
#[derive(Debug, Parser)]
#[command(name = "seodang-load")]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

/// What is played.
#[derive(Debug, Subcommand)]
enum Scenario {
    /// Everybody sends and receives; several classes with --classes.
    Class(class::Arguments),
    /// One sends, many receive.
    Seminar(class::SeminarArguments),
    /// People join and leave: what stays behind in the server, and what a join costs.
    Churn(churn::Arguments),
    /// A class that sees a page at a time and turns pages.
    Paging(paging::Arguments),
    /// A class on bad lines.
    Loss(loss::Arguments),
    /// Somebody comes late: when do they see the first picture, and all of them?
    Late(late::Arguments),
    /// A class that is recorded, and its files judged.
    Files(files::Arguments),
    /// The least a forwarded packet can cost on this machine.
    Floor(floor::Arguments),
}

fn main() -> anyhow::Result<()> {
    let scenario = Arguments::parse().scenario;
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
    };
    let line = match &scenario {
        Scenario::Files(arguments) => return files::run(arguments),
        Scenario::Floor(arguments) => return floor::run(arguments),
        Scenario::Class(arguments) => runtime()?.block_on(class::run(arguments, "class")),
        Scenario::Seminar(arguments) => runtime()?.block_on(class::run(&arguments.class(), "seminar")),
        Scenario::Churn(arguments) => runtime()?.block_on(churn::run(arguments)),
        Scenario::Paging(arguments) => runtime()?.block_on(paging::run(arguments)),
        Scenario::Loss(arguments) => runtime()?.block_on(loss::run(arguments)),
        Scenario::Late(arguments) => runtime()?.block_on(late::run(arguments)),
    };
    line?.print();
    Ok(())
}
