//! Positions in the source topics and in the shop log, and the ranges that frames and output messages cover.
//!
//! Producers of the log and of the outputs are at-least-once; readers become exactly-once by comparing the range a message
//! covers with what they have covered already:
//!
//! | message covers `[from, to)`, reader has covered up to `at` | outcome |
//! | --- | --- |
//! | `to <= at` (an empty range: `to < at`) | [`Coverage::Repeat`]: drop it whole |
//! | `from <= at < to`, or empty at `at` | [`Coverage::Apply`]: apply what lies at or above `at` |
//! | `at < from` | [`Coverage::Gap`]: apply nothing; the repeat that must follow covers it |

use crate::input::Topic;
use serde::{Deserialize, Serialize};

/// One partition of one input topic, in one life of that topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourcePartition {
    /// Which input.
    pub topic: Topic,
    /// Kafka partition number.
    pub partition: i32,
    /// Counted up by configuration when the topic was recreated and its offsets start again; 1 at first.
    pub generation: i32,
}

/// One record of an input topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourcePosition {
    /// Where.
    pub partition: SourcePartition,
    /// Kafka offset.
    pub offset: i64,
}

/// What a range means to a reader that has covered everything below `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// Everything in it is known.
    Repeat,
    /// Apply what lies at or above the reader's position.
    Apply,
    /// Something before it is missing.
    Gap,
}

/// Compares a half-open range with what a reader has covered; see the table of this module. An empty range at the
/// reader's position applies (it may carry a clock).
pub fn coverage<T: Ord>(from: &T, to: &T, at: &T) -> Coverage {
    if from > at {
        Coverage::Gap
    } else if to < at || (to == at && from < to) {
        Coverage::Repeat
    } else {
        Coverage::Apply
    }
}

/// A row's place in the log: the row with the higher position is the newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogPosition {
    /// Offset of the frame in its log partition.
    pub offset: i64,
    /// Number of the row among those the frame caused, over all tables.
    pub index: u32,
}

impl LogPosition {
    /// The position before every row of the frame at `offset`.
    pub fn start_of(offset: i64) -> Self {
        LogPosition { offset, index: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_of_the_table() {
        assert_eq!(coverage(&0, &5, &5), Coverage::Repeat);
        assert_eq!(coverage(&0, &4, &5), Coverage::Repeat);
        assert_eq!(coverage(&3, &8, &5), Coverage::Apply);
        assert_eq!(coverage(&5, &8, &5), Coverage::Apply);
        assert_eq!(coverage(&5, &5, &5), Coverage::Apply);
        assert_eq!(coverage(&4, &4, &5), Coverage::Repeat);
        assert_eq!(coverage(&6, &8, &5), Coverage::Gap);
    }
}
