//! States of partitions that were given up, in case they come back.
//!
//! A state stays right whoever has the partition in between, for it follows from the log alone; but after a while a checkpoint
//! of the other owner is further, and memory is better used. So it is kept for as long as checkpoints are apart.
//!
//! Always holds: a state is handed out only when every output before it is acknowledged. Another thread goes on from it with another
//! producer, whose messages could overtake those that are on their way: their readers would see a gap, and nobody would repeat
//! what came before its time.

use crate::partition::Partition;
use peakdesk_log::delivery::Receipt;
use peakdesk_runtime::config::CheckpointConfig;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// At most so many, for so long; shared by the threads of the role, as a partition may come back to another one.
pub struct Held {
    states: Mutex<VecDeque<Kept>>,
    max: usize,
    limit: Duration,
}

struct Kept {
    since: Instant,
    partition: Partition,
    /// Of all that its thread had sent.
    outputs: Receipt,
}

impl Held {
    /// None yet.
    pub fn new(config: &CheckpointConfig) -> Self {
        Held {
            states: Mutex::default(),
            max: config.hold,
            limit: config.every,
        }
    }

    /// Keeps a state, with the receipt of all that was sent before; the one kept longest goes if there are too many.
    pub(crate) fn keep(&self, partition: Partition, outputs: Receipt) {
        let mut states = self.states();
        states.push_back(Kept {
            since: Instant::now(),
            partition,
            outputs,
        });
        let gone = if states.len() > self.max { states.pop_front() } else { None };
        // Letting go of a large state takes time that the other threads need not wait for.
        drop(states);
        drop(gone);
    }

    /// Takes a state out.
    pub(crate) fn take(&self, number: i32) -> Option<Partition> {
        self.expire();
        let mut states = self.states();
        let at = states.iter().position(|kept| kept.partition.number == number)?;
        let kept = states.remove(at)?;
        drop(states);
        kept.outputs.is_acknowledged().then_some(kept.partition)
    }

    /// Lets go of what was kept for too long.
    pub(crate) fn expire(&self) {
        let mut states = self.states();
        let n = states.iter().take_while(|kept| kept.since.elapsed() > self.limit).count();
        let gone: Vec<_> = states.drain(..n).collect();
        drop(states);
        drop(gone);
    }

    fn states(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use peakdesk_log::delivery::{Delivery, Outgoing};
    use peakdesk_scoring::fold::Fold;
    use peakdesk_scoring::policy::Constants;
    use rdkafka::ClientConfig;

    #[test]
    fn a_state_whose_outputs_are_on_their_way_is_not_handed_on() {
        let nobody = "127.0.0.1:1";
        let mut delivery = Delivery::new(ClientConfig::new().set("bootstrap.servers", nobody)).unwrap();
        let held = Held {
            states: Mutex::default(),
            max: 2,
            limit: Duration::from_secs(600),
        };
        let keep = |delivery: &Delivery| held.keep(Partition::new(3, Fold::new(Constants::default()), 7, 0), delivery.receipt());
        keep(&delivery);
        assert!(held.take(3).is_some());
        let message = Outgoing {
            topic: "results",
            partition: 3,
            key: None,
            payload: Some(b"rows"),
            headers: None,
        };
        delivery.send(message).unwrap();
        keep(&delivery);
        assert!(held.take(3).is_none());
    }
}
