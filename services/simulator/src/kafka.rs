//! A simulation into Kafka: every record on its partition, with its arrival time as the record's timestamp.
//!
//! Nothing is lost silently: each record is acknowledged, failed or in flight, the three are counted, and a run that ends with a
//! failed delivery ends with an error. A full queue and a slow broker only make the run wait; a broker that acknowledges nothing
//! for [`KafkaSinkConfig::stall_timeout`] ends it.
//!
//! The topics must exist with at least as many partitions as configured and take the producer's timestamps (`CreateTime`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use peakdesk_model::input::Topic;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use crate::SimError;
use crate::config::Format;
use crate::encode::{Encoder, SchemaIds};
use crate::record::SimRecord;

/// Where and how to write.
#[derive(Debug, Clone)]
pub struct KafkaSinkConfig {
    /// Bootstrap servers.
    pub brokers: String,
    /// Kafka name of the chat topic.
    pub chat_topic: String,
    /// Kafka name of the order topic.
    pub orders_topic: String,
    /// Kafka name of the refund topic.
    pub refunds_topic: String,
    /// Encoding of the values.
    pub format: Format,
    /// Schema ids of the framing (Avro only).
    pub schema_ids: SchemaIds,
    /// Client-library options, over everything set here.
    pub options: BTreeMap<String, String>,
    /// Simulated seconds per second of wall time; `None`: as fast as it goes.
    pub speed_up: Option<f64>,
    /// How long nothing may be acknowledged while records are in flight.
    pub stall_timeout: Duration,
}

impl KafkaSinkConfig {
    /// Topics under their logical names, JSON, unpaced, one minute of patience.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            chat_topic: Topic::Chat.name().to_owned(),
            orders_topic: Topic::Orders.name().to_owned(),
            refunds_topic: Topic::Refunds.name().to_owned(),
            format: Format::Json,
            schema_ids: SchemaIds::default(),
            options: BTreeMap::new(),
            speed_up: None,
            stall_timeout: Duration::from_secs(60),
        }
    }
}

/// How far a run is; to be read from another thread while it goes on.
#[derive(Debug, Default)]
pub struct Progress {
    /// Arrival time of the last record handed to the client, milliseconds since the Unix epoch; 0 before the first.
    pub sim_time_ms: AtomicI64,
    /// Records handed to the client.
    pub sent: AtomicU64,
    /// Records acknowledged by the broker.
    pub acknowledged: AtomicU64,
    /// Records given up.
    pub failed: AtomicU64,
}

impl Progress {
    fn in_flight(&self) -> u64 {
        let done = self.acknowledged.load(Ordering::Acquire) + self.failed.load(Ordering::Acquire);
        self.sent.load(Ordering::Acquire).saturating_sub(done)
    }
}

/// The outcome of a run all of whose records were acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KafkaReport {
    /// Records acknowledged by the broker.
    pub acknowledged: u64,
    /// True if the stop flag ended the run; records may then be left.
    pub stopped: bool,
}

struct Deliveries {
    progress: Arc<Progress>,
    first_failure: Mutex<Option<String>>,
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "simulator kafka client reports an error");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.progress.acknowledged.fetch_add(1, Ordering::AcqRel);
            }
            Err((error, _)) => {
                if let Ok(mut first) = self.first_failure.lock() {
                    first.get_or_insert_with(|| error.to_string());
                }
                self.progress.failed.fetch_add(1, Ordering::AcqRel);
            }
        }
    }
}

/// Writes records to the three topics.
pub struct KafkaSink {
    config: KafkaSinkConfig,
    encoder: Encoder,
    producer: ThreadedProducer<Deliveries>,
    progress: Arc<Progress>,
    buffer: Vec<u8>,
}

/// Longest sleep at a stretch, so that a stop is obeyed at once.
const NAP: Duration = Duration::from_millis(20);

impl KafkaSink {
    /// Sets the client up; connections are made in the background.
    ///
    /// # Errors
    /// [`SimError::Config`] for a speed that is not positive, [`SimError::Kafka`] if the client refuses an option,
    /// [`SimError::Schema`].
    pub fn new(config: KafkaSinkConfig) -> Result<Self, SimError> {
        if let Some(speed) = config.speed_up
            && !(speed.is_finite() && speed > 0.0)
        {
            return Err(SimError::Config {
                field: "speed_up",
                problem: format!("{speed} is not above 0"),
            });
        }
        let progress = Arc::new(Progress::default());
        let deliveries = Deliveries {
            progress: Arc::clone(&progress),
            first_failure: Mutex::new(None),
        };
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &config.brokers)
            .set("client.id", "peakdesk-simulator")
            // Retries must neither reorder a partition nor repeat a record: duplicates are the simulation's business.
            .set("enable.idempotence", "true")
            // A batch every 20 ms is enough for a display and keeps the broker's work small.
            .set("linger.ms", "20")
            .set("compression.type", "zstd")
            // Room for a second of traffic at full speed.
            .set("queue.buffering.max.messages", "200000")
            .set("queue.buffering.max.kbytes", "131072")
            // A delivery fails, and is reported, before anybody loses patience.
            .set("message.timeout.ms", "60000");
        for (name, value) in &config.options {
            client.set(name, value);
        }
        let producer = client.create_with_context(deliveries).map_err(|source| SimError::Kafka {
            brokers: config.brokers.clone(),
            source,
        })?;
        let encoder = Encoder::new(config.format, config.schema_ids)?;
        Ok(Self {
            config,
            encoder,
            producer,
            progress,
            buffer: Vec::new(),
        })
    }

    /// The counters of this sink.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Writes all records, then waits until the last one is acknowledged. When `stop` becomes true no further record is taken; one
    /// that waited for its time is sent at once, and what was sent is waited for.
    ///
    /// # Errors
    /// [`SimError::Undelivered`] if any delivery failed, [`SimError::Stalled`], [`SimError::Kafka`], [`SimError::Encode`].
    pub fn run(&mut self, mut records: impl Iterator<Item = SimRecord>, stop: &AtomicBool) -> Result<KafkaReport, SimError> {
        let mut pace: Option<(Instant, i64)> = None;
        let mut stopped = false;
        loop {
            // Asked before a record is taken: whatever was taken is sent, so that the generator's totals stay true. And a delivery
            // that failed cannot be made good: there is no point in going on.
            if stop.load(Ordering::Acquire) || self.progress.failed.load(Ordering::Acquire) > 0 {
                stopped = true;
                break;
            }
            let Some(record) = records.next() else { break };
            if let Some(speed) = self.config.speed_up {
                let &mut (begun, first_ms) = pace.get_or_insert_with(|| (Instant::now(), record.timestamp_ms));
                let due_s = (record.timestamp_ms - first_ms) as f64 / 1_000.0 / speed;
                wait_until(begun + Duration::from_secs_f64(due_s.max(0.0)), stop);
            }
            self.send(&record)?;
        }
        self.drain()?;
        Ok(KafkaReport {
            acknowledged: self.progress.acknowledged.load(Ordering::Acquire),
            stopped,
        })
    }

    fn send(&mut self, record: &SimRecord) -> Result<(), SimError> {
        self.encoder.encode(&record.body, &mut self.buffer)?;
        let topic = match record.topic {
            Topic::Chat => &self.config.chat_topic,
            Topic::Orders => &self.config.orders_topic,
            Topic::Refunds => &self.config.refunds_topic,
        };
        // Counted before it can be acknowledged, so that `in_flight` is never short.
        self.progress.sent.fetch_add(1, Ordering::AcqRel);
        let mut patience = Patience::new(&self.progress, self.config.stall_timeout);
        loop {
            let outgoing = BaseRecord::to(topic)
                .partition(record.partition)
                .timestamp(record.timestamp_ms)
                .key(record.key.as_bytes())
                .payload(self.buffer.as_slice());
            match self.producer.send(outgoing) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    if patience.is_exhausted() {
                        self.progress.sent.fetch_sub(1, Ordering::AcqRel);
                        return Err(self.stalled());
                    }
                    std::thread::sleep(NAP / 4);
                }
                Err((source, _)) => {
                    self.progress.sent.fetch_sub(1, Ordering::AcqRel);
                    return Err(SimError::Kafka {
                        brokers: self.config.brokers.clone(),
                        source,
                    });
                }
            }
        }
        self.progress.sim_time_ms.store(record.timestamp_ms, Ordering::Release);
        Ok(())
    }

    fn drain(&self) -> Result<(), SimError> {
        let mut patience = Patience::new(&self.progress, self.config.stall_timeout);
        while self.progress.in_flight() > 0 {
            if patience.is_exhausted() {
                return Err(self.stalled());
            }
            // Flushing skips the linger; its result says no more than the counters do.
            let _ = self.producer.flush(NAP * 5);
        }
        let failed = self.progress.failed.load(Ordering::Acquire);
        if failed == 0 {
            return Ok(());
        }
        let first = self.producer.context().first_failure.lock().ok().and_then(|first| first.clone());
        Err(SimError::Undelivered {
            brokers: self.config.brokers.clone(),
            failed,
            sent: self.progress.sent.load(Ordering::Acquire),
            first: first.unwrap_or_else(|| "unknown".to_owned()),
        })
    }

    fn stalled(&self) -> SimError {
        SimError::Stalled {
            brokers: self.config.brokers.clone(),
            waited_s: self.config.stall_timeout.as_secs(),
            in_flight: self.progress.in_flight(),
        }
    }
}

/// Measures how long no delivery was reported.
struct Patience<'a> {
    progress: &'a Progress,
    timeout: Duration,
    since: Option<Instant>,
    done: u64,
}

impl<'a> Patience<'a> {
    fn new(progress: &'a Progress, timeout: Duration) -> Self {
        Self {
            progress,
            timeout,
            since: None,
            done: 0,
        }
    }

    fn is_exhausted(&mut self) -> bool {
        let done = self.progress.acknowledged.load(Ordering::Acquire) + self.progress.failed.load(Ordering::Acquire);
        match self.since {
            Some(since) if done == self.done => since.elapsed() > self.timeout,
            _ => {
                self.done = done;
                self.since = Some(Instant::now());
                false
            }
        }
    }
}

fn wait_until(due: Instant, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(NAP));
    }
}
