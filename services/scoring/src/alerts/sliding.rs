//! Sums over a span of whole minutes that moves with time: additions and their taking back at any time, each minute of
//! movement at a cost of what enters and leaves.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A span that begins this many minutes before the present has no beginning: nothing leaves it by age.
pub const ENDLESS: i64 = 1 << 40;

/// The sum of two figures over the minutes `[at − to, at − from)`, where `at` is the minute it was last moved to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sliding {
    to: i64,
    from: i64,
    at: i64,
    /// Minutes before it have left for good.
    floor: i64,
    buckets: BTreeMap<i64, [i64; 2]>,
    sum: [i64; 2],
}

impl Sliding {
    /// From `to` minutes before the present until `from` minutes before it.
    pub fn new(to: i64, from: i64) -> Self {
        let never = i64::MIN / 4;
        Sliding {
            to,
            from,
            at: never,
            floor: never,
            buckets: BTreeMap::new(),
            sum: [0; 2],
        }
    }

    /// Adds to a minute (or takes back, with negative figures).
    pub fn add(&mut self, minute: i64, figures: [i64; 2]) {
        if minute < self.floor {
            return;
        }
        let bucket = self.buckets.entry(minute).or_default();
        plus(bucket, figures);
        if *bucket == [0; 2] {
            self.buckets.remove(&minute);
        }
        if minute < self.at - self.from {
            plus(&mut self.sum, figures);
        }
    }

    /// Moves on; never back.
    pub fn advance(&mut self, at: i64) {
        if at <= self.at {
            return;
        }
        for (_, figures) in self.buckets.range(self.at - self.from..at - self.from) {
            plus(&mut self.sum, *figures);
        }
        self.at = at;
        self.drop_before(at - self.to);
    }

    /// Lets go of everything before a minute, sooner than it would leave.
    pub fn drop_before(&mut self, minute: i64) {
        self.floor = self.floor.max(minute);
        while let Some(entry) = self.buckets.first_entry().filter(|e| *e.key() < minute) {
            let (minute, figures) = entry.remove_entry();
            if minute < self.at - self.from {
                plus(&mut self.sum, figures.map(|f| -f));
            }
        }
    }

    /// The sum as of the last move.
    pub fn sum(&self) -> [i64; 2] {
        self.sum
    }

    /// The first minute after the present one at which the sum will be another if nothing is added.
    pub fn next_change(&self) -> Option<i64> {
        let enters = self.buckets.range(self.at - self.from..).next().map(|(m, _)| m + self.from + 1);
        let leaves = self.buckets.keys().next().filter(|_| self.to < ENDLESS).map(|m| m + self.to + 1);
        enters.into_iter().chain(leaves).min()
    }
}

fn plus(to: &mut [i64; 2], figures: [i64; 2]) {
    to[0] += figures[0];
    to[1] += figures[1];
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_sum_is_that_of_the_span(
            steps in prop::collection::vec((0i64..6, prop::collection::vec((-20i64..8, -3i64..4), 0..6)), 1..40),
            from in 0i64..5,
            length in 1i64..15,
        ) {
            let mut sliding = Sliding::new(from + length, from);
            let mut all: Vec<(i64, i64)> = Vec::new();
            let mut at = 100;
            for (step, additions) in steps {
                let expected_change = sliding.next_change();
                let before = sliding.sum();
                at += step;
                sliding.advance(at);
                if expected_change.is_none_or(|minute| minute > at) && step > 0 && at > 106 {
                    prop_assert_eq!(before, sliding.sum());
                }
                for (offset, value) in additions {
                    let minute = at + offset;
                    if minute >= at - from - length {
                        all.push((minute, value));
                    }
                    sliding.add(minute, [value, 2 * value]);
                }
                let expected: i64 = all.iter().filter(|(m, _)| (at - from - length..at - from).contains(m)).map(|(_, v)| v).sum();
                prop_assert_eq!(sliding.sum(), [expected, 2 * expected]);
            }
        }
    }
}
