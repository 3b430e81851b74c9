//! Captures: a JPEG and the counter in it.

use std::path::Path;

use anyhow::Context as _;
use seodang_fixtures::picture::{Counter, read_counter};

/// A decoded capture.
#[derive(Clone, Debug)]
pub struct JpegPicture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// The counter in it, if it can be read.
    pub counter: Option<Counter>,
    /// Mean brightness, 0 to 255.
    pub mean_luma: f64,
}

/// Decodes a whole JPEG and reads its counter.
///
/// # Errors
/// When the file is missing, cut off or no JPEG.
pub fn read_jpeg(path: &Path) -> anyhow::Result<JpegPicture> {
    let data = std::fs::read(path).context("read")?;
    let picture = image::load_from_memory_with_format(&data, image::ImageFormat::Jpeg)
        .context("decode")?
        .to_luma8();
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let sum: u64 = picture.as_raw().iter().map(|pixel| u64::from(*pixel)).sum();
    Ok(JpegPicture {
        width,
        height,
        counter: read_counter(picture.as_raw(), width, height, width),
        mean_luma: sum as f64 / picture.as_raw().len().max(1) as f64,
    })
}

#[cfg(test)]
mod tests {
    use seodang_fixtures::picture::Picture;

    use super::*;

    #[test]
    fn the_counter_survives_jpeg_and_scaling() {
        let folder = tempfile::tempdir().expect("a folder");
        for (quality, width, height) in [(85, 320, 180), (30, 320, 180), (60, 200, 150), (85, 640, 360)] {
            let counter = Counter {
                participant: 4,
                frame: 54_321,
            };
            let drawn = Picture::draw(counter, 320, 180);
            let luma =
                image::GrayImage::from_raw(320, 180, drawn.data[..320 * 180].to_vec()).expect("the plane");
            let scaled = image::imageops::resize(&luma, width, height, image::imageops::FilterType::Triangle);
            let path = folder.path().join("picture.jpg");
            let mut file = std::fs::File::create(&path).expect("a file");
            let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, quality);
            scaled.write_with_encoder(encoder).expect("a jpeg");
            assert_eq!(
                read_jpeg(&path).expect("decodes").counter,
                Some(counter),
                "{quality} {width}x{height}"
            );
        }
    }

    #[test]
    fn a_cut_jpeg_is_no_picture() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cut.jpg");
        let mut data = Vec::new();
        let encoder = image::codecs::jpeg::JpegEncoder::new(&mut data);
        image::GrayImage::new(64, 64)
            .write_with_encoder(encoder)
            .expect("a jpeg");
        std::fs::write(&path, &data[..data.len() / 3]).expect("written");
        assert!(read_jpeg(&path).is_err());
    }
}
