//! What can go wrong, by what the caller can do about it.

use std::io;
use std::path::PathBuf;

/// Why the recorder could not do what it was asked.
///
/// File names hold names of children: variants carry the lesson's folder or nothing, never a recording's path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecorderError {
    /// GStreamer cannot be used at all.
    #[error("the media framework cannot be used")]
    Framework(#[source] gstreamer::glib::Error),
    /// A GStreamer element is not installed; `seodang doctor` says which package brings it.
    #[error("the media element {0} is missing")]
    MissingElement(&'static str),
    /// The pipeline of a recording did not start.
    #[error("the recording could not start: {0}")]
    Pipeline(String),
    /// The disk refused.
    #[error("the disk refused while {doing}")]
    Disk {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something that is no folder, or a link, stands where a folder must be.
    #[error("{0} is no folder of recordings")]
    NotAFolder(PathBuf),
    /// A manifest or note on disk cannot be read.
    #[error("a manifest cannot be read")]
    Manifest(#[source] serde_json::Error),
    /// A file does not begin like a recording.
    #[error("not a recording")]
    NotWebm,
    /// A recording of the lesson is still being written.
    #[error("the lesson is still being recorded")]
    StillRecording,
}

impl RecorderError {
    pub(crate) fn disk(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { doing, source }
    }
}
