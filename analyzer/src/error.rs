//! What can keep the analyzer from starting.

use std::path::PathBuf;

/// Why [`crate::Analyzer::start`] refuses.
#[derive(Debug, thiserror::Error)]
pub enum AnalyzerError {
    /// The period is not a whole number of seconds from 2 to 3600.
    #[error("the capture period must be 2 to 3600 whole seconds")]
    Period,
    /// The JPEG quality is not in 1..=100.
    #[error("the JPEG quality must be 1 to 100")]
    Quality,
    /// GStreamer cannot be initialised.
    #[error("GStreamer does not start")]
    Gstreamer(#[source] gstreamer::glib::Error),
    /// An element of the decoding pipeline is not installed.
    #[error("the GStreamer element {0} is missing")]
    MissingElement(&'static str),
    /// The captures folder cannot be made or opened.
    #[error("the captures folder {path} cannot be used")]
    Folder {
        /// As configured.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A thread cannot be started.
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// The decoding threads cannot be started.
    #[error("the decoding threads cannot be started")]
    Pool(#[source] rayon::ThreadPoolBuildError),
}
