//! Slows down addresses that try room numbers or host tokens, or make rooms by the hundred.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::session::rate::TokenBucket;

/// Wrong allowance of one address: 60 at once, then one a second.
const SPENDING: (f64, f64) = (1.0, 60.0);
/// Addresses remembered; above it, those that have been quiet are forgotten.
const MOST_ADDRESSES: usize = 10_000;

/// Counts wrong allowance by address. Right ones cost nothing: a school sits behind one address.
#[derive(Debug)]
pub(super) struct Allowance {
    buckets: Mutex<HashMap<IpAddr, (TokenBucket, bool)>>,
}

impl Allowance {
    pub(super) fn new() -> Self {
        Self {
            buckets: Mutex::default(),
        }
    }

    /// Whether the address has any left.
    pub(super) fn is_left(&self, address: IpAddr) -> bool {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((bucket, spent)) = buckets.get_mut(&address) else {
            return true;
        };
        if *spent {
            *spent = !bucket.try_take(now);
        }
        !*spent
    }

    /// The address takes one.
    pub(super) fn spend(&self, address: IpAddr) {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST_ADDRESSES {
            buckets.retain(|_, (bucket, _)| !bucket.is_full(now));
        }
        let (bucket, spent) = buckets
            .entry(address)
            .or_insert_with(|| (TokenBucket::new(SPENDING.0, SPENDING.1, now), false));
        *spent = !bucket.try_take(now);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_that_allowance_is_stopped_and_others_are_not() {
        let (spender, school) = (
            IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
        );
        let allowance = Allowance::new();
        for _ in 0..=60 {
            assert!(allowance.is_left(spender));
            allowance.spend(spender);
        }
        assert!(!allowance.is_left(spender));
        assert!(allowance.is_left(school));
    }
}
