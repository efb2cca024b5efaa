//! The scorer role: reads the shop log, folds it, and writes what follows.
//!
//! ```text
//! shop log (one partition) ─► frame ─► fold ─┬─► rows ─► results (the same partition), with the span of positions they cover
//!                                     │      ├─► transitions ─► alerts, the same way but at once
//!                                     │      └─► newest figures ─► live, best effort
//!                          checkpoint ▼▲ when the partition is taken over
//! ```
//!
//! A worker thread owns a consumer, a producer and the folds of the partitions assigned to it (shared nothing). A partition
//! that is taken over goes on from the newest checkpoint that can be used (`restore`), else from the beginning of the log: the
//! results behind it are the same as before, at the same positions, and their readers know them as repeats. Two scorers on
//! one partition write the same twice. Checkpoints are taken while the fold goes on (`save`).
//!
//! Not here: the form of a checkpoint and where it lies (the checkpoint crate); what is in a state (the scoring crate).

mod aside;
mod emit;
mod hold;
mod live;
mod metrics;
mod partition;
mod refusals;
mod restore;
mod save;

pub use aside::Aside;
pub use hold::Held;
pub use metrics::ScorerMetrics;
pub use refusals::Refusals;

use aside::Panicked;
use partition::{Emit, Partition};
use peakdesk_checkpoint::keeper::Keeper;
use peakdesk_checkpoint::store::StoreConfig;
use peakdesk_log::client;
use peakdesk_log::delivery::Delivery;
use peakdesk_log::error::LogError;
use peakdesk_log::group::{Begin, Change, Member, Polled, Start};
use peakdesk_model::envelope::EnvelopeError;
use peakdesk_runtime::config::{CheckpointConfig, Config};
use peakdesk_runtime::health::Heartbeat;
use peakdesk_runtime::shutdown::Shutdown;
use peakdesk_scoring::policy::{Constants, Policies};
use rdkafka::message::{BorrowedMessage, Message};
use restore::Coming;
use save::Saver;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);
/// At the end: whoever asked for it kills what takes longer than half a minute.
const FLUSH_PATIENCE: Duration = Duration::from_secs(10);

/// Why the role ends.
#[derive(Debug, thiserror::Error)]
pub enum ScorerError {
    /// Kafka.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The fold of a shop panicked although the shop is set aside: a defect.
    #[error("the fold of shop {shop}, which is set aside, panicked at {partition}[{offset}]")]
    Panicked {
        /// Which.
        shop: String,
        /// Of the shop log.
        partition: i32,
        /// Of the frame.
        offset: i64,
    },
    /// Rows could not be encoded: a defect.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Rows could not be made a batch: a defect.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
}

/// What the threads of a role share.
pub struct Shared {
    /// Configuration.
    pub config: Config,
    /// Constants of the deployment.
    pub constants: Constants,
    /// Policies.
    pub policies: Policies,
    /// Counters.
    pub metrics: ScorerMetrics,
    /// Saves and finds checkpoints; `None`: there are none.
    pub keeper: Option<Keeper>,
    /// Partitions that cannot start.
    pub refusals: Refusals,
    /// Shops on which the fold panicked.
    pub aside: Aside,
    /// States of partitions that were given up by any of the threads.
    pub held: Held,
    /// Ends the loops.
    pub shutdown: Shutdown,
}

/// Where checkpoints are, as the checkpoint crate takes it.
pub fn store_config(config: &CheckpointConfig) -> StoreConfig {
    StoreConfig {
        url: config.url.clone(),
        endpoint: config.endpoint.clone(),
        region: config.region.clone(),
        allow_http: config.allow_http,
        keep: config.keep,
    }
}

struct Worker<'s> {
    shared: &'s Shared,
    delivery: Delivery,
    live: live::Teller<'s>,
    saver: Saver<'s>,
    /// Assigned and not folded yet.
    coming: BTreeMap<i32, Coming>,
    partitions: BTreeMap<i32, Partition>,
    shown_at: Instant,
}

impl Drop for Worker<'_> {
    /// A thread that failed has no partition until it has begun again.
    fn drop(&mut self) {
        for number in self.coming.keys().chain(self.partitions.keys()) {
            self.shared.refusals.remove(*number);
            self.shared.metrics.forget(*number);
        }
    }
}

/// Runs one thread until shutdown; an error is the end of the role.
pub fn run(shared: &Shared, heartbeat: &Heartbeat) -> Result<(), ScorerError> {
    let config = &shared.config;
    let topic = config.topics.shop_log.as_str();
    let member = Member::join(&client::consumer(&config.kafka, "scorer"), &[topic], Begin::Held)?
        .watched(heartbeat)
        .until(&shared.shutdown);
    let delivery = Delivery::new(&client::producer(&config.kafka))?;
    aside::mark_points();
    let mut worker = Worker {
        shared,
        delivery,
        live: live::Teller::new(shared)?,
        saver: Saver::new(shared),
        coming: BTreeMap::new(),
        partitions: BTreeMap::new(),
        shown_at: Instant::now(),
    };
    while !shared.shutdown.is_requested() {
        heartbeat.beat();
        let polled = member.poll(POLL)?;
        worker.change(member.changes()?);
        match &polled {
            Polled::Message(message) => worker.read(message, &member)?,
            Polled::End(number) => {
                if let Some(partition) = worker.partitions.get_mut(number) {
                    partition.end_seen = Some(Instant::now());
                }
            }
            Polled::Nothing => {}
        }
        worker.restore(&member)?;
        worker.emit(Emit::Waiting)?;
        worker.saver.step(&mut worker.partitions, &mut worker.delivery)?;
        worker.live.tell(&mut worker.partitions);
        worker.show();
    }
    worker.emit(Emit::All)?;
    Ok(worker.delivery.flush(FLUSH_PATIENCE)?)
}

impl Worker<'_> {
    fn change(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Assigned(starts) => {
                    tracing::info!(partitions = ?starts.iter().map(|s| s.partition).collect::<Vec<_>>(), "log partitions taken over");
                    starts.iter().for_each(|start| self.take_over(start));
                }
                Change::Revoked(gone) => {
                    tracing::info!(partitions = ?gone.iter().map(|g| g.1).collect::<Vec<_>>(), "log partitions given up");
                    gone.iter().for_each(|(_, number)| self.give_up(*number));
                }
            }
        }
    }

    fn take_over(&mut self, start: &Start) {
        let held = self.shared.held.take(start.partition);
        self.coming.insert(start.partition, Coming::new(start, held, self.shared));
    }

    fn give_up(&mut self, number: i32) {
        self.coming.remove(&number);
        self.saver.end(number);
        if let Some(partition) = self.partitions.remove(&number) {
            self.shared.held.keep(partition, self.delivery.receipt());
        }
        self.shared.refusals.remove(number);
        self.shared.metrics.forget(number);
    }

    /// Brings partitions that were taken over further, and folds those that can be.
    fn restore(&mut self, member: &Member) -> Result<(), ScorerError> {
        let mut ready = Vec::new();
        for coming in self.coming.values_mut() {
            ready.extend(coming.step(member, self.shared)?);
        }
        for partition in ready {
            self.coming.remove(&partition.number);
            self.saver.begin(&partition);
            self.partitions.insert(partition.number, partition);
        }
        Ok(())
    }

    fn read(&mut self, message: &BorrowedMessage<'_>, member: &Member) -> Result<(), ScorerError> {
        if let Some(partition) = self.partitions.get_mut(&message.partition()) {
            return match partition.read(message, self.shared)? {
                Some(panicked) => self.set_aside(message.partition(), &panicked, member),
                None => Ok(()),
            };
        }
        if let Some(coming) = self.coming.get_mut(&message.partition()) {
            coming.prove(message, self.shared);
        }
        Ok(())
    }

    /// The partition begins again without the shop on which the fold panicked.
    fn set_aside(&mut self, number: i32, panicked: &Panicked, member: &Member) -> Result<(), ScorerError> {
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
        member.hold(topic, number, *offset)?;
        let (low, high) = member.watermarks(topic, number)?;
        self.partitions.remove(&number);
        self.saver.end(number);
        let start = Start {
            topic: topic.clone(),
            partition: number,
            offset: low,
            low,
            high,
            metadata: None,
        };
        self.coming.insert(number, Coming::new(&start, None, self.shared));
        Ok(())
    }

    fn emit(&mut self, which: Emit) -> Result<(), ScorerError> {
        self.delivery.poll();
        self.delivery.check()?;
        for partition in self.partitions.values_mut() {
            partition.emit(which, &mut self.delivery, self.shared)?;
        }
        Ok(())
    }

    fn show(&mut self) {
        if self.shown_at.elapsed() < Duration::from_secs(1) {
            return;
        }
        self.shown_at = Instant::now();
        for (number, partition) in &mut self.partitions {
            self.shared.metrics.show(*number, &partition.fold, partition.caught_up());
            partition.report();
        }
        self.saver.show();
        self.shared.held.expire();
    }
}
