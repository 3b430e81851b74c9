//! The encodings of one source (simulcast, RFC 8853), from the smallest to the largest: which one suits a wish, and which
//! ones anybody needs.

use std::time::{Duration, Instant};

use seodang_rtp::FrameSize;

/// Encodings of a line, at most.
pub(crate) const MOST_LAYERS: usize = 3;

/// Some layers of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LayerSet(u8);

impl LayerSet {
    /// The lowest `count` layers.
    pub(super) const fn first(count: usize) -> Self {
        Self((1 << count) - 1)
    }

    pub(super) const fn contains(self, layer: usize) -> bool {
        self.0 & (1 << layer) != 0
    }

    pub(super) fn insert(&mut self, layer: usize) {
        self.0 |= 1 << layer;
    }

    fn remove(&mut self, layer: usize) {
        self.0 &= !(1 << layer);
    }
}

/// The lowest layer that fills a tile of `asked` pixels (width, height; 0 where the size is not known, which asks for the
/// best). A picture may be shown half again as large as it is. `sizes` has one entry for each layer: its size as far as it
/// was ever seen.
pub(super) fn suited(sizes: &[Option<FrameSize>], asked: (u16, u16)) -> usize {
    let top = sizes.len().saturating_sub(1);
    if asked.0 == 0 || asked.1 == 0 {
        return top;
    }
    let fills = |layer: &usize| {
        estimate(sizes, *layer).is_some_and(|size| {
            // Tiles are filled to the edge, so the side that is magnified more counts.
            let of = |asked: u16, has: u16| f32::from(asked) / f32::from(has.max(1));
            of(asked.0, size.width).max(of(asked.1, size.height)) <= MOST_MAGNIFIED
        })
    };
    (0..top).find(fills).unwrap_or(top)
}

/// The highest layer within `limit`, whichever way the camera is held; the lowest when all are larger.
pub(super) fn within(sizes: &[Option<FrameSize>], limit: FrameSize) -> usize {
    let sides = |size: FrameSize| (size.width.max(size.height), size.width.min(size.height));
    let fits = |layer: &usize| {
        estimate(sizes, *layer).is_none_or(|size| {
            let ((long, short), (most_long, most_short)) = (sides(size), sides(limit));
            long <= most_long && short <= most_short
        })
    };
    (0..sizes.len()).rev().find(fits).unwrap_or(0)
}

/// The size of a layer: as seen, else from the nearest one that was, taking each step for a factor of two.
fn estimate(sizes: &[Option<FrameSize>], layer: usize) -> Option<FrameSize> {
    let nearest = (0..sizes.len())
        .filter(|other| sizes[*other].is_some())
        .min_by_key(|other| other.abs_diff(layer))?;
    let FrameSize { width, height } = sizes[nearest]?;
    let scaled = |side: u16| {
        if layer >= nearest {
            side.saturating_mul(1 << (layer - nearest))
        } else {
            (side >> (nearest - layer)).max(1)
        }
    };
    Some(FrameSize {
        width: scaled(width),
        height: scaled(height),
    })
}

/// A picture that is shown larger than this looks soft.
const MOST_MAGNIFIED: f32 = 1.5;

/// Which layers a sender is told to send: on at once, off after a while, so that paging back and forth costs nothing.
#[derive(Debug)]
pub(super) struct Needs {
    /// What the sender sends, as far as it was told; all at first.
    told: LayerSet,
    layers: usize,
    unneeded_since: [Option<Instant>; MOST_LAYERS],
}

/// A layer that nobody needs is switched off after as long.
const OFF_AFTER: Duration = Duration::from_secs(4);

impl Needs {
    /// Of a line whose `layers` layers are all sent.
    pub(super) const fn new(layers: usize) -> Self {
        Self {
            told: LayerSet::first(layers),
            layers,
            unneeded_since: [None; MOST_LAYERS],
        }
    }

    /// Of a line that is sent to another room, which relays nothing before it is told.
    pub(super) const fn of_another_room(layers: usize) -> Self {
        Self {
            told: LayerSet::first(0),
            ..Self::new(layers)
        }
    }

    pub(super) const fn told(&self) -> LayerSet {
        self.told
    }

    /// Takes what is needed at `now`; returns what the sender has to be told, if that changed.
    pub(super) fn update(&mut self, now: Instant, needed: LayerSet) -> Option<LayerSet> {
        let before = self.told;
        for layer in 0..self.layers {
            if needed.contains(layer) {
                self.unneeded_since[layer] = None;
                self.told.insert(layer);
                continue;
            }
            let since = *self.unneeded_since[layer].get_or_insert(now);
            if now.saturating_duration_since(since) >= OFF_AFTER {
                self.told.remove(layer);
            }
        }
        (self.told != before).then_some(self.told)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size(width: u16, height: u16) -> Option<FrameSize> {
        Some(FrameSize { width, height })
    }

    const VGA: FrameSize = FrameSize {
        width: 640,
        height: 480,
    };

    fn set(layers: &[usize]) -> LayerSet {
        let mut set = LayerSet::default();
        layers.iter().for_each(|layer| set.insert(*layer));
        set
    }

    #[test]
    fn a_tile_gets_the_lowest_layer_that_fills_it() {
        let sizes = [size(160, 120), size(320, 240), size(640, 480)];
        for (asked, layer) in [
            ((160, 120), 0),
            ((208, 160), 0),
            ((240, 240), 1),
            ((320, 240), 1),
            ((424, 320), 1),
            ((464, 272), 1),
            ((496, 368), 2),
            ((1280, 720), 2),
            ((0, 0), 2),
            ((1280, 120), 2),
        ] {
            assert_eq!(suited(&sizes, asked), layer, "{asked:?}");
        }
    }

    #[test]
    fn layers_never_seen_are_taken_for_half_and_double() {
        assert_eq!(suited(&[size(160, 120), None, None], (320, 240)), 1);
        assert_eq!(suited(&[None, None, size(1280, 720)], (320, 180)), 0);
        assert_eq!(
            suited(&[None, None, None], (320, 180)),
            2,
            "the best until more is known"
        );
        assert_eq!(suited(&[None], (320, 180)), 0);
        assert_eq!(within(&[size(320, 240), None, None], VGA), 1);
        assert_eq!(within(&[None, None, None], VGA), 2);
    }

    #[test]
    fn the_recording_layer_is_the_highest_within_its_limit_in_any_position() {
        assert_eq!(within(&[size(160, 120), size(320, 240), size(640, 480)], VGA), 2);
        assert_eq!(within(&[size(320, 180), size(640, 360), size(1280, 720)], VGA), 1);
        assert_eq!(within(&[size(180, 320), size(360, 640), size(720, 1280)], VGA), 1);
        assert_eq!(within(&[size(1280, 720), size(1920, 1080)], VGA), 0);
    }

    #[test]
    fn a_layer_is_switched_on_at_once_and_off_after_a_while() {
        let start = Instant::now();
        let mut needs = Needs::new(3);
        assert_eq!(needs.update(start, set(&[0])), None);
        let later = start + OFF_AFTER - Duration::from_millis(1);
        assert_eq!(needs.update(later, set(&[0, 1])), None, "paging back keeps it");
        assert_eq!(needs.update(start + OFF_AFTER, set(&[0])), Some(set(&[0, 1])));
        assert_eq!(
            needs.update(start + OFF_AFTER, set(&[0, 2])),
            Some(set(&[0, 1, 2]))
        );
        let end = start + 3 * OFF_AFTER;
        assert_eq!(needs.update(end, set(&[0, 2])), Some(set(&[0, 2])));
        assert_eq!(needs.update(end, set(&[0, 2])), None, "told once");
    }

    proptest! {
        #[test]
        fn what_is_needed_is_always_told(steps in proptest::collection::vec((0u64..3000, 0u8..8), 1..50)) {
            let mut now = Instant::now();
            let mut needs = Needs::new(3);
            for (wait_ms, needed) in steps {
                now += Duration::from_millis(wait_ms);
                needs.update(now, LayerSet(needed));
                prop_assert_eq!(needs.told().0 & needed, needed);
            }
        }

        #[test]
        fn a_choice_is_a_layer_there_is(
            sizes in proptest::collection::vec(proptest::option::of((0u16..5000, 0u16..5000)), 1..4),
            asked: (u16, u16),
        ) {
            let sizes: Vec<_> = sizes
                .into_iter()
                .map(|size| size.map(|(width, height)| FrameSize { width, height }))
                .collect();
            prop_assert!(suited(&sizes, asked) < sizes.len());
            prop_assert!(within(&sizes, VGA) < sizes.len());
        }
    }
}
