//! What a lesson left on the disk, and waiting for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use seodang_fixtures::{ScriptedParticipant, Seen};
use seodang_model::Source;
use serde_json::Value;
use tokio::time::Instant;

use crate::PATIENCE;
use crate::files::Recording;

/// A finished lesson below the recordings folder.
#[derive(Clone, Debug)]
pub struct KeptLesson {
    /// Its folder.
    pub folder: PathBuf,
    /// Its `lesson.json`.
    pub manifest: Value,
}

impl KeptLesson {
    /// The only lesson of a room.
    ///
    /// # Errors
    /// When there is none or more than one, or its manifest cannot be read.
    pub fn of(recordings: &Path, room: &str) -> anyhow::Result<Self> {
        let folders: Vec<_> = std::fs::read_dir(recordings.join(room))
            .context("the room's folder")?
            .collect::<Result<_, _>>()?;
        ensure!(folders.len() == 1, "{} lessons", folders.len());
        let folder = folders[0].path();
        let manifest = std::fs::read(folder.join("lesson.json")).context("lesson.json")?;
        let manifest = serde_json::from_slice(&manifest).context("lesson.json")?;
        Ok(Self { folder, manifest })
    }

    /// Names of all files in the folder, in order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn names(&self) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// A file's entry in the manifest.
    ///
    /// # Errors
    /// When it has none.
    pub fn entry(&self, path: &str) -> anyhow::Result<&Value> {
        let files = self.manifest["files"].as_array().context("files")?;
        files
            .iter()
            .find(|file| file["path"] == path)
            .with_context(|| format!("no {path} in {}", self.manifest))
    }

    /// Decodes a file.
    ///
    /// # Errors
    /// When it is missing or ffmpeg cannot be run.
    pub async fn recording(&self, path: &str) -> anyhow::Result<Recording> {
        let path = self.folder.join(path);
        tokio::task::spawn_blocking(move || Recording::read(&path)).await?
    }
}

/// Asks again until there is an answer, for what can only be asked and tells nobody: HTTP and folders.
///
/// # Errors
/// When asking fails, or there is no answer within [`PATIENCE`].
pub async fn until<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    bail!("{what}: not within {PATIENCE:?}")
}

/// Waits until a participant has sent this many further pictures (fifteen are a second); returns the last one's number.
///
/// # Errors
/// When it does not send them within [`PATIENCE`].
pub async fn send_on(person: &ScriptedParticipant, pictures: usize) -> anyhow::Result<u32> {
    let sent = |seen: &Seen| {
        seen.sent
            .get(&Source::Camera)
            .map_or(0, |sent| sent.numbers.len())
    };
    let before = person.look(sent);
    let last = person
        .wait_for("further pictures", PATIENCE, |seen| {
            let numbers = &seen.sent.get(&Source::Camera)?.numbers;
            (numbers.len() >= before + pictures).then(|| numbers.last().copied())?
        })
        .await?;
    Ok(last)
}
