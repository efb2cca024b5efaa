//! What can go wrong in a simulation. The generator itself cannot fail once its configuration is accepted.

use std::path::PathBuf;

use peakdesk_model::input::Topic;
use rdkafka::error::KafkaError;

/// A simulation that could not start or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A setting is out of range.
    #[error("simulator setting {field}: {problem}")]
    Config {
        /// Name of the setting, as in [`crate::SimConfig`].
        field: &'static str,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// A shipped Avro schema did not parse: a defect of the build, not of the input.
    #[error("the shipped avro schema of topic {} is not valid: {problem}", .topic.name())]
    Schema {
        /// The topic whose schema it is.
        topic: Topic,
        /// The parser's message.
        problem: String,
    },
    /// A record does not fit its schema or cannot be written as JSON.
    #[error("cannot encode a record of topic {}: {problem}", .topic.name())]
    Encode {
        /// The record's topic.
        topic: Topic,
        /// The encoder's message.
        problem: String,
    },
    /// A file of the dump could not be written.
    #[error("cannot write the dump file {}: {source}", .path.display())]
    Dump {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The Kafka client refused its configuration or a record.
    #[error("kafka producer for {brokers}: {source}")]
    Kafka {
        /// The bootstrap servers.
        brokers: String,
        /// The client's error.
        source: KafkaError,
    },
    /// The broker has acknowledged nothing for too long.
    #[error(
        "no record acknowledged by {brokers} for {waited_s} s with {in_flight} in flight; check that the brokers can be reached and the topics exist"
    )]
    Stalled {
        /// The bootstrap servers.
        brokers: String,
        /// How long nothing was acknowledged, in seconds.
        waited_s: u64,
        /// Records neither acknowledged nor failed.
        in_flight: u64,
    },
    /// Some records were not delivered.
    #[error("{failed} of {sent} records were not delivered to {brokers}; the first failed with: {first}")]
    Undelivered {
        /// The bootstrap servers.
        brokers: String,
        /// Records whose delivery failed.
        failed: u64,
        /// Records handed to the client.
        sent: u64,
        /// The first failure.
        first: String,
    },
}
