//! What the system says about disks and limits.

use std::io;
use std::path::Path;

/// Room on the disk of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What this process may still write.
    pub free_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

/// The space on the disk that holds `path`.
///
/// # Errors
/// When the path does not exist or the system does not say.
pub fn space(path: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(path)?;
    Ok(Space {
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
    })
}

/// Most files and sockets this process may have open; `None` without a limit.
#[must_use]
pub fn most_open_files() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_no_more_free_than_it_has() {
        let space = space(Path::new("/")).expect("there is a root");
        assert!(space.free_bytes <= space.total_bytes && space.total_bytes > 0);
        assert!(most_open_files().is_none_or(|most| most > 0));
    }
}
