//! After a crash: pictures and rows match one to one again.
//!
//! The writer stores a picture under a temporary name, notes its row as the intent, gives the picture its name,
//! appends the row and removes the intent. A crash in between leaves at most one picture without a row, and the
//! intent has that row: it is completed. Every other picture without a row has no owner that could be named, or asked
//! to consent, and is removed.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use seodang_model::{CaptureId, CapturePath, RoomNumber};
use serde::Deserialize;

use crate::develop::sha256_text;
use crate::files::{INTENT, MANIFEST, RoomFolder, TEMPORARY};
use crate::row::{CaptureRow, CaptureStatus};
use crate::store::{file_name, temporary_name};

/// What was found and mended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MendReport {
    /// Rooms looked at.
    pub rooms: u64,
    /// Manifests whose last line was torn.
    pub torn_lines: u64,
    /// Rows completed from the intent a crash left.
    pub rows_completed: u64,
    /// Pictures without a row, removed.
    pub pictures_removed: u64,
    /// Temporary files removed.
    pub temporaries_removed: u64,
    /// Rows whose picture is gone. Left as they are: only somebody from outside can have removed it.
    pub rows_without_picture: u64,
    /// Folders with pictures but without a manifest, or that cannot be read. Left as they are: a person must look.
    pub rooms_not_mended: u64,
}

/// Mends every room below `root`; a `root` that does not exist has nothing to mend.
///
/// No analyzer may write below `root` meanwhile; [`crate::Analyzer::start`] calls this itself before it writes.
///
/// # Errors
/// When `root` cannot be listed. A room that cannot be mended is counted, and the others are.
pub fn mend(root: &Path) -> io::Result<MendReport> {
    let mut report = MendReport::default();
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(report),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Some(room) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<RoomNumber>().ok())
        else {
            continue;
        };
        if !entry.file_type()?.is_dir() {
            continue;
        }
        report.rooms += 1;
        if let Err(error) = mend_room(&entry.path(), &room, &mut report) {
            report.rooms_not_mended += 1;
            tracing::error!(room.name = %room, %error, "the captures of a room cannot be mended");
        }
    }
    Ok(report)
}

/// The fields of a line that matter here; lines of other kinds have none of them.
#[derive(Deserialize)]
struct Line {
    capture_id: Option<CaptureId>,
    status: Option<CaptureStatus>,
    path: Option<String>,
}

fn mend_room(path: &Path, room: &RoomNumber, report: &mut MendReport) -> io::Result<()> {
    let folder = RoomFolder::existing(path)?;
    let manifest = folder.read(MANIFEST)?;
    let has_manifest = manifest.is_some();
    let mut manifest = manifest.unwrap_or_default();
    mend_torn_line(&folder, &mut manifest, report)?;

    let mut ids = BTreeSet::new();
    let mut rows = BTreeSet::new();
    for line in manifest
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let Ok(line) = serde_json::from_slice::<Line>(line) else {
            continue;
        };
        ids.extend(line.capture_id);
        if line.status == Some(CaptureStatus::Ok) {
            rows.extend(line.path);
        }
    }
    if let Some(intended) = complete_intent(&folder, room, &ids)? {
        rows.insert(intended);
        report.rows_completed += 1;
    }
    let names = folder.names()?;
    let is_picture = |name: &&String| format!("{room}/{name}").parse::<CapturePath>().is_ok();
    if !has_manifest && rows.is_empty() && names.iter().any(|name| is_picture(&name)) {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "there are pictures but no manifest",
        ));
    }
    for name in names.iter().filter(|name| name.starts_with(TEMPORARY)) {
        folder.remove(name)?;
        report.temporaries_removed += 1;
    }
    for name in names.iter().filter(is_picture) {
        if !rows.remove(&format!("{room}/{name}")) {
            folder.remove(name)?;
            report.pictures_removed += 1;
        }
    }
    report.rows_without_picture += rows.len() as u64;
    Ok(())
}

/// A last line without its end is completed if only the end is missing, and cut off otherwise.
fn mend_torn_line(folder: &RoomFolder, manifest: &mut Vec<u8>, report: &mut MendReport) -> io::Result<()> {
    let whole = manifest
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    if whole == manifest.len() {
        return Ok(());
    }
    report.torn_lines += 1;
    if serde_json::from_slice::<Line>(&manifest[whole..]).is_ok() {
        folder.append(b"\n")?;
        manifest.push(b'\n');
    } else {
        folder.cut_manifest(whole as u64)?;
        manifest.truncate(whole);
    }
    Ok(())
}

/// Finishes what the intent describes; says which path got its row.
fn complete_intent(
    folder: &RoomFolder,
    room: &RoomNumber,
    ids: &BTreeSet<CaptureId>,
) -> io::Result<Option<String>> {
    let Some(intent) = folder.read(INTENT)? else {
        return Ok(None);
    };
    let mut completed = None;
    if let Ok(row) = serde_json::from_slice::<CaptureRow>(&intent) {
        let (name, temporary) = (file_name(&row), temporary_name(&row));
        let fits = row
            .path
            .as_deref()
            .and_then(|path| path.parse::<CapturePath>().ok())
            .is_some_and(|path| path.room == *room);
        let is_it = |content: Option<Vec<u8>>| {
            content.is_some_and(|content| row.sha256 == Some(sha256_text(&content)))
        };
        if fits && !ids.contains(&row.capture_id) {
            let published = is_it(folder.read(&name)?)
                || (is_it(folder.read(&temporary)?) && folder.publish(&temporary, &name).is_ok());
            if published {
                folder.append(&row.to_line())?;
                folder.sync_manifest()?;
                completed = row.path;
            }
        }
    }
    folder.remove(INTENT)?;
    Ok(completed)
}

#[cfg(test)]
mod tests;
