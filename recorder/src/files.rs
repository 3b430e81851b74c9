//! The disk: reserving, writing whole, renaming without replacing, hashing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::RecorderError;

/// Makes a folder of recordings (0700) unless it is there; a link in its place is refused.
pub(crate) fn make_folder(path: &Path) -> Result<(), RecorderError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_folder(path),
        Err(error) => Err(RecorderError::disk("making a folder")(error)),
    }
}

/// Refuses anything but a true folder.
pub(crate) fn check_folder(path: &Path) -> Result<(), RecorderError> {
    let metadata = fs::symlink_metadata(path).map_err(RecorderError::disk("looking at a folder"))?;
    if metadata.is_dir() {
        Ok(())
    } else {
        Err(RecorderError::NotAFolder(path.to_owned()))
    }
}

/// A file of our own that did not exist before (0600, `O_EXCL`, `O_NOFOLLOW`).
pub(crate) fn reserve(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(no_follow())
        .open(path)
}

/// An existing file, never through a link.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(no_follow()).open(path)
}

/// Writes a small file whole: readers see the old or the new content, also after a power cut.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> Result<(), RecorderError> {
    replace(path, content, File::sync_all)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// As [`write_whole`], but the system writes it to the disk when it likes: it survives a crash of this program, and
/// costs no wait.
pub(crate) fn write_soon(path: &Path, content: &[u8]) -> Result<(), RecorderError> {
    replace(path, content, |_| Ok(()))
}

fn replace(
    path: &Path,
    content: &[u8],
    secure: impl FnOnce(&File) -> io::Result<()>,
) -> Result<(), RecorderError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(RecorderError::NotAFolder(path.to_owned()));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".growing");
    let temporary = folder.join(hidden);
    remove(&temporary)?;
    let mut file = reserve(&temporary).map_err(RecorderError::disk("making a file"))?;
    let written = file
        .write_all(content)
        .and_then(|()| secure(&file))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        // Best effort: the space may be what is missing.
        let _ = fs::remove_file(&temporary);
        RecorderError::disk("writing a file")(error)
    })
}

/// A JSON file; `None` where there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RecorderError> {
    /// No manifest or note comes near; anything larger is not ours.
    const MOST_BYTES: u64 = 16 << 20;
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RecorderError::disk("opening a manifest")(error)),
    };
    let mut text = Vec::new();
    file.take(MOST_BYTES)
        .read_to_end(&mut text)
        .map_err(RecorderError::disk("reading a manifest"))?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(RecorderError::Manifest)
}

/// Gives a file its final name; fails with `AlreadyExists` rather than replace one.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // File systems that cannot do it (some network ones) can link, which never replaces either.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        result => Ok(result?),
    }
}

/// Makes renames and removals in a folder last through a power cut.
pub(crate) fn sync_folder(path: &Path) -> Result<(), RecorderError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(RecorderError::disk("syncing a folder"))
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) -> Result<(), RecorderError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(RecorderError::disk("removing a file")(error))
        }
        _ => Ok(()),
    }
}

/// Passes bytes on and keeps their SHA-256 and number.
pub(crate) struct Hashing<R> {
    input: R,
    hash: Sha256,
    bytes: u64,
}

impl<R: Read> Hashing<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    /// Reads what is left; the number of bytes and the hash of everything, in hexadecimal.
    pub(crate) fn finish(mut self) -> io::Result<(u64, String)> {
        use std::fmt::Write as _;
        let mut chunk = vec![0; 1 << 16];
        while self.read(&mut chunk)? > 0 {}
        let mut text = String::with_capacity(64);
        for byte in self.hash.finalize() {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
        }
        Ok((self.bytes, text))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

fn no_follow() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_reserved_file_is_private_and_never_an_existing_or_linked_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("민수 1.webm.part");
        let file = reserve(&path).expect("a fresh name");
        assert_eq!(
            file.metadata().expect("metadata").permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            reserve(&path).map(|_| ()).map_err(|error| error.kind()),
            Err(io::ErrorKind::AlreadyExists)
        );
        let link = folder.path().join("link");
        symlink(folder.path().join("elsewhere"), &link).expect("a link");
        assert!(reserve(&link).is_err() && open(&link).is_err());
    }

    #[test]
    fn renaming_never_replaces() {
        let folder = tempfile::tempdir().expect("a folder");
        let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
        fs::write(&one, "1")
            .and_then(|()| fs::write(&two, "2"))
            .expect("two files");
        assert_eq!(
            rename_new(&one, &two).map_err(|error| error.kind()),
            Err(io::ErrorKind::AlreadyExists)
        );
        assert_eq!(fs::read_to_string(&two).expect("still there"), "2");
        fs::remove_file(&two).expect("removed");
        rename_new(&one, &two).expect("a free name");
        assert_eq!(fs::read_to_string(&two).expect("renamed"), "1");
    }

    #[test]
    fn a_link_is_no_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("room");
        symlink("/tmp", &link).expect("a link");
        assert!(matches!(make_folder(&link), Err(RecorderError::NotAFolder(_))));
        let room = folder.path().join("방");
        make_folder(&room)
            .and_then(|()| make_folder(&room))
            .expect("made, then found");
        assert_eq!(
            fs::metadata(&room).expect("a folder").permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn hashing_passes_everything_on() {
        let hashing = Hashing::new(&b"abc"[..]);
        let (bytes, hash) = hashing.finish().expect("read");
        assert_eq!(bytes, 3);
        assert_eq!(
            hash,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
