//! The warehouse role: results and dead letters from Kafka into files.
//!
//! ```text
//! results, alerts (one partition) ─► span: repeat? gap? ─► slicer ─► files ─► commit: first message whose rows are not all in files
//! dead letters (one partition) ─► known already? ─► file ─► commit
//! ```
//!
//! Always holds: an offset is committed only when every row before it is in a file; beside it stands where the slices have
//! come to, so that a restart writes the same files again or goes on behind them.

use crate::dead::{DeadLetter, DeadLetterFiles, Known};
use crate::file::WriteError;
use crate::reader::{Committed, Reader};
use crate::slice::Written;
use peakdesk_log::client;
use peakdesk_log::error::LogError;
use peakdesk_log::group::{Begin, Change, Member, Polled, Start};
use peakdesk_log::letter;
use peakdesk_model::position::Coverage;
use peakdesk_model::results;
use peakdesk_runtime::config::Config;
use peakdesk_runtime::health::Heartbeat;
use peakdesk_runtime::metrics::{Metrics, MetricsError};
use peakdesk_runtime::shutdown::Shutdown;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};
use rdkafka::message::{BorrowedMessage, Message};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(100);
/// Dead letters wait at most this long for others to share a file.
const LETTERS_EVERY: Duration = Duration::from_secs(5);
/// How soon a file that could not be written is tried again, at first and at most.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Said to the watchdog while files cannot be written.
const DISK_REFUSES: &str = "files cannot be written now; they are tried again";

/// Why the role ends.
#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    /// Kafka.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A file could not be written before shutdown.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Counters of the role.
#[derive(Clone)]
pub struct WarehouseMetrics {
    files: IntCounterVec,
    rows: IntCounterVec,
    repeats: IntCounter,
    gaps: IntCounter,
    failures: IntCounter,
    pending: IntGaugeVec,
    letters: IntCounter,
}

impl WarehouseMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(WarehouseMetrics {
            files: metrics.counter_vec("warehouse_files_total", "Files written, by table.", &["table"])?,
            rows: metrics.counter_vec("warehouse_rows_total", "Rows in files written, by table.", &["table"])?,
            repeats: metrics.counter("warehouse_repeats_total", "Messages of the results that held nothing new.")?,
            gaps: metrics.counter("warehouse_gaps_total", "Messages of the results before which something is missing.")?,
            failures: metrics.counter(
                "warehouse_write_failures_total",
                "Attempts to write a file that failed and are repeated.",
            )?,
            pending: metrics.int_gauge_vec(
                "warehouse_pending_rows",
                "Rows read that are in no file yet.",
                &["topic", "partition"],
            )?,
            letters: metrics.counter("warehouse_dead_letters_total", "Dead letters written to files.")?,
        })
    }

    fn note(&self, written: &[Written]) {
        for file in written {
            self.files.with_label_values(&[file.table.name()]).inc();
            self.rows.with_label_values(&[file.table.name()]).inc_by(file.rows as u64);
        }
    }
}

/// What the threads of a role share.
pub struct Shared {
    /// Configuration.
    pub config: Config,
    /// Counters.
    pub metrics: WarehouseMetrics,
    /// Ends the loops.
    pub shutdown: Shutdown,
}

/// Waits longer from failure to failure.
struct BackOff {
    wait: Duration,
    until: Option<Instant>,
}

impl BackOff {
    fn new() -> Self {
        BackOff {
            wait: RETRY_MIN,
            until: None,
        }
    }

    fn failed(&mut self) {
        self.until = Some(Instant::now() + self.wait);
        self.wait = (self.wait * 2).min(RETRY_MAX);
    }

    fn ready(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() >= until)
    }
}

/// Runs the thread that writes results until shutdown.
pub fn run_results(shared: &Shared, heartbeat: &Heartbeat) -> Result<(), WarehouseError> {
    run_rows(shared, &shared.config.topics.results, "warehouse", heartbeat)
}

/// Runs the thread that writes alerts until shutdown.
pub fn run_alerts(shared: &Shared, heartbeat: &Heartbeat) -> Result<(), WarehouseError> {
    run_rows(shared, &shared.config.topics.alerts, "warehouse-alerts", heartbeat)
}

/// Writes the rows of a topic whose messages have spans.
fn run_rows(shared: &Shared, topic: &str, group: &str, heartbeat: &Heartbeat) -> Result<(), WarehouseError> {
    let config = &shared.config;
    let begin = Begin::Committed(Box::new(|_| true));
    let member = Member::join(&client::consumer(&config.kafka, group), &[topic], begin)?
        .watched(heartbeat)
        .until(&shared.shutdown);
    let mut partitions: BTreeMap<i32, Reader> = BTreeMap::new();
    let mut back_off = BackOff::new();
    while !shared.shutdown.is_requested() {
        heartbeat.beat();
        // While the disk refuses, nothing more is read: memory stays as it is, and Kafka keeps the rest.
        if !back_off.ready() {
            shared.shutdown.wait(Duration::from_millis(100));
            change(shared, topic, &mut partitions, member.changes()?);
            continue;
        }
        let polled = if back_off.until.is_some() {
            Polled::Nothing
        } else {
            member.poll(POLL)?
        };
        change(shared, topic, &mut partitions, member.changes()?);
        let outcome = match &polled {
            Polled::Message(message) => read(shared, &mut partitions, message)?,
            _ => partitions.values_mut().try_for_each(|p| write(shared, p, Vec::new())),
        };
        match outcome {
            Ok(()) => {
                if back_off.until.is_some() {
                    member.waits(None);
                }
                back_off = BackOff::new();
            }
            Err(error) => {
                shared.metrics.failures.inc();
                tracing::error!(%error, retry_in = ?back_off.wait, "a file could not be written; it is tried again");
                back_off.failed();
                member.waits(Some(DISK_REFUSES));
            }
        }
        commit(&member, topic, &mut partitions)?;
        for (number, partition) in &partitions {
            shared
                .metrics
                .pending
                .with_label_values(&[topic, &number.to_string()])
                .set(partition.pending_rows() as i64);
        }
    }
    commit(&member, topic, &mut partitions)
}

fn change(shared: &Shared, topic: &str, partitions: &mut BTreeMap<i32, Reader>, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Assigned(starts) => {
                for start in starts {
                    partitions.insert(start.partition, begin(shared, &start));
                }
            }
            Change::Revoked(gone) => {
                for (_, number) in gone {
                    partitions.remove(&number);
                    // A gauge that was never set cannot be removed.
                    let _ = shared.metrics.pending.remove_label_values(&[topic, &number.to_string()]);
                }
            }
        }
    }
}

fn begin(shared: &Shared, start: &Start) -> Reader {
    let committed: Option<Committed> = start.metadata.as_deref().and_then(|m| serde_json::from_str(m).ok());
    let warehouse = &shared.config.warehouse;
    Reader::new(
        &warehouse.output,
        start.partition,
        warehouse.slice_ms,
        start.offset,
        committed.unwrap_or_default(),
    )
}

fn read(
    shared: &Shared,
    partitions: &mut BTreeMap<i32, Reader>,
    message: &BorrowedMessage<'_>,
) -> Result<Result<(), WriteError>, WarehouseError> {
    let Some(partition) = partitions.get_mut(&message.partition()) else {
        return Ok(Ok(()));
    };
    let (span, batches) = results::decode(message.payload().unwrap_or(&[])).map_err(|e| LogError::Message {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        cause: e.to_string(),
    })?;
    let at = partition.at();
    let (coverage, batches) = partition.take(message.offset(), &span, batches);
    match coverage {
        Coverage::Gap => {
            shared.metrics.gaps.inc();
            tracing::error!(partition = message.partition(), offset = message.offset(), from = ?span.from, ?at, "results are missing before this message; waiting for their repeat");
        }
        Coverage::Repeat => shared.metrics.repeats.inc(),
        Coverage::Apply => return Ok(write(shared, partition, batches)),
    }
    Ok(Ok(()))
}

fn write(
    shared: &Shared,
    partition: &mut Reader,
    batches: Vec<(peakdesk_model::table::Table, arrow::array::RecordBatch)>,
) -> Result<(), WriteError> {
    let written = partition.write(batches)?;
    shared.metrics.note(&written);
    Ok(())
}

/// Commits the first message that must be read again, and where the slices stand there.
fn commit(member: &Member, topic: &str, partitions: &mut BTreeMap<i32, Reader>) -> Result<(), WarehouseError> {
    let mut offsets = Vec::new();
    for (number, partition) in partitions.iter_mut() {
        if let Some((offset, committed)) = partition.to_commit() {
            // Numbers always have a JSON form.
            let beside = serde_json::to_string(&committed).unwrap_or_default();
            offsets.push((topic, *number, offset, beside));
        }
    }
    Ok(member.commit(&offsets, false)?)
}

/// Dead letters of one partition of their topic.
struct Letters {
    files: DeadLetterFiles,
    known: Known,
    next: i64,
    committed: i64,
    since: Option<Instant>,
}

/// Runs the thread that writes dead letters until shutdown.
pub fn run_dead_letters(shared: &Shared, heartbeat: &Heartbeat) -> Result<(), WarehouseError> {
    let config = &shared.config;
    let topic = config.topics.dead_letters.as_str();
    let dir = config.warehouse.output.join("dead_letters");
    let begin = Begin::Committed(Box::new(|_| true));
    let member = Member::join(&client::consumer(&config.kafka, "warehouse-dead-letters"), &[topic], begin)?
        .watched(heartbeat)
        .until(&shared.shutdown);
    let mut partitions: BTreeMap<i32, Letters> = BTreeMap::new();
    let mut back_off = BackOff::new();
    while !shared.shutdown.is_requested() {
        heartbeat.beat();
        if !back_off.ready() {
            shared.shutdown.wait(Duration::from_millis(100));
            continue;
        }
        let polled = if back_off.until.is_some() {
            Polled::Nothing
        } else {
            member.poll(POLL)?
        };
        for change in member.changes()? {
            match change {
                Change::Assigned(starts) => {
                    for start in starts {
                        let prefix = format!("d{:05}", start.partition);
                        let letters = Letters {
                            known: Known::of_files(&dir, &prefix)?,
                            files: DeadLetterFiles::new(&dir, &prefix),
                            next: start.offset,
                            committed: start.offset,
                            since: None,
                        };
                        partitions.insert(start.partition, letters);
                    }
                }
                Change::Revoked(gone) => gone.iter().for_each(|(_, p)| {
                    partitions.remove(p);
                }),
            }
        }
        let mut outcome = Ok(());
        if let Polled::Message(message) = &polled
            && let Some(letters) = partitions.get_mut(&message.partition())
        {
            outcome = letters.take(message);
        }
        let every = if back_off.until.is_some() { Duration::ZERO } else { LETTERS_EVERY };
        match outcome.and_then(|()| write_letters(shared, &mut partitions, every)) {
            Ok(()) => {
                if back_off.until.is_some() {
                    member.waits(None);
                }
                back_off = BackOff::new();
            }
            Err(error) => {
                shared.metrics.failures.inc();
                tracing::error!(%error, retry_in = ?back_off.wait, "dead letters could not be written; it is tried again");
                back_off.failed();
                member.waits(Some(DISK_REFUSES));
            }
        }
        commit_letters(&member, topic, &mut partitions)?;
    }
    write_letters(shared, &mut partitions, Duration::ZERO)?;
    commit_letters(&member, topic, &mut partitions)
}

impl Letters {
    fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<(), WriteError> {
        self.next = message.offset() + 1;
        let Some(letter) = letter::read(message) else {
            tracing::error!(
                topic = message.topic(),
                partition = message.partition(),
                offset = message.offset(),
                "not a dead letter of peakdesk; passed over"
            );
            return Ok(());
        };
        if !self.known.is_new(letter.position) {
            return Ok(());
        }
        self.since.get_or_insert_with(Instant::now);
        self.files.add(DeadLetter {
            position: letter.position,
            reason: letter.reason,
            clock: letter.clock,
            timestamp_ms: letter.timestamp_ms,
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: letter.headers,
        });
        Ok(())
    }
}

fn write_letters(shared: &Shared, partitions: &mut BTreeMap<i32, Letters>, every: Duration) -> Result<(), WriteError> {
    for letters in partitions.values_mut() {
        let due = letters.since.is_some_and(|since| since.elapsed() >= every);
        if due || letters.files.is_full() {
            let n = letters.files.pending() as u64;
            letters.files.finish()?;
            letters.since = None;
            shared.metrics.letters.inc_by(n);
        }
    }
    Ok(())
}

fn commit_letters(member: &Member, topic: &str, partitions: &mut BTreeMap<i32, Letters>) -> Result<(), WarehouseError> {
    let mut offsets = Vec::new();
    for (number, l) in partitions
        .iter_mut()
        .filter(|(_, l)| l.files.pending() == 0 && l.next > l.committed)
    {
        offsets.push((topic, *number, l.next, String::new()));
        l.committed = l.next;
    }
    Ok(member.commit(&offsets, false)?)
}
