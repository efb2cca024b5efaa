//! What a worker does with its partitions, without Kafka: taking over, folding, writing, saving.
//!
//! ```text
//! take_over ─► restore ─┐
//! read ─────────────────┴─► fold ─► emit ─► Outbox ─► acknowledged? ─► save
//! ```
//!
//! Always holds: nothing here waits, and nothing here looks at a clock: what time it is comes with every call.
//!
//! Not here: the consumer, the producer and the live figures, which the role has around it. The simulation has others.

use crate::aside::Panicked;
use crate::partition::{Emit, Partition};
use crate::restore::Coming;
use crate::save::Saver;
use crate::{ScorerError, Shared};
use peakdesk_log::delivery::{Delivery, Outgoing};
use peakdesk_log::error::LogError;
use peakdesk_log::group::{Member, Start};
use std::collections::BTreeMap;
use std::time::Instant;

/// A message of the shop log.
#[derive(Debug, Clone, Copy)]
pub struct LogMessage<'a> {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Value.
    pub payload: &'a [u8],
}

/// Where the log is read from.
pub trait Seat {
    /// Reads a partition again from `offset`, not before it is resumed.
    fn hold(&self, topic: &str, partition: i32, offset: i64) -> Result<(), LogError>;
    /// Goes on reading a partition that was held.
    fn resume(&self, topic: &str, partition: i32) -> Result<(), LogError>;
    /// Says what a partition that is held waits for.
    fn waits_for(&self, topic: &str, partition: i32, why: &'static str);
    /// The first offset that is there, and the one that the next message gets.
    fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), LogError>;
}

impl Seat for Member {
    fn hold(&self, topic: &str, partition: i32, offset: i64) -> Result<(), LogError> {
        Member::hold(self, topic, partition, offset)
    }

    fn resume(&self, topic: &str, partition: i32) -> Result<(), LogError> {
        Member::resume(self, topic, partition)
    }

    fn waits_for(&self, topic: &str, partition: i32, why: &'static str) {
        Member::waits_for(self, topic, partition, why);
    }

    fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), LogError> {
        Member::watermarks(self, topic, partition)
    }
}

/// Where results and alerts go: messages are counted, those of one partition arrive in order, and one that fails is an error of
/// every later call.
pub trait Outbox {
    /// Queues a message.
    fn send(&mut self, topic: &str, partition: i32, payload: &[u8]) -> Result<(), LogError>;
    /// How many messages were queued: the number of the next one.
    fn sent(&self) -> u64;
    /// Every message whose number is below it is acknowledged.
    fn acknowledged_until(&self) -> u64;
}

impl Outbox for Delivery {
    fn send(&mut self, topic: &str, partition: i32, payload: &[u8]) -> Result<(), LogError> {
        let (key, payload, headers) = (None, Some(payload), None);
        Delivery::send(
            self,
            Outgoing {
                topic,
                partition,
                key,
                payload,
                headers,
            },
        )
    }

    fn sent(&self) -> u64 {
        Delivery::sent(self)
    }

    fn acknowledged_until(&self) -> u64 {
        Delivery::acknowledged_until(self)
    }
}

/// The partitions of a worker.
pub struct Core<'s> {
    shared: &'s Shared,
    saver: Saver<'s>,
    /// Assigned and not folded yet.
    coming: BTreeMap<i32, Coming>,
    pub(crate) partitions: BTreeMap<i32, Partition>,
    /// Given up, and not kept before every message sent by then (so many) is acknowledged: a state says nothing again.
    leaving: Vec<(u64, Partition)>,
    /// Partitions that begin again without a shop.
    panicked: Vec<(i32, Panicked)>,
}

impl Drop for Core<'_> {
    /// A worker that failed has no partition until it has begun again.
    fn drop(&mut self) {
        for number in self.coming.keys().chain(self.partitions.keys()) {
            self.shared.refusals.remove(*number);
            self.shared.metrics.forget(*number);
        }
    }
}

impl<'s> Core<'s> {
    /// Without any partition.
    pub fn new(shared: &'s Shared) -> Self {
        Core {
            shared,
            saver: Saver::new(shared),
            coming: BTreeMap::new(),
            partitions: BTreeMap::new(),
            leaving: Vec::new(),
            panicked: Vec::new(),
        }
    }

    /// A partition was assigned.
    pub fn take_over(&mut self, start: &Start, now: Instant) {
        let mut leaving = self.leaving.extract_if(.., |(_, p)| p.number == start.partition);
        // What was sent from here arrives before what will be.
        let held = leaving.next().map(|(_, partition)| partition);
        drop(leaving);
        let held = held.or_else(|| self.shared.held.take(start.partition, now));
        self.coming.insert(start.partition, Coming::new(start, held, self.shared, now));
    }

    /// A partition was revoked.
    pub fn give_up(&mut self, number: i32, outbox: &impl Outbox) {
        self.coming.remove(&number);
        self.panicked.retain(|(partition, _)| *partition != number);
        self.saver.end(number);
        if let Some(partition) = self.partitions.remove(&number) {
            self.leaving.push((outbox.sent(), partition));
        }
        self.shared.refusals.remove(number);
        self.shared.metrics.forget(number);
    }

    /// Reads a message of a partition that was assigned.
    pub fn read(&mut self, message: &LogMessage<'_>, now: Instant) -> Result<(), ScorerError> {
        if let Some(partition) = self.partitions.get_mut(&message.partition) {
            if let Some(panicked) = partition.read(message, self.shared)? {
                self.partitions.remove(&message.partition);
                self.saver.end(message.partition);
                self.panicked.push((message.partition, panicked));
            }
            return Ok(());
        }
        if let Some(coming) = self.coming.get_mut(&message.partition) {
            coming.prove(message, self.shared, now);
        }
        Ok(())
    }

    /// The end of a partition was reached.
    pub fn reached_end(&mut self, number: i32, now: Instant) {
        if let Some(partition) = self.partitions.get_mut(&number) {
            partition.end_seen = Some(now);
        }
    }

    /// Goes on with what is under way: brings partitions that were taken over further, writes rows that waited long enough, and
    /// takes checkpoints that are due.
    pub fn step(&mut self, seat: &impl Seat, outbox: &mut impl Outbox, now: Instant) -> Result<(), ScorerError> {
        for (number, panicked) in std::mem::take(&mut self.panicked) {
            self.set_aside(number, &panicked, seat, now)?;
        }
        self.restore(seat, now)?;
        self.keep(outbox, now);
        self.emit(Emit::Waiting, outbox, now)?;
        self.saver.step(&mut self.partitions, outbox, now)
    }

    /// Writes all rows there are.
    pub fn finish(&mut self, outbox: &mut impl Outbox, now: Instant) -> Result<(), ScorerError> {
        self.emit(Emit::All, outbox, now)
    }

    /// Shows on the metrics how far everything is.
    pub fn show(&mut self, now: Instant) {
        for (number, partition) in &mut self.partitions {
            self.shared.metrics.show(*number, &partition.fold, partition.caught_up(now));
            partition.report(self.shared, now);
        }
        self.saver.show();
        self.shared.held.expire(now);
    }

    /// Keeps states that were given up, in case they come back, to whichever thread. What was sent from them must have arrived: if it was
    /// lost, it would be missing for ever, and what another thread sends could overtake it.
    fn keep(&mut self, outbox: &impl Outbox, now: Instant) {
        let acknowledged = outbox.acknowledged_until();
        for (_, partition) in self.leaving.extract_if(.., |(sent, _)| *sent <= acknowledged) {
            self.shared.held.keep(partition, now);
        }
    }

    /// The partition begins again without the shop on which the fold panicked.
    fn set_aside(&mut self, number: i32, panicked: &Panicked, seat: &impl Seat, now: Instant) -> Result<(), ScorerError> {
        let Panicked { shop, offset, cause } = panicked;
        tracing::error!(
            partition = number,
            offset,
            shop,
            cause,
            "the fold of this shop panicked on the frame; the shop is set aside, the others go on; its events stay in the log: \
             restart with a mended version, or report the frame"
        );
        if !self.shared.aside.add(number, panicked) {
            return Err(ScorerError::Panicked {
                shop: shop.clone(),
                partition: number,
                offset: *offset,
            });
        }
        let topic = &self.shared.config.topics.shop_log;
        seat.hold(topic, number, *offset)?;
        let (low, high) = seat.watermarks(topic, number)?;
        let start = Start {
            topic: topic.clone(),
            partition: number,
            offset: low,
            low,
            high,
            metadata: None,
        };
        self.coming.insert(number, Coming::new(&start, None, self.shared, now));
        Ok(())
    }

    fn restore(&mut self, seat: &impl Seat, now: Instant) -> Result<(), ScorerError> {
        let mut ready = Vec::new();
        for coming in self.coming.values_mut() {
            ready.extend(coming.step(seat, self.shared, now)?);
        }
        for partition in ready {
            self.coming.remove(&partition.number);
            self.saver.begin(&partition, now);
            self.partitions.insert(partition.number, partition);
        }
        Ok(())
    }

    fn emit(&mut self, which: Emit, outbox: &mut impl Outbox, now: Instant) -> Result<(), ScorerError> {
        for partition in self.partitions.values_mut() {
            partition.emit(which, outbox, self.shared, now)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
