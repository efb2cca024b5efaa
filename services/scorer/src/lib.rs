//! The scorer role: reads the shop log, folds it, and writes what follows.
//!
//! ```text
//! shop log (one partition) ─► frame ─► fold ─┬─► rows ─► results (the same partition), with the span of positions they cover
//!                                            ├─► transitions ─► alerts, the same way but at once
//!                                            └─► newest figures ─► live, best effort
//! ```
//!
//! A worker thread owns a consumer, a producer and the folds of the partitions assigned to it (shared nothing). A partition
//! that is taken over is folded from its beginning: the results are the same as before, at the same positions, and their
//! readers know them as repeats. Two scorers on one partition write the same twice.
//!
//! Not here yet: checkpoints, so taking over a long log takes as long as folding it.

mod live;

use arrow::array::RecordBatch;
use peakdesk_log::client;
use peakdesk_log::delivery::{Delivery, Outgoing};
use peakdesk_log::error::LogError;
use peakdesk_log::group::{Begin, Change, Member, Polled};
use peakdesk_model::envelope::EnvelopeError;
use peakdesk_model::frame::Frame;
use peakdesk_model::position::LogPosition;
use peakdesk_model::results::{self, Span};
use peakdesk_model::table::{Rows, Table};
use peakdesk_runtime::config::Config;
use peakdesk_runtime::health::Heartbeat;
use peakdesk_runtime::metrics::{Metrics, MetricsError};
use peakdesk_runtime::shutdown::Shutdown;
use peakdesk_scoring::fold::{Fold, Size};
use peakdesk_scoring::output::{Counts, Output};
use peakdesk_scoring::policy::{Constants, Policies};
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};
use rdkafka::message::{BorrowedMessage, Message};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Rows in a message: at some 500 bytes a row well below the broker's limit.
const MESSAGE_ROWS_MAX: usize = 1_000;
/// Rows that wait at most this long for more of them.
const EMIT_EVERY: Duration = Duration::from_millis(200);
/// Without any alert its topic is told this often how far the log has come.
const ALERTS_EVERY: Duration = Duration::from_secs(1);
/// A partition of the log whose end was seen so lately is read to its end.
const END_PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);
const FLUSH_PATIENCE: Duration = Duration::from_secs(60);

/// Why the role ends.
#[derive(Debug, thiserror::Error)]
pub enum ScorerError {
    /// Kafka.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Rows could not be encoded: a defect.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Rows could not be made a batch: a defect.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
}

/// Counters and gauges of the role.
#[derive(Clone)]
pub struct ScorerMetrics {
    events: IntCounterVec,
    frames: IntCounter,
    rows: IntCounter,
    alerts: IntCounterVec,
    live: IntCounter,
    live_failures: IntCounter,
    caught_up: IntGaugeVec,
    now_ms: IntGaugeVec,
    complete_until_ms: IntGaugeVec,
    state: IntGaugeVec,
}

impl ScorerMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(ScorerMetrics {
            events: metrics.counter_vec(
                "scorer_events_total",
                "Events of the shop log, by what was decided about them.",
                &["outcome"],
            )?,
            frames: metrics.counter("scorer_frames_total", "Frames folded, ticks included.")?,
            rows: metrics.counter("scorer_rows_total", "Rows written to the results.")?,
            alerts: metrics.counter_vec(
                "scorer_alert_transitions_total",
                "Transitions of alerts written, by rule and kind.",
                &["rule", "kind"],
            )?,
            live: metrics.counter("scorer_live_messages_total", "Live figures written.")?,
            live_failures: metrics.counter(
                "scorer_live_failures_total",
                "Times live figures could not be written; the next ones replace them.",
            )?,
            caught_up: metrics.int_gauge_vec(
                "scorer_caught_up",
                "1 while sources and log are read to their ends, else 0.",
                &["partition"],
            )?,
            now_ms: metrics.int_gauge_vec(
                "scorer_now_milliseconds",
                "Newest log time seen, since the Unix epoch.",
                &["partition"],
            )?,
            complete_until_ms: metrics.int_gauge_vec(
                "scorer_complete_until_milliseconds",
                "Time up to which every source partition is read, since the Unix epoch.",
                &["partition"],
            )?,
            state: metrics.int_gauge_vec(
                "scorer_state_objects",
                "What is kept in state, by partition of the shop log.",
                &["partition", "kind"],
            )?,
        })
    }

    fn count(&self, counts: &Counts) {
        let outcomes = [
            ("accepted", counts.accepted),
            ("late", counts.late),
            ("sealed", counts.sealed),
            ("duplicate", counts.duplicates),
            ("raised", counts.raised),
            ("repeated", counts.repeated),
            ("gap", counts.gaps),
        ];
        for (outcome, n) in outcomes {
            self.events.with_label_values(&[outcome]).inc_by(n);
        }
    }

    fn show(&self, partition: i32, fold: &Fold, caught_up: bool) {
        let label = partition.to_string();
        self.caught_up.with_label_values(&[&label]).set(i64::from(caught_up));
        self.now_ms.with_label_values(&[&label]).set(fold.now());
        self.complete_until_ms
            .with_label_values(&[&label])
            .set(fold.complete_until().unwrap_or(0));
        let Size {
            shops,
            buyers,
            orders,
            refunds,
            windows,
        } = fold.size();
        let kinds = [
            ("shops", shops),
            ("buyers", buyers),
            ("orders", orders),
            ("refunds", refunds),
            ("windows", windows),
        ];
        for (kind, n) in kinds {
            self.state.with_label_values(&[label.as_str(), kind]).set(n as i64);
        }
    }

    fn forget(&self, partition: i32) {
        let label = partition.to_string();
        // A gauge that was never set cannot be removed; nothing is lost then.
        let _ = self.caught_up.remove_label_values(&[&label]);
        let _ = self.now_ms.remove_label_values(&[&label]);
        let _ = self.complete_until_ms.remove_label_values(&[&label]);
        for kind in ["shops", "buyers", "orders", "refunds", "windows"] {
            let _ = self.state.remove_label_values(&[label.as_str(), kind]);
        }
    }
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
    /// Ends the loops.
    pub shutdown: Shutdown,
}

/// One partition of the log.
struct Partition {
    fold: Fold,
    next: i64,
    rows: Stream,
    alerts: Stream,
    /// When the end of the log was last seen.
    end_seen: Option<Instant>,
    counted: Counts,
}

impl Partition {
    fn caught_up(&self) -> bool {
        self.end_seen.is_some_and(|at| at.elapsed() <= END_PATIENCE) && self.fold.caught_up()
    }
}

/// Rows that go to one topic, and up to where they are told.
struct Stream {
    rows: Rows,
    told: LogPosition,
    emitted_at: Instant,
}

impl Stream {
    fn from(offset: i64) -> Self {
        Stream {
            rows: Rows::default(),
            told: LogPosition::start_of(offset),
            emitted_at: Instant::now(),
        }
    }
}

struct Worker<'s> {
    shared: &'s Shared,
    delivery: Delivery,
    live: live::Teller<'s>,
    partitions: BTreeMap<i32, Partition>,
    shown_at: Instant,
}

/// Runs one thread until shutdown; an error is the end of the role.
pub fn run(shared: &Shared, heartbeat: &Heartbeat) -> Result<(), ScorerError> {
    let config = &shared.config;
    let topic = config.topics.shop_log.as_str();
    let member = Member::join(&client::consumer(&config.kafka, "scorer"), &[topic], Begin::Zero)?.watched(heartbeat);
    let delivery = Delivery::new(&client::producer(&config.kafka))?;
    let mut worker = Worker {
        shared,
        delivery,
        live: live::Teller::new(shared)?,
        partitions: BTreeMap::new(),
        shown_at: Instant::now(),
    };
    while !shared.shutdown.is_requested() {
        heartbeat.beat();
        let polled = member.poll(POLL)?;
        worker.change(member.changes()?);
        match &polled {
            Polled::Message(message) => worker.read(message)?,
            Polled::End(number) => {
                if let Some(partition) = worker.partitions.get_mut(number) {
                    partition.end_seen = Some(Instant::now());
                }
            }
            Polled::Nothing => {}
        }
        worker.emit_waiting(false)?;
        worker.live.tell(&mut worker.partitions);
    }
    worker.emit_waiting(true)?;
    Ok(worker.delivery.flush(FLUSH_PATIENCE)?)
}

impl Worker<'_> {
    fn change(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Assigned(starts) => {
                    tracing::info!(partitions = ?starts.iter().map(|s| s.partition).collect::<Vec<_>>(), "log partitions taken over");
                    for start in starts {
                        let partition = Partition {
                            fold: Fold::new(self.shared.constants.clone()),
                            next: start.offset,
                            rows: Stream::from(start.offset),
                            alerts: Stream::from(start.offset),
                            end_seen: None,
                            counted: Counts::default(),
                        };
                        self.partitions.insert(start.partition, partition);
                    }
                }
                Change::Revoked(gone) => {
                    tracing::info!(partitions = ?gone.iter().map(|g| g.1).collect::<Vec<_>>(), "log partitions given up");
                    for (_, number) in gone {
                        self.partitions.remove(&number);
                        self.shared.metrics.forget(number);
                    }
                }
            }
        }
    }

    fn read(&mut self, message: &BorrowedMessage<'_>) -> Result<(), ScorerError> {
        let Some(partition) = self.partitions.get_mut(&message.partition()) else {
            return Ok(());
        };
        let offset = message.offset();
        if offset < partition.next {
            return Ok(());
        }
        let frame = Frame::decode(message.payload().unwrap_or(&[])).map_err(|e| LogError::Message {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset,
            cause: e.to_string(),
        })?;
        let mut out = Output::default();
        partition
            .fold
            .apply(offset, &frame.head, frame.events(), &self.shared.policies, &mut out);
        partition.next = offset + 1;
        for row in &out.rows.alerts {
            let labels = [row.rule.name(), row.kind.name()];
            self.shared.metrics.alerts.with_label_values(&labels).inc();
        }
        partition.alerts.rows.alerts.append(&mut out.rows.alerts);
        partition.rows.rows.append(out.rows);
        let counts = partition.fold.counts();
        self.shared.metrics.count(&counts.since(&partition.counted));
        partition.counted = counts;
        self.shared.metrics.frames.inc();
        Ok(())
    }

    /// Writes rows of partitions that have enough of them, or whose rows (or clocks) have waited long enough.
    fn emit_waiting(&mut self, all: bool) -> Result<(), ScorerError> {
        self.delivery.poll();
        self.delivery.check()?;
        for (number, partition) in &mut self.partitions {
            let end = Span {
                log_partition: *number,
                from: LogPosition::start_of(partition.next),
                to: LogPosition::start_of(partition.next),
                log_time_ms: partition.fold.now(),
                complete_until_ms: partition.fold.complete_until(),
                caught_up: partition.caught_up(),
            };
            let topics = &self.shared.config.topics;
            let rows = &mut partition.rows;
            if all || rows.rows.len() >= MESSAGE_ROWS_MAX || rows.emitted_at.elapsed() >= EMIT_EVERY {
                self.shared.metrics.rows.inc_by(rows.rows.len() as u64);
                emit(&mut self.delivery, &topics.results, rows, end)?;
            }
            let alerts = &mut partition.alerts;
            if all || !alerts.rows.is_empty() || alerts.emitted_at.elapsed() >= ALERTS_EVERY {
                emit(&mut self.delivery, &topics.alerts, alerts, end)?;
            }
        }
        if self.shown_at.elapsed() >= Duration::from_secs(1) {
            self.shown_at = Instant::now();
            self.partitions
                .iter()
                .for_each(|(number, p)| self.shared.metrics.show(*number, &p.fold, p.caught_up()));
        }
        Ok(())
    }
}

/// Writes what waits in a stream as messages, the last of which ends at `end`.
fn emit(delivery: &mut Delivery, topic: &str, stream: &mut Stream, end: Span) -> Result<(), ScorerError> {
    if stream.told >= end.to {
        return Ok(());
    }
    let rows = std::mem::take(&mut stream.rows);
    for (from, to, batches) in cut(&rows.to_batches(end.log_partition)?, stream.told, end.to) {
        let log_time_ms = if to == end.to { end.log_time_ms } else { i64::MIN };
        let span = Span {
            from,
            to,
            log_time_ms,
            ..end
        };
        let bytes = results::encode(&span, &batches)?;
        delivery.send(Outgoing {
            topic,
            partition: end.log_partition,
            key: None,
            payload: Some(&bytes),
            headers: None,
        })?;
    }
    stream.told = end.to;
    stream.emitted_at = Instant::now();
    Ok(())
}

/// A message: the span it covers and its rows.
type Piece = (LogPosition, LogPosition, Vec<(Table, RecordBatch)>);

/// Cuts rows at positions so that no piece has more than [`MESSAGE_ROWS_MAX`].
fn cut(batches: &[(Table, RecordBatch)], from: LogPosition, to: LogPosition) -> Vec<Piece> {
    let mut positions: Vec<LogPosition> = batches
        .iter()
        .flat_map(|(_, b)| (0..b.num_rows()).map(|i| results::position(b, i)))
        .collect();
    positions.sort_unstable();
    let mut ends: Vec<LogPosition> = positions.iter().skip(MESSAGE_ROWS_MAX).step_by(MESSAGE_ROWS_MAX).copied().collect();
    ends.push(to);
    let mut begin = from;
    let mut pieces = Vec::with_capacity(ends.len());
    for end in ends {
        let within = |(table, batch): &(Table, RecordBatch)| {
            let lo = results::rows_before(batch, begin);
            let hi = results::rows_before(batch, end);
            (hi > lo).then(|| (*table, batch.slice(lo, hi - lo)))
        };
        pieces.push((begin, end, batches.iter().filter_map(within).collect()));
        begin = end;
    }
    pieces
}
