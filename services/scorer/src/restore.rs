//! From an assigned partition to one that is folded: which state it goes on from.
//!
//! ```text
//! assigned, paused ─► a state in memory? ─► newest good checkpoint? ─► the beginning, if the log still has it ─► refused
//!                          └───────────┬───────────────┘  ▲                          │
//!                       the message before it in the log  │                          ▼
//!                       is the one it has folded? ── no ──┘ next older            resumed
//! ```
//!
//! Always holds: a state is used only in the log it was made from; nothing here waits, so that other partitions are read in the
//! meantime; what is dropped (the partition was revoked) is cancelled.

use crate::core::{LogMessage, Seat};
use crate::partition::Partition;
use crate::{ScorerError, Shared};
use peakdesk_checkpoint::keeper::{Found, Progress, Task};
use peakdesk_checkpoint::store::StoreError;
use peakdesk_log::error::LogError;
use peakdesk_log::group::Start;
use peakdesk_scoring::fold::Fold;
use peakdesk_scoring::snapshot::STATE_VERSION;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_128;

/// How long a store may fail before the log is folded from its beginning instead, where it still has one.
const STORE_PATIENCE: Duration = Duration::from_secs(60);
const STORE_AGAIN: Duration = Duration::from_secs(5);
/// How long the client may refuse to go to an offset: it may just be learning who leads the partition.
const SEEK_PATIENCE: Duration = Duration::from_secs(60);

type Search = Task<Result<Found<Fold>, StoreError>>;

/// A partition that is assigned and not folded yet.
pub(crate) struct Coming {
    number: i32,
    low: i64,
    high: i64,
    phase: Phase,
    begun: Instant,
    /// Checkpoints that cannot be used, and why.
    unusable: Vec<(i64, String)>,
    from: &'static str,
}

enum Phase {
    /// A checkpoint below this offset is to be looked for, at this moment or later.
    Due(i64, Instant),
    Looking(i64, Search),
    /// The client is to go to where this state goes on.
    Seeking(Box<Partition>),
    /// The message before the state is on its way.
    Proving(Box<Partition>),
    /// It can be folded from here on.
    Ready(Box<Partition>),
    Refused,
}

impl Coming {
    /// A partition that was just assigned; `held` is its state if it was kept in memory.
    pub(crate) fn new(start: &Start, held: Option<Partition>, shared: &Shared, now: Instant) -> Self {
        let (number, low, high) = (start.partition, start.low, start.high);
        shared.metrics.restoring.with_label_values(&[&number.to_string()]).set(1);
        shared.metrics.show_left(number, high - low);
        let held = held.filter(|p| (low..=high).contains(&p.next));
        Coming {
            number,
            low,
            high,
            begun: now,
            unusable: Vec::new(),
            from: if held.is_some() { "memory" } else { "checkpoint" },
            phase: match held {
                Some(partition) => Phase::Seeking(Box::new(partition)),
                None => Phase::Due(high + 1, now),
            },
        }
    }

    /// Goes on as far as it can without waiting; the partition, once it is to be folded.
    pub(crate) fn step(&mut self, seat: &impl Seat, shared: &Shared, now: Instant) -> Result<Option<Partition>, ScorerError> {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Refused) {
            Phase::Due(below, at) if at > now => Phase::Due(below, at),
            Phase::Due(below, _) => self.look(below, shared, now),
            Phase::Looking(below, mut search) => match search.look() {
                Progress::Running => Phase::Looking(below, search),
                Progress::Done(Ok(found)) => self.found(found, shared, now),
                Progress::Done(Err(error)) => self.store_failed(below, &error.to_string(), shared, now),
                Progress::Lost => self.store_failed(below, "the search ended without a word", shared, now),
            },
            Phase::Seeking(partition) => self.seek(partition, seat, shared, now)?,
            other => other,
        };
        if let Some(why) = self.waits_for() {
            seat.waits_for(&shared.config.topics.shop_log, self.number, why);
        }
        if !matches!(self.phase, Phase::Ready(_)) {
            return Ok(None);
        }
        match std::mem::replace(&mut self.phase, Phase::Refused) {
            Phase::Ready(partition) => Ok(Some(self.ready(*partition, shared, now))),
            _ => Ok(None),
        }
    }

    /// What keeps the partition from being read, while it is not.
    fn waits_for(&self) -> Option<&'static str> {
        match &self.phase {
            Phase::Due(..) => Some("checkpoints could not be read; they are tried again"),
            Phase::Looking(..) => Some("its state is being restored from a checkpoint"),
            Phase::Seeking(_) => Some("its state is restored; the client does not go to its place in the log yet"),
            Phase::Refused => Some("it cannot start without a state; /readyz and the log say what it needs"),
            Phase::Proving(_) | Phase::Ready(_) => None,
        }
    }

    /// Looks at a message of the partition: whether it is the one that the state has folded last.
    pub(crate) fn prove(&mut self, message: &LogMessage<'_>, shared: &Shared, now: Instant) {
        let Phase::Proving(partition) = &self.phase else { return };
        let (offset, next) = (message.offset, partition.next);
        if offset < next - 1 {
            return;
        }
        let is_it = offset == next - 1 && xxh3_128(message.payload) == partition.last_message;
        let phase = std::mem::replace(&mut self.phase, Phase::Due(next, now));
        match phase {
            Phase::Proving(partition) if is_it => self.phase = Phase::Ready(partition),
            _ => {
                let why = format!("is of another log: the message at offset {} is not the one it has folded", next - 1);
                self.unusable(next, why, shared);
                self.from = "checkpoint";
            }
        }
    }

    fn look(&mut self, below: i64, shared: &Shared, now: Instant) -> Phase {
        let first = self.low.max(1);
        let keeper = match &shared.keeper {
            Some(keeper) if first < below && self.high > 0 => keeper,
            _ => return self.without(shared, now),
        };
        let constants = shared.constants.clone();
        let same_constants = move |fold: &Fold| match *fold.constants() == constants {
            true => Ok(()),
            false => Err("was made with other settings of [scoring]".to_owned()),
        };
        let topic = &shared.config.topics.shop_log;
        let search = keeper.find(topic, self.number, first..=below - 1, STATE_VERSION, same_constants);
        Phase::Looking(below, search)
    }

    fn found(&mut self, found: Found<Fold>, shared: &Shared, now: Instant) -> Phase {
        for (offset, why) in found.refused {
            self.unusable(offset, why, shared);
        }
        match found.newest {
            Some((head, mut fold)) => {
                // The policy may be another since: when a rule is looked at next was planned by the old one.
                fold.look_at_all();
                let partition = Partition::new(self.number, fold, head.offset, head.last_message, now);
                Phase::Seeking(Box::new(partition))
            }
            None => self.without(shared, now),
        }
    }

    fn unusable(&mut self, offset: i64, why: String, shared: &Shared) {
        if self.unusable.iter().any(|(known, _)| *known == offset) {
            return;
        }
        shared.metrics.checkpoints.with_label_values(&["unusable"]).inc();
        tracing::error!(
            partition = self.number,
            offset,
            why,
            "a checkpoint cannot be used; trying the next older"
        );
        self.unusable.push((offset, why));
    }

    /// A log that is whole needs no store.
    fn store_failed(&mut self, below: i64, error: &str, shared: &Shared, now: Instant) -> Phase {
        if self.low == 0 && now.duration_since(self.begun) >= STORE_PATIENCE {
            tracing::error!(
                partition = self.number,
                error,
                "checkpoints cannot be read; folding from the beginning of the log"
            );
            return self.without(shared, now);
        }
        tracing::warn!(partition = self.number, error, again_in = ?STORE_AGAIN, "checkpoints cannot be read; trying again");
        Phase::Due(below, now + STORE_AGAIN)
    }

    /// No state can be used: the beginning of the log, or nothing.
    fn without(&mut self, shared: &Shared, now: Instant) -> Phase {
        if self.low == 0 {
            self.from = "beginning";
            let fold = Fold::new(shared.constants.clone());
            return Phase::Seeking(Box::new(Partition::new(self.number, fold, 0, 0, now)));
        }
        let (number, low, high) = (self.number, self.low, self.high);
        let has: Vec<String> = self.unusable.iter().map(|(offset, why)| format!("{offset} ({why})")).collect();
        let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
        let place = shared.keeper.as_ref().map_or("nowhere: checkpoint.enabled is false", |k| k.url());
        let why = format!(
            "{}[{number}] cannot start: the log holds offsets {low} to {high}, a state must hold everything before an offset from {low} to {high}, \
             or the log must begin at 0; checkpoints at {place}: {has}; bring back a checkpoint or the log and restart, or replay into a new log",
            shared.config.topics.shop_log
        );
        tracing::error!(partition = number, low, high, "{why}");
        let label = number.to_string();
        shared.metrics.refused.with_label_values(&[&label]).set(1);
        shared.metrics.restoring.with_label_values(&[&label]).set(0);
        shared.metrics.restores.with_label_values(&["refused"]).inc();
        shared.metrics.show_left(number, 0);
        shared.refusals.add(number, why);
        Phase::Refused
    }

    /// Goes to the message before the state, where there is one that can prove it.
    fn seek(&mut self, partition: Box<Partition>, seat: &impl Seat, shared: &Shared, now: Instant) -> Result<Phase, ScorerError> {
        let topic = &shared.config.topics.shop_log;
        let next = partition.next;
        let proves = next > self.low;
        match seat.hold(topic, self.number, if proves { next - 1 } else { next }) {
            Ok(()) => {
                seat.resume(topic, self.number)?;
                Ok(if proves {
                    Phase::Proving(partition)
                } else {
                    Phase::Ready(partition)
                })
            }
            Err(error @ LogError::Read { .. }) if now.duration_since(self.begun) < SEEK_PATIENCE => {
                tracing::debug!(%error, partition = self.number, "trying again");
                Ok(Phase::Seeking(partition))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn ready(&mut self, mut partition: Partition, shared: &Shared, now: Instant) -> Partition {
        shared.aside.apply(self.number, partition.next, &mut partition.fold);
        partition.begin(self.high, shared, now);
        shared.metrics.restores.with_label_values(&[self.from]).inc();
        shared.metrics.restoring.with_label_values(&[&self.number.to_string()]).set(0);
        tracing::info!(
            partition = self.number,
            from = self.from,
            offset = partition.next,
            end = self.high,
            took = ?now.duration_since(self.begun),
            "state restored"
        );
        partition
    }
}
