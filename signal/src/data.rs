//! The data folder: readable by its owner only, and used by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It cannot be made, read or written.
    #[error("the data folder {path:?} cannot be used")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Others on this machine could read it.
    #[error("the data folder {path:?} has mode {mode:o}; others must not read it: chmod 700 it")]
    TooOpen {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A second server on the same files would break them.
    #[error("another seodang uses the data folder {path:?}")]
    InUse {
        /// Which.
        path: PathBuf,
    },
}

/// The data folder, held by this process until dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// Locked while open.
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if it is missing (mode 0700), checks it and takes its lock.
    ///
    /// # Errors
    /// When it cannot be used, others may read it, or another process uses it.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let unusable = |source| DataError::Unusable {
            path: path.to_owned(),
            source,
        };
        make_private(path).map_err(unusable)?;
        let mode = std::fs::metadata(path).map_err(unusable)?.permissions().mode() & 0o777;
        // The group of the captures may pass through (0710), never look inside.
        if mode & 0o067 != 0 {
            return Err(DataError::TooOpen {
                path: path.to_owned(),
                mode,
            });
        }
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(std::fs::TryLockError::WouldBlock) => Err(DataError::InUse {
                path: path.to_owned(),
            }),
            Err(std::fs::TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes a folder and its missing parents, for its owner only.
///
/// # Errors
/// As the system says.
pub fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_folder_is_private_and_taken_once() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("a/data");
        let folder = DataFolder::open(&path).expect("a fresh folder");
        let mode = std::fs::metadata(folder.path())
            .expect("it exists")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(matches!(DataFolder::open(&path), Err(DataError::InUse { .. })));
        drop(folder);
        DataFolder::open(&path).expect("free again");
    }

    #[test]
    fn a_folder_others_can_read_is_refused() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
        assert!(matches!(
            DataFolder::open(root.path()),
            Err(DataError::TooOpen { mode: 0o755, .. })
        ));
    }
}
