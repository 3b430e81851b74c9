//! `seodang recover`: finishes files a crash left, without starting a server.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{ArgMatches, Command};
use seodang_signal::{server, telemetry};

/// Keys that recovery reads. It takes the others as well, so that a server's flags and file serve here unchanged.
const NEEDED: [&str; 4] = ["config", "data", "log", "log_format"];

/// Shows only those in its help.
pub(crate) fn with_needed_settings(command: Command) -> Command {
    command.mut_args(|arg| {
        let is_needed = NEEDED.contains(&arg.get_id().as_str());
        arg.hide(!is_needed)
    })
}

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
