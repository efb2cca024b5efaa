//! A dump of the input topics as they stand: every partition from its beginning to the end it had when the dump began.
//!
//! Partitions are read one after the other, outside of any group; nothing is committed. What is written is what intake would
//! have read: the timestamp is left out where intake finds it bad, and a value that intake cannot decode is kept as bytes.

use super::avro::{AvroToJson, SchemaText};
use super::record::{Header, Record, Value, compact};
use super::sink::Sink;
use super::{DumpReport, Form};
use anyhow::{Context, bail};
use peakdesk_intake::clock::AHEAD_OF_WALL_MAX_MS;
use peakdesk_intake::decode::{Edge, Format, RECORD_LEN_MAX, Reject, SourceRecord};
use peakdesk_intake::loose::Loose;
use peakdesk_model::event::DeadReason;
use peakdesk_model::input::Topic;
use peakdesk_model::position::{SourcePartition, SourcePosition};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::borrow::Cow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long to wait for a record before looking whether to go on at all.
const POLL: Duration = Duration::from_millis(200);
/// How soon a record is tried again whose schema could not be fetched.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How often progress is told.
const RECORDS_BETWEEN_REPORTS: u64 = 8_192;

/// An input topic.
#[derive(Debug, Clone)]
pub struct InputTopic {
    /// What it holds.
    pub topic: Topic,
    /// Its name in Kafka.
    pub name: String,
    /// How its values are written: [`Format::Avro`] or [`Format::Json`].
    pub format: Format,
}

/// What is to be dumped.
pub struct KafkaSettings {
    /// The client: brokers, TLS, SASL. What this reading needs is set over it.
    pub client: ClientConfig,
    /// The topics, each once.
    pub topics: Vec<InputTopic>,
    /// Decides what is decodable.
    pub edge: Edge,
    /// Writers' schemas, for topics in Avro.
    pub schema_text: SchemaText,
    /// Directory to write to; must hold no dump.
    pub output: PathBuf,
    /// The form to write.
    pub form: Form,
    /// The wall clock (ms): a timestamp more than a day ahead of it is bad.
    pub wall_ms: i64,
    /// How long Kafka or a schema registry may give no answer.
    pub patience: Duration,
}

/// Part of a topic that is to be read: offsets `[from, to)`.
struct Part {
    partition: i32,
    from: i64,
    to: i64,
}

/// Dumps the topics. `progress` is called now and then with the records written so far and the records there were; where it answers
/// false, nothing is left behind and the result is an error.
///
/// It is called while nothing comes, too, so that a stop is obeyed within a second or the patience of the settings.
pub fn dump(settings: KafkaSettings, mut progress: impl FnMut(u64, u64) -> bool) -> anyhow::Result<DumpReport> {
    let mut sink = Sink::create(&settings.output, settings.form)?;
    let KafkaSettings {
        client,
        topics,
        edge,
        schema_text,
        wall_ms,
        patience,
        ..
    } = settings;
    let brokers = client.get("bootstrap.servers").unwrap_or_default().to_owned();
    let client = reading(client);
    let mut plan = Vec::with_capacity(topics.len());
    for input in &topics {
        // A client per topic: the end of a partition is told by its number alone.
        let consumer: BaseConsumer = client.create().with_context(|| format!("kafka client for {brokers}"))?;
        let parts = parts_of(&consumer, &input.name, &brokers, patience)?;
        plan.push((input, consumer, parts));
    }
    let total = plan
        .iter()
        .flat_map(|(_, _, parts)| parts)
        .map(|part| (part.to - part.from).max(0) as u64)
        .sum();
    let mut run = Run {
        edge,
        avro: AvroToJson::new(schema_text),
        wall_ms,
        patience,
        brokers,
        done: 0,
        total,
        progress: &mut progress,
    };
    for (input, consumer, parts) in &plan {
        sink.begin(input.topic)?;
        for part in parts.iter().filter(|part| part.from < part.to) {
            run.read(input, consumer, part, &mut sink)?;
        }
    }
    sink.finish()
}

fn reading(mut client: ClientConfig) -> ClientConfig {
    // The library wants a name even though no group is joined.
    if client.get("group.id").is_none() {
        client.set("group.id", "peakdesk-dump");
    }
    client.set("enable.auto.commit", "false");
    client.set("enable.auto.offset.store", "false");
    // What retention removes meanwhile is gone; what is left is still wanted.
    client.set("auto.offset.reset", "earliest");
    // Offsets at the end of a partition may hold no record for us (marks of transactions).
    client.set("enable.partition.eof", "true");
    client.set("allow.auto.create.topics", "false");
    client
}

fn parts_of(consumer: &BaseConsumer, name: &str, brokers: &str, patience: Duration) -> anyhow::Result<Vec<Part>> {
    let no_answer = || {
        format!(
            "no answer from kafka at {brokers} within {} s; check that the brokers run and the address is right",
            patience.as_secs_f32()
        )
    };
    let metadata = consumer.fetch_metadata(Some(name), patience).with_context(no_answer)?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == name);
    let mut numbers: Vec<i32> = topic.map(|t| t.partitions().iter().map(|p| p.id()).collect()).unwrap_or_default();
    if let Some(error) = topic.and_then(|t| t.error()) {
        let code = RDKafkaErrorCode::from(error);
        bail!("topic {name} at {brokers} cannot be read: {code}; check its name and your rights");
    }
    if numbers.is_empty() {
        bail!("there is no topic {name} at {brokers}; check its name");
    }
    numbers.sort_unstable();
    let part = |partition| {
        let (from, to) = consumer
            .fetch_watermarks(name, partition, patience)
            .with_context(|| format!("partition {partition} of topic {name}: {}", no_answer()))?;
        Ok(Part { partition, from, to })
    };
    numbers.into_iter().map(part).collect()
}

/// What goes through all partitions.
struct Run<'p> {
    edge: Edge,
    avro: AvroToJson,
    wall_ms: i64,
    patience: Duration,
    brokers: String,
    done: u64,
    total: u64,
    progress: &'p mut dyn FnMut(u64, u64) -> bool,
}

impl Run<'_> {
    fn read(&mut self, input: &InputTopic, consumer: &BaseConsumer, part: &Part, sink: &mut Sink) -> anyhow::Result<()> {
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(&input.name, part.partition, Offset::Offset(part.from))?;
        consumer.assign(&assignment)?;
        let mut heard_at = Instant::now();
        let mut complaint: Option<KafkaError> = None;
        loop {
            match consumer.poll(POLL) {
                Some(Ok(message)) if message.offset() >= part.to => break,
                Some(Ok(message)) => {
                    self.write(input, &message, sink)
                        .with_context(|| format!("topic {}, partition {}, offset {}", input.name, part.partition, message.offset()))?;
                    heard_at = Instant::now();
                    self.done += 1;
                    if self.done.is_multiple_of(RECORDS_BETWEEN_REPORTS) {
                        self.tell()?;
                    }
                    if message.offset() + 1 >= part.to {
                        break;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) if partition == part.partition => break,
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) if is_final(&error) => {
                    return Err(error).with_context(|| {
                        format!(
                            "cannot read partition {} of topic {} at {}",
                            part.partition, input.name, self.brokers
                        )
                    });
                }
                Some(Err(error)) => complaint = Some(error),
                None => self.tell()?,
            }
            if heard_at.elapsed() > self.patience {
                let complaint = complaint.map(|e| format!(" ({e})")).unwrap_or_default();
                bail!(
                    "nothing came of partition {} of topic {} at {} for {} s{complaint}; check that the brokers run",
                    part.partition,
                    input.name,
                    self.brokers,
                    self.patience.as_secs_f32()
                );
            }
        }
        consumer.unassign()?;
        Ok(())
    }

    fn tell(&mut self) -> anyhow::Result<()> {
        if !(self.progress)(self.done, self.total) {
            bail!("stopped after {} of {} records; nothing was written", self.done, self.total);
        }
        Ok(())
    }

    fn write(&mut self, input: &InputTopic, message: &BorrowedMessage<'_>, sink: &mut Sink) -> anyhow::Result<()> {
        let latest = self.wall_ms.saturating_add(AHEAD_OF_WALL_MAX_MS);
        let value = self.value_of(input, message)?;
        if matches!(&value, Value::Json(text) if text.len() > RECORD_LEN_MAX) {
            sink.count_oversized();
            tracing::warn!(
                topic = input.name,
                partition = message.partition(),
                offset = message.offset(),
                "the record has more than 1 MiB as JSON; a replay will refuse it as undecodable"
            );
        }
        sink.push(&Record {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().filter(|at| (0..=latest).contains(at)),
            key: message.key().map(Cow::Borrowed),
            headers: headers_of(message),
            value,
        })
    }

    fn value_of<'m>(&mut self, input: &InputTopic, message: &'m BorrowedMessage<'_>) -> anyhow::Result<Value<'m>> {
        let Some(payload) = message.payload() else {
            return Ok(Value::Missing);
        };
        let partition = SourcePartition {
            topic: input.topic,
            partition: message.partition(),
            generation: 1,
        };
        let record = SourceRecord {
            position: SourcePosition {
                partition,
                offset: message.offset(),
            },
            // Before every event: only what cannot be decoded is of interest, so that no time should be spent on the rest.
            clock: i64::MIN,
            format: input.format,
            payload: Some(payload),
        };
        let begun = Instant::now();
        loop {
            match self.edge.decode(&record, &mut Loose::default()) {
                Err(Reject::Dead(DeadReason::Undecodable)) => return Ok(Value::Raw(Cow::Borrowed(payload))),
                Ok(_) | Err(Reject::Dead(_)) => break,
                Err(Reject::Retry(error)) if begun.elapsed() > self.patience => return Err(error.into()),
                Err(Reject::Retry(_)) => {
                    self.tell()?;
                    std::thread::sleep(RETRY_AFTER);
                }
            }
        }
        Ok(Value::Json(match input.format {
            Format::Avro => Cow::Owned(self.avro.convert(input.topic, payload)?),
            Format::Json | Format::JsonOfDump => compact(std::str::from_utf8(payload)?),
        }))
    }
}

fn headers_of<'m>(message: &'m BorrowedMessage<'_>) -> Vec<Header<'m>> {
    let all = peakdesk_log::letter::headers_of(message).into_iter();
    all.map(|(key, value)| (key, value.map(Cow::Borrowed))).collect()
}

/// Errors that waiting does not mend.
fn is_final(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            code,
            Some(
                Code::UnknownTopic
                    | Code::UnknownPartition
                    | Code::UnknownTopicOrPartition
                    | Code::TopicAuthorizationFailed
                    | Code::Authentication
            )
        )
}

#[cfg(test)]
#[path = "kafka_tests.rs"]
mod tests;
