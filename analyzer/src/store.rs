//! The order in which pictures and rows reach the disk, and what happens when the disk does not take them.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use seodang_model::{RoomNumber, StorageName};

use crate::counts::Counters;
use crate::develop::Developed;
use crate::files::{RoomFolder, TEMPORARY};
use crate::row::{CaptureRow, CaptureStatus};

/// A row was written to its manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptureEvent {
    /// As written.
    pub row: CaptureRow,
}

/// A row on its way to the disk.
#[derive(Debug)]
pub(crate) struct Entry {
    /// What stands in the file name.
    pub(crate) storage_name: StorageName,
    pub(crate) developed: Developed,
}

/// Rows kept while the disk takes none: 20 minutes of a class of 30. The oldest is lost first, counted.
const MOST_WAITING_ROWS: usize = 4_096;
/// A name that was free and is taken a moment later is somebody else's doing; try the next one this often.
const MOST_CLASHES: usize = 3;

/// Owner of the captures folder; everything is written by one thread.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    waiting: VecDeque<CaptureRow>,
    unsynced: BTreeSet<RoomNumber>,
    disk_works: bool,
    counters: Arc<Counters>,
    events: SyncSender<CaptureEvent>,
}

impl Store {
    pub(crate) fn new(root: PathBuf, counters: Arc<Counters>, events: SyncSender<CaptureEvent>) -> Self {
        let (waiting, unsynced) = (VecDeque::new(), BTreeSet::new());
        Self {
            root,
            waiting,
            unsynced,
            disk_works: true,
            counters,
            events,
        }
    }

    /// Stores the picture, then the row. A picture that cannot be stored becomes a row that says `disk`; a row that
    /// cannot be written waits for the disk.
    pub(crate) fn handle_entry(&mut self, entry: Entry) {
        self.write_waiting();
        let Entry {
            storage_name,
            developed: Developed { mut row, picture },
        } = entry;
        if let Some(picture) = picture {
            match self.store(&mut row, &storage_name, &picture) {
                Ok(()) => return self.written(row),
                Err(error) => {
                    self.note_failure(&error);
                    row = without_picture(row);
                }
            }
        }
        if self.waiting.len() >= MOST_WAITING_ROWS {
            self.waiting.pop_front();
            self.counters.lost_rows.add(1);
        }
        self.waiting.push_back(row);
        self.write_waiting();
    }

    /// Makes rows durable, and tries again what the disk did not take. Called when a round is over.
    pub(crate) fn handle_idle(&mut self) {
        self.write_waiting();
        for room in std::mem::take(&mut self.unsynced) {
            let synced = RoomFolder::open(&self.root, &room).and_then(|folder| folder.sync_manifest());
            if let Err(error) = synced {
                self.note_failure(&error);
                self.unsynced.insert(room);
                return;
            }
        }
    }

    /// Whether [`Self::handle_idle`] has something to do.
    pub(crate) fn is_restless(&self) -> bool {
        !self.waiting.is_empty() || !self.unsynced.is_empty()
    }

    /// Gives up what still waits, at shutdown.
    pub(crate) fn handle_shutdown(&mut self) {
        self.handle_idle();
        self.counters.lost_rows.add(self.waiting.len() as u64);
        self.waiting.clear();
    }

    fn store(&mut self, row: &mut CaptureRow, name: &StorageName, picture: &[u8]) -> io::Result<()> {
        let folder = RoomFolder::open(&self.root, &row.room)?;
        let temporary = temporary_name(row);
        folder.store_temporary(&temporary, picture)?;
        let stored = place(&folder, row, name, &temporary);
        if stored.is_err() {
            // The picture has no row: it must not stay under either name.
            let _ = folder.remove(&temporary);
            return stored;
        }
        let appended = folder.append(&row.to_line());
        if appended.is_err() {
            folder.remove(&file_name(row))?;
        }
        let _ = folder.remove(crate::files::INTENT);
        appended
    }

    fn write_waiting(&mut self) {
        while let Some(row) = self.waiting.pop_front() {
            let written =
                RoomFolder::open(&self.root, &row.room).and_then(|folder| folder.append(&row.to_line()));
            if let Err(error) = written {
                self.note_failure(&error);
                self.waiting.push_front(row);
                return;
            }
            self.written(row);
        }
    }

    fn written(&mut self, row: CaptureRow) {
        if !std::mem::replace(&mut self.disk_works, true) {
            tracing::info!("the captures folder takes files again");
        }
        self.counters.add_row(row.status);
        self.unsynced.insert(row.room.clone());
        if self.events.try_send(CaptureEvent { row }).is_err() {
            self.counters.dropped_events.add(1);
        }
    }

    /// One line when the disk begins to fail, not one for each picture.
    fn note_failure(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.disk_works, false) {
            tracing::error!(%error, "the captures folder takes no files: captures are lost until it does");
        }
    }
}

/// The temporary name of a row's picture.
pub(crate) fn temporary_name(row: &CaptureRow) -> String {
    format!("{TEMPORARY}{}.jpg", row.capture_id)
}

/// The last component of a row's path.
pub(crate) fn file_name(row: &CaptureRow) -> String {
    let path = row.path.as_deref().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Finds a free name, notes the row and gives the picture its name.
fn place(folder: &RoomFolder, row: &mut CaptureRow, name: &StorageName, temporary: &str) -> io::Result<()> {
    let mut clashes = 0;
    loop {
        let path = folder.free_path(&row.room, name, row.tick_local)?;
        row.path = Some(path.to_string());
        folder.note_intent(&row.to_line())?;
        match folder.publish(temporary, &path.file_name()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && clashes < MOST_CLASHES => {
                clashes += 1
            }
            published => return published,
        }
    }
}

fn without_picture(row: CaptureRow) -> CaptureRow {
    CaptureRow {
        status: CaptureStatus::Disk,
        width: None,
        height: None,
        bytes: None,
        sha256: None,
        statistics: None,
        path: None,
        ..row
    }
}

#[cfg(test)]
mod tests;
