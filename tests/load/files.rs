//! A class that is recorded: what each recording costs the server, how soon it begins, how soon it is finished.
//!
//! The participants are the scripted ones, whose pictures carry their number and whose tone moves in step with it: what
//! a file lacks at its beginning is read from the file itself and compared with what was sent.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use seodang_fixtures::timeline::{SAMPLES_PER_SECOND, SAMPLES_PER_STEP, frame_time, packet_time};
use seodang_fixtures::tone::STEPS;
use seodang_fixtures::{JoinOptions, ScriptedParticipant};
use seodang_model::protocol::Consents;
use seodang_model::{RoomKind, Source};
use seodang_tests::files::Recording;
use serde::Serialize;
use serde_json::{Value, json};

use crate::server::Server;
use crate::signaling;
use crate::tally::quantile;

/// What the class is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The program under test, best a release build.
    #[arg(long, default_value = "target/release/seodang")]
    server: PathBuf,
    /// How many send camera and microphone.
    #[arg(long, default_value_t = 8)]
    participants: u8,
    /// Nobody agrees to recording and captures: what the same class costs without files.
    #[arg(long)]
    declining: bool,
    /// Seconds that are measured, from two seconds after everybody sends.
    #[arg(long, default_value_t = 20.0)]
    window_s: f64,
}

/// One line of results.
#[derive(Debug, Default, Serialize)]
struct Report {
    participants: u8,
    recorded: bool,
    seconds: f64,
    /// Server's processor time a second.
    server_cores: f64,
    resident_bytes: u64,
    idle_bytes: u64,
    /// From the request to close the room to the last finished file and its `lesson.json`, in milliseconds.
    finished_after_ms: Option<f64>,
    files: usize,
    file_bytes: u64,
    /// From sending a camera's first packet to sending the first frame that is in the file, in milliseconds.
    first_picture_p50_ms: Option<f64>,
    first_picture_max_ms: Option<f64>,
    /// As above, for the microphone; exact to about 20 ms.
    first_sound_p50_ms: Option<f64>,
    first_sound_max_ms: Option<f64>,
    /// Pictures sent after the first recorded one and before the last one that are in no file.
    pictures_missing: usize,
}

/// Plays the class and prints the line.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let server = Server::start(&arguments.server).context("starting the server")?;
    let report = runtime.block_on(measure(&server, arguments))?;
    println!("{}", serde_json::to_string(&report)?);
    server.stop()
}

async fn measure(server: &Server, arguments: &Arguments) -> anyhow::Result<Report> {
    let idle_bytes = server.process().resident_bytes()?;
    let room = signaling::create_room(server.address(), RoomKind::Meeting).await?;
    let mut class = Vec::new();
    for number in 0..arguments.participants {
        let (address, name) = (format!("http://{}", server.address()), format!("load {number}"));
        let mut options = JoinOptions::new(&address, &room.number, &name, number).without_looking();
        options.consents = Consents {
            recording: !arguments.declining,
            captures: !arguments.declining,
        };
        options.host_token = (number == 0).then(|| room.host_token.clone());
        class.push(ScriptedParticipant::join(options).await?);
    }
    for participant in &mut class {
        participant.publish(Source::Camera).await?;
        participant.publish(Source::Microphone).await?;
    }
    tokio::time::sleep(SETTLE).await;
    let (started, before) = (Instant::now(), server.process().cpu_time()?);
    tokio::time::sleep(Duration::from_secs_f64(arguments.window_s)).await;
    let seconds = started.elapsed().as_secs_f64();
    let mut report = Report {
        participants: arguments.participants,
        recorded: !arguments.declining,
        seconds,
        server_cores: (server.process().cpu_time()? - before).as_secs_f64() / seconds,
        resident_bytes: server.process().resident_bytes()?,
        idle_bytes,
        ..Report::default()
    };

    let closing = Instant::now();
    close(server, &room).await?;
    if !arguments.declining {
        let folder = finished_lesson(&server.data().join("recordings").join(&room.number)).await?;
        report.finished_after_ms = Some(milliseconds(closing.elapsed()));
        judge(&folder, &class, &mut report)?;
    }
    Ok(report)
}

async fn close(server: &Server, room: &signaling::Room) -> anyhow::Result<()> {
    let path = format!("/api/v1/rooms/{}/close", room.number);
    let body = json!({ "keep_recordings": true });
    let token = room.host_token.as_str();
    let reply = seodang_tests::post(server.address(), &path, Some(token), &body).await?;
    ensure!(
        reply.status == 202,
        "closing was refused: {} {}",
        reply.status,
        reply.json()
    );
    Ok(())
}

/// Waits for the only lesson of a room to be listed as finished; `lesson.json` is written after its last file.
async fn finished_lesson(room: &Path) -> anyhow::Result<PathBuf> {
    let begin = Instant::now();
    while begin.elapsed() < FINISHING_PATIENCE {
        for entry in std::fs::read_dir(room)? {
            let folder = entry?.path();
            if folder.join("lesson.json").exists() {
                return Ok(folder);
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    anyhow::bail!("the files are not finished after {FINISHING_PATIENCE:?}")
}

/// Reads every file and compares its beginning with what its participant sent.
fn judge(folder: &Path, class: &[ScriptedParticipant], report: &mut Report) -> anyhow::Result<()> {
    let manifest: Value = serde_json::from_slice(&std::fs::read(folder.join("lesson.json"))?)?;
    let (mut pictures_ms, mut sounds_ms) = (Vec::new(), Vec::new());
    for file in manifest["files"].as_array().context("a list of files")? {
        ensure!(file["state"] == "finished", "not finished: {file}");
        let path = folder.join(file["path"].as_str().context("a path")?);
        report.files += 1;
        report.file_bytes += std::fs::metadata(&path)?.len();
        let recording = Recording::read(&path)?;
        let counter = recording
            .frames
            .iter()
            .find_map(|frame| frame.counter)
            .context("a readable picture")?;
        let sender = class
            .iter()
            .find(|participant| participant.number() == counter.participant)
            .context("a participant of the class")?;
        let sent = |source| {
            let numbers = sender.look(|seen| seen.sent.get(&source).map(|sent| sent.numbers.clone()));
            numbers
                .filter(|numbers| !numbers.is_empty())
                .context("media that was sent")
        };
        let pictures = sent(Source::Camera)?;
        pictures_ms.push(milliseconds(frame_time(counter.frame)) - milliseconds(frame_time(pictures[0])));
        report.pictures_missing += recording.missing(&pictures).len();
        let first_sent_ms = milliseconds(packet_time(sent(Source::Microphone)?[0]));
        sounds_ms.push(sound_lost_ms(&recording, first_sent_ms).context("sound with steps")?);
    }
    ensure!(
        report.files == class.len(),
        "{} files for {} participants",
        report.files,
        class.len()
    );
    for (values, p50, max) in [
        (
            &mut pictures_ms,
            &mut report.first_picture_p50_ms,
            &mut report.first_picture_max_ms,
        ),
        (
            &mut sounds_ms,
            &mut report.first_sound_p50_ms,
            &mut report.first_sound_max_ms,
        ),
    ] {
        values.sort_by(f64::total_cmp);
        (*p50, *max) = (Some(quantile(values, 0.5)), values.last().copied());
    }
    Ok(())
}

/// Media time between the first packet of sound sent and the first sample heard in the file; slightly negative when
/// nothing is lost, for the encoder's own delay (6.5 ms) makes every step late.
///
/// The tone says its time modulo one round of its steps (3.2 s); which round it is says the picture beside it.
fn sound_lost_ms(recording: &Recording, first_sent_ms: f64) -> Option<f64> {
    let step_ms = f64::from(SAMPLES_PER_STEP) * 1e3 / f64::from(SAMPLES_PER_SECOND);
    let round_ms = step_ms * f64::from(STEPS);
    // The first entry is the middle of the step the sound begins with: where it is heard, but not where it began.
    let [(_, heard_s), (step, begun_s), ..] = recording.steps[..] else {
        return None;
    };
    let by_tone_ms = f64::from(step) * step_ms - (begun_s - heard_s) * 1e3 - DETECTION_MS;
    let (shown_s, counter) = recording
        .frames
        .iter()
        .find_map(|frame| Some((frame.at_s, frame.counter?)))?;
    let by_picture_ms = milliseconds(frame_time(counter.frame)) + (heard_s - shown_s) * 1e3 - DETECTION_MS;
    let rounds = ((by_picture_ms - by_tone_ms) / round_ms).round();
    Some(by_tone_ms + rounds * round_ms - first_sent_ms)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Until encoders and files run steadily.
const SETTLE: Duration = Duration::from_secs(2);
/// How long finishing may take.
const FINISHING_PATIENCE: Duration = Duration::from_secs(60);
/// Half the window in which the judge of tones hears a step: the first step of all is reported so much late.
const DETECTION_MS: f64 = 10.0;
