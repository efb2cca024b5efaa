//! From events to frames: which log partition an event goes to, and which source offsets every frame speaks for.
//!
//! Always holds: the ranges that a router gives to one log partition are contiguous per source partition; an event lies in the
//! range of the frame that carries it; every frame speaks for all source partitions of its router.
//!
//! A router does no I/O. What it has given out is thought of as delivered; if it is not, its owner starts a new router from
//! what is known to be delivered.

use peakdesk_model::event::Event;
use peakdesk_model::frame::{FrameBuilder, FrameError, FrameHead, SourceRange};
use peakdesk_model::position::SourcePartition;
use xxhash_rust::xxh3::xxh3_64;

use arrow::array::RecordBatch;

/// The log partition of a shop: a hash of its id, so that it can be found without asking anybody.
pub fn log_partition(shop_id: &str, partitions: i32) -> i32 {
    let partitions = u64::from(partitions.max(1).unsigned_abs());
    (xxh3_64(shop_id.as_bytes()) % partitions) as i32
}

/// A source partition as a router knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Which.
    pub partition: SourcePartition,
    /// The offset at which reading of this generation began.
    pub origin: i64,
    /// First offset not read yet.
    pub next: i64,
    /// Its clock (ms).
    pub clock: Option<i64>,
}

#[derive(Debug)]
struct Lane {
    builder: FrameBuilder,
    /// By source: first offset that this log partition was not told of.
    told: Vec<i64>,
    /// Was told what is expected.
    told_expected: bool,
}

/// Collects events into frames, one log partition beside the other.
#[derive(Debug)]
pub struct Router {
    sources: Vec<Source>,
    lanes: Vec<Lane>,
    expected: Vec<(SourcePartition, i64)>,
    in_step: bool,
    caught_up: bool,
}

impl Router {
    /// A router from these source partitions, each read from its `next`, to so many log partitions.
    pub fn new(sources: Vec<Source>, log_partitions: i32) -> Self {
        let told: Vec<i64> = sources.iter().map(|s| s.next).collect();
        let lane = |_| Lane {
            builder: FrameBuilder::default(),
            told: told.clone(),
            told_expected: false,
        };
        let lanes = (0..log_partitions.max(1)).map(lane).collect();
        Router {
            sources,
            lanes,
            expected: Vec::new(),
            in_step: false,
            caught_up: false,
        }
    }

    /// The same, for records that come in the order of their clocks over all source partitions.
    pub fn in_step(mut self) -> Self {
        self.in_step = true;
        self
    }

    /// Says whether the source partitions were read to their ends a moment ago; frames pass it on.
    pub fn set_caught_up(&mut self, caught_up: bool) {
        self.caught_up = caught_up;
    }

    /// The same, and the first frame of every log partition says which source partitions hold records.
    pub fn expecting(mut self, expected: Vec<(SourcePartition, i64)>) -> Self {
        self.expected = expected;
        self
    }

    /// The source partitions.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The place of a source partition.
    pub fn find(&self, partition: SourcePartition) -> Option<usize> {
        self.sources.iter().position(|s| s.partition == partition)
    }

    /// Takes in an event of the source at `source`; says to which log partition it goes and how many events wait there.
    pub fn push(&mut self, source: usize, event: &Event<'_>, question: u8) -> (i32, usize) {
        let to = log_partition(event.shop_id, self.lanes.len() as i32);
        let Some(lane) = self.lanes.get_mut(to as usize) else {
            return (to, 0);
        };
        lane.builder.push(source as u16, event, question);
        (to, lane.builder.len())
    }

    /// Says that a source was read up to `next` (exclusive) and where its clock stands (ms).
    pub fn advance(&mut self, source: usize, next: i64, clock: Option<i64>) {
        if let Some(s) = self.sources.get_mut(source) {
            s.next = s.next.max(next);
            s.clock = s.clock.max(clock);
        }
    }

    /// Lets the clock of one source run on to at least `clock` (ms).
    pub fn run_on_one(&mut self, source: usize, clock: i64) {
        if let Some(s) = self.sources.get_mut(source) {
            s.clock = s.clock.max(Some(clock));
        }
    }

    /// Lets the clocks of sources that ever had a record run on to at least `clock` (ms).
    pub fn run_on(&mut self, clock: i64) {
        for s in self.sources.iter_mut() {
            s.clock = s.clock.map(|c| c.max(clock));
        }
    }

    /// The number of log partitions.
    pub fn log_partitions(&self) -> i32 {
        self.lanes.len() as i32
    }

    /// Events that wait for a frame of this log partition.
    pub fn waiting(&self, log_partition: i32) -> usize {
        self.lanes.get(log_partition as usize).map_or(0, |l| l.builder.len())
    }

    /// About how many bytes of events wait for a frame of this log partition.
    pub fn waiting_bytes(&self, log_partition: i32) -> usize {
        self.lanes.get(log_partition as usize).map_or(0, |l| l.builder.estimated_bytes())
    }

    /// The next frame of a log partition: what waits for it, or a tick.
    pub fn take(&mut self, log_partition: i32, wall_ms: i64) -> Result<(FrameHead, Option<RecordBatch>), FrameError> {
        let sources = &self.sources;
        let Some(lane) = self.lanes.get_mut(log_partition as usize) else {
            return Err(FrameError::Content(format!("no log partition {log_partition}")));
        };
        let batch = if lane.builder.is_empty() {
            None
        } else {
            Some(lane.builder.finish()?)
        };
        let range = |(s, told): (&Source, &mut i64)| {
            let from = std::mem::replace(told, s.next);
            SourceRange {
                partition: s.partition,
                origin: s.origin,
                from,
                to: s.next,
                clock: s.clock,
            }
        };
        let ranges = sources.iter().zip(lane.told.iter_mut()).map(range).collect();
        let first = !std::mem::replace(&mut lane.told_expected, true);
        let expected = if first { self.expected.clone() } else { Vec::new() };
        let head = FrameHead {
            wall_ms,
            ranges,
            expected,
            in_step: self.in_step,
            caught_up: self.caught_up,
        };
        Ok((head, batch))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use peakdesk_model::event::{BuyerKey, Kind};
    use peakdesk_model::frame::Frame;
    use peakdesk_model::input::Topic;
    use peakdesk_model::position::SourcePosition;

    #[test]
    fn every_log_partition_is_told_of_every_offset_once() {
        let partition = SourcePartition {
            topic: Topic::Chat,
            partition: 3,
            generation: 1,
        };
        let mut router = Router::new(
            vec![Source {
                partition,
                origin: 10,
                next: 10,
                clock: None,
            }],
            4,
        );
        let mut ends = [10; 4];
        let mut seen = 0;
        for round in 0..20 {
            for i in 0..7 {
                let offset = 10 + round * 7 + i;
                let shop = format!("s{}", offset % 5);
                let source = SourcePosition { partition, offset };
                let event = Event::new(source, 1_000 + offset, 900, Kind::BuyerMessage, &shop, "e", BuyerKey::default());
                router.push(0, &event, 0);
                router.advance(0, offset + 1, Some(1_000 + offset));
            }
            let lane = (round % 4) as i32;
            let (head, batch) = router.take(lane, 0).unwrap();
            assert_eq!(head.ranges[0].from, ends[lane as usize]);
            ends[lane as usize] = head.ranges[0].to;
            let bytes = Frame::encode(&head, batch.as_ref()).unwrap();
            let frame = Frame::decode(&bytes).unwrap();
            assert_eq!(frame.head, head);
            for event in frame.events() {
                assert_eq!(log_partition(event.shop_id, 4), lane);
                assert!((head.ranges[0].from..head.ranges[0].to).contains(&event.source.offset));
                seen += 1;
            }
        }
        let waiting: usize = (0..4).map(|l| router.waiting(l)).sum();
        assert_eq!(seen + waiting, 140);
    }
}
