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

use crate::clock::SourceClock;
use crate::decode::{Edge, Format, Reject, SourceRecord};
use crate::loose::Loose;
use crate::router::{Router, Source};
use crate::run_on::RunOn;
use peakdesk_log::client::{self, MESSAGE_BYTES_MAX};
use peakdesk_log::delivery::{Delivery, Outgoing};
use peakdesk_log::error::LogError;
use peakdesk_log::group::{Begin, Change, Member, Polled, Start, wall_ms};
use peakdesk_log::topics::Partitions;
use peakdesk_model::event::DeadReason;
use peakdesk_model::frame::{Frame, FrameError};
use peakdesk_model::input::Topic;
use peakdesk_model::position::{SourcePartition, SourcePosition};
use peakdesk_runtime::config::{Config, TopicFormat};
use peakdesk_runtime::failpoint;
use peakdesk_runtime::health::Heartbeat;
use peakdesk_runtime::metrics::{Metrics, MetricsError};
use peakdesk_runtime::shutdown::Shutdown;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Events of one frame take at most this much, so that the message stays below the broker's limit.
const FRAME_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 2;
/// How long acknowledgements may take; less at the end, as whoever asked for it kills what takes longer than half a minute.
const FLUSH_PATIENCE: Duration = Duration::from_secs(60);
const LAST_FLUSH_PATIENCE: Duration = Duration::from_secs(10);
/// How soon a record is tried again whose schema could not be fetched.
const RETRY_AFTER: Duration = Duration::from_secs(1);
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

    fn show_clock(&self, topic: Topic, lane: &Lane) {
        let Some(clock) = lane.run_on.clock() else { return };
        let labels = [topic.name(), &lane.partition.partition.to_string()];
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

/// What is committed beside an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Committed {
    origin: i64,
    generation: i32,
    /// Running maximum of arrival times (ms).
    arrival: Option<i64>,
    /// The clock as it had run on (ms), and the wall time at which it stood there.
    clock: Option<i64>,
    wall: i64,
}

/// A source partition of this thread; at the same place as in the router.
struct Lane {
    partition: SourcePartition,
    origin: i64,
    next: i64,
    arrival: SourceClock,
    run_on: RunOn,
    committed: i64,
    retry_at: Option<Instant>,
}

struct Worker<'s> {
    shared: &'s Shared,
    member: &'s Member,
    topic: Topic,
    name: &'s str,
    delivery: Delivery,
    router: Router,
    lanes: Vec<Lane>,
    expected: Vec<(SourcePartition, i64)>,
    last_tick: Instant,
    last_commit: Instant,
}

impl Drop for Worker<'_> {
    /// A thread that failed has no partition until it has begun again.
    fn drop(&mut self) {
        let metrics = &self.shared.metrics;
        self.lanes
            .iter()
            .for_each(|lane| metrics.forget(self.topic, lane.partition.partition));
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
        .until(&shared.shutdown);
    let expected = match find_expected(config, &member) {
        Err(_) if shared.shutdown.is_requested() => return Ok(()),
        found => found?,
    };
    let mut worker = Worker {
        shared,
        member: &member,
        topic,
        name,
        delivery: Delivery::new(&client::producer(&config.kafka))?,
        router: Router::new(Vec::new(), config.topics.log_partitions),
        lanes: Vec::new(),
        expected,
        last_tick: Instant::now(),
        last_commit: Instant::now(),
    };
    while !shared.shutdown.is_requested() {
        heartbeat.beat();
        worker.turn()?;
    }
    worker.tick(true)
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
            Polled::End(partition) => {
                if let Some(lane) = self.lanes.iter_mut().find(|l| l.partition.partition == partition) {
                    lane.run_on.reached_end(lane.arrival.at(), wall_ms());
                }
            }
            Polled::Nothing => {}
        }
        if self.last_tick.elapsed() >= tick {
            self.tick(false)?;
        }
        Ok(())
    }

    /// Source partitions came or went: what is pending is delivered, then a new router begins from there.
    fn change(&mut self, changes: Vec<Change>) -> Result<(), IntakeError> {
        self.tick(true)?;
        for change in changes {
            match change {
                Change::Revoked(gone) => {
                    tracing::info!(topic = self.name, partitions = ?gone.iter().map(|g| g.1).collect::<Vec<_>>(), "source partitions given up");
                    self.lanes.retain(|l| !gone.iter().any(|(_, p)| *p == l.partition.partition));
                    gone.iter()
                        .for_each(|(_, partition)| self.shared.metrics.forget(self.topic, *partition));
                }
                Change::Assigned(starts) => {
                    tracing::info!(topic = self.name, partitions = ?starts.iter().map(|s| s.partition).collect::<Vec<_>>(), "source partitions taken over");
                    for start in &starts {
                        let lane = self.lane(start);
                        self.shared.metrics.show_clock(self.topic, &lane);
                        self.lanes.retain(|l| l.partition.partition != start.partition);
                        self.lanes.push(lane);
                    }
                }
            }
        }
        let source = |l: &Lane| Source {
            partition: l.partition,
            origin: l.origin,
            next: l.next,
            clock: l.run_on.clock(),
        };
        let sources = self.lanes.iter().map(source).collect();
        self.shared
            .metrics
            .sources
            .with_label_values(&[self.topic.name()])
            .set(self.lanes.len() as i64);
        self.router = Router::new(sources, self.shared.config.topics.log_partitions).expecting(self.expected.clone());
        Ok(())
    }

    /// A source partition as it was committed, or from its beginning.
    fn lane(&self, start: &Start) -> Lane {
        let generation = self.shared.config.topics.input(self.topic).generation;
        let partition = SourcePartition {
            topic: self.topic,
            partition: start.partition,
            generation,
        };
        let committed: Option<Committed> = start.metadata.as_deref().and_then(|m| serde_json::from_str(m).ok());
        // Over generations offsets begin again, the clock does not.
        let arrival = committed.and_then(|c| c.arrival).map_or_else(SourceClock::new, SourceClock::resume);
        let run_on = committed.map_or_else(RunOn::default, |c| RunOn::resume(c.clock, c.wall));
        let origin = committed.filter(|c| c.generation == generation).map_or(start.offset, |c| c.origin);
        Lane {
            partition,
            origin,
            next: start.offset,
            arrival,
            run_on,
            committed: start.offset,
            retry_at: None,
        }
    }

    fn read(&mut self, message: &BorrowedMessage<'_>) -> Result<(), IntakeError> {
        let Some(place) = self.lanes.iter().position(|l| l.partition.partition == message.partition()) else {
            return Ok(());
        };
        let Some(lane) = self.lanes.get_mut(place) else { return Ok(()) };
        if message.offset() < lane.next {
            return Ok(());
        }
        let position = SourcePosition {
            partition: lane.partition,
            offset: message.offset(),
        };
        let wall = wall_ms();
        let mut arrival = lane.arrival;
        let outcome = match arrival.observe(message.timestamp().to_millis(), Some(wall)) {
            Err(reason) => Err(reason),
            Ok(clock) => match self.decode(place, position, clock, message.payload())? {
                Decided::Event => Ok(()),
                Decided::Dead(reason) => Err(reason),
                Decided::Later => return self.try_later(place, message.offset()),
            },
        };
        if let Err(reason) = outcome {
            self.bury(position, reason, message)?;
        }
        self.shared.metrics.records.with_label_values(&[self.topic.name()]).inc();
        let Some(lane) = self.lanes.get_mut(place) else { return Ok(()) };
        lane.arrival = arrival;
        lane.next = message.offset() + 1;
        lane.run_on.read(arrival.at(), wall);
        self.router.advance(place, lane.next, lane.run_on.clock());
        Ok(())
    }

    fn decode(&mut self, place: usize, position: SourcePosition, clock: i64, payload: Option<&[u8]>) -> Result<Decided, IntakeError> {
        let format = match self.shared.config.topics.input(self.topic).format {
            TopicFormat::Avro => Format::Avro,
            TopicFormat::Json => Format::Json,
        };
        let mut loose = Loose::default();
        let record = SourceRecord {
            position,
            clock,
            format,
            payload,
        };
        match self.shared.edge.decode(&record, &mut loose) {
            Ok(decoded) => {
                let (log_partition, waiting) = self.router.push(place, &decoded.event, decoded.question.map_or(0, |q| q as u8 + 1));
                let full = waiting + 1 >= self.shared.config.intake.max_frame_events
                    || self.router.waiting_bytes(log_partition) >= FRAME_BYTES_MAX;
                if full {
                    // The frame speaks for the offset of this event too.
                    self.router.advance(place, position.offset + 1, Some(clock));
                    self.send(log_partition)?;
                }
                Ok(Decided::Event)
            }
            Err(Reject::Dead(reason)) => Ok(Decided::Dead(reason)),
            Err(Reject::Retry(error)) => {
                tracing::warn!(%error, topic = self.name, partition = position.partition.partition, offset = position.offset, "schema not to be had now; the partition waits");
                Ok(Decided::Later)
            }
        }
    }

    /// The schema registry did not answer: the partition waits, nothing is refused for it.
    fn try_later(&mut self, place: usize, offset: i64) -> Result<(), IntakeError> {
        self.shared.metrics.waiting.inc();
        let Some(lane) = self.lanes.get_mut(place) else { return Ok(()) };
        lane.retry_at = Some(Instant::now() + RETRY_AFTER);
        lane.run_on.read(None, wall_ms());
        Ok(self.member.hold(self.name, lane.partition.partition, offset)?)
    }

    /// Sends a refused record to the dead letters, as it was.
    fn bury(&mut self, position: SourcePosition, reason: DeadReason, message: &BorrowedMessage<'_>) -> Result<(), IntakeError> {
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
        let clock = self.lanes.iter().find(|l| l.partition == position.partition).and_then(|l| {
            let mut arrival = l.arrival;
            arrival
                .observe(message.timestamp().to_millis(), None)
                .ok()
                .filter(|_| reason != DeadReason::BadTimestamp)
        });
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
        let (head, batch) = self.router.take(log_partition, wall_ms())?;
        let bytes = Frame::encode(&head, batch.as_ref())?;
        let metrics = &self.shared.metrics;
        if batch.is_some() {
            metrics.frames.inc()
        } else {
            metrics.ticks.inc()
        }
        metrics.frame_bytes.inc_by(bytes.len() as u64);
        let topic = &self.shared.config.topics.shop_log;
        Ok(self.delivery.send(Outgoing {
            topic,
            partition: log_partition,
            key: None,
            payload: Some(&bytes),
            headers: None,
        })?)
    }

    /// Tells every log partition how far the source partitions are, and commits what all of them have acknowledged.
    fn tick(&mut self, wait: bool) -> Result<(), IntakeError> {
        if self.lanes.is_empty() {
            self.last_tick = Instant::now();
            return Ok(());
        }
        let speed = f64::from_bits(self.shared.clock_speed.load(Ordering::Relaxed));
        let (wall, contact) = (wall_ms(), self.member.contact_ms());
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            if let Some(clock) = lane.run_on.run(wall.min(contact), speed) {
                self.router.run_on_one(place, clock);
            }
            if lane.retry_at.is_some_and(|at| Instant::now() >= at) {
                lane.retry_at = None;
                self.member.resume(self.name, lane.partition.partition)?;
            }
        }
        self.router.set_caught_up(self.lanes.iter().all(|lane| lane.run_on.caught_up(wall)));
        for log_partition in 0..self.router.log_partitions() {
            self.send(log_partition)?;
        }
        self.delivery.flush(match self.shared.shutdown.is_requested() {
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
        for lane in self
            .lanes
            .iter_mut()
            .filter(|l| l.next > l.committed || (idle_too && l.run_on.clock().is_some()))
        {
            let (origin, generation) = (lane.origin, lane.partition.generation);
            let beside = Committed {
                origin,
                generation,
                arrival: lane.arrival.at(),
                clock: lane.run_on.clock(),
                wall,
            };
            // Numbers always have a JSON form.
            let beside = serde_json::to_string(&beside).unwrap_or_default();
            offsets.push((self.name, lane.partition.partition, lane.next, beside));
            lane.committed = lane.next;
            self.shared.metrics.show_clock(self.topic, lane);
        }
        if idle_too {
            self.last_commit = Instant::now();
        }
        Ok(self.member.commit(&offsets, wait)?)
    }
}

/// What became of a record.
enum Decided {
    Event,
    Dead(DeadReason),
    Later,
}
