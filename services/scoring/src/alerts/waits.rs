//! Open waits in the order of their beginning, and how many of them are older than an age.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What waits: `(since, who)`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WaitSet {
    waiting: BTreeSet<(i64, u32)>,
    /// Those that began at or before it are counted in `mature`.
    mark: i64,
    mature: usize,
}

impl WaitSet {
    /// Adds one.
    pub fn insert(&mut self, since: i64, who: u32) {
        if self.waiting.insert((since, who)) && since <= self.mark {
            self.mature += 1;
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, since: i64, who: u32) {
        if self.waiting.remove(&(since, who)) && since <= self.mark {
            self.mature -= 1;
        }
    }

    /// How many began at or before `mark`. Costs as much as lies between this mark and the one before.
    pub fn until(&mut self, mark: i64) -> usize {
        let between = |from: i64, to: i64| self.waiting.range((from + 1, 0)..(to + 1, 0)).count();
        if mark > self.mark {
            self.mature += between(self.mark, mark);
        } else if mark < self.mark {
            self.mature -= between(mark, self.mark);
        }
        self.mark = mark;
        self.mature
    }

    /// How many began at or before a moment; costs as much as there are.
    pub fn count_until(&self, at: i64) -> usize {
        self.waiting.range(..(at + 1, 0)).count()
    }

    /// The first that begins after the mark last asked for.
    pub fn next(&self) -> Option<i64> {
        self.waiting.range((self.mark + 1, 0)..).next().map(|w| w.0)
    }

    /// The oldest.
    pub fn first(&self) -> Option<i64> {
        self.waiting.first().map(|w| w.0)
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (i64, u32)> {
        self.waiting.iter().copied()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_count_is_that_of_a_search(steps in prop::collection::vec((any::<bool>(), 0i64..50, 0u32..4, 0i64..60), 1..80)) {
            let mut set = WaitSet::default();
            let mut plain: BTreeSet<(i64, u32)> = BTreeSet::new();
            for (add, since, who, mark) in steps {
                if add {
                    set.insert(since, who);
                    plain.insert((since, who));
                } else {
                    set.remove(since, who);
                    plain.remove(&(since, who));
                }
                prop_assert_eq!(set.until(mark), plain.iter().filter(|w| w.0 <= mark).count());
                prop_assert_eq!(set.next(), plain.iter().map(|w| w.0).find(|s| *s > mark));
                prop_assert_eq!(set.first(), plain.first().map(|w| w.0));
            }
        }
    }
}
