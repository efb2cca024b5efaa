//! The role's loop: one thread owns the consumer, the core and the store.

use crate::api::Board;
use crate::core::{Core, EntryError, Writes};
use crate::message::{Fate, Outcome};
use crate::metrics::AlerterMetrics;
use crate::routes::{Language, Plan, RoutesError};
use crate::send::{Attempt, Ended, Senders};
use crate::store::{Store, StoreError};
use peakdesk_log::client;
use peakdesk_log::error::LogError;
use peakdesk_log::group::{Begin, Change, Member, Polled, wall_ms};
use peakdesk_model::alert::AlertRow;
use peakdesk_model::position::Coverage;
use peakdesk_model::results;
use peakdesk_runtime::config::Config;
use peakdesk_runtime::failpoint;
use peakdesk_runtime::health::Heartbeat;
use peakdesk_runtime::shutdown::Shutdown;
use rdkafka::message::{BorrowedMessage, Message};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver as Results, sync_channel};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);
/// Messages read between two looks at the receivers.
const BATCH_MAX: usize = 1_000;
/// Positions without alerts are written and committed this often, gauges set.
const EVERY: Duration = Duration::from_secs(1);
/// Before the name of a receiver: the key of its failed deliveries in the store.
const FAILED_KEY: &str = "d/";
/// How long the end waits for attempts under way.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the role ends.
#[derive(Debug, thiserror::Error)]
pub enum AlerterError {
    /// Kafka.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is in it.
    #[error("alerter state: {0}")]
    Entry(#[from] EntryError),
    /// The routes file.
    #[error(transparent)]
    Routes(#[from] RoutesError),
    /// There is no routes file.
    #[error("alerter.routes_file is empty: nobody would be told of anything; write a file like schemas/alerter.example.toml and name it")]
    NoRoutes,
    /// A defect in a sender: the role must not go on with a receiver that is told nothing.
    #[error("the sender of receiver {0} panicked; its message stands above")]
    Sender(String),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// What the role is given.
pub struct Shared {
    /// Configuration.
    pub config: Config,
    /// Receivers and routes.
    pub plan: Arc<Plan>,
    /// Counters.
    pub metrics: AlerterMetrics,
    /// What is shown of deliveries.
    pub board: Board,
    /// Ends the loop.
    pub shutdown: Shutdown,
}

/// The receivers and routes of a configuration; `None` where it names no file.
pub fn plan(config: &Config) -> Result<Option<Plan>, RoutesError> {
    let language = Language::from_name(config.alerter.language).unwrap_or(Language::Chinese);
    let file = config.alerter.routes_file.as_deref();
    file.map(|file| Plan::load(file, language)).transpose()
}

/// What is committed beside an offset: the store that has everything before it.
#[derive(Serialize, Deserialize)]
struct Committed {
    store: String,
}

struct Loop<'s> {
    shared: &'s Shared,
    store: Store,
    core: Core,
    senders: Senders,
    results: Results<Ended>,
    /// Attempts under way.
    under_way: usize,
    /// Per partition: the next offset, and the last that was committed.
    offsets: BTreeMap<i32, (i64, i64)>,
    /// Receivers whose failed deliveries are to be written down.
    failed: BTreeSet<String>,
    /// Something must be in the store before the next step.
    news: bool,
    looked: Option<Instant>,
}

/// Runs until shutdown.
pub fn run(shared: &Shared, heartbeat: &Heartbeat) -> Result<(), AlerterError> {
    let config = &shared.config;
    let store = Store::open(&config.alerter.state_dir)?;
    let (plan, offset) = (shared.plan.clone(), config.scoring.utc_offset);
    let entries = store.entries()?;
    let core = Core::load(plan.clone(), offset, config.alerter.behind_max_ms, &entries, wall_ms())?;
    shared.board.begin(&plan);
    let mut gone = Writes::new();
    for (key, value) in &entries {
        let Some(receiver) = key.strip_prefix(FAILED_KEY) else { continue };
        if plan.receiver(receiver).is_none() {
            gone.push((key.clone(), None));
        } else if let Err(error) = shared.board.restore(receiver, value) {
            tracing::warn!(%error, receiver, "its failed deliveries cannot be read; not shown");
        }
    }
    store.write(&gone)?;
    let (done, results) = sync_channel(plan.receivers.len());
    let mut this = Loop {
        senders: Senders::start(&plan, offset, &config.alerter.console_url, &done)?,
        shared,
        store,
        core,
        results,
        under_way: 0,
        offsets: BTreeMap::new(),
        failed: BTreeSet::new(),
        news: true,
        looked: None,
    };
    let name = this.store.name().to_owned();
    // What another store has committed this one does not know: it begins at the beginning.
    let ours = move |text: &str| serde_json::from_str::<Committed>(text).is_ok_and(|c| c.store == name);
    let topic = config.topics.alerts.as_str();
    let member = Member::join(
        &client::consumer(&config.kafka, "alerter"),
        &[topic],
        Begin::Committed(Box::new(ours)),
    )?
    .watched(heartbeat)
    .until(&shared.shutdown);
    while !shared.shutdown.is_requested() {
        heartbeat.beat();
        this.read(&member)?;
        this.settle()?;
        this.deliver()?;
        this.look(&member, false)?;
    }
    let begun = Instant::now();
    while this.under_way > 0 && begun.elapsed() < PATIENCE {
        heartbeat.beat();
        if let Ok(ended) = this.results.recv_timeout(POLL) {
            this.ended(ended)?;
        }
    }
    this.look(&member, true)
}

impl Loop<'_> {
    /// Reads what is there, and has it in the store.
    fn read(&mut self, member: &Member) -> Result<(), AlerterError> {
        let mut wait = POLL;
        for _ in 0..BATCH_MAX {
            let polled = member.poll(wait)?;
            self.change(member.changes()?);
            match polled {
                Polled::Message(message) => self.take(&message),
                Polled::End(partition) => self.core.end_reached(partition),
                Polled::Nothing => break,
            }
            wait = Duration::ZERO;
        }
        self.write()
    }

    fn change(&mut self, changes: Vec<Change>) {
        let now = wall_ms();
        for change in changes {
            match change {
                Change::Assigned(starts) => {
                    for start in starts {
                        self.core.assigned(start.partition, start.low, now);
                        self.offsets.insert(start.partition, (start.offset, start.offset));
                    }
                }
                Change::Revoked(gone) => {
                    for (_, number) in gone {
                        self.core.revoked(number, now);
                        self.offsets.remove(&number);
                        // A gauge that was never set cannot be removed.
                        let _ = self.shared.metrics.caught_up.remove_label_values(&[&number.to_string()]);
                    }
                }
            }
        }
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let number = message.partition();
        let Some((next, _)) = self.offsets.get_mut(&number) else {
            return;
        };
        *next = message.offset() + 1;
        let Ok((span, batches)) = results::decode(message.payload().unwrap_or(&[])) else {
            self.pass_over(message);
            return;
        };
        let metrics = &self.shared.metrics;
        let (coverage, at) = self.core.coverage(number, &span);
        match coverage {
            Coverage::Gap => {
                metrics.gaps.inc();
                tracing::error!(partition = number, offset = message.offset(), from = ?span.from, ?at, "alerts are missing before this message; waiting for their repeat");
                return;
            }
            Coverage::Repeat => {
                metrics.repeats.inc();
                return;
            }
            Coverage::Apply => {}
        }
        let Some(rows) = AlertRow::of_message(&batches, at) else {
            self.pass_over(message);
            return;
        };
        for row in &rows {
            metrics.transitions.with_label_values(&[row.kind.name()]).inc();
        }
        let now = wall_ms();
        let produced = message.timestamp().to_millis().unwrap_or(now);
        self.core.apply(number, &span, &rows, produced, now);
        self.news |= !rows.is_empty();
    }

    /// What is no span of alerts would be met again by every new beginning. If it stood in the place of one, the gap shows.
    fn pass_over(&self, message: &BorrowedMessage<'_>) {
        self.shared.metrics.unreadable.inc();
        tracing::error!(
            topic = message.topic(),
            partition = message.partition(),
            offset = message.offset(),
            "not a message of this topic; passed over"
        );
    }

    /// Learns how attempts went.
    fn settle(&mut self) -> Result<(), AlerterError> {
        while let Ok(ended) = self.results.try_recv() {
            self.ended(ended)?;
        }
        self.write()
    }

    fn ended(&mut self, ended: Ended) -> Result<(), AlerterError> {
        self.under_way = self.under_way.saturating_sub(1);
        let Attempt { delivery, outcome } = match ended {
            Ended::Attempt(attempt) => attempt,
            Ended::Panic { receiver } => return Err(AlerterError::Sender(receiver)),
        };
        let now = wall_ms();
        let fate = self.core.outcome(&delivery, &outcome, now);
        let why = match &outcome {
            Outcome::Delivered => None,
            Outcome::NotNow { why, .. } | Outcome::Refused { why } | Outcome::Unknown { why } => Some(why.as_str()),
        };
        let (receiver, id) = (delivery.receiver.as_str(), delivery.id.as_str());
        match fate {
            Fate::Failed => tracing::error!(
                receiver,
                id,
                why,
                "a delivery has failed for good; check the receiver's address and secrets in the routes file"
            ),
            Fate::Retrying => tracing::warn!(receiver, id, why, "not delivered; it is tried again"),
            _ => tracing::debug!(receiver, id, ?fate, "delivery"),
        }
        self.note(&delivery.receiver, fate);
        self.shared.board.settled(&delivery, fate, why, now);
        if fate == Fate::Failed {
            self.failed.insert(delivery.receiver);
        }
        self.news = true;
        Ok(())
    }

    fn note(&self, receiver: &str, fate: Fate) {
        let outcome = match fate {
            Fate::Sending | Fate::Replaced => return,
            Fate::Retrying => "retrying",
            Fate::Delivered => "delivered",
            Fate::Failed => "failed",
            Fate::Dropped => "dropped",
        };
        self.shared.metrics.deliveries.with_label_values(&[receiver, outcome]).inc();
    }

    /// Sends what is due, after it is in the store.
    fn deliver(&mut self) -> Result<(), AlerterError> {
        let now = wall_ms();
        let plan = self.shared.plan.clone();
        let mut due = Vec::new();
        for receiver in &plan.receivers {
            due.extend(self.core.next(&receiver.name, now));
        }
        for dropped in self.core.take_dropped() {
            self.note(&dropped.receiver, Fate::Dropped);
            self.shared.board.settled(&dropped, Fate::Dropped, None, now);
            self.news = true;
        }
        self.news |= !due.is_empty();
        self.write()?;
        if !due.is_empty() {
            failpoint::reach("alerter-stored");
        }
        for delivery in due {
            let aside = self.core.put_aside(&delivery.receiver);
            self.shared.board.sending(&delivery, &aside, now);
            if !self.senders.send(&delivery) {
                return Err(AlerterError::Sender(delivery.receiver));
            }
            self.under_way += 1;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), AlerterError> {
        if std::mem::take(&mut self.news) {
            let mut writes = self.core.take_writes();
            for receiver in std::mem::take(&mut self.failed) {
                writes.push((format!("{FAILED_KEY}{receiver}"), Some(self.shared.board.failed(&receiver))));
            }
            self.store.write(&writes)?;
        }
        Ok(())
    }

    /// Once in a while: positions to the store and to Kafka, gauges.
    fn look(&mut self, member: &Member, last: bool) -> Result<(), AlerterError> {
        if !last && self.looked.is_some_and(|at| at.elapsed() < EVERY) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        self.news = true;
        self.write()?;
        let beside = serde_json::json!({ "store": self.store.name() }).to_string();
        let topic = self.shared.config.topics.alerts.as_str();
        let mut offsets = Vec::new();
        for (number, (next, committed)) in &mut self.offsets {
            if next > committed {
                offsets.push((topic, *number, *next, beside.clone()));
                *committed = *next;
            }
        }
        member.commit(&offsets, last)?;
        self.gauges();
        Ok(())
    }

    fn gauges(&mut self) {
        let (now, metrics, plan) = (wall_ms(), &self.shared.metrics, self.shared.plan.clone());
        for receiver in &plan.receivers {
            let out = self.core.outstanding(&receiver.name, now);
            let labels = [receiver.name.as_str()];
            metrics.outbox.with_label_values(&labels).set(out.changes as i64);
            let waits = out.since.map_or(0, |since| (now - since).max(0));
            metrics.oldest.with_label_values(&labels).set(waits as f64 / 1_000.0);
            self.shared.board.outstanding(&receiver.name, out);
        }
        for (severity, n) in self.core.open() {
            metrics.open.with_label_values(&[severity.name()]).set(n as i64);
        }
        for number in self.core.owned() {
            let live = i64::from(self.core.is_live(number));
            metrics.caught_up.with_label_values(&[&number.to_string()]).set(live);
        }
    }
}
