//! Starts and stops everything that keeps a class: assembler, recorder, analyzer and their books.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use seodang_analyzer::{Analyzer, AnalyzerConfig, AnalyzerHandle};
use seodang_model::{Publication, Source};
use seodang_recorder::{Recorder, RecorderConfig};
use seodang_sfu::SfuHandle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::assembler::Assembler;
use super::books::{Books, ENTRIES, Recovered, forward_captures, recover_recordings};
use super::desk::Desk;
use super::opener::Opener;
use super::sink::SinkSource;
use super::{KeptReport, MirrorCommand, Overload};
use crate::store::Store;

/// How long the last pictures of a program that ends are waited for.
const CAPTURES_WITHIN: Duration = Duration::from_secs(2);

/// Whether the assembler is at work. Without it nothing is kept and no lesson's files are finished.
#[derive(Clone, Debug)]
pub(crate) struct Alive(Arc<AtomicBool>);

/// Says that its thread has ended, however it ended.
struct Living(Alive);

/// Where and how a class is kept.
#[derive(Clone, Debug)]
pub struct KeepingConfig {
    /// `<data>/recordings`.
    pub recordings: PathBuf,
    /// `<data>/captures`.
    pub captures: PathBuf,
    /// Time between captures; zero takes none.
    pub capture_period: Duration,
    /// 1 to 100.
    pub jpeg_quality: u8,
    /// Of names and local times.
    pub time_zone: TimeZone,
    /// How long recordings that a host did not keep are put aside.
    pub discarded_keep: Duration,
}

/// The running mirror.
#[derive(Debug)]
pub struct Keeping {
    stop: CancellationToken,
    assembler: JoinHandle<()>,
    captures: Option<(Analyzer, JoinHandle<()>)>,
    books: tokio::task::JoinHandle<()>,
    recovery: tokio::task::JoinHandle<()>,
    overload: Arc<Overload>,
    alive: Alive,
}

impl Keeping {
    /// Starts it; `commands` and `reporter` are the mirror's ends of the seam. Classes go on without recordings or
    /// captures when they cannot be made, and everyone is told so.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        config: &KeepingConfig,
        store: Store,
        sfu: SfuHandle,
        commands: mpsc::Receiver<MirrorCommand>,
        reporter: mpsc::Sender<KeptReport>,
    ) -> std::io::Result<Self> {
        let opener = match Recorder::start(RecorderConfig {
            root: config.recordings.clone(),
        }) {
            Ok(recorder) => Some(Opener::start(move |info| recorder.open(info))?),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "nothing can be recorded"
                );
                None
            }
        };
        let (entries, to_books) = mpsc::channel(ENTRIES);
        let (analyzer, captures) = match start_captures(config, &sfu, &entries)? {
            Some((analyzer, handle, thread)) => (Some(handle), Some((analyzer, thread))),
            None => (None, None),
        };
        let books = Books::new(store.clone(), config.recordings.clone(), config.discarded_keep);
        let books = tokio::spawn(books.run(to_books));
        let recordings = config.recordings.clone();
        let recovery = tokio::spawn(async move {
            match recover_recordings(&store, recordings).await {
                Ok(Recovered { found: 0, .. }) => {}
                Ok(Recovered { found, finished }) => {
                    tracing::info!(found, finished, "recordings that a crash left were looked after");
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "recordings are not looked through"
                    );
                }
            }
        });
        let (sinks, packets, overload) = SinkSource::new();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let desk = Desk {
            sfu,
            opener,
            overload: Arc::clone(&overload),
            analyzer,
            books: entries,
            reporter,
        };
        let alive = Alive(Arc::new(AtomicBool::new(true)));
        let living = Living(alive.clone());
        let runtime = tokio::runtime::Handle::current();
        let assembler = std::thread::Builder::new()
            .name("assembler".to_owned())
            .spawn(move || {
                let _living = living;
                Assembler::new(desk, sinks).run(&runtime, commands, &packets, &stopped);
            })?;
        Ok(Self {
            stop,
            assembler,
            captures,
            books,
            recovery,
            overload,
            alive,
        })
    }

    /// What the assembler could not take.
    #[must_use]
    pub(crate) fn overload(&self) -> Arc<Overload> {
        Arc::clone(&self.overload)
    }

    /// Whether it works.
    pub(crate) fn alive(&self) -> Alive {
        self.alive.clone()
    }

    /// Ends every file as a part of a lesson that goes on after the restart, and waits until they are on the disk, but
    /// not beyond `deadline`.
    pub async fn shutdown(self, deadline: Instant) {
        self.stop.cancel();
        let (assembler, captures) = (self.assembler, self.captures);
        let threads = tokio::task::spawn_blocking(move || {
            let mut whole = assembler.join().is_ok();
            if let Some((analyzer, thread)) = captures {
                let left = deadline.saturating_duration_since(Instant::now());
                whole &= analyzer.shutdown(CAPTURES_WITHIN.min(left));
                // A thread that waits for a hung disk is left behind.
                whole = whole && thread.join().is_ok();
            }
            whole
        });
        let threads = tokio::time::timeout_at(deadline.into(), threads);
        if !matches!(threads.await, Ok(Ok(true))) {
            tracing::error!("not everything that was to be kept is on the disk; the next start mends it");
        }
        // Recovery can be interrupted anywhere; the next start goes on with it.
        self.recovery.abort();
        // The last entries came from those threads; one that hangs must not hold the program.
        if tokio::time::timeout_at(deadline.into(), self.books)
            .await
            .is_err()
        {
            tracing::error!("not every row about a file is stored; the next start mends it");
        }
    }
}

impl Alive {
    pub(crate) fn is_alive(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

type Captures = (Analyzer, AnalyzerHandle, JoinHandle<()>);

fn start_captures(
    config: &KeepingConfig,
    sfu: &SfuHandle,
    entries: &mpsc::Sender<super::books::Entry>,
) -> std::io::Result<Option<Captures>> {
    if config.capture_period.is_zero() {
        return Ok(None);
    }
    let sfu = sfu.clone();
    let wishes = Box::new(move |participant| {
        // A refused wish is a row without a picture, no more.
        let _ = sfu.request_keyframe(
            Publication {
                participant,
                source: Source::Camera,
            },
            true,
        );
    });
    let analyzer = AnalyzerConfig {
        root: config.captures.clone(),
        period: config.capture_period,
        time_zone: config.time_zone.clone(),
        jpeg_quality: config.jpeg_quality,
    };
    match Analyzer::start(analyzer, wishes) {
        Ok((analyzer, handle, events)) => {
            let entries = entries.clone();
            let thread = std::thread::Builder::new()
                .name("capture-rows".to_owned())
                .spawn(move || forward_captures(&events, &entries))?;
            Ok(Some((analyzer, handle, thread)))
        }
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "no captures can be taken"
            );
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_hangs_holds_nobody_beyond_the_deadline() {
        let (release, hanging) = std::sync::mpsc::channel::<()>();
        let keeping = Keeping {
            stop: CancellationToken::new(),
            assembler: std::thread::spawn(move || {
                let _ = hanging.recv();
            }),
            captures: None,
            books: tokio::spawn(std::future::pending()),
            recovery: tokio::spawn(std::future::pending()),
            overload: Arc::default(),
            alive: Alive(Arc::new(AtomicBool::new(true))),
        };
        let begin = Instant::now();
        let stopping = keeping.shutdown(begin + Duration::from_millis(300));
        tokio::time::timeout(Duration::from_secs(5), stopping)
            .await
            .expect("by the deadline");
        drop(release);
    }

    #[test]
    fn an_assembler_that_panics_is_known_to_be_gone() {
        let alive = Alive(Arc::new(AtomicBool::new(true)));
        let living = Living(alive.clone());
        assert!(alive.is_alive());
        let thread = std::thread::spawn(move || {
            let _living = living;
            panic!("made by the test");
        });
        assert!(thread.join().is_err());
        assert!(!alive.is_alive());
    }
}
