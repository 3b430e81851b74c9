//! `seodang doctor`.

use std::process::ExitCode;

use clap::ArgMatches;
use seodang_signal::doctor::{Verdict, examine};

/// Prints what was found; success when nothing is missing.
pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let findings = examine(&super::config(matches)?);
    for finding in &findings {
        println!("{finding}");
    }
    let bad = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Bad)
        .count();
    if bad == 0 {
        println!("\nEverything that seodang needs is there.");
        Ok(ExitCode::SUCCESS)
    } else {
        let things = if bad == 1 { "thing has" } else { "things have" };
        println!("\n{bad} {things} to be mended before seodang works as it should.");
        Ok(ExitCode::FAILURE)
    }
}
