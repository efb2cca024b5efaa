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

#[cfg(test)]
mod tests {
    use super::*;
    use peakdesk_model::event::BuyerKey;
    use peakdesk_model::input::Topic;
    use peakdesk_model::position::{SourcePartition, SourcePosition};

    fn key(t: i64, kind: Kind, id: &str, partition: i32, generation: i32, offset: i64) -> EventKey {
        let partition = SourcePartition {
            topic: Topic::Chat,
            partition,
            generation,
        };
        EventKey::new(
            &Event::new(SourcePosition { partition, offset }, 0, t, kind, "s", id, BuyerKey::default()),
            t,
        )
    }

    #[test]
    fn time_then_rank_then_hash_of_the_id_then_place() {
        // xxh3_64 with seed 0: "b" 0x0776_7bde_7bfe_32ba < "a" 0xe6c6_32b6_1e96_4e1f, so the order is not that of the bytes.
        assert_eq!((xxh3_64(b"a"), xxh3_64(b"b")), (0xe6c6_32b6_1e96_4e1f, xxh3_64(b"b")));
        let (low, high) = if xxh3_64(b"a") < xxh3_64(b"b") { ("a", "b") } else { ("b", "a") };
        let ascending = [
            key(1, Kind::Rating, high, 9, 9, 9),
            key(2, Kind::BuyerMessage, high, 9, 9, 9),
            key(2, Kind::RobotMessage, high, 9, 9, 9),
            key(2, Kind::AgentMessage, high, 9, 9, 9),
            key(2, Kind::Transfer, low, 9, 9, 9),
            key(2, Kind::Transfer, high, 0, 9, 9),
            key(2, Kind::Transfer, high, 1, 1, 9),
            key(2, Kind::Transfer, high, 1, 2, 0),
            key(2, Kind::Transfer, high, 1, 2, 1),
            key(2, Kind::OrderCreated, low, 0, 0, 0),
            key(2, Kind::RefundClosed, low, 0, 0, 0),
        ];
        assert!(ascending.is_sorted(), "{ascending:#?}");
    }

    #[test]
    fn of_two_copies_the_lower_clock_counts_then_the_lower_place() {
        let copies = [
            (key(5, Kind::BuyerMessage, "m", 3, 1, 7), 10),
            (key(5, Kind::BuyerMessage, "m", 1, 1, 9), 11),
            (key(5, Kind::BuyerMessage, "m", 2, 1, 5), 11),
            (key(5, Kind::BuyerMessage, "m", 2, 2, 0), 11),
            (key(5, Kind::BuyerMessage, "m", 2, 2, 1), 11),
        ];
        assert!(copies.iter().map(|(key, clock)| key.precedence(*clock)).is_sorted());
        assert!(copies.iter().all(|(key, _)| key.identity() == copies[0].0.identity()));
    }
}
