//! States of partitions that were given up, in case they come back.
//!
//! A state stays right whoever has the partition in between, for it follows from the log alone; but after a while a checkpoint
//! of the other owner is further, and memory is better used. So it is kept for as long as checkpoints are apart.

use crate::partition::Partition;
use peakdesk_runtime::config::CheckpointConfig;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// At most so many, for so long; shared by the threads of the role, as a partition may come back to another one.
pub struct Held {
    states: Mutex<VecDeque<(Instant, Partition)>>,
    max: usize,
    limit: Duration,
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

    /// Keeps a state; the one kept longest goes if there are too many.
    pub(crate) fn keep(&self, partition: Partition, now: Instant) {
        let mut states = self.states();
        states.push_back((now, partition));
        let gone = if states.len() > self.max { states.pop_front() } else { None };
        // Letting go of a large state takes time that the other threads need not wait for.
        drop(states);
        drop(gone);
    }

    /// Takes a state out.
    pub(crate) fn take(&self, number: i32, now: Instant) -> Option<Partition> {
        self.expire(now);
        let mut states = self.states();
        let at = states.iter().position(|(_, p)| p.number == number)?;
        states.remove(at).map(|(_, partition)| partition)
    }

    /// Lets go of what was kept for too long.
    pub(crate) fn expire(&self, now: Instant) {
        let mut states = self.states();
        let n = states
            .iter()
            .take_while(|(since, _)| now.duration_since(*since) > self.limit)
            .count();
        let gone: Vec<_> = states.drain(..n).collect();
        drop(states);
        drop(gone);
    }

    fn states(&self) -> MutexGuard<'_, VecDeque<(Instant, Partition)>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
