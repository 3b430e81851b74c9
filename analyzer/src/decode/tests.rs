use image::RgbImage;
use image::codecs::jpeg::JpegDecoder;

use super::*;
use crate::fake::keyframe;
use crate::header;

fn decoded(pattern: &str, width: u16, height: u16) -> I420 {
    let data = keyframe(pattern, width, height);
    let size = header::check(&data).expect("a good header");
    assert_eq!(size, FrameSize { width, height });
    decode(&data, size).expect("a picture")
}

fn through_jpeg(picture: &I420) -> RgbImage {
    let jpeg = picture.to_jpeg(85).expect("a JPEG");
    let decoder = JpegDecoder::new(std::io::Cursor::new(jpeg)).expect("a JPEG header");
    image::DynamicImage::from_decoder(decoder)
        .expect("a whole JPEG")
        .into_rgb8()
}

#[test]
fn plain_colours_survive_encoder_decoder_and_jpeg() {
    for (pattern, colour) in [
        ("red", [255, 0, 0]),
        ("green", [0, 255, 0]),
        ("blue", [0, 0, 255]),
        ("white", [255, 255, 255]),
        ("black", [0, 0, 0]),
    ] {
        let picture = through_jpeg(&decoded(pattern, 320, 180));
        assert_eq!(picture.dimensions(), (320, 180));
        for pixel in picture.pixels() {
            let off = pixel
                .0
                .iter()
                .zip(colour)
                .map(|(is, should)| is.abs_diff(should))
                .max();
            assert!(off <= Some(4), "{pattern}: {pixel:?}");
        }
    }
}

#[test]
fn colour_bars_are_where_they_belong_at_sizes_with_padded_strides() {
    // 7 bars, left to right, in 75 % colours (SMPTE).
    let bars = [
        [191, 191, 191],
        [191, 191, 0],
        [0, 191, 191],
        [0, 191, 0],
        [191, 0, 191],
        [191, 0, 0],
        [0, 0, 191],
    ];
    for (width, height) in [(640, 480), (322, 182), (178, 98), (35, 33)] {
        let picture = through_jpeg(&decoded("smpte75", width, height));
        assert_eq!(picture.dimensions(), (u32::from(width), u32::from(height)));
        if width < 100 {
            continue;
        }
        for (index, colour) in bars.iter().enumerate() {
            let x = u32::from(width) * (2 * u32::try_from(index).expect("small") + 1) / 14;
            for y in [8, u32::from(height) / 3, u32::from(height) / 2] {
                let pixel = picture.get_pixel(x, y).0;
                let off = pixel
                    .iter()
                    .zip(colour)
                    .map(|(is, should)| is.abs_diff(*should))
                    .max();
                assert!(
                    off <= Some(8),
                    "{width}x{height} bar {index} row {y}: {pixel:?} for {colour:?}"
                );
            }
        }
    }
}

#[test]
fn test_pictures_measure_as_they_look() {
    let black = decoded("black", 320, 180).measure(None).0;
    assert!(black.dark && black.covered, "{black:?}");
    let bars = decoded("smpte", 320, 180).measure(None).0;
    assert!(!bars.dark && !bars.covered && bars.contrast > 30.0, "{bars:?}");
    let (_, snow) = decoded("snow", 320, 180).measure(None);
    assert!(decoded("ball", 320, 180).measure(Some(&snow)).0.difference > Some(10.0));
}

#[test]
fn the_largest_picture_is_decoded() {
    assert_eq!(decoded("ball", 1_920, 1_080).luma.len(), 1_920 * 1_080);
}

#[test]
fn garbage_behind_a_good_header_neither_hangs_nor_panics() {
    let whole = keyframe("smpte", 320, 180);
    let mut garbage = whole.to_vec();
    for (place, byte) in garbage.iter_mut().enumerate().skip(10) {
        *byte = u8::try_from((place * 97 + place / 7) % 256).expect("below 256");
    }
    let size = header::check(&garbage).expect("the header is untouched");
    // Arithmetic-coded data is all legal, so a picture may come out; what counts is that decoding ends.
    let started = std::time::Instant::now();
    if let Ok(picture) = decode(&Bytes::from(garbage), size) {
        assert_eq!((picture.width, picture.height), (320, 180));
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(4));
}

#[test]
fn a_size_other_than_the_header_s_is_refused() {
    let data = keyframe("smpte", 320, 180);
    let other = FrameSize {
        width: 640,
        height: 360,
    };
    assert!(decode(&data, other).is_err());
}

#[test]
fn a_frame_that_lacks_even_one_byte_gives_no_picture_and_no_wait() {
    let whole = keyframe("smpte", 320, 180);
    let started = std::time::Instant::now();
    for length in [whole.len() / 2, whole.len() * 9 / 10, whole.len() - 1] {
        let cut = whole.slice(..length);
        let size = header::check(&cut).expect("the first partition is whole");
        assert!(
            matches!(decode(&cut, size), Err(DecodeError::NoPicture)),
            "{length}"
        );
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(3));
}
