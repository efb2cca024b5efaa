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
//! What a worker does with its partitions is in [`core`], which knows no Kafka, so that a simulation can drive it.
//!
//! Not here: the form of a checkpoint and where it lies (the checkpoint crate); what is in a state (the scoring crate).

mod aside;
pub mod core;
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

use core::{Core, LogMessage};
use peakdesk_checkpoint::keeper::Keeper;
use peakdesk_checkpoint::store::StoreConfig;
use peakdesk_log::client;
use peakdesk_log::delivery::Delivery;
use peakdesk_log::error::LogError;
use peakdesk_log::group::{Begin, Change, Member, Polled};
use peakdesk_model::envelope::EnvelopeError;
use peakdesk_runtime::config::{CheckpointConfig, Config};
use peakdesk_runtime::health::Heartbeat;
use peakdesk_runtime::shutdown::Shutdown;
use peakdesk_scoring::policy::{Constants, Policies};
use rdkafka::message::Message;
use std::sync::Arc;
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
    pub keeper: Option<Arc<Keeper>>,
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
        request_timeout: config.request_timeout,
        keep: config.keep,
    }
}

struct Worker<'s> {
    delivery: Delivery,
    live: live::Teller<'s>,
    core: Core<'s>,
    shown_at: Instant,
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
        delivery,
        live: live::Teller::new(shared)?,
        core: Core::new(shared),
        shown_at: Instant::now(),
    };
    while !shared.shutdown.is_requested() {
        heartbeat.beat();
        let polled = member.poll(POLL)?;
        worker.change(member.changes()?);
        let now = Instant::now();
        match &polled {
            Polled::Message(message) => worker.core.read(
                &LogMessage {
                    partition: message.partition(),
                    offset: message.offset(),
                    payload: message.payload().unwrap_or(&[]),
                },
                now,
            )?,
            Polled::End(number) => worker.core.reached_end(*number, now),
            Polled::Nothing => {}
        }
        worker.delivery.poll();
        worker.delivery.check()?;
        worker.core.step(&member, &mut worker.delivery, now)?;
        worker.live.tell(&mut worker.core.partitions);
        worker.show(now);
    }
    worker.core.finish(&mut worker.delivery, Instant::now())?;
    Ok(worker.delivery.flush(FLUSH_PATIENCE)?)
}

impl Worker<'_> {
    fn change(&mut self, changes: Vec<Change>) {
        let now = Instant::now();
        for change in changes {
            match change {
                Change::Assigned(starts) => {
                    tracing::info!(partitions = ?starts.iter().map(|s| s.partition).collect::<Vec<_>>(), "log partitions taken over");
                    starts.iter().for_each(|start| self.core.take_over(start, now));
                }
                Change::Revoked(gone) => {
                    tracing::info!(partitions = ?gone.iter().map(|g| g.1).collect::<Vec<_>>(), "log partitions given up");
                    gone.iter().for_each(|(_, number)| self.core.give_up(*number, &self.delivery));
                }
            }
        }
    }

    fn show(&mut self, now: Instant) {
        if now.duration_since(self.shown_at) >= Duration::from_secs(1) {
            self.shown_at = now;
            self.core.show(now);
        }
    }
}
