//! Opening and sending stored files: below their root only, never through a link, never more than a little in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use rustix::fs::{AtFlags, Mode, OFlags};
use seodang_model::RoomId;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;
use warp::reply::{Reply as _, Response};

use crate::metrics::Metrics;

/// Read at a time; with the buffers of HTTP and TLS behind it a download holds less than 256 KiB.
const CHUNK_BYTES: usize = 64 * 1_024;

/// Opens a file by its path below `root`.
///
/// Every folder on the way is opened without following links, so that neither `..` nor a link placed there leads
/// outside. Blocks: run it off the runtime.
///
/// # Errors
/// When a part of the path is missing, is a link or names no plain file.
pub fn open_below(root: &Path, relative: &str) -> io::Result<File> {
    let (folders, name) = relative.rsplit_once('/').unwrap_or(("", relative));
    if name.is_empty() || name.starts_with('.') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let place = open_folder_below(root, folders)?;
    // Without NONBLOCK the open of a named pipe would wait for ever.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::openat(&place, name, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

/// Erases a folder of plain files by its path below `root`, without following links. Gone already is fine.
///
/// # Errors
/// When something else than plain files is in there, or the system does not let go; the rest is erased all the same.
pub fn erase_folder_below(root: &Path, relative: &str) -> io::Result<()> {
    let (parents, name) = relative.rsplit_once('/').unwrap_or(("", relative));
    if name.is_empty() || name.starts_with('.') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let folder = match open_folder_below(root, parents) {
        Ok(parent) => match rustix::fs::openat(&parent, name, FOLDER, Mode::empty()) {
            Ok(folder) => (parent, folder),
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let (parent, folder) = folder;
    for entry in rustix::fs::Dir::read_from(&folder)? {
        let entry = entry?;
        let file = entry.file_name();
        if file != c"." && file != c".." {
            // A folder is refused by this call, and then keeps its parent.
            let _ = rustix::fs::unlinkat(&folder, file, AtFlags::empty());
        }
    }
    Ok(rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?)
}

/// Opens the folder at a path below `root`, each part without following links.
fn open_folder_below(root: &Path, relative: &str) -> io::Result<OwnedFd> {
    let mut place = rustix::fs::open(root, FOLDER - OFlags::NOFOLLOW, Mode::empty())?;
    for part in relative.split('/').filter(|_| !relative.is_empty()) {
        if part.is_empty() || part.starts_with('.') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        place = rustix::fs::openat(&place, part, FOLDER, Mode::empty())?;
    }
    Ok(place)
}

/// A folder that is no link.
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// An answer that streams `length_bytes` of the file from `start`, read as the other side takes them.
///
/// # Errors
/// When the file does not seek.
pub async fn stream(
    file: File,
    start: u64,
    length_bytes: u64,
    slot: DownloadSlot,
    metrics: Arc<Metrics>,
) -> io::Result<Response> {
    let mut file = tokio::fs::File::from_std(file);
    file.seek(io::SeekFrom::Start(start)).await?;
    let chunks = ReaderStream::with_capacity(file.take(length_bytes), CHUNK_BYTES).inspect(move |chunk| {
        // The slot is free again when the answer is dropped, sent or not.
        let _held = &slot;
        if let Ok(bytes) = chunk {
            metrics.downloaded(bytes.len() as u64);
        }
    });
    Ok(warp::reply::stream(chunks).into_response())
}

/// Limits downloads at a time for each room and address.
#[derive(Clone, Debug, Default)]
pub struct Downloads {
    running: Arc<Mutex<BTreeMap<(RoomId, IpAddr), u32>>>,
}

/// A place among the downloads; given back when dropped.
#[derive(Debug)]
pub struct DownloadSlot {
    downloads: Downloads,
    key: (RoomId, IpAddr),
}

impl Downloads {
    /// A browser opens at most six connections; some of those it gave up may not be noticed yet.
    const MOST: u32 = 8;

    /// Takes a place; `None` when all are taken.
    #[must_use]
    pub fn try_enter(&self, room: RoomId, address: IpAddr) -> Option<DownloadSlot> {
        let key = (room, address);
        let mut running = self.running.lock().expect("counting does not panic");
        let count = running.entry(key).or_default();
        if *count >= Self::MOST {
            return None;
        }
        *count += 1;
        Some(DownloadSlot {
            downloads: self.clone(),
            key,
        })
    }
}

impl Drop for DownloadSlot {
    fn drop(&mut self) {
        let mut running = self.downloads.running.lock().expect("counting does not panic");
        if let Some(count) = running.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.key);
            }
        }
    }
}

/// `Content-Disposition` for a name with Hangul (RFC 6266, RFC 8187), with a plain form for programs that know less.
#[must_use]
pub fn content_disposition(inline: bool, name: &str) -> String {
    use std::fmt::Write as _;
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let mut encoded = String::with_capacity(name.len() * 3);
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string does not fail");
        }
    }
    let kind = if inline { "inline" } else { "attachment" };
    format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_plain_files_below_the_root_are_opened() {
        let outside = tempfile::tempdir().expect("a folder");
        let root = outside.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).expect("writable");
        std::fs::write(root.join("a/b/file"), "x").expect("writable");
        std::fs::write(root.join("top"), "x").expect("writable");
        std::fs::write(outside.path().join("secret"), "x").expect("writable");
        symlink(outside.path().join("secret"), root.join("a/link")).expect("writable");
        symlink(outside.path(), root.join("a/folder")).expect("writable");

        for path in ["a/b/file", "top"] {
            assert!(open_below(&root, path).is_ok(), "{path}");
        }
        for path in [
            "",
            "/a",
            "/",
            ".",
            "..",
            "a",
            "a/",
            "a/b",
            "a//b/file",
            "/a/b/file",
            "../secret",
            "a/../../secret",
            "a/link",
            "a/folder/secret",
            "a/b/absent",
            "a/b/file/",
            "a/./b/file",
            "a/\0",
        ] {
            assert!(open_below(&root, path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_folder_is_erased_with_its_files_and_nothing_behind_a_link() {
        let outside = tempfile::tempdir().expect("a folder");
        let root = outside.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).expect("writable");
        std::fs::write(root.join("a/b/김민수.webm"), "x").expect("writable");
        std::fs::write(outside.path().join("secret"), "x").expect("writable");
        symlink(outside.path().join("secret"), root.join("a/b/link")).expect("writable");
        symlink(outside.path(), root.join("a/folder")).expect("writable");

        erase_folder_below(&root, "a/b").expect("erased");
        erase_folder_below(&root, "a/b").expect("gone already");
        erase_folder_below(&root, "c/d").expect("never there");

        assert!(!root.join("a/b").exists() && outside.path().join("secret").exists());
        for path in ["a/folder", "../root", "a/../a", ""] {
            assert!(erase_folder_below(&root, path).is_err(), "{path}");
        }
        std::fs::create_dir_all(root.join("a/b/c")).expect("writable");
        assert!(
            erase_folder_below(&root, "a/b").is_err(),
            "a folder within is not ours"
        );
    }

    #[test]
    fn names_are_given_in_utf_8_and_cannot_break_the_field() {
        assert_eq!(
            content_disposition(false, "김민수.webm"),
            "attachment; filename=\"___.webm\"; filename*=UTF-8''%EA%B9%80%EB%AF%BC%EC%88%98.webm"
        );
        assert_eq!(
            content_disposition(true, "a\"\r\nX: y"),
            "inline; filename=\"a___X__y\"; filename*=UTF-8''a%22%0D%0AX%3A%20y"
        );
    }

    #[test]
    fn one_address_takes_eight_downloads_of_a_room_at_a_time() {
        let (downloads, room) = (Downloads::default(), RoomId::from_bits(1));
        let here: IpAddr = [127, 0, 0, 1].into();
        let mut slots: Vec<_> = std::iter::from_fn(|| downloads.try_enter(room, here)).collect();
        assert_eq!(slots.len(), 8);
        assert!(downloads.try_enter(RoomId::from_bits(2), here).is_some());
        slots.pop();
        assert!(downloads.try_enter(room, here).is_some());
        slots.clear();
        assert!(downloads.running.lock().expect("no panic").is_empty());
    }
}
