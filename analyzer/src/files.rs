//! A room's captures folder: pictures appear whole under their final name, the manifest grows by whole lines.
//!
//! Everything is opened relative to the folder's descriptor and never through a link.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use seodang_model::{CapturePath, RoomNumber, StorageName};
use time::OffsetDateTime;

/// The manifest of a room.
pub(crate) const MANIFEST: &str = "captures.jsonl";
/// Holds the row of the picture that is being stored, so that a crash between picture and row loses neither.
pub(crate) const INTENT: &str = ".captures.intent";
/// Starts the name of every picture that is not whole yet.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// Readable by the group of the ML team.
const FOLDER_MODE: Mode = Mode::from_bits_truncate(0o750);
const FILE_MODE: Mode = Mode::from_bits_truncate(0o640);
/// Names tried on a clash: two lessons of a room within one tick, or an hour that a set clock repeats.
const MOST_NAMESAKES: u32 = 100;

/// An open folder.
#[derive(Debug)]
pub(crate) struct RoomFolder {
    folder: OwnedFd,
}

impl RoomFolder {
    /// Opens the folder of `room` below `root`, making it and an empty manifest where missing.
    pub(crate) fn open(root: &Path, room: &RoomNumber) -> io::Result<Self> {
        let folder = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, root, folder | OFlags::RDONLY, Mode::empty())?;
        let created = match rustix::fs::mkdirat(&root, room.as_str(), FOLDER_MODE) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let flags = folder | OFlags::RDONLY | OFlags::NOFOLLOW;
        let opened = Self {
            folder: rustix::fs::openat(&root, room.as_str(), flags, Mode::empty())?,
        };
        if created {
            // The umask must not take the group's right away.
            rustix::fs::fchmod(&opened.folder, FOLDER_MODE)?;
            opened.open_manifest(OFlags::CREATE)?;
            rustix::fs::fsync(&opened.folder)?;
            rustix::fs::fsync(&root)?;
        }
        Ok(opened)
    }

    /// Opens an existing folder without making anything.
    pub(crate) fn existing(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NOFOLLOW;
        Ok(Self {
            folder: rustix::fs::openat(CWD, path, flags, Mode::empty())?,
        })
    }

    /// Stores a picture under a temporary name; it is on the disk when this returns.
    pub(crate) fn store_temporary(&self, name: &str, picture: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let stored = (|| {
            let mut file = File::from(rustix::fs::openat(&self.folder, name, flags, FILE_MODE)?);
            rustix::fs::fchmod(&file, FILE_MODE)?;
            file.write_all(picture)?;
            file.sync_data()
        })();
        if stored.is_err() {
            // What is left half-written is removed at the next start if it cannot be removed here.
            let _ = self.remove(name);
        }
        stored
    }

    /// The first name for a picture of `tick` that is free: 민수, 민수-2, 민수-3.
    pub(crate) fn free_path(
        &self,
        room: &RoomNumber,
        name: &StorageName,
        tick: OffsetDateTime,
    ) -> io::Result<CapturePath> {
        for count in 1..=MOST_NAMESAKES {
            let path = CapturePath::new(room.clone(), name.numbered(count), tick);
            match rustix::fs::statat(&self.folder, path.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(path),
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Gives a stored picture its final name; never replaces a file.
    pub(crate) fn publish(&self, temporary: &str, name: &str) -> io::Result<()> {
        let (from, to) = (&self.folder, &self.folder);
        match rustix::fs::renameat_with(from, temporary, to, name, RenameFlags::NOREPLACE) {
            // Some network file systems cannot: a second name, which also never replaces, and one name less.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                rustix::fs::linkat(from, temporary, to, name, AtFlags::empty())?;
                Ok(rustix::fs::unlinkat(from, temporary, AtFlags::empty())?)
            }
            renamed => Ok(renamed?),
        }
    }

    /// Appends whole lines with one write. After an error the manifest is as it was.
    pub(crate) fn append(&self, lines: &[u8]) -> io::Result<()> {
        let mut manifest = self.open_manifest(OFlags::CREATE | OFlags::APPEND)?;
        let before = manifest.metadata()?.len();
        let written = match manifest.write(lines) {
            Ok(count) if count == lines.len() => return Ok(()),
            Ok(_) => Err(io::ErrorKind::StorageFull.into()),
            Err(error) => Err(error),
        };
        // A torn line must not stay; making a file shorter needs no space.
        manifest.set_len(before)?;
        written
    }

    /// Makes appended lines durable.
    pub(crate) fn sync_manifest(&self) -> io::Result<()> {
        self.open_manifest(OFlags::empty())?.sync_data()
    }

    /// Notes the row of the picture that is about to get its final name.
    pub(crate) fn note_intent(&self, line: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(
            &self.folder,
            INTENT,
            flags,
            Mode::from_bits_truncate(0o600),
        )?);
        file.write_all(line)
    }

    /// The whole content of a file of the folder; none if there is no such file.
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => {
                let mut content = Vec::new();
                File::from(file).read_to_end(&mut content)?;
                Ok(Some(content))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Cuts the manifest to its first `length` bytes.
    pub(crate) fn cut_manifest(&self, length: u64) -> io::Result<()> {
        self.open_manifest(OFlags::empty())?.set_len(length)
    }

    /// Names of all entries, in no order.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.folder)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())?)
    }

    fn open_manifest(&self, more: OFlags) -> io::Result<File> {
        // Opened for each use: an erasure replaces the file, and rows must never go to the one it replaced.
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
        let manifest = File::from(rustix::fs::openat(&self.folder, MANIFEST, flags, FILE_MODE)?);
        if more.contains(OFlags::CREATE) {
            rustix::fs::fchmod(&manifest, FILE_MODE)?;
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests;
