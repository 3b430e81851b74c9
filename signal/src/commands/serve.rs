//! `seodang serve`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::ArgMatches;
use seodang_signal::server::{self, STOP_WITHIN, Server};
use seodang_signal::telemetry;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Serves until told to stop; success only when everything was finished in time.
pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let config = super::config(matches)?;
    telemetry::start(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("runtime")?;
    runtime
        .block_on(async {
            // Before anything is started: a signal during the start must not end the process half-way.
            let mut signals = Signals::new().context("signals")?;
            let shutdown = CancellationToken::new();
            let running = server::start(config, shutdown.clone()).await?;
            for url in running.urls() {
                println!("Seodang: {url}/");
            }
            if let Some(fingerprint) = running.fingerprint() {
                println!("Certificate fingerprint (SHA-256): {fingerprint}");
            }
            signals.next().await;
            shutdown.cancel();
            Ok(stopped(running, &mut signals).await)
        })
        // A runtime that is dropped waits for blocking work; whatever is left then must not hold the process.
        .inspect(|_| runtime.shutdown_background())
}

/// Waits until a server that was told to stop has stopped; success only when everything was finished in time.
pub(crate) async fn stopped(running: Server, signals: &mut Signals) -> ExitCode {
    tokio::select! {
        () = running.finished() => ExitCode::SUCCESS,
        () = tokio::time::sleep(STOP_WITHIN) => {
            tracing::error!("not everything could be finished in time; recover completes the files");
            ExitCode::FAILURE
        }
        () = signals.next() => {
            tracing::error!("second signal: ending at once");
            ExitCode::FAILURE
        }
    }
}

/// SIGTERM and Ctrl-C.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
