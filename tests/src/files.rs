//! Judges of the files a class leaves: recordings and pictures, by what is in them.

mod ebml;
mod picture;
mod webm;

pub use picture::{JpegPicture, read_jpeg};
pub use webm::{RecordedFrame, Recording, SyncError};
