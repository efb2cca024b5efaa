//! The intake role: from the input topics to the shop log.
//!
//! ```text
//! poll ─► clock ─► decode ─► router ─┬─► shop log     (frames when full, and for every log partition at every tick)
//!                     └─► dead letters
//! tick ─► all acknowledged ─► commit offset, clock and wall time of every source partition
//! ```
//!
//! One thread per input topic owns its consumer, its producer and its router (shared nothing): partitions of different
//! topics have the same numbers, and the end of a partition must be told apart.
//!
//! Always holds: an offset is committed only after every log partition was told of everything below it and has acknowledged
//! it. Whatever fails, a new round begins from what is committed; the repeats are known by their ranges.

use crate::core::{Committed, Core, Incoming, Message as Framed, Settings, Taken};
use crate::decode::{Edge, Format};
use peakdesk_log::client;
use peakdesk_log::delivery::{Delivery, Outgoing};
use peakdesk_log::error::LogError;
use peakdesk_log::group::{Begin, Change, Member, Polled, wall_ms};
use peakdesk_log::topics::Partitions;
use peakdesk_model::event::DeadReason;
use peakdesk_model::frame::FrameError;
use peakdesk_model::input::Topic;
use peakdesk_model::position::{SourcePartition, SourcePosition};
use peakdesk_runtime::config::{Config, TopicFormat};
use peakdesk_runtime::failpoint;
use peakdesk_runtime::health::Heartbeat;
use peakdesk_runtime::metrics::{Metrics, MetricsError};
use peakdesk_runtime::shutdown::Shutdown;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long acknowledgements may take; less at the end, as whoever asked for it kills what takes longer than half a minute.
const FLUSH_PATIENCE: Duration = Duration::from_secs(60);
const LAST_FLUSH_PATIENCE: Duration = Duration::from_secs(10);
/// How soon a record is tried again whose schema could not be fetched.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Said to the watchdog meanwhile.
const NO_SCHEMA: &str = "the schema registry does not give the schema of the next record; it is asked again";
/// Idle source partitions are committed at least this often, so that their clocks survive a restart.
const IDLE_COMMIT_EVERY: Duration = Duration::from_secs(5);

/// Why the role ends.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// Kafka.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A frame could not be built: a defect.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Counters of the role, shared by its threads.
#[derive(Clone)]
pub struct IntakeMetrics {
    records: IntCounterVec,
    dead: IntCounterVec,
    frames: IntCounter,
    frame_bytes: IntCounter,
    ticks: IntCounter,
    waiting: IntCounter,
    clock_ms: IntGaugeVec,
    sources: IntGaugeVec,
}

impl IntakeMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(IntakeMetrics {
            records: metrics.counter_vec("intake_records_total", "Records read, by input topic.", &["topic"])?,
            dead: metrics.counter_vec(
                "intake_dead_letters_total",
                "Records refused, by input topic and reason.",
                &["topic", "reason"],
            )?,
            frames: metrics.counter("intake_frames_total", "Frames with events written to the shop log.")?,
            frame_bytes: metrics.counter("intake_frame_bytes_total", "Bytes of frames written to the shop log.")?,
            ticks: metrics.counter("intake_ticks_total", "Frames without events written to the shop log.")?,
            waiting: metrics.counter(
                "intake_schema_retries_total",
                "Records held back because the schema registry did not answer.",
            )?,
            clock_ms: metrics.int_gauge_vec(
                "intake_source_clock_milliseconds",
                "Arrival time up to which a source partition is forwarded, since the Unix epoch.",
                &["topic", "partition"],
            )?,
            sources: metrics.int_gauge_vec("intake_source_partitions", "Source partitions read by this process.", &["topic"])?,
        })
    }

    fn show_clock(&self, topic: Topic, partition: i32, clock: Option<i64>) {
        let Some(clock) = clock else { return };
        let labels = [topic.name(), &partition.to_string()];
        self.clock_ms.with_label_values(&labels).set(clock);
    }

    /// A source partition was given up.
    fn forget(&self, topic: Topic, partition: i32) {
        // A gauge that was never set cannot be removed; nothing is lost then.
        let _ = self.clock_ms.remove_label_values(&[topic.name(), &partition.to_string()]);
    }
}

/// What the threads of a role share.
pub struct Shared {
    /// Configuration.
    pub config: Config,
    /// Decoding.
    pub edge: Edge,
    /// Partitions of all topics.
    pub partitions: Partitions,
    /// Counters.
    pub metrics: IntakeMetrics,
    /// Ends the loops.
    pub shutdown: Shutdown,
    /// Speed of the clocks of caught-up partitions, as the bits of an `f64`: a demonstration changes it while it runs.
    pub clock_speed: Arc<AtomicU64>,
}

struct Worker<'s> {
    shared: &'s Shared,
    member: &'s Member,
    topic: Topic,
    name: &'s str,
    delivery: Delivery,
    core: Core,
    /// Partitions that wait for the registry, and until when.
    waiting: Vec<(i32, Instant)>,
    last_tick: Instant,
    last_commit: Instant,
}

impl Drop for Worker<'_> {
    /// A thread that failed has no partition until it has begun again.
    fn drop(&mut self) {
        let metrics = &self.shared.metrics;
        self.core.clocks().for_each(|(partition, _)| metrics.forget(self.topic, partition));
        metrics.sources.with_label_values(&[self.topic.name()]).set(0);
    }
}

/// Runs one topic's thread until shutdown; an error is the end of the role.
pub fn run_topic(shared: &Shared, topic: Topic, heartbeat: &Heartbeat) -> Result<(), IntakeError> {
    let config = &shared.config;
    let name = config.topics.input(topic).name.as_str();
    let consumer = client::consumer(&config.kafka, &format!("intake-{}", topic.name()));
    let generation = config.topics.input(topic).generation;
    let same_topic = move |beside: &str| serde_json::from_str::<Committed>(beside).map_or(true, |c| c.generation == generation);
    let member = Member::join(&consumer, &[name], Begin::Committed(Box::new(same_topic)))?
        .watched(heartbeat)
        .until(&shared.shutdown)
        .advised(format!(
            "if it was made again, count up topics.{}.generation, now {generation}, and restart the intakes",
            topic.name()
        ));
    let settings = match settings(config, topic, &member) {
        Err(_) if shared.shutdown.is_requested() => return Ok(()),
        found => found?,
    };
    let mut worker = Worker {
        shared,
        member: &member,
        topic,
        name,
        delivery: Delivery::new(&client::producer(&config.kafka))?,
        core: Core::new(settings),
        waiting: Vec::new(),
        last_tick: Instant::now(),
        last_commit: Instant::now(),
    };
    while !shared.shutdown.is_requested() {
        heartbeat.beat();
        worker.turn()?;
    }
    worker.tick(true)
}

fn settings(config: &Config, topic: Topic, member: &Member) -> Result<Settings, IntakeError> {
    let input = config.topics.input(topic);
    Ok(Settings {
        topic,
        generation: input.generation,
        format: match input.format {
            TopicFormat::Avro => Format::Avro,
            TopicFormat::Json => Format::Json,
        },
        log_partitions: config.topics.log_partitions,
        max_frame_events: config.intake.max_frame_events,
        expected: find_expected(config, member)?,
    })
}

/// Every source partition of any input that holds records, and up to where.
fn find_expected(config: &Config, member: &Member) -> Result<Vec<(SourcePartition, i64)>, IntakeError> {
    let mut expected = Vec::new();
    for topic in Topic::ALL {
        let input = config.topics.input(topic);
        for partition in member.partitions(&input.name)? {
            let (low, high) = member.watermarks(&input.name, partition)?;
            if high > low {
                expected.push((
                    SourcePartition {
                        topic,
                        partition,
                        generation: input.generation,
                    },
                    high,
                ));
            }
        }
    }
    Ok(expected)
}

impl Worker<'_> {
    /// One turn of the loop: a message, the end of a partition, or a tick.
    fn turn(&mut self) -> Result<(), IntakeError> {
        let tick = self.shared.config.intake.tick;
        let polled = self.member.poll(tick.saturating_sub(self.last_tick.elapsed()))?;
        let changes = self.member.changes()?;
        if !changes.is_empty() {
            self.change(changes)?;
        }
        match polled {
            Polled::Message(message) => self.read(&message)?,
            Polled::End(partition) => self.core.reached_end(partition, wall_ms()),
            Polled::Nothing => {}
        }
        if self.last_tick.elapsed() >= tick {
            self.tick(false)?;
        }
        Ok(())
    }

    /// Source partitions came or went: what is pending is delivered, then a new round begins from there.
    fn change(&mut self, changes: Vec<Change>) -> Result<(), IntakeError> {
        self.tick(true)?;
        for change in changes {
            match change {
                Change::Revoked(gone) => {
                    let gone: Vec<i32> = gone.iter().map(|g| g.1).collect();
                    tracing::info!(topic = self.name, partitions = ?gone, "source partitions given up");
                    self.waiting.retain(|(partition, _)| !gone.contains(partition));
                    self.core.change(&gone, &[]);
                    gone.iter().for_each(|partition| self.shared.metrics.forget(self.topic, *partition));
                }
                Change::Assigned(starts) => {
                    tracing::info!(topic = self.name, partitions = ?starts.iter().map(|s| s.partition).collect::<Vec<_>>(), "source partitions taken over");
                    self.core.change(&[], &starts);
                    self.core
                        .clocks()
                        .for_each(|(partition, clock)| self.shared.metrics.show_clock(self.topic, partition, clock));
                }
            }
        }
        let sources = &self.shared.metrics.sources;
        sources.with_label_values(&[self.topic.name()]).set(self.core.sources() as i64);
        Ok(())
    }

    fn read(&mut self, message: &BorrowedMessage<'_>) -> Result<(), IntakeError> {
        let record = Incoming {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            payload: message.payload(),
        };
        match self.core.read(&record, &self.shared.edge, wall_ms()) {
            Taken::Known => return Ok(()),
            Taken::Event(None) => {}
            Taken::Event(Some(log_partition)) => self.send(log_partition)?,
            Taken::Dead(position, reason, clock) => self.bury(position, reason, clock, message)?,
            Taken::Later(error) => {
                tracing::warn!(%error, topic = self.name, partition = record.partition, offset = record.offset, "schema not to be had now; the partition waits");
                self.shared.metrics.waiting.inc();
                self.waiting.push((record.partition, Instant::now() + RETRY_AFTER));
                self.member.hold(self.name, record.partition, record.offset)?;
                self.member.waits_for(self.name, record.partition, NO_SCHEMA);
                return Ok(());
            }
        }
        self.shared.metrics.records.with_label_values(&[self.topic.name()]).inc();
        Ok(())
    }

    /// Sends a refused record to the dead letters, as it was.
    fn bury(
        &mut self,
        position: SourcePosition,
        reason: DeadReason,
        clock: Option<i64>,
        message: &BorrowedMessage<'_>,
    ) -> Result<(), IntakeError> {
        self.shared
            .metrics
            .dead
            .with_label_values(&[self.topic.name(), reason.name()])
            .inc();
        tracing::debug!(
            topic = self.name,
            partition = position.partition.partition,
            offset = position.offset,
            reason = reason.name(),
            "dead letter"
        );
        let original = peakdesk_log::letter::headers_of(message);
        let mut headers = original
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: *value }));
        headers = peakdesk_log::letter::describe(headers, position, reason, message.timestamp().to_millis(), clock);
        let topics = &self.shared.config.topics;
        let partitions = self.shared.partitions.of(&topics.dead_letters).max(1);
        self.delivery.send(Outgoing {
            topic: &topics.dead_letters,
            // Letters of one source partition stay in order.
            partition: (position.partition.partition * 3 + self.topic as i32).rem_euclid(partitions),
            key: message.key(),
            payload: message.payload(),
            headers: Some(headers),
        })?;
        Ok(())
    }

    fn send(&mut self, log_partition: i32) -> Result<(), IntakeError> {
        let message = self.core.message(log_partition, wall_ms())?;
        self.deliver(&message)
    }

    fn deliver(&mut self, message: &Framed) -> Result<(), IntakeError> {
        let metrics = &self.shared.metrics;
        if message.is_tick {
            metrics.ticks.inc()
        } else {
            metrics.frames.inc()
        }
        metrics.frame_bytes.inc_by(message.bytes.len() as u64);
        Ok(self.delivery.send(Outgoing {
            topic: &self.shared.config.topics.shop_log,
            partition: message.log_partition,
            key: None,
            payload: Some(&message.bytes),
            headers: None,
        })?)
    }

    /// Tells every log partition how far the source partitions are, and commits what all of them have acknowledged.
    fn tick(&mut self, wait: bool) -> Result<(), IntakeError> {
        if self.core.sources() == 0 {
            self.last_tick = Instant::now();
            return Ok(());
        }
        let speed = f64::from_bits(self.shared.clock_speed.load(Ordering::Relaxed));
        let (wall, now) = (wall_ms(), Instant::now());
        for (partition, _) in self.waiting.extract_if(.., |(_, until)| *until <= now) {
            self.member.resume(self.name, partition)?;
        }
        for message in self.core.tick(wall, |partition| self.member.heard(partition), speed)? {
            self.deliver(&message)?;
        }
        self.delivery.flush_within(|| match self.shared.shutdown.is_requested() {
            true => LAST_FLUSH_PATIENCE,
            false => FLUSH_PATIENCE,
        })?;
        failpoint::reach("intake-produced");
        self.commit(wait, wall)?;
        // From its end: a slow broker must not leave time for nothing but ticks.
        self.last_tick = Instant::now();
        Ok(())
    }

    fn commit(&mut self, wait: bool, wall: i64) -> Result<(), IntakeError> {
        let idle_too = wait || self.last_commit.elapsed() >= IDLE_COMMIT_EVERY;
        let mut offsets = Vec::new();
        for commit in self.core.to_commit(idle_too, wall) {
            self.shared.metrics.show_clock(self.topic, commit.partition, commit.clock);
            offsets.push((self.name, commit.partition, commit.offset, commit.beside));
        }
        if idle_too {
            self.last_commit = Instant::now();
        }
        Ok(self.member.commit(&offsets, wait)?)
    }
}
