//! How a dead letter says where it came from: headers beside the original ones.

use peakdesk_model::event::DeadReason;
use peakdesk_model::input::Topic;
use peakdesk_model::position::{SourcePartition, SourcePosition};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};

const PREFIX: &str = "peakdesk-";
const REASON: &str = "peakdesk-reason";
const TOPIC: &str = "peakdesk-topic";
const PARTITION: &str = "peakdesk-partition";
const GENERATION: &str = "peakdesk-generation";
const OFFSET: &str = "peakdesk-offset";
const TIMESTAMP: &str = "peakdesk-timestamp";
const CLOCK: &str = "peakdesk-clock";

/// Adds to the original headers where the record was read and why it was refused.
pub fn describe(
    headers: OwnedHeaders,
    at: SourcePosition,
    reason: DeadReason,
    timestamp_ms: Option<i64>,
    clock: Option<i64>,
) -> OwnedHeaders {
    let mut fields = vec![
        (REASON, reason.name().to_owned()),
        (TOPIC, at.partition.topic.name().to_owned()),
        (PARTITION, at.partition.partition.to_string()),
        (GENERATION, at.partition.generation.to_string()),
        (OFFSET, at.offset.to_string()),
    ];
    fields.extend(timestamp_ms.map(|t| (TIMESTAMP, t.to_string())));
    fields.extend(clock.map(|t| (CLOCK, t.to_string())));
    fields
        .iter()
        .fold(headers, |all, (key, value)| all.insert(Header { key, value: Some(value) }))
}

/// What the headers of a dead letter say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Where the record was read.
    pub position: SourcePosition,
    /// Why it was refused.
    pub reason: DeadReason,
    /// Its own timestamp (ms).
    pub timestamp_ms: Option<i64>,
    /// The clock of its source partition (ms).
    pub clock: Option<i64>,
    /// The original headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Reads the headers of a dead letter; `None` if it is not one of ours.
pub fn read(message: &BorrowedMessage<'_>) -> Option<Letter> {
    let all = message.headers()?;
    let mut original = Vec::new();
    let mut ours = std::collections::BTreeMap::new();
    for i in 0..all.count() {
        let header = all.get(i);
        match header.value {
            // The last of a name counts: ours stand behind the original ones.
            Some(value) if header.key.starts_with(PREFIX) => {
                ours.insert(header.key.to_owned(), String::from_utf8_lossy(value).into_owned());
            }
            value => original.push((header.key.to_owned(), value.map(<[u8]>::to_vec))),
        }
    }
    let number = |name: &str| ours.get(name).and_then(|v| v.parse::<i64>().ok());
    let topic = Topic::ALL.into_iter().find(|t| ours.get(TOPIC).is_some_and(|v| v == t.name()))?;
    let reason = DeadReason::ALL
        .into_iter()
        .find(|r| ours.get(REASON).is_some_and(|v| v == r.name()))?;
    let partition = SourcePartition {
        topic,
        partition: number(PARTITION)? as i32,
        generation: number(GENERATION)? as i32,
    };
    Some(Letter {
        position: SourcePosition {
            partition,
            offset: number(OFFSET)?,
        },
        reason,
        timestamp_ms: number(TIMESTAMP),
        clock: number(CLOCK),
        headers: original,
    })
}
