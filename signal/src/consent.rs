//! What a person is asked before anything is kept, and what the class is told about it.
//!
//! The gate itself stands where sinks are attached (`mirror`); it opens on committed answers alone.

/// Version of the text that the join page shows; stored with every answer. Raise it when the text changes.
pub(crate) const TEXT_VERSION: &str = "2026-11-21";
