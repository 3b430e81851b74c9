//! Divides what a subscriber's line carries among its pictures, and says what is given up first.
//!
//! In this order: small pictures get smaller layers, one step at a time and the least important first; small pictures
//! pause; large ones (the speaker, a screen) get smaller layers; large ones pause, all but the first. Sound is not in
//! question: it is sent whatever happens.

use super::layers::MOST_LAYERS;

/// A picture that a subscriber wishes to see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// A speaker or a screen; others are given up before.
    pub(super) large: bool,
    /// The layer that suits it.
    pub(super) wish: usize,
    /// What each layer takes, in bits per second.
    pub(super) rates_bps: [u64; MOST_LAYERS],
}

/// The layer that each picture gets; `None` pauses it. `claims` come in the order of importance. What a picture had
/// `before` is improved only where the line carries a sixth more than that takes, so that nothing swings.
pub(super) fn allot(claims: &[Claim], budget_bps: u64, before: &[Option<usize>]) -> Vec<Option<usize>> {
    let most = divide(claims, budget_bps);
    let safe = divide(claims, budget_bps / 7 * 6);
    let improved = |((most, safe), before): ((Option<usize>, Option<usize>), &Option<usize>)| {
        // `None` is below every layer.
        (*before).clamp(safe.min(most), most)
    };
    most.into_iter().zip(safe).zip(before).map(improved).collect()
}

fn divide(claims: &[Claim], budget_bps: u64) -> Vec<Option<usize>> {
    let mut given: Vec<_> = claims.iter().map(|claim| Some(claim.wish)).collect();
    let fits = |given: &[Option<usize>]| {
        let rates = claims
            .iter()
            .zip(given)
            .filter_map(|(claim, layer)| claim.rates_bps.get((*layer)?));
        rates.sum::<u64>() <= budget_bps
    };
    for large in [false, true] {
        let places: Vec<_> = (0..claims.len())
            .rev()
            .filter(|place| claims[*place].large == large)
            .collect();
        // Layer by layer, so that all small pictures get smaller before one of them is smallest.
        for layer in (0..MOST_LAYERS - 1).rev() {
            for place in &places {
                if fits(&given) {
                    return given;
                }
                given[*place] = given[*place].map(|has| has.min(layer));
            }
        }
        for place in places.iter().filter(|place| **place != 0) {
            if fits(&given) {
                return given;
            }
            given[*place] = None;
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATES: [u64; 3] = [100, 300, 1000];

    fn claims(large: usize, small: usize) -> Vec<Claim> {
        let claim = |large| Claim {
            large,
            wish: if large { 2 } else { 1 },
            rates_bps: RATES,
        };
        let large = std::iter::repeat_n(claim(true), large);
        large.chain(std::iter::repeat_n(claim(false), small)).collect()
    }

    #[test]
    fn small_pictures_are_given_up_first_then_paused_then_the_speaker_is() {
        let claims = claims(1, 3);
        for (budget_bps, expected) in [
            (1900, [Some(2), Some(1), Some(1), Some(1)]),
            (1899, [Some(2), Some(1), Some(1), Some(0)]),
            (1300, [Some(2), Some(0), Some(0), Some(0)]),
            (1299, [Some(2), Some(0), Some(0), None]),
            (1000, [Some(2), None, None, None]),
            (999, [Some(1), None, None, None]),
            (299, [Some(0), None, None, None]),
            (0, [Some(0), None, None, None]),
        ] {
            assert_eq!(divide(&claims, budget_bps), expected, "{budget_bps}");
        }
    }

    #[test]
    fn the_first_picture_never_pauses() {
        assert_eq!(divide(&claims(0, 2), 0), [Some(0), None]);
        assert_eq!(divide(&claims(2, 0), 0), [Some(0), None]);
    }

    #[test]
    fn a_picture_gets_better_only_with_something_to_spare() {
        let claims = claims(1, 1);
        let before = [Some(2), Some(0)];
        assert_eq!(allot(&claims, 1300, &before), before);
        assert_eq!(allot(&claims, 1400, &before), before);
        assert_eq!(allot(&claims, 1600, &before), [Some(2), Some(1)]);
        assert_eq!(
            allot(&claims, 1300, &[Some(2), Some(1)]),
            [Some(2), Some(1)],
            "it keeps what fits"
        );
        assert_eq!(allot(&claims, 1299, &[Some(2), Some(1)]), before);
        assert_eq!(allot(&claims, 1100, &[Some(2), None]), [Some(2), None]);
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_wished_and_the_budget_is_kept_where_it_can_be(
            wishes in proptest::collection::vec((any::<bool>(), 0usize..3), 1..12), budget_bps in 0u64..5000,
        ) {
            let claims: Vec<_> = wishes
                .iter()
                .map(|(large, wish)| Claim { large: *large, wish: *wish, rates_bps: RATES })
                .collect();
            let given = divide(&claims, budget_bps);
            let sum: u64 = given.iter().flatten().map(|layer| RATES[*layer]).sum();
            prop_assert!(sum <= budget_bps.max(RATES[0]));
            prop_assert!(given.iter().zip(&claims).all(|(given, claim)| *given <= Some(claim.wish)));
            prop_assert!(given[0].is_some());
        }
    }
}
