//! Writes one webm for each participant.

mod backlog;
mod fill;
mod opus;
mod vp8;
