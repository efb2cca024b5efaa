//! Reading parts of a topic once, outside of any group: offsets `[from, to)` of its partitions.
//!
//! For commands that look at what a topic holds now. Nothing is committed, and what is appended meanwhile is not read. Records of open
//! transactions are read too: a reader that looks for something must not miss it because somebody else's transaction is open before it.

use crate::client;
use crate::error::LogError;
use peakdesk_runtime::config::KafkaConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};

/// How long to wait for a record before looking whether to go on at all.
const POLL: Duration = Duration::from_millis(200);

/// Part of a partition: offsets `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Partition.
    pub partition: i32,
    /// First offset.
    pub from: i64,
    /// First offset behind it.
    pub to: i64,
}

/// Reads parts, one after the other.
pub struct Reader {
    consumer: BaseConsumer,
    patience: Duration,
}

impl Reader {
    /// A reader that gives up after hearing nothing for `patience`.
    pub fn new(kafka: &KafkaConfig, patience: Duration) -> Result<Self, LogError> {
        let mut config = client::reader(kafka);
        // What retention removes meanwhile is gone; what is left is still wanted.
        config.set("auto.offset.reset", "earliest");
        config.set("isolation.level", "read_uncommitted");
        config.set("allow.auto.create.topics", "false");
        Ok(Reader {
            consumer: config.create().map_err(LogError::Client)?,
            patience,
        })
    }

    /// The whole of a topic as it stands, by partition.
    pub fn parts(&self, topic: &str) -> Result<Vec<Part>, LogError> {
        let failed = |error: KafkaError| LogError::Read {
            what: topic.to_owned(),
            cause: error.to_string(),
        };
        let metadata = self.consumer.fetch_metadata(Some(topic), self.patience).map_err(failed)?;
        let found = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
        let mut numbers: Vec<i32> = found.map(|t| t.partitions().iter().map(|p| p.id()).collect()).unwrap_or_default();
        if numbers.is_empty() {
            return Err(LogError::NoTopic(topic.to_owned()));
        }
        numbers.sort_unstable();
        let part = |partition| {
            let (from, to) = self.consumer.fetch_watermarks(topic, partition, self.patience).map_err(failed)?;
            Ok(Part { partition, from, to })
        };
        numbers.into_iter().map(part).collect()
    }

    /// Reads a part in order. `each` gets every record, and `None` now and then while nothing comes; its error ends the reading.
    pub fn read<E: From<LogError>>(
        &self,
        topic: &str,
        part: &Part,
        mut each: impl FnMut(Option<&BorrowedMessage<'_>>) -> Result<(), E>,
    ) -> Result<(), E> {
        if part.from >= part.to {
            return Ok(());
        }
        let failed = |error: &KafkaError| LogError::Read {
            what: format!("{topic}[{}]", part.partition),
            cause: error.to_string(),
        };
        let mut assignment = TopicPartitionList::new();
        let added = assignment.add_partition_offset(topic, part.partition, Offset::Offset(part.from));
        added.and_then(|()| self.consumer.assign(&assignment)).map_err(|e| failed(&e))?;
        let mut heard_at = Instant::now();
        loop {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) if message.offset() >= part.to => break,
                Some(Ok(message)) => {
                    each(Some(&message))?;
                    heard_at = Instant::now();
                    if message.offset() + 1 >= part.to {
                        break;
                    }
                }
                // Offsets at the end may hold no record for us (marks of transactions).
                Some(Err(KafkaError::PartitionEOF(partition))) if partition == part.partition => break,
                Some(Err(error)) if is_final(&error) || heard_at.elapsed() > self.patience => return Err(failed(&error).into()),
                Some(Err(error)) => tracing::debug!(%error, topic, "reading"),
                None if heard_at.elapsed() > self.patience => {
                    let cause = format!("nothing came for {:?}; check that the brokers run", self.patience);
                    let what = format!("{topic}[{}]", part.partition);
                    return Err(LogError::Read { what, cause }.into());
                }
                None => each(None)?,
            }
        }
        self.consumer.unassign().map_err(|e| failed(&e).into())
    }

    /// How many members a consumer group has now.
    pub fn members(&self, group: &str) -> Result<usize, LogError> {
        let list = self.consumer.fetch_group_list(Some(group), self.patience);
        let list = list.map_err(|e| LogError::Read {
            what: format!("members of group {group}"),
            cause: e.to_string(),
        })?;
        Ok(list.groups().iter().filter(|g| g.name() == group).map(|g| g.members().len()).sum())
    }
}

/// Errors that waiting does not mend.
fn is_final(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{Authentication, TopicAuthorizationFailed, UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            error.rdkafka_error_code(),
            Some(UnknownTopic | UnknownPartition | UnknownTopicOrPartition | TopicAuthorizationFailed | Authentication)
        )
}
