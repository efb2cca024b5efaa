//! What tests do with a broker as its client: make topics, write, read everything back, ask for positions.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Message as _, Offset, TopicPartitionList};

use crate::{Broker, Context, Result, bail, ensure, wait_until};

/// For one request.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Without any progress, while reading or writing a lot.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// A message to produce. `Message::default()` is empty; set what matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Where it goes; `None` leaves it to the partitioner, which follows the key.
    pub partition: Option<i32>,
    /// Milliseconds since 1970; `None` is the current time.
    pub timestamp_ms: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A message that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it is.
    pub position: Position,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A place in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
}

/// What a consumer group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The offset of the next message.
    pub offset: i64,
    /// The text stored with it.
    pub metadata: String,
}

impl Broker {
    /// Makes a topic with the given settings and waits until its partitions have leaders.
    ///
    /// # Errors
    ///
    /// When the broker refuses, or does not answer.
    pub fn create_topic(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Result {
        let new = settings
            .iter()
            .fold(NewTopic::new(topic, partitions, TopicReplication::Fixed(1)), |new, (key, value)| {
                new.set(key, value)
            });
        let answers = self
            .administer(|admin, runtime, options| runtime.block_on(admin.create_topics([&new], options)))
            .context(format!("creating topic {topic}"))?;
        for answer in answers {
            if let Err((topic, code)) = answer {
                bail!("creating topic {topic}: {code}");
            }
        }
        let client: BaseConsumer = self.config().create()?;
        wait_until(&format!("leaders of topic {topic}"), REQUEST_LIMIT, || {
            let metadata = client.fetch_metadata(Some(topic), REQUEST_LIMIT)?;
            let led = metadata
                .topics()
                .iter()
                .flat_map(|topic| topic.partitions())
                .filter(|partition| partition.leader() >= 0)
                .count();
            ensure!(led == usize::try_from(partitions)?, "{led} of {partitions} have one");
            Ok(Some(()))
        })
    }

    /// Removes the messages before an offset, by partition, as retention would.
    ///
    /// # Errors
    ///
    /// When the broker refuses, or does not answer.
    pub fn delete_records(&self, topic: &str, before: &[(i32, i64)]) -> Result {
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in before {
            offsets.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
        }
        let answer = self.administer(|admin, runtime, options| runtime.block_on(admin.delete_records(&offsets, options)))?;
        for element in answer.elements() {
            element.error().context(format!("truncating {topic}[{}]", element.partition()))?;
        }
        Ok(())
    }

    /// Sets one setting of a topic; its others go back to their defaults.
    ///
    /// # Errors
    ///
    /// When the broker refuses, or does not answer.
    pub fn alter_topic(&self, topic: &str, key: &str, value: &str) -> Result {
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
        let answers = self.administer(|admin, runtime, options| runtime.block_on(admin.alter_configs([&change], options)))?;
        for answer in answers {
            if let Err((_, code)) = answer {
                bail!("setting {key} of topic {topic}: {code}");
            }
        }
        Ok(())
    }

    /// Adds partitions to a topic, so that it has `count` of them.
    ///
    /// # Errors
    ///
    /// When the broker refuses, or does not answer.
    pub fn add_partitions(&self, topic: &str, count: usize) -> Result {
        let more = NewPartitions::new(topic, count);
        let answers = self.administer(|admin, runtime, options| runtime.block_on(admin.create_partitions([&more], options)))?;
        for answer in answers {
            if let Err((topic, code)) = answer {
                bail!("adding partitions to {topic}: {code}");
            }
        }
        Ok(())
    }

    /// Deletes a topic and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When the broker refuses, or does not answer.
    pub fn delete_topic(&self, topic: &str) -> Result {
        let answers = self.administer(|admin, runtime, options| runtime.block_on(admin.delete_topics(&[topic], options)))?;
        for answer in answers {
            if let Err((topic, code)) = answer {
                bail!("deleting topic {topic}: {code}");
            }
        }
        let client: BaseConsumer = self.config().create()?;
        wait_until(&format!("topic {topic} to be gone"), REQUEST_LIMIT, || {
            let metadata = client.fetch_metadata(None, REQUEST_LIMIT)?;
            ensure!(metadata.topics().iter().all(|found| found.name() != topic), "it is there");
            Ok(Some(()))
        })
    }

    /// Asks an administrator's client for something.
    fn administer<T>(
        &self,
        ask: impl FnOnce(&AdminClient<DefaultClientContext>, &tokio::runtime::Runtime, &AdminOptions) -> KafkaResult<T>,
    ) -> Result<T> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let options = AdminOptions::new()
            .operation_timeout(Some(REQUEST_LIMIT))
            .request_timeout(Some(REQUEST_LIMIT));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(ask(&admin, &runtime, &options)?)
    }

    /// The number of partitions of a topic.
    ///
    /// # Errors
    ///
    /// When there is no such topic.
    pub fn partitions(&self, topic: &str) -> Result<i32> {
        partitions(&self.config().create()?, topic)
    }

    /// Writes messages, in order, and waits until all are acknowledged; returns where each is.
    ///
    /// # Errors
    ///
    /// When one is refused, or the broker makes no progress for a minute.
    pub fn produce(&self, topic: &str, messages: &[Message]) -> Result<Vec<Position>> {
        self.writer()?.write(topic, messages)
    }

    /// A producer to keep, where the half second that making one takes would matter.
    ///
    /// # Errors
    ///
    /// When the client refuses its settings.
    pub fn writer(&self) -> Result<Writer> {
        let deliveries = Deliveries::default();
        let mut config = self.config();
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("message.max.bytes", "16777216");
        Ok(Writer {
            producer: config.create_with_context(deliveries.clone())?,
            deliveries,
        })
    }

    /// The offset after the last message of each partition, by partition.
    ///
    /// # Errors
    ///
    /// When there is no such topic, or the broker does not answer.
    pub fn high_watermarks(&self, topic: &str) -> Result<Vec<i64>> {
        let client: BaseConsumer = self.config().create()?;
        let watermark = |partition| Ok(client.fetch_watermarks(topic, partition, REQUEST_LIMIT)?.1);
        (0..partitions(&client, topic)?).map(watermark).collect()
    }

    /// What `group` has committed for each partition of a topic, by partition; `None` is nothing.
    ///
    /// # Errors
    ///
    /// When there is no such topic, or the broker does not answer.
    pub fn committed(&self, group: &str, topic: &str) -> Result<Vec<Option<Committed>>> {
        let client: BaseConsumer = self.config().set("group.id", group).create()?;
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_range(topic, 0, partitions(&client, topic)? - 1);
        let found = client.committed_offsets(wanted, REQUEST_LIMIT)?;
        let committed = |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
            Offset::Offset(offset) => Some(Committed {
                offset,
                metadata: element.metadata().to_owned(),
            }),
            _ => None,
        };
        Ok(found.elements().into_iter().map(committed).collect())
    }

    /// The members of a group of the classic protocol, by the ids that the broker gave them: whoever was put out and came back has
    /// another one.
    ///
    /// # Errors
    ///
    /// When the broker does not answer, or knows of no such group.
    pub fn group_members(&self, group: &str) -> Result<BTreeSet<String>> {
        let client: BaseConsumer = self.config().create()?;
        let found = client.fetch_group_list(Some(group), REQUEST_LIMIT)?;
        let group = found.groups().first().context(format!("there is no group {group}"))?;
        Ok(group.members().iter().map(|member| member.id().to_owned()).collect())
    }

    /// Commits for a group without members.
    ///
    /// # Errors
    ///
    /// When the group has members, or the broker does not answer.
    pub fn commit(&self, group: &str, topic: &str, partition: i32, committed: &Committed) -> Result {
        let client: BaseConsumer = self.config().set("group.id", group).create()?;
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(topic, partition);
        element.set_offset(Offset::Offset(committed.offset))?;
        element.set_metadata(&committed.metadata);
        Ok(client.commit(&list, CommitMode::Sync)?)
    }

    /// Everything that is in a topic, partition by partition, in order. What is written during the call may be missing.
    ///
    /// # Errors
    ///
    /// When there is no such topic, or the broker makes no progress for a minute.
    pub fn read_all(&self, topic: &str) -> Result<Vec<Record>> {
        let mut config = self.config();
        // Assigning partitions needs a group's name, though the group never meets.
        config
            .set("group.id", "peakdesk-tests-reader")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true");
        let consumer: BaseConsumer = config.create()?;
        let count = partitions(&consumer, topic)?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..count {
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let mut records = Vec::new();
        let mut open: BTreeSet<i32> = (0..count).collect();
        let mut progress = Instant::now();
        while !open.is_empty() {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => records.push(record(&message)?),
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
                Some(Err(error)) => return Err(error).context(format!("reading {topic}")),
                None => {
                    ensure!(
                        progress.elapsed() < STALL_LIMIT,
                        "reading {topic}: nothing more came, partitions {open:?} have no end yet"
                    );
                    continue;
                }
            }
            progress = Instant::now();
        }
        records.sort_by_key(|record| record.position);
        Ok(records)
    }
}

/// A producer.
pub struct Writer {
    producer: BaseProducer<Deliveries>,
    deliveries: Deliveries,
}

impl Writer {
    /// Writes messages, in order, and waits until all are acknowledged; returns where each is.
    ///
    /// # Errors
    ///
    /// When one is refused, or the broker makes no progress for a minute.
    pub fn write(&mut self, topic: &str, messages: &[Message]) -> Result<Vec<Position>> {
        *self.deliveries.reports() = vec![None; messages.len()];
        for (index, message) in messages.iter().enumerate() {
            send(&self.producer, topic, index, message).context(format!("producing message {index} to {topic}"))?;
        }
        self.producer.flush(STALL_LIMIT).context(format!("producing to {topic}"))?;
        let deliver = |(index, report): (usize, &Report)| match report {
            Some(Ok(position)) => Ok(*position),
            Some(Err(error)) => bail!("message {index} to {topic} was not delivered: {error}"),
            None => bail!("message {index} to {topic} has no delivery report"),
        };
        self.deliveries.reports().iter().enumerate().map(deliver).collect()
    }
}

/// A message's delivery report, once it is there.
type Report = Option<Result<Position, String>>;

/// The delivery report of each message of a call, by its index.
#[derive(Clone, Default)]
struct Deliveries(Arc<Mutex<Vec<Report>>>);

impl Deliveries {
    fn reports(&self) -> MutexGuard<'_, Vec<Report>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<usize>) {
        let result = match result {
            Ok(message) => Ok(Position {
                partition: message.partition(),
                offset: message.offset(),
            }),
            Err((error, _)) => Err(error.to_string()),
        };
        if let Some(slot) = self.reports().get_mut(*index) {
            *slot = Some(result);
        }
    }
}

fn send(producer: &BaseProducer<Deliveries>, topic: &str, index: usize, message: &Message) -> Result {
    let mut record = BaseRecord::<[u8], [u8], Box<usize>>::with_opaque_to(topic, Box::new(index)).headers(headers(&message.headers));
    record.partition = message.partition;
    record.timestamp = message.timestamp_ms;
    record.key = message.key.as_deref();
    record.payload = message.value.as_deref();
    let start = Instant::now();
    loop {
        match producer.send(record) {
            Ok(()) => break,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if start.elapsed() < STALL_LIMIT => {
                record = back;
                producer.poll(Duration::from_millis(50));
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
    producer.poll(Duration::ZERO);
    Ok(())
}

fn headers(pairs: &[(String, Option<Vec<u8>>)]) -> OwnedHeaders {
    pairs
        .iter()
        .fold(OwnedHeaders::new_with_capacity(pairs.len()), |all, (key, value)| {
            all.insert(Header {
                key,
                value: value.as_ref(),
            })
        })
}

fn record(message: &BorrowedMessage<'_>) -> Result<Record> {
    let headers = message
        .headers()
        .map(|headers| headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect());
    Ok(Record {
        position: Position {
            partition: message.partition(),
            offset: message.offset(),
        },
        timestamp_ms: message.timestamp().to_millis().context("a message without a timestamp")?,
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    })
}

fn partitions(client: &BaseConsumer, topic: &str) -> Result<i32> {
    let metadata = client
        .fetch_metadata(Some(topic), REQUEST_LIMIT)
        .context(format!("asking for topic {topic}"))?;
    let count = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    ensure!(count > 0, "there is no topic {topic}");
    Ok(i32::try_from(count)?)
}
