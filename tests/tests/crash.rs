//! Power and patience run out: the program is killed at random moments, and every file plays after the next start.
//!
//! `SEODANG_SEED` repeats a run, `SEODANG_KILLS` asks for more kills than the usual three.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use seodang_tests::{KeptLesson, PATIENCE};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

type Result<T = ()> = anyhow::Result<T>;

/// What a crash may take, as docs/recordings.md promises.
const MOST_LOST: time::Duration = time::Duration::seconds(1);
/// A step of the tone is found where it begins, and sounds for this long.
const STEP: time::Duration = time::Duration::milliseconds(200);
/// Scripted participants of a class; all of them are recorded.
const PARTICIPANTS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn every_file_plays_after_a_kill_at_a_random_moment() -> Result {
    let seed = setting("SEODANG_SEED").unwrap_or_else(rand::random);
    let kills = setting("SEODANG_KILLS").unwrap_or(3);
    println!("SEODANG_SEED={seed} SEODANG_KILLS={kills}");
    let mut chance = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");

    let mut killed = Vec::new();
    for _ in 0..kills {
        // Each start but the first looks after what the kill before it left, beside a class of its own.
        let mut demo = Demo::start(&data).await?;
        // The moment is the experiment, not a wait for something.
        tokio::time::sleep(Duration::from_millis(chance.random_range(2_000..4_500))).await;
        let at = demo.kill().await?;
        println!(
            "{} was killed {:?} after everyone published",
            demo.room,
            at - demo.published
        );
        killed.push((demo, at));
    }
    let recovered = timeout(
        PATIENCE,
        seodang()?.arg("recover").arg("--data").arg(&data).output(),
    )
    .await
    .context("recover takes too long")??;
    ensure!(
        recovered.status.success(),
        "recover: {}",
        String::from_utf8_lossy(&recovered.stderr)
    );

    for (demo, at) in &killed {
        assert_recovered(&data.join("recordings"), demo, *at).await?;
    }
    Ok(())
}

async fn assert_recovered(recordings: &Path, demo: &Demo, killed: OffsetDateTime) -> Result {
    let lesson = KeptLesson::of(recordings, &demo.room)?;
    let room = &demo.room;
    let names = lesson.names()?;
    let files: Vec<&String> = names.iter().filter(|name| name.ends_with(".webm")).collect();
    assert_eq!(files.len(), PARTICIPANTS, "{room}: {names:?}");
    assert!(
        names
            .iter()
            .all(|name| !name.starts_with('.') && !name.ends_with(".part")),
        "{room}: {names:?}"
    );
    let began = lesson.manifest["started_at"].as_str().context("started_at")?;
    let began = OffsetDateTime::parse(began, &Rfc3339)?;
    for path in files {
        let (recording, entry) = (lesson.recording(path).await?, lesson.entry(path)?);
        let what = format!("{room}, file {:?}", recording.shown());
        assert_eq!(entry["state"], "recovered", "{what}");
        assert!(
            recording.decode_errors.is_empty(),
            "{what}: {:?}",
            recording.decode_errors
        );
        assert!(
            recording.has_cues && recording.duration_s.is_some(),
            "{what} cannot be sought in"
        );
        assert_eq!(recording.codecs, ["vp8", "opus"], "{what}");
        assert_eq!(recording.steps_back(), 0, "{what}: {:?}", recording.numbers());

        let zero = began + Duration::from_millis(entry["offset_ms"].as_u64().context("offset_ms")?);
        let at = |at_s: f64| zero + time::Duration::seconds_f64(at_s);
        let numbers = recording.numbers();
        let whole = (numbers[0]..=numbers[numbers.len() - 1]).collect::<Vec<_>>();
        // The program that sent them is gone; on a busy machine it left some out itself.
        let missing = recording.missing(&whole).len();
        assert!(
            missing * 10 <= whole.len(),
            "{what}: {missing} of {} pictures are missing",
            whole.len()
        );
        let last_picture = recording.frames.iter().rfind(|frame| frame.counter.is_some());
        let pictures = killed - at(last_picture.context("no picture")?.at_s);
        let sound = killed - at(recording.steps.last().context("no sound")?.1) - STEP;
        println!("{what}: {pictures} of pictures and {sound} of sound lost");
        assert!(pictures <= MOST_LOST, "{what}: {pictures} of pictures lost");
        assert!(sound <= MOST_LOST, "{what}: {sound} of sound lost");
    }
    Ok(())
}

/// `seodang demo` as a process of its own.
struct Demo {
    child: Child,
    /// Number of its room.
    room: String,
    /// When all had published.
    published: OffsetDateTime,
    _output: Lines<BufReader<ChildStdout>>,
}

impl Demo {
    async fn start(data: &Path) -> Result<Self> {
        let mut child = seodang()?
            .args([
                "demo",
                "--listen",
                "127.0.0.1:0",
                "--media-port",
                "0",
                "--media-addresses",
                "127.0.0.1",
            ])
            .args(["--participants", &PARTICIPANTS.to_string()])
            .arg("--data")
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("seodang demo")?;
        let mut output = BufReader::new(child.stdout.take().context("its output")?).lines();
        let mut room = None;
        timeout(PATIENCE, async {
            while let Some(line) = output.next_line().await? {
                if let Some(link) = line.strip_prefix("Class:") {
                    room = link.rsplit('/').next().map(str::to_owned);
                }
                if line.contains("are in the class") {
                    return Ok(());
                }
            }
            bail!("seodang demo ended by itself")
        })
        .await
        .context("seodang demo does not start")??;
        Ok(Self {
            child,
            room: room.context("no link to the class")?,
            published: OffsetDateTime::now_utc(),
            _output: output,
        })
    }

    /// Kills it without a word; returns when.
    async fn kill(&mut self) -> Result<OffsetDateTime> {
        let at = OffsetDateTime::now_utc();
        self.child.start_kill()?;
        self.child.wait().await?;
        Ok(at)
    }
}

/// The program as built beside this test.
fn seodang() -> Result<Command> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("no folder")?;
    let program = folder.join("seodang");
    ensure!(
        program.exists(),
        "{} is not built: cargo build --bin seodang",
        program.display()
    );
    let mut command = Command::new(program);
    // The program refuses variables of its prefix that it does not know.
    command.env_remove("SEODANG_SEED").env_remove("SEODANG_KILLS");
    Ok(command)
}

fn setting(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
