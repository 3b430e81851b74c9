//! What the manifest says of a recording.

use std::fs;
use std::io;

use super::Work;
use crate::RecorderError;
use crate::files::{Hashing, open};
use crate::manifest::{FileEntry, FileState};
use crate::part::{PartNote, PartState};
use crate::webm::WebmReader;
use crate::writer::milliseconds;

impl Work<'_> {
    pub(super) fn earlier_entry(&self) -> Option<&FileEntry> {
        let name = self.group.final_path().file_name();
        self.earlier?.files.iter().find(|entry| entry.path == name)
    }

    /// What the manifest says of the finished file, from the file itself and its note or earlier entry.
    pub(super) fn entry(&self) -> Result<FileEntry, RecorderError> {
        let name = self.group.final_path().file_name();
        let doing = RecorderError::disk;
        let file = open(&self.folder.join(&name)).map_err(doing("opening a recording"))?;
        let note = self.notes.get(&1);
        let bytes = file.metadata().map_err(doing("looking at a recording"))?.len();
        if let Some(entry) = self
            .earlier_entry()
            .filter(|entry| note.is_none() && entry.bytes == bytes)
        {
            return Ok(entry.clone());
        }
        let reader = WebmReader::new(Hashing::new(io::BufReader::with_capacity(1 << 18, file)));
        let (scan, hashing) = reader
            .and_then(WebmReader::scan)
            .map_err(|_| RecorderError::NotWebm)?;
        let (bytes, sha256) = hashing.finish().map_err(doing("reading a recording"))?;
        let state = match note.map(|note| note.state) {
            Some(PartState::Finished) => FileState::Finished,
            Some(PartState::Truncated) => FileState::Truncated,
            Some(PartState::Recording) | None => FileState::Recovered,
        };
        let dated = scan
            .head
            .created
            .and_then(|at| at.duration_since(self.lesson_started_at.into()).ok());
        let offset_ms = note
            .and_then(|note| note.offset_ms)
            .or(dated.map(milliseconds))
            .unwrap_or(0);
        let size = note.and_then(PartNote::size).or(scan.size);
        Ok(FileEntry {
            state,
            offset_ms,
            duration_ms: milliseconds(scan.head.duration.unwrap_or(scan.end())),
            bytes,
            sha256,
            width: size.map(|size| size.width),
            height: size.map(|size| size.height),
            gaps: note.map(|note| note.gaps.clone()).unwrap_or_default(),
            dropped_video_frames: note.map_or(0, |note| note.dropped_video_frames),
            dropped_audio_packets: note.map_or(0, |note| note.dropped_audio_packets),
            ..self.bare_entry(name, state)
        })
    }

    /// The entry of a recording left as it is.
    pub(super) fn unfinished(&self) -> FileEntry {
        let part = self.group.parts.first().copied().unwrap_or(1);
        let path = self.path_of(part);
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let offset_ms = self.notes.get(&part).and_then(|note| note.offset_ms).unwrap_or(0);
        let bytes = fs::symlink_metadata(&path).map_or(0, |metadata| metadata.len());
        FileEntry {
            offset_ms,
            bytes,
            ..self.bare_entry(name, FileState::Unfinished)
        }
    }

    pub(super) fn bare_entry(&self, path: String, state: FileState) -> FileEntry {
        FileEntry {
            path,
            kind: self.group.kind,
            participant: self.participant().map(|participant| participant.id),
            state,
            offset_ms: 0,
            duration_ms: 0,
            bytes: 0,
            sha256: String::new(),
            width: None,
            height: None,
            gaps: Vec::new(),
            dropped_video_frames: 0,
            dropped_audio_packets: 0,
        }
    }
}
