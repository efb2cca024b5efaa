//! States of partitions that were given up, in case they come back.
//!
//! A state stays right whoever has the partition in between, for it follows from the log alone; but after a while a checkpoint
//! of the other owner is further, and memory is better used. So it is kept for as long as checkpoints are apart.

use crate::partition::Partition;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// At most so many, for so long.
pub(crate) struct Held {
    states: VecDeque<(Instant, Partition)>,
    max: usize,
    limit: Duration,
}

impl Held {
    pub(crate) fn new(max: usize, limit: Duration) -> Self {
        Held {
            states: VecDeque::new(),
            max,
            limit,
        }
    }

    /// Keeps a state; the one kept longest goes if there are too many.
    pub(crate) fn keep(&mut self, partition: Partition) {
        self.states.push_back((Instant::now(), partition));
        if self.states.len() > self.max {
            self.states.pop_front();
        }
    }

    /// Takes a state out.
    pub(crate) fn take(&mut self, number: i32) -> Option<Partition> {
        self.expire();
        let at = self.states.iter().position(|(_, p)| p.number == number)?;
        self.states.remove(at).map(|(_, partition)| partition)
    }

    /// Lets go of what was kept for too long.
    pub(crate) fn expire(&mut self) {
        let limit = self.limit;
        self.states.retain(|(since, _)| since.elapsed() <= limit);
    }
}
