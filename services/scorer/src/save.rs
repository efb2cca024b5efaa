//! Checkpoints of the partitions of a worker, one after the other.
//!
//! ```text
//! due ─► write all rows ─► snapshot (the fold goes on) ─► every row before it acknowledged? ─► keeper saves it
//! ```
//!
//! Always holds: a checkpoint is published only when every output before its offset is acknowledged, so whoever goes on from
//! it leaves no gap. A failure is counted and tried again; the fold goes on.

use crate::core::Outbox;
use crate::partition::{Emit, Partition};
use crate::{ScorerError, Shared};
use peakdesk_checkpoint::form::Head;
use peakdesk_checkpoint::keeper::{Keeper, Progress, SaveError, Task};
use peakdesk_log::group::wall_ms;
use peakdesk_scoring::snapshot::Snapshot;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// After a failure.
const AGAIN: Duration = Duration::from_secs(10);
/// First checkpoints of partitions taken over together are spread over so many parts of the interval.
const SPREAD: u32 = 8;

/// Takes checkpoints.
pub(crate) struct Saver<'s> {
    shared: &'s Shared,
    plans: BTreeMap<i32, Plan>,
    /// The one that is being taken: one at a time, for the memory it takes.
    taken: Option<Taken>,
}

/// When the next one of a partition is due.
struct Plan {
    due: Instant,
    /// Offset of the last one; another at the same offset would say the same.
    saved: i64,
    /// When its state was taken (ms); without one, since when the partition is folded.
    taken_at_ms: i64,
}

struct Taken {
    head: Head,
    state: State,
}

enum State {
    /// Not published before all messages sent before this number are acknowledged.
    Unacknowledged(u64, Snapshot),
    Saving(Task<Result<u64, SaveError>>),
}

impl<'s> Saver<'s> {
    pub(crate) fn new(shared: &'s Shared) -> Self {
        Saver {
            shared,
            plans: BTreeMap::new(),
            taken: None,
        }
    }

    /// A partition is folded from here on.
    pub(crate) fn begin(&mut self, partition: &Partition, now: Instant) {
        let every = self.shared.config.checkpoint.every;
        let part = 1 + partition.number.unsigned_abs() % SPREAD;
        let plan = Plan {
            due: now + every * part / SPREAD,
            saved: partition.next,
            taken_at_ms: wall_ms(),
        };
        self.plans.insert(partition.number, plan);
    }

    /// A partition is given up. What is being saved of it may be finished: whoever has it now may use it.
    pub(crate) fn end(&mut self, number: i32) {
        self.plans.remove(&number);
    }

    /// Goes on without waiting.
    pub(crate) fn step(
        &mut self,
        partitions: &mut BTreeMap<i32, Partition>,
        outbox: &mut impl Outbox,
        now: Instant,
    ) -> Result<(), ScorerError> {
        let Some(keeper) = &self.shared.keeper else { return Ok(()) };
        self.taken = match self.taken.take() {
            Some(taken) => self.go_on(taken, keeper, outbox, now),
            None => self.take(partitions, outbox, now)?,
        };
        Ok(())
    }

    fn take(
        &mut self,
        partitions: &mut BTreeMap<i32, Partition>,
        outbox: &mut impl Outbox,
        now: Instant,
    ) -> Result<Option<Taken>, ScorerError> {
        let begun = Instant::now();
        let due = self
            .plans
            .iter()
            .filter(|(_, plan)| plan.due <= now)
            .min_by_key(|(_, plan)| plan.due);
        let Some((number, saved)) = due.map(|(number, plan)| (*number, plan.saved)) else {
            return Ok(None);
        };
        let worth_it = |p: &&mut Partition| p.next > saved && p.fold.shops_set_aside() == 0;
        let Some(partition) = partitions.get_mut(&number).filter(worth_it) else {
            self.again(number, self.shared.config.checkpoint.every, now);
            return Ok(None);
        };
        partition.emit(Emit::All, outbox, self.shared, now)?;
        let snapshot = partition.fold.snapshot();
        self.shared.metrics.checkpoint_pause.observe(begun.elapsed().as_secs_f64());
        Ok(Some(Taken {
            head: partition.head(&self.shared.config.topics.shop_log),
            state: State::Unacknowledged(outbox.sent(), snapshot),
        }))
    }

    fn go_on(&mut self, taken: Taken, keeper: &Keeper, outbox: &impl Outbox, now: Instant) -> Option<Taken> {
        let Taken { head, state } = taken;
        let state = match state {
            State::Unacknowledged(sent, snapshot) if outbox.acknowledged_until() < sent => State::Unacknowledged(sent, snapshot),
            State::Unacknowledged(_, snapshot) => State::Saving(keeper.save(head.clone(), snapshot)),
            State::Saving(mut task) => match task.look() {
                Progress::Running => State::Saving(task),
                Progress::Done(Ok(bytes)) => {
                    self.saved(&head, bytes, now);
                    return None;
                }
                Progress::Done(Err(error)) => {
                    self.failed(&head, &error.to_string(), now);
                    return None;
                }
                Progress::Lost => {
                    self.failed(&head, "it ended without a word", now);
                    return None;
                }
            },
        };
        Some(Taken { head, state })
    }

    fn saved(&mut self, head: &Head, bytes: u64, now: Instant) {
        let (metrics, every) = (&self.shared.metrics, self.shared.config.checkpoint.every);
        metrics.checkpoints.with_label_values(&["saved"]).inc();
        tracing::debug!(partition = head.partition, offset = head.offset, bytes, "checkpoint saved");
        if let Some(plan) = self.plans.get_mut(&head.partition) {
            let label = head.partition.to_string();
            metrics.checkpoint_bytes.with_label_values(&[&label]).set(bytes as i64);
            plan.saved = head.offset;
            plan.taken_at_ms = head.taken_at_ms;
            plan.due = now + every;
        }
    }

    fn failed(&mut self, head: &Head, error: &str, now: Instant) {
        self.shared.metrics.checkpoints.with_label_values(&["failed"]).inc();
        tracing::error!(
            partition = head.partition,
            offset = head.offset,
            error,
            "checkpoint not saved; scoring goes on, and the next one is tried"
        );
        self.again(head.partition, AGAIN.min(self.shared.config.checkpoint.every), now);
    }

    fn again(&mut self, number: i32, wait: Duration, now: Instant) {
        if let Some(plan) = self.plans.get_mut(&number) {
            plan.due = now + wait;
        }
    }

    /// Shows the ages.
    pub(crate) fn show(&self) {
        let now = wall_ms();
        for (number, plan) in self.plans.iter().filter(|_| self.shared.keeper.is_some()) {
            let age = &self.shared.metrics.checkpoint_age;
            age.with_label_values(&[&number.to_string()]).set((now - plan.taken_at_ms) / 1000);
        }
    }
}
