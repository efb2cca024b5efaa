//! What an intake does with the records of one topic, without Kafka.
//!
//! ```text
//! record ─► clock ─► decode ─► router ─► frame (full, or at a tick) ─► to be sent
//! tick ─► clocks run on ─► a frame for every log partition ─► all acknowledged ─► to be committed
//! ```
//!
//! Always holds: what is to be committed speaks only of records that a frame before it speaks for. Its owner sends the frames in
//! order and commits when all of them are acknowledged; if one is not, it begins again from what is committed, with a new core.
//!
//! Not here: consumer, producer, dead-letter messages, and when the next tick is due; what time it is comes with every call.

use crate::clock::SourceClock;
use crate::decode::{Edge, Format, Reject, SourceRecord};
use crate::loose::Loose;
use crate::registry::SchemaError;
use crate::router::{Router, Source};
use crate::run_on::RunOn;
use peakdesk_log::client::MESSAGE_BYTES_MAX;
use peakdesk_log::group::{Heard, Start};
use peakdesk_model::event::DeadReason;
use peakdesk_model::frame::{Frame, FrameError};
use peakdesk_model::input::Topic;
use peakdesk_model::position::{SourcePartition, SourcePosition};
use serde::{Deserialize, Serialize};

/// Events of one frame take at most this much, so that the message stays below the broker's limit.
const FRAME_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 2;

/// What is committed beside an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    origin: i64,
    /// Of the source topic.
    pub generation: i32,
    /// Running maximum of arrival times (ms).
    arrival: Option<i64>,
    /// The clock as it had run on (ms), and the wall time at which it stood there.
    clock: Option<i64>,
    wall: i64,
}

/// What a topic's core works by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which input.
    pub topic: Topic,
    /// Of the source topic.
    pub generation: i32,
    /// How its values are written.
    pub format: Format,
    /// Partitions of the shop log.
    pub log_partitions: i32,
    /// Events in a frame.
    pub max_frame_events: usize,
    /// Every source partition of any input that holds records, and up to where.
    pub expected: Vec<(SourcePartition, i64)>,
}

/// A record as it lies in the topic.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Its Kafka timestamp (ms).
    pub timestamp: Option<i64>,
    /// Value.
    pub payload: Option<&'a [u8]>,
}

/// What became of a record.
#[derive(Debug)]
pub enum Taken {
    /// Nothing: its partition is not ours, or it was read before.
    Known,
    /// An event. With a log partition: its frame is full, and is to be sent before anything else.
    Event(Option<i32>),
    /// A dead letter, with the clock at it (ms) unless its timestamp is bad.
    Dead(SourcePosition, DeadReason, Option<i64>),
    /// Its schema cannot be had now: it is to be read again later.
    Later(SchemaError),
}

/// A message for the shop log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Partition of the shop log.
    pub log_partition: i32,
    /// Value.
    pub bytes: Vec<u8>,
    /// Without events.
    pub is_tick: bool,
}

/// A source partition of this core; at the same place as in the router.
#[derive(Debug)]
struct Lane {
    partition: SourcePartition,
    origin: i64,
    next: i64,
    arrival: SourceClock,
    run_on: RunOn,
    committed: i64,
}

/// Offset and clock that are to be committed for a source partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Partition.
    pub partition: i32,
    /// First offset that was not read.
    pub offset: i64,
    /// What stands beside it.
    pub beside: String,
    /// Where its clock stands (ms).
    pub clock: Option<i64>,
}

/// The source partitions of one topic.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    router: Router,
    lanes: Vec<Lane>,
}

impl Core {
    /// Without any source partition.
    pub fn new(settings: Settings) -> Self {
        Core {
            router: Router::new(Vec::new(), settings.log_partitions),
            settings,
            lanes: Vec::new(),
        }
    }

    /// How many source partitions it has.
    pub fn sources(&self) -> usize {
        self.lanes.len()
    }

    /// Its source partitions, and where their clocks stand (ms).
    pub fn clocks(&self) -> impl Iterator<Item = (i32, Option<i64>)> {
        self.lanes.iter().map(|lane| (lane.partition.partition, lane.run_on.clock()))
    }

    /// Source partitions came or went. What waits must have been sent: a new router begins from where everything was read.
    pub fn change(&mut self, gone: &[i32], starts: &[Start]) {
        self.lanes.retain(|l| !gone.contains(&l.partition.partition));
        for start in starts {
            let lane = self.lane(start);
            self.lanes.retain(|l| l.partition.partition != start.partition);
            self.lanes.push(lane);
        }
        let source = |l: &Lane| Source {
            partition: l.partition,
            origin: l.origin,
            next: l.next,
            clock: l.run_on.clock(),
        };
        let sources = self.lanes.iter().map(source).collect();
        self.router = Router::new(sources, self.settings.log_partitions).expecting(self.settings.expected.clone());
    }

    /// A source partition as it was committed, or from its beginning.
    fn lane(&self, start: &Start) -> Lane {
        let generation = self.settings.generation;
        let partition = SourcePartition {
            topic: self.settings.topic,
            partition: start.partition,
            generation,
        };
        let committed: Option<Committed> = start.metadata.as_deref().and_then(|m| serde_json::from_str(m).ok());
        // Over generations offsets begin again, the clock does not.
        let arrival = committed.and_then(|c| c.arrival).map_or_else(SourceClock::new, SourceClock::resume);
        let run_on = committed.map_or_else(RunOn::default, |c| RunOn::resume(c.clock, c.wall));
        let origin = committed.filter(|c| c.generation == generation).map_or(start.offset, |c| c.origin);
        Lane {
            partition,
            origin,
            next: start.offset,
            arrival,
            run_on,
            committed: start.offset,
        }
    }

    /// Reads a record at the wall time `wall` (ms).
    pub fn read(&mut self, record: &Incoming<'_>, edge: &Edge, wall: i64) -> Taken {
        let Some(place) = self.lanes.iter().position(|l| l.partition.partition == record.partition) else {
            return Taken::Known;
        };
        let Some(lane) = self.lanes.get_mut(place) else {
            return Taken::Known;
        };
        if record.offset < lane.next {
            return Taken::Known;
        }
        let position = SourcePosition {
            partition: lane.partition,
            offset: record.offset,
        };
        let mut arrival = lane.arrival;
        let observed = arrival.observe(record.timestamp, Some(wall));
        let decoded = match observed {
            Err(reason) => Err(Reject::Dead(reason)),
            Ok(clock) => decode(&mut self.router, place, &self.settings, edge, position, clock, record.payload),
        };
        let taken = match decoded {
            Ok(full) => Taken::Event(full),
            Err(Reject::Dead(reason)) => Taken::Dead(position, reason, observed.ok()),
            Err(Reject::Retry(error)) => {
                lane.run_on.read(None, wall);
                return Taken::Later(error);
            }
        };
        lane.arrival = arrival;
        lane.next = record.offset + 1;
        lane.run_on.read(arrival.at(), wall);
        self.router.advance(place, lane.next, lane.run_on.clock());
        taken
    }

    /// A partition was read to its end at the wall time `wall` (ms).
    pub fn reached_end(&mut self, partition: i32, wall: i64) {
        if let Some(lane) = self.lanes.iter_mut().find(|l| l.partition.partition == partition) {
            lane.run_on.reached_end(lane.arrival.at(), wall);
        }
    }

    /// Lets the clocks run on to the wall time `wall` (ms), each as far as its partition was heard of and all that came is read: what is
    /// then to be said to every log partition.
    pub fn tick(&mut self, wall: i64, heard: impl Fn(i32) -> Heard, speed: f64) -> Result<Vec<Message>, FrameError> {
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            let heard = heard(lane.partition.partition);
            if lane.next >= heard.until
                && let Some(clock) = lane.run_on.run(wall.min(heard.at_ms), speed)
            {
                self.router.run_on_one(place, clock);
            }
        }
        self.router.set_caught_up(self.lanes.iter().all(|lane| lane.run_on.caught_up(wall)));
        (0..self.router.log_partitions()).map(|p| self.message(p, wall)).collect()
    }

    /// The next message of a log partition.
    pub fn message(&mut self, log_partition: i32, wall: i64) -> Result<Message, FrameError> {
        let (head, batch) = self.router.take(log_partition, wall)?;
        Ok(Message {
            log_partition,
            bytes: Frame::encode(&head, batch.as_ref())?,
            is_tick: batch.is_none(),
        })
    }

    /// What may be committed once every message so far is acknowledged: of partitions that went on, and of idle ones too if `all`.
    pub fn to_commit(&mut self, all: bool, wall: i64) -> Vec<Commit> {
        let mut commits = Vec::new();
        for lane in &mut self.lanes {
            let clock = lane.run_on.clock();
            if lane.next <= lane.committed && !(all && clock.is_some()) {
                continue;
            }
            let beside = Committed {
                origin: lane.origin,
                generation: lane.partition.generation,
                arrival: lane.arrival.at(),
                clock,
                wall,
            };
            lane.committed = lane.next;
            commits.push(Commit {
                partition: lane.partition.partition,
                offset: lane.next,
                // Numbers always have a JSON form.
                beside: serde_json::to_string(&beside).unwrap_or_default(),
                clock,
            });
        }
        commits
    }
}

/// Decodes a record and routes it; the log partition whose frame is full then.
fn decode(
    router: &mut Router,
    place: usize,
    settings: &Settings,
    edge: &Edge,
    position: SourcePosition,
    clock: i64,
    payload: Option<&[u8]>,
) -> Result<Option<i32>, Reject> {
    let mut loose = Loose::default();
    let record = SourceRecord {
        position,
        clock,
        format: settings.format,
        payload,
    };
    let decoded = edge.decode(&record, &mut loose)?;
    let (log_partition, waiting) = router.push(place, &decoded.event, decoded.question().map_or(0, |q| q as u8 + 1));
    let full = waiting + 1 >= settings.max_frame_events || router.waiting_bytes(log_partition) >= FRAME_BYTES_MAX;
    Ok(full.then_some(log_partition))
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
