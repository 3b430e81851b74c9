//! From a key frame to a row with its JPEG: check, decode, measure, encode. Runs on the decoding threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use seodang_rtp::{Frame, FrameSize};
use sha2::{Digest as _, Sha256};

use crate::counts::Counters;
use crate::decode::DecodeError;
use crate::header;
use crate::picture::{I420, Thumbnail};
use crate::row::{CaptureRow, CaptureStatus};

/// A decoder; another one stands in for it in tests.
pub(crate) type Decode = Arc<dyn Fn(&Bytes, FrameSize) -> Result<I420, DecodeError> + Send + Sync>;

/// A row, and its picture if there is one.
#[derive(Debug)]
pub(crate) struct Developed {
    /// Complete but for the path.
    pub(crate) row: CaptureRow,
    /// The JPEG file.
    pub(crate) picture: Option<Vec<u8>>,
}

/// What every development needs.
#[derive(Clone)]
pub(crate) struct Developer {
    pub(crate) decode: Decode,
    pub(crate) jpeg_quality: u8,
    pub(crate) counters: Arc<Counters>,
}

impl Developer {
    /// Fills `row` from `frame`. Returns what to compare the participant's next picture with.
    ///
    /// Whatever the frame does to the decoder, even a panic, ends in a row.
    pub(crate) fn develop(
        &self,
        mut row: CaptureRow,
        frame: &Frame,
        previous: Option<&Thumbnail>,
    ) -> (Developed, Option<Thumbnail>) {
        let picture = header::check(&frame.data).map_err(|error| {
            tracing::debug!(participant.id = %row.participant, %error, "a frame is refused by its header");
        });
        let picture = picture.and_then(|size| {
            self.decode(&frame.data, size).map_err(|error| {
                tracing::debug!(participant.id = %row.participant, %error, "a frame gives no picture");
            })
        });
        let encoded = picture.and_then(|picture| {
            let size = (
                u16::try_from(picture.width).ok(),
                u16::try_from(picture.height).ok(),
            );
            let (statistics, thumbnail) = picture.measure(previous);
            let jpeg = picture.to_jpeg(self.jpeg_quality).map_err(|error| {
                tracing::warn!(participant.id = %row.participant, %error, "a picture does not become a JPEG");
            })?;
            Ok((size, statistics, thumbnail, jpeg))
        });
        let Ok((size, statistics, thumbnail, jpeg)) = encoded else {
            row.status = CaptureStatus::RejectedFrame;
            return (Developed { row, picture: None }, None);
        };
        row.status = CaptureStatus::Ok;
        (row.width, row.height) = size;
        row.statistics = Some(statistics);
        row.bytes = Some(jpeg.len() as u64);
        row.sha256 = Some(sha256_text(&jpeg));
        (
            Developed {
                row,
                picture: Some(jpeg),
            },
            Some(thumbnail),
        )
    }

    fn decode(&self, data: &Bytes, size: FrameSize) -> Result<I420, DecodeError> {
        self.counters.decodes.add(1);
        catch_unwind(AssertUnwindSafe(|| (self.decode)(data, size))).unwrap_or(Err(DecodeError::Panicked))
    }
}

/// 64 hexadecimal digits in lower case.
pub(crate) fn sha256_text(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
            text
        })
}
