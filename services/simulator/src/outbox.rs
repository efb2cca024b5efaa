//! The way from a shop to the broker: partition, delay, second delivery and damage of every record, and the queue in which
//! records wait for their arrival.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use peakdesk_model::input::Topic;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{DAY_MS, HOUR_MS, MINUTE_MS, Partitions, SECOND_MS, SimConfig};
use crate::dist::{SimRng, between, chance, log_normal_ms, log_uniform};
use crate::record::{SimBody, SimRecord};
use crate::totals::{CHAT_LATE_MS, MONEY_RAISED_MS};

/// What the totals must know of a record and cannot see in it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flags {
    pub(crate) duplicate: bool,
    pub(crate) dead: bool,
    pub(crate) ends_round: bool,
    pub(crate) silent: bool,
    pub(crate) brushing: bool,
}

/// Shares of records that take longer than a second, at `disorder = 1`, and how long they take.
const DELAYED: [(f64, i64, i64); 3] = [
    (0.0001, 10 * MINUTE_MS, 24 * HOUR_MS),
    (0.0009, 30 * SECOND_MS, 10 * MINUTE_MS),
    (0.019, SECOND_MS, 30 * SECOND_MS),
];

/// Records on their way. Nothing leaves before its arrival; equal arrivals leave in the order they came in.
pub(crate) struct Outbox {
    end_ms: i64,
    partitions: Partitions,
    disorder: f64,
    duplicate_share: f64,
    late_share: f64,
    dead_share: f64,
    queue: BinaryHeap<Reverse<(i64, u64, u32)>>,
    // The queue moves indices, not records.
    waiting: Vec<Option<(SimRecord, Flags)>>,
    free: Vec<u32>,
    sequence: u64,
}

impl Outbox {
    pub(crate) fn new(config: &SimConfig) -> Self {
        Self {
            end_ms: config.end_ms(),
            partitions: config.partitions,
            disorder: config.disorder,
            duplicate_share: config.duplicate_share,
            late_share: config.late_share,
            dead_share: config.dead_share,
            queue: BinaryHeap::new(),
            waiting: Vec::new(),
            free: Vec::new(),
            sequence: 0,
        }
    }

    /// Records on their way.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Arrival of the next record.
    pub(crate) fn next_arrival_ms(&self) -> Option<i64> {
        self.queue.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Takes the next record out.
    pub(crate) fn pop(&mut self) -> Option<(SimRecord, Flags)> {
        let Reverse((_, _, slot)) = self.queue.pop()?;
        self.free.push(slot);
        self.waiting.get_mut(slot as usize)?.take()
    }

    /// Sends an event that happened at `event_time_ms`; nothing if that is past the end of the run.
    pub(crate) fn send(&mut self, rng: &mut SimRng, topic: Topic, key: String, event_time_ms: i64, body: SimBody, flags: Flags) {
        if event_time_ms >= self.end_ms {
            return;
        }
        let partitions = self.partitions_of(topic);
        let partition = (xxh3_64(key.as_bytes()) % partitions.unsigned_abs() as u64) as i32;
        let delay_ms = self.delay_ms(rng, topic);
        let record = SimRecord {
            topic,
            partition,
            timestamp_ms: event_time_ms + delay_ms,
            key,
            body,
        };
        if self.duplicate_share > 0.0 && chance(rng, self.duplicate_share) {
            self.push_again(rng, &record, flags);
        }
        if self.dead_share > 0.0 && chance(rng, self.dead_share) {
            self.push(damaged(rng, &record), Flags { dead: true, ..flags });
        }
        self.push(record, flags);
    }

    /// The platform redelivers what was not acknowledged: after five minutes, seldom sooner, seldom on another partition.
    fn push_again(&mut self, rng: &mut SimRng, record: &SimRecord, flags: Flags) {
        let mut again = record.clone();
        again.timestamp_ms += if chance(rng, 0.9) {
            5 * MINUTE_MS + between(rng, 0, 2 * SECOND_MS)
        } else {
            between(rng, SECOND_MS, 30 * SECOND_MS)
        };
        if chance(rng, 0.02) {
            again.partition = (again.partition + 1) % self.partitions_of(record.topic);
        }
        self.push(again, Flags { duplicate: true, ..flags });
    }

    /// Queues a record; what would arrive after the end of the run arrives at the end.
    fn push(&mut self, mut record: SimRecord, flags: Flags) {
        record.timestamp_ms = record.timestamp_ms.min(self.end_ms);
        let at = record.timestamp_ms;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.waiting.push(None);
                (self.waiting.len() - 1) as u32
            }
        };
        if let Some(place) = self.waiting.get_mut(slot as usize) {
            *place = Some((record, flags));
        }
        self.queue.push(Reverse((at, self.sequence, slot)));
        self.sequence += 1;
    }

    fn partitions_of(&self, topic: Topic) -> i32 {
        match topic {
            Topic::Chat => self.partitions.chat,
            Topic::Orders => self.partitions.orders,
            Topic::Refunds => self.partitions.refunds,
        }
    }

    fn delay_ms(&self, rng: &mut SimRng, topic: Topic) -> i64 {
        if self.late_share > 0.0 && chance(rng, self.late_share) {
            return match topic {
                Topic::Chat => log_uniform(rng, CHAT_LATE_MS + MINUTE_MS, DAY_MS),
                _ => log_uniform(rng, MONEY_RAISED_MS + MINUTE_MS, 2 * DAY_MS),
            };
        }
        if self.disorder == 0.0 {
            return 0;
        }
        let mut draw = rand::Rng::random::<f64>(rng);
        for (share, low, high) in DELAYED {
            let share = share * self.disorder;
            if draw < share {
                return log_uniform(rng, low, high);
            }
            draw -= share;
        }
        log_normal_ms(rng, 80.0, 0.8, 1, SECOND_MS)
    }
}

/// A copy of a record that every reader must set aside, whatever the encoding.
fn damaged(rng: &mut SimRng, record: &SimRecord) -> SimRecord {
    let mut damaged = record.clone();
    let arrival = damaged.timestamp_ms;
    let event_time = match between(rng, 0, 5) {
        // No Confluent framing (its first byte is 0), no JSON object, no UTF-8.
        0 => {
            damaged.body = SimBody::Raw(vec![0xff, 0xfe, b'{', rand::Rng::random::<u8>(rng)]);
            return damaged;
        }
        // Further ahead than any clock may be wrong.
        1 => Some(arrival + HOUR_MS),
        // Older than any order is kept.
        2 => Some(arrival - 50 * DAY_MS),
        3 => {
            match &mut damaged.body {
                SimBody::Chat(chat) => chat.buyer_id.clear(),
                SimBody::Order(order) => order.order_id.clear(),
                SimBody::Refund(refund) => refund.refund_id.clear(),
                SimBody::Raw(_) => {}
            }
            None
        }
        _ => {
            match &mut damaged.body {
                SimBody::Chat(chat) => {
                    chat.kind = "RATING".to_owned();
                    chat.agent_id = Some("a1".to_owned());
                    chat.rating = Some(9);
                }
                SimBody::Order(order) => {
                    order.status = "PAID".to_owned();
                    order.amount_fen = Some(-1);
                    order.item_count = Some(1);
                }
                SimBody::Refund(refund) => {
                    refund.status = "SUCCEEDED".to_owned();
                    refund.amount_fen = Some(-1);
                }
                SimBody::Raw(_) => {}
            }
            None
        }
    };
    if let Some(at) = event_time {
        match &mut damaged.body {
            SimBody::Chat(chat) => chat.event_time = at,
            SimBody::Order(order) => order.event_time = at,
            SimBody::Refund(refund) => refund.event_time = at,
            SimBody::Raw(_) => {}
        }
    }
    damaged
}
