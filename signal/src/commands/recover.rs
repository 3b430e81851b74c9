//! `seodang recover`: finishes files a crash left, without starting a server.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::ArgMatches;
use seodang_signal::{server, telemetry};

/// Finishes them; success when nothing is left unfinished.
pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let config = super::config(matches)?;
    telemetry::start(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")?;
    let recovered = runtime.block_on(server::recover(&config))?;
    println!(
        "Lessons with unfinished files: {}; finished: {}.",
        recovered.found, recovered.finished
    );
    Ok(if recovered.found == recovered.finished {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
