//! What a lesson leaves on the disk.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::files::Recording;
use crate::{TestRoom, TestServer, post};

/// A lesson that was closed, and its finished files.
#[derive(Debug)]
pub struct FinishedLesson {
    /// Folder of the lesson.
    pub folder: PathBuf,
    /// `lesson.json`.
    pub manifest: Value,
    /// From the request to close the room until everything was finished.
    pub finished_after: Duration,
}

impl FinishedLesson {
    /// Closes the room as its host, keeping the recordings, and waits until the files are finished.
    ///
    /// # Errors
    /// When the server refuses, or nothing is finished within the limit.
    pub async fn close(server: &TestServer, room: &TestRoom, limit: Duration) -> anyhow::Result<Self> {
        Self::close_at(server.address(), &server.recordings(), room, limit).await
    }

    /// The same on a server that runs as a program, with the folder of its recordings.
    ///
    /// # Errors
    /// As [`Self::close`].
    pub async fn close_at(
        server: SocketAddr,
        recordings: &Path,
        room: &TestRoom,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let asked = Instant::now();
        let path = format!("/api/v1/rooms/{}/close", room.number);
        let reply = post(
            server,
            &path,
            Some(room.host_token.as_str()),
            &json!({"keep_recordings": true}),
        )
        .await?;
        ensure!(
            (200..300).contains(&reply.status),
            "{}: {}",
            reply.status,
            reply.json()
        );
        let folder = recordings.join(&room.number);
        while asked.elapsed() < limit {
            if let Some((folder, manifest)) = newest_manifest(&folder)? {
                return Ok(Self {
                    folder,
                    manifest,
                    finished_after: asked.elapsed(),
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!(
            "no lesson.json within {} s; there is {:?}",
            limit.as_secs(),
            files_below(&folder)
        )
    }

    /// Names of the finished files, in order.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        let entries = self.manifest["files"].as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .filter_map(|entry| entry["path"].as_str().map(str::to_owned))
            .collect()
    }

    /// Decodes one of the files completely.
    ///
    /// # Errors
    /// When it is missing.
    pub async fn read(&self, file: &str) -> anyhow::Result<Recording> {
        let path = self.folder.join(file);
        tokio::task::spawn_blocking(move || Recording::read(&path)).await?
    }
}

/// Every file below a folder, relative to it, in order.
#[must_use]
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if let Ok(relative) = path.strip_prefix(folder) {
                found.push(relative.to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The last lesson of a room with a manifest and without an unfinished file.
fn newest_manifest(room: &Path) -> anyhow::Result<Option<(PathBuf, Value)>> {
    let mut lessons: Vec<PathBuf> = std::fs::read_dir(room)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    lessons.sort();
    let Some(lesson) = lessons.pop() else {
        return Ok(None);
    };
    let unfinished = files_below(&lesson)
        .iter()
        .any(|file| file.extension().is_some_and(|end| end == "part"));
    match std::fs::read(lesson.join("lesson.json")) {
        Ok(text) if !unfinished => Ok(Some((
            lesson,
            serde_json::from_slice(&text).context("lesson.json")?,
        ))),
        _ => Ok(None),
    }
}
