//! Starting and stopping the analyzer, and the handle that feeds it.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jiff::tz::TimeZone;
use seodang_model::ParticipantId;
use seodang_rtp::Frame;

use crate::counts::{AnalyzerCounts, Counters};
use crate::decode;
use crate::develop::{Decode, Developer};
use crate::driver::{Command, Driver, Work, clocks};
use crate::error::AnalyzerError;
use crate::frame_clock::Arrival;
use crate::mend::mend;
use crate::round::Rounds;
use crate::store::{CaptureEvent, Entry, Store};
use crate::subject::{CameraState, MediaOrigin, Subject};

/// What an analyzer needs to know.
#[derive(Clone, Debug)]
pub struct AnalyzerConfig {
    /// `<data>/captures`; made if missing.
    pub root: PathBuf,
    /// Time between two ticks: 2 to 3600 whole seconds; 10 s by default.
    pub period: Duration,
    /// Of local times in rows and file names.
    pub time_zone: TimeZone,
    /// 1 to 100; 85 by default.
    pub jpeg_quality: u8,
}

impl AnalyzerConfig {
    /// Ten seconds, quality 85, local times as the machine's.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            period: Duration::from_secs(10),
            time_zone: TimeZone::system(),
            jpeg_quality: 85,
        }
    }
}

/// The running analyzer. Dropping it leaves its threads running until the process ends; use [`Self::shutdown`].
#[derive(Debug)]
pub struct Analyzer {
    commands: SyncSender<Command>,
    /// Disconnected when the last row is written.
    written: Receiver<()>,
}

/// Tells the analyzer who is there and hands it key frames. Clonable; never waits.
#[derive(Clone, Debug)]
pub struct AnalyzerHandle {
    commands: SyncSender<Command>,
    late_leaves: Arc<LateLeaves>,
    keyframes_waiting: Arc<AtomicUsize>,
    counters: Arc<Counters>,
}

/// Who left while the queue was full, and when: at most one entry for each participant. A leave must not be lost, it
/// may be a withdrawn consent.
#[derive(Debug, Default)]
pub(crate) struct LateLeaves(Mutex<BTreeMap<ParticipantId, Instant>>);

impl LateLeaves {
    /// Takes them all.
    pub(crate) fn take(&self) -> BTreeMap<ParticipantId, Instant> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, participant: ParticipantId, at: Instant) {
        let mut leaves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        leaves.insert(participant, at);
    }
}

/// Commands waiting for the driver, which takes them in microseconds: a whole school entering at once. When full the
/// command is dropped, counted and logged as an error; a leave is kept aside.
const MOST_COMMANDS: usize = 8_192;
/// Key frames among them; a further one is dropped and counted.
const MOST_KEYFRAMES: usize = 1_024;
/// Rows waiting for the disk: two rounds of a thousand people. When full the disk hangs, and rows are lost, counted.
const MOST_ENTRIES: usize = 2_048;
/// Events waiting for their reader: two rounds of a thousand people. When full events are dropped, counted.
const MOST_EVENTS: usize = 2_048;
/// A round's rows come in a burst; after this much silence they are made durable.
const ROUND_OVER: Duration = Duration::from_millis(200);
/// How often a disk that took nothing is tried again.
const DISK_RETRY: Duration = Duration::from_secs(2);
/// More decoding threads than this gain nothing: a class of 30 takes 0.2 s on four.
const MOST_DECODING_THREADS: usize = 4;
impl Analyzer {
    /// Starts the threads. Whatever an earlier run left unfinished is mended before the first row is written.
    ///
    /// `wishes` is called when a participant's camera shall be asked for a key frame; it must not wait. Every written
    /// row is announced on the receiver.
    ///
    /// # Errors
    /// When a value is out of its range, the folder cannot be used, GStreamer lacks something, or no thread starts.
    pub fn start(
        config: AnalyzerConfig,
        wishes: Box<dyn Fn(ParticipantId) + Send>,
    ) -> Result<(Self, AnalyzerHandle, Receiver<CaptureEvent>), AnalyzerError> {
        decode::prepare()?;
        Self::start_with(config, wishes, Arc::new(decode::decode))
    }

    /// Decides and writes what is open, then stops. After `deadline` threads that still wait for a disk or a decoder
    /// are left behind. Returns whether everything was written.
    pub fn shutdown(self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        let mut command = Command::Shutdown;
        // The queue is full for moments only; `send` might wait for ever.
        while let Err(std::sync::mpsc::TrySendError::Full(again)) = self.commands.try_send(command) {
            if Instant::now() >= end {
                return false;
            }
            command = again;
            std::thread::sleep(Duration::from_millis(1));
        }
        let left = end.saturating_duration_since(Instant::now());
        self.written.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
    }

    pub(crate) fn start_with(
        config: AnalyzerConfig,
        wishes: Box<dyn Fn(ParticipantId) + Send>,
        decode: Decode,
    ) -> Result<(Self, AnalyzerHandle, Receiver<CaptureEvent>), AnalyzerError> {
        let AnalyzerConfig {
            root,
            period,
            time_zone,
            jpeg_quality,
        } = config;
        if period.subsec_nanos() != 0 || !(2..=3_600).contains(&period.as_secs()) {
            return Err(AnalyzerError::Period);
        }
        if !(1..=100).contains(&jpeg_quality) {
            return Err(AnalyzerError::Quality);
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&root)
            .map_err(|source| AnalyzerError::Folder {
                path: root.clone(),
                source,
            })?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads((cores / 2).clamp(1, MOST_DECODING_THREADS))
            .thread_name(|index| format!("analyzer-{index}"))
            .build()
            .map_err(AnalyzerError::Pool)?;

        let counters = Arc::new(Counters::default());
        let late_leaves = Arc::new(LateLeaves::default());
        let keyframes_waiting = Arc::new(AtomicUsize::new(0));
        let (sender, commands) = sync_channel(MOST_COMMANDS);
        let (entries, entries_out) = sync_channel(MOST_ENTRIES);
        let (events, events_out) = sync_channel(MOST_EVENTS);
        let (writing, written) = sync_channel::<()>(1);
        let work = Work::default();
        let pictures_waiting = work.pictures_waiting();
        let store = Store::new(root.clone(), Arc::clone(&counters), events);
        spawn("analyzer-files", move || {
            write(&root, store, &entries_out, &pictures_waiting);
            drop(writing);
        })?;
        let driver = Driver {
            rounds: Rounds::new(period, clocks()),
            period,
            time_zone,
            developer: Developer {
                decode,
                jpeg_quality,
                counters: Arc::clone(&counters),
            },
            pool,
            wishes,
            commands,
            late_leaves: Arc::clone(&late_leaves),
            overtaken: BTreeMap::new(),
            keyframes_waiting: Arc::clone(&keyframes_waiting),
            sender: sender.clone(),
            entries,
            counters: Arc::clone(&counters),
            work,
        };
        spawn("analyzer", move || driver.run())?;
        let handle = AnalyzerHandle {
            commands: sender.clone(),
            late_leaves,
            keyframes_waiting,
            counters,
        };
        Ok((
            Self {
                commands: sender,
                written,
            },
            handle,
            events_out,
        ))
    }
}

impl AnalyzerHandle {
    /// A participant who consented may be pictured from this instant on; a picture taken before it is never used, even
    /// if it arrives later. Entering again changes the description, and nothing else.
    pub fn enter(&self, subject: Subject) {
        self.send(Command::Enter {
            subject: Box::new(subject),
            since: Instant::now(),
        });
    }

    /// The camera of a participant who entered changed; [`CameraState::None`] until the first call.
    pub fn set_camera(&self, participant: ParticipantId, camera: CameraState) {
        self.send(Command::Camera(participant, camera, Instant::now()));
    }

    /// Where the webm of a participant who entered begins; [`MediaOrigin::Unknown`] until the first call.
    pub fn set_media_origin(&self, participant: ParticipantId, origin: MediaOrigin) {
        self.send(Command::MediaOrigin(participant, origin));
    }

    /// A frame of the camera of a participant, in order. Everything but key frames is passed over at once.
    pub fn frame(&self, participant: ParticipantId, frame: Frame) {
        if !frame.keyframe {
            return;
        }
        let arrival = Arrival {
            at: Instant::now(),
            wall: SystemTime::now(),
        };
        if self.keyframes_waiting.fetch_add(1, Ordering::Relaxed) >= MOST_KEYFRAMES
            || self
                .commands
                .try_send(Command::Keyframe(participant, Box::new(frame), arrival))
                .is_err()
        {
            self.keyframes_waiting.fetch_sub(1, Ordering::Relaxed);
            self.counters.dropped_keyframes.add(1);
        }
    }

    /// The participant left, or withdrew the consent: no row after this tick's. Never dropped.
    pub fn leave(&self, participant: ParticipantId) {
        let now = Instant::now();
        if self.commands.try_send(Command::Leave(participant, now)).is_err() {
            self.late_leaves.add(participant, now);
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> AnalyzerCounts {
        self.counters.read()
    }

    fn send(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            self.counters.dropped_commands.add(1);
            tracing::error!("the analyzer takes no commands: captures may be missing");
        }
    }
}

/// The thread `analyzer-files`: runs until every sender of entries is gone.
fn write(
    root: &std::path::Path,
    mut store: Store,
    entries: &Receiver<Entry>,
    pictures_waiting: &AtomicUsize,
) {
    match mend(root) {
        Ok(report) => tracing::info!(?report, "the captures folder is in order"),
        Err(error) => tracing::error!(%error, "the captures folder cannot be looked through"),
    }
    let mut wait = ROUND_OVER;
    loop {
        let entry = if store.is_restless() {
            entries.recv_timeout(wait)
        } else {
            entries.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match entry {
            Ok(entry) => {
                wait = ROUND_OVER;
                let has_picture = entry.developed.picture.is_some();
                store.handle_entry(entry);
                pictures_waiting.fetch_sub(usize::from(has_picture), Ordering::Relaxed);
            }
            Err(RecvTimeoutError::Timeout) => {
                store.handle_idle();
                wait = DISK_RETRY;
            }
            Err(RecvTimeoutError::Disconnected) => return store.handle_shutdown(),
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), AnalyzerError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map(drop)
        .map_err(AnalyzerError::Thread)
}

#[cfg(test)]
mod tests;
