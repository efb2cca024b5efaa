//! The order in which rules read the events of a shop (metric definitions, "conventions").

use peakdesk_model::event::{Event, Kind};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Sorts events by effective time, rank, hash of the event id, event id, source partition, generation and offset. The event
/// id itself is represented by a 128-bit hash: two ids that agree in the 64-bit hash would have to be told apart by it, which
/// happens once in 2⁶⁴ pairs of one millisecond and rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventKey {
    /// Effective time (ms).
    pub time: i64,
    /// The kind; its order is the rank.
    pub kind: Kind,
    hash: u64,
    id: u128,
    partition: i32,
    generation: i32,
    offset: i64,
}

impl EventKey {
    /// The key of an event at its effective time.
    pub fn new(event: &Event<'_>, effective_time: i64) -> Self {
        let id = event.event_id.as_bytes();
        EventKey {
            time: effective_time,
            kind: event.kind,
            hash: xxh3_64(id),
            id: xxh3_128(id),
            partition: event.source.partition.partition,
            generation: event.source.partition.generation,
            offset: event.source.offset,
        }
    }

    /// Identifies the event among the chat events of its shop, for the test of duplicates.
    pub fn identity(&self) -> u128 {
        self.id
    }

    /// Which copy of a duplicate counts: the one whose clock is lowest, then the one read from the lower place.
    pub fn precedence(&self, clock: i64) -> (i64, i32, i32, i64) {
        (clock, self.partition, self.generation, self.offset)
    }
}
