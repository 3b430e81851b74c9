//! From a decoded picture to a JPEG and the numbers that need no model.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder as _, ImageError};
use serde::{Deserialize, Serialize};

/// A decoded picture: planes of 8-bit samples in BT.601 limited range, chroma halved in both directions (I420).
/// Rows are tightly packed; odd sizes round chroma up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct I420 {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// `height x width`, row-major.
    pub(crate) luma: Vec<u8>,
    /// `ceil(height / 2) x ceil(width / 2)`, row-major.
    pub(crate) blue: Vec<u8>,
    /// As `blue`.
    pub(crate) red: Vec<u8>,
}

/// What can be said of a picture without a model. Luma is scaled to 0 (black) to 255 (white).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Mean of luma, 0.0 to 255.0.
    pub mean_luma: f64,
    /// Standard deviation of luma, 0.0 to 127.5.
    pub contrast: f64,
    /// Variance of the 4-neighbour Laplacian of luma; higher is sharper, and grows with picture size and noise.
    pub sharpness: f64,
    /// Mean absolute difference of block means to the participant's previous picture of the lesson, 0.0 to 255.0;
    /// none for the first.
    pub difference: Option<f64>,
    /// Too dark to see anyone.
    pub dark: bool,
    /// The same picture as before: a stuck camera or a still image.
    pub frozen: bool,
    /// Nothing but one even colour: a lid, a finger, a wall.
    pub covered: bool,
}

/// Mean luma of 32 x 24 blocks, for comparing pictures of any sizes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Thumbnail(Vec<f64>);

const COLUMNS: usize = 32;
const ROWS: usize = 24;
/// Mean luma below this is `dark`: a face in a room without light has some 15 to 25.
const DARK_BELOW: f64 = 30.0;
/// Difference below this is `frozen`: noise of a live camera moves block means by more, re-encoding one still
/// picture by less.
const FROZEN_BELOW: f64 = 0.1;
/// Contrast below this, together with the next, is `covered`.
const COVERED_CONTRAST_BELOW: f64 = 8.0;
/// Sharpness below this, together with the one before, is `covered`.
const COVERED_SHARPNESS_BELOW: f64 = 15.0;

impl I420 {
    /// `height x width x 3`, RGB8, row-major; BT.601 limited range, each channel rounded to the nearest value.
    pub(crate) fn to_rgb(&self) -> Vec<u8> {
        let mut rgb = Vec::with_capacity(self.width * self.height * 3);
        let chroma_width = self.width.div_ceil(2);
        for (row, luma) in self.luma.chunks_exact(self.width).enumerate() {
            let chroma = row / 2 * chroma_width..(row / 2 + 1) * chroma_width;
            let (blue, red) = (&self.blue[chroma.clone()], &self.red[chroma]);
            for (luma, (blue, red)) in luma.chunks(2).zip(blue.iter().zip(red)) {
                // Coefficients of BT.601 times 2^16.
                let (u, v) = (i32::from(*blue) - 128, i32::from(*red) - 128);
                let (to_red, to_green, to_blue) = (104_597 * v, -25_675 * u - 53_279 * v, 132_201 * u);
                for y in luma {
                    let y = 76_309 * (i32::from(*y) - 16);
                    rgb.extend([channel(y + to_red), channel(y + to_green), channel(y + to_blue)]);
                }
            }
        }
        rgb
    }

    /// A JPEG without any metadata.
    ///
    /// # Errors
    /// When the encoder refuses, which sizes within the limits never make it do.
    pub(crate) fn to_jpeg(&self, quality: u8) -> Result<Vec<u8>, ImageError> {
        let (width, height) = (u32::try_from(self.width), u32::try_from(self.height));
        let mut jpeg = Vec::with_capacity(self.width * self.height / 8);
        JpegEncoder::new_with_quality(&mut jpeg, quality).write_image(
            &self.to_rgb(),
            width.unwrap_or(0),
            height.unwrap_or(0),
            ExtendedColorType::Rgb8,
        )?;
        Ok(jpeg)
    }

    /// Measures the picture against the previous one.
    pub(crate) fn measure(&self, previous: Option<&Thumbnail>) -> (Statistics, Thumbnail) {
        let luma: Vec<i32> = self.luma.iter().map(|y| full_range(*y)).collect();
        let (mean_luma, variance) = mean_and_variance(luma.iter().copied());
        let contrast = variance.sqrt();
        let sharpness = mean_and_variance(laplacian(&luma, self.width)).1;
        let thumbnail = Thumbnail::of(&luma, self.width, self.height);
        let difference = previous.map(|previous| thumbnail.difference(previous));
        let statistics = Statistics {
            mean_luma: rounded(mean_luma),
            contrast: rounded(contrast),
            sharpness: rounded(sharpness),
            difference: difference.map(rounded),
            dark: mean_luma < DARK_BELOW,
            frozen: difference.is_some_and(|difference| difference < FROZEN_BELOW),
            covered: contrast < COVERED_CONTRAST_BELOW && sharpness < COVERED_SHARPNESS_BELOW,
        };
        (statistics, thumbnail)
    }
}

impl Thumbnail {
    fn of(luma: &[i32], width: usize, height: usize) -> Self {
        let mut sums = [(0_i32, 0_i32); COLUMNS * ROWS];
        for (row, line) in luma.chunks_exact(width).enumerate() {
            let blocks = row * ROWS / height * COLUMNS;
            for (column, y) in line.iter().enumerate() {
                let block = &mut sums[blocks + column * COLUMNS / width];
                block.0 += y;
                block.1 += 1;
            }
        }
        // Pictures narrower than the grid leave blocks empty, in both pictures alike if they have the same size.
        Self(
            sums.iter()
                .map(|(sum, count)| f64::from(*sum) / f64::from((*count).max(1)))
                .collect(),
        )
    }

    fn difference(&self, other: &Self) -> f64 {
        let sum: f64 = self
            .0
            .iter()
            .zip(&other.0)
            .map(|(one, other)| (one - other).abs())
            .sum();
        sum / (COLUMNS * ROWS) as f64
    }
}

/// Rounds a value times 2^16 to 0..=255.
fn channel(value: i32) -> u8 {
    u8::try_from(((value + (1 << 15)) >> 16).clamp(0, 255)).unwrap_or(u8::MAX)
}

/// Luma of the limited range (16 to 235) as 0 to 255.
fn full_range(y: u8) -> i32 {
    ((i32::from(y) - 16) * 255 + 109).div_euclid(219).clamp(0, 255)
}

fn laplacian(luma: &[i32], width: usize) -> impl Iterator<Item = i32> {
    let rows = luma.len() / width;
    (1..rows.saturating_sub(1)).flat_map(move |row| {
        let (above, here, below) = (
            &luma[(row - 1) * width..],
            &luma[row * width..],
            &luma[(row + 1) * width..],
        );
        (1..width - 1).map(move |x| above[x] + below[x] + here[x - 1] + here[x + 1] - 4 * here[x])
    })
}

fn mean_and_variance(values: impl Iterator<Item = i32>) -> (f64, f64) {
    let (mut count, mut sum, mut squares) = (0_i64, 0_i64, 0_i64);
    for value in values {
        count += 1;
        sum += i64::from(value);
        squares += i64::from(value) * i64::from(value);
    }
    let mean = sum as f64 / count.max(1) as f64;
    (
        mean,
        (squares as f64 / count.max(1) as f64 - mean * mean).max(0.0),
    )
}

/// Three decimals are more than any threshold needs.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn even(width: usize, height: usize, y: u8) -> I420 {
        let chroma = width.div_ceil(2) * height.div_ceil(2);
        I420 {
            width,
            height,
            luma: vec![y; width * height],
            blue: vec![128; chroma],
            red: vec![128; chroma],
        }
    }

    fn board(shift: usize) -> I420 {
        let mut picture = even(64, 48, 16);
        for (place, y) in picture.luma.iter_mut().enumerate() {
            let (row, column) = (place / 64, place % 64 + shift);
            *y = if (row / 4 + column / 4) % 2 == 0 { 235 } else { 16 };
        }
        picture
    }

    #[test]
    fn black_white_and_the_primaries_come_out_exactly() {
        // Limited-range values of the colour bars (BT.601, 8 bits).
        for (y, u, v, rgb) in [
            (16, 128, 128, [0, 0, 0]),
            (235, 128, 128, [255, 255, 255]),
            (81, 90, 240, [254, 0, 0]),
            (145, 54, 34, [0, 255, 1]),
            (41, 240, 110, [0, 0, 255]),
        ] {
            let picture = I420 {
                width: 1,
                height: 1,
                luma: vec![y],
                blue: vec![u],
                red: vec![v],
            };
            assert_eq!(picture.to_rgb(), rgb, "{y} {u} {v}");
        }
    }

    #[test]
    fn odd_sizes_have_three_bytes_for_each_pixel() {
        assert_eq!(even(17, 19, 100).to_rgb().len(), 17 * 19 * 3);
    }

    #[test]
    fn an_even_picture_is_covered_and_a_black_one_also_dark() {
        let (grey, _) = even(64, 48, 126).measure(None);
        assert!(grey.covered && !grey.dark && !grey.frozen, "{grey:?}");
        assert_eq!((grey.contrast, grey.sharpness, grey.difference), (0.0, 0.0, None));
        let (black, _) = even(64, 48, 16).measure(None);
        assert!(black.covered && black.dark && black.mean_luma == 0.0, "{black:?}");
    }

    #[test]
    fn a_board_has_known_contrast_and_is_neither_dark_nor_covered() {
        let (board, _) = board(0).measure(None);
        assert_eq!((board.mean_luma, board.contrast), (127.5, 127.5));
        assert!(
            board.sharpness > 10_000.0 && !board.dark && !board.covered,
            "{board:?}"
        );
    }

    #[test]
    fn the_same_picture_again_is_frozen_and_a_moved_one_is_not() {
        let (_, first) = board(0).measure(None);
        assert!(board(0).measure(Some(&first)).0.frozen);
        let moved = board(2).measure(Some(&first)).0;
        assert!(
            !moved.frozen && moved.difference.is_some_and(|difference| difference > 10.0),
            "{moved:?}"
        );
    }

    proptest! {
        #[test]
        fn colours_are_within_one_of_the_exact_matrix(y: u8, u: u8, v: u8) {
            let rgb = I420 { width: 1, height: 1, luma: vec![y], blue: vec![u], red: vec![v] }.to_rgb();
            let (y, u, v) = ((f64::from(y) - 16.0) * 255.0 / 219.0, f64::from(u) - 128.0, f64::from(v) - 128.0);
            let scale = 255.0 / 224.0;
            let exact = [y + 1.402 * scale * v, y - 0.344_136 * scale * u - 0.714_136 * scale * v, y + 1.772 * scale * u];
            for (is, exact) in rgb.iter().zip(exact) {
                prop_assert!((f64::from(*is) - exact.clamp(0.0, 255.0)).abs() <= 0.51);
            }
        }
    }
}
