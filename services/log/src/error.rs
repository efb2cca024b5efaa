//! Errors of the plumbing, by what to do: a role that gets one ends its loop, and begins again from what is committed.

use rdkafka::error::KafkaError;

/// Why a role cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The client could not be made: an option is wrong.
    #[error("kafka client: {0}; check [kafka.options]")]
    Client(#[source] KafkaError),
    /// No broker answered.
    #[error("no kafka broker answers at {bootstrap} ({cause}); check kafka.bootstrap and that the broker runs")]
    Unreachable {
        /// Where.
        bootstrap: String,
        /// What the client said.
        cause: String,
    },
    /// A topic is not there.
    #[error("topic {0} does not exist; create it, or let peakdesk create its own with topics.create = true")]
    NoTopic(String),
    /// A topic could not be created.
    #[error("topic {topic} could not be created: {cause}")]
    Create {
        /// Which.
        topic: String,
        /// What the broker said.
        cause: String,
    },
    /// Shops would move to other partitions.
    #[error(
        "topic {topic} has {found} partitions, but topics.log_partitions is {expected}; shops would change their places: set it to {found}, or replay into a new log"
    )]
    Partitions {
        /// Which.
        topic: String,
        /// In the configuration.
        expected: i32,
        /// In Kafka.
        found: i32,
    },
    /// The beginning of a partition is gone.
    #[error(
        "{topic}[{partition}]: needs offset {needed}, but the log begins at {low}; the state cannot be rebuilt from here: restore the topic, or replay into a new one"
    )]
    Truncated {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset that is needed.
        needed: i64,
        /// First offset that is there.
        low: i64,
    },
    /// More is committed than there is.
    #[error(
        "{topic}[{partition}]: offset {committed} is committed, but there are only offsets {low} to {high}: the topic was made again, or lost records; {advice}"
    )]
    Beyond {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// The offset that is committed: the first not read.
        committed: i64,
        /// First offset that is there.
        low: i64,
        /// The offset that the next message will get.
        high: i64,
        /// What to do.
        advice: String,
    },
    /// A message was not delivered.
    #[error("{topic}: a message was not delivered: {cause}")]
    Delivery {
        /// Where to.
        topic: String,
        /// What the client said.
        cause: String,
    },
    /// Reading failed for good.
    #[error("reading {what}: {cause}")]
    Read {
        /// What was read.
        what: String,
        /// What the client said.
        cause: String,
    },
    /// A message of our own is not readable.
    #[error("{topic}[{partition}] at offset {offset}: {cause}")]
    Message {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
        /// What does not fit.
        cause: String,
    },
}
