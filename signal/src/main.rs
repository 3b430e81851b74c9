//! The program `seodang`.

mod commands;

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    // Whatever this process writes is its owner's alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let matches = commands::cli().get_matches();
    match matches.subcommand() {
        Some(("serve", matches)) => commands::serve::run(matches),
        Some(("demo", matches)) => commands::demo::run(matches),
        Some(("recover", matches)) => commands::recover::run(matches),
        Some(("doctor", matches)) => commands::doctor::run(matches),
        _ => unreachable!("the command line requires a known command"),
    }
}
