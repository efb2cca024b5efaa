//! Reading all of a topic and going on with what comes: every partition, from what is kept on, outside of any group.
//!
//! ```text
//! watermarks ─► assigned (low, high) ─► poll ─► a message, the end of a partition, or nothing
//!                    └────────────► watchdog ◄── statistics of the client
//! ```
//!
//! Always holds: nothing is committed; the watchdog of the owner's loop sees every partition. What expires while it is read is passed
//! over. Partitions that are added later are not read before the owner begins again.

use crate::client;
use crate::error::LogError;
use crate::group::{Change, DEAF, Polled, Start, fatal, read_error};
use crate::watch::Watch;
use peakdesk_runtime::config::KafkaConfig;
use peakdesk_runtime::failpoint;
use peakdesk_runtime::health::Heartbeat;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::statistics::Statistics;
use rdkafka::{Offset, TopicPartitionList};
use std::time::Duration;

/// How long the broker may take to name the partitions, and to say what there is of one.
const START_PATIENCE: Duration = Duration::from_secs(15);

struct Context {
    watch: Watch,
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        self.watch.look(&statistics);
    }
}

impl ConsumerContext for Context {}

/// Reads a topic; to be polled from one thread.
pub struct Follower {
    consumer: BaseConsumer<Context>,
    topic: String,
    partitions: Vec<i32>,
}

impl Follower {
    /// Begins at the first offset of every partition.
    ///
    /// # Errors
    ///
    /// When there is no such topic, or the broker does not answer.
    pub fn new(kafka: &KafkaConfig, topic: &str, heartbeat: &Heartbeat) -> Result<Self, LogError> {
        let mut config = client::reader(kafka);
        config.set("auto.offset.reset", "earliest");
        // As often as in a group: the watchdog lives on it.
        config.set("statistics.interval.ms", "500");
        let watch = Watch::new(heartbeat.progress());
        let consumer: BaseConsumer<Context> = config.create_with_context(Context { watch }).map_err(LogError::Client)?;
        let failed = |error: KafkaError| read_error(topic, &error);
        let metadata = consumer.fetch_metadata(Some(topic), START_PATIENCE).map_err(failed)?;
        let found = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
        let partitions: Vec<i32> = found.map(|t| t.partitions().iter().map(|p| p.id()).collect()).unwrap_or_default();
        if partitions.is_empty() {
            return Err(LogError::NoTopic(topic.to_owned()));
        }
        let (mut list, mut starts) = (TopicPartitionList::new(), Vec::with_capacity(partitions.len()));
        for partition in &partitions {
            let (low, high) = consumer.fetch_watermarks(topic, *partition, START_PATIENCE).map_err(failed)?;
            list.add_partition_offset(topic, *partition, Offset::Offset(low)).map_err(failed)?;
            starts.push(Start {
                topic: topic.to_owned(),
                partition: *partition,
                offset: low,
                low,
                high,
                metadata: None,
            });
        }
        consumer.assign(&list).map_err(failed)?;
        consumer.context().watch.changed(&[Change::Assigned(starts)]);
        Ok(Follower {
            consumer,
            topic: topic.to_owned(),
            partitions,
        })
    }

    /// The partitions that are read.
    pub fn partitions(&self) -> &[i32] {
        &self.partitions
    }

    /// Waits for the next thing. The message before it is dealt with by then.
    ///
    /// # Errors
    ///
    /// What the client does not get over by itself; everything else is logged, and it goes on.
    pub fn poll(&self, timeout: Duration) -> Result<Polled<'_>, LogError> {
        if failpoint::is_closed(DEAF, || true) {
            std::thread::sleep(timeout);
            return Ok(Polled::Nothing);
        }
        match self.consumer.poll(timeout) {
            None => Ok(Polled::Nothing),
            Some(Ok(message)) => {
                let watch = &self.consumer.context().watch;
                watch.handed_out(message.topic(), message.partition(), message.offset());
                Ok(Polled::Message(message))
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => Ok(Polled::End(partition)),
            Some(Err(error)) if is_final(&error) => Err(read_error(&self.topic, &error)),
            Some(Err(error)) => {
                tracing::warn!(%error, topic = self.topic, "reading");
                Ok(Polled::Nothing)
            }
        }
    }
}

/// Errors after which the client does not go on by itself.
fn is_final(error: &KafkaError) -> bool {
    fatal(error) || error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition)
}
