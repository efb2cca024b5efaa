//! How a dead letter says where it came from: headers beside the original ones.

use peakdesk_model::event::DeadReason;
use peakdesk_model::input::Topic;
use peakdesk_model::position::{SourcePartition, SourcePosition};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

const REASON: &str = "peakdesk-reason";
const TOPIC: &str = "peakdesk-topic";
const PARTITION: &str = "peakdesk-partition";
const GENERATION: &str = "peakdesk-generation";
const OFFSET: &str = "peakdesk-offset";
const TIMESTAMP: &str = "peakdesk-timestamp";
const CLOCK: &str = "peakdesk-clock";
const NAMES: [&str; 7] = [REASON, TOPIC, PARTITION, GENERATION, OFFSET, TIMESTAMP, CLOCK];

/// The headers of a message, in order. A name that is not UTF-8, which the client library cannot give, becomes U+FFFD
/// without a value.
pub fn headers_of<'m>(message: &'m BorrowedMessage<'_>) -> Vec<(Cow<'m, str>, Option<&'m [u8]>)> {
    let Some(headers) = message.headers() else { return Vec::new() };
    // The library panics at such a name; nothing of ours is left half done by that.
    let header = |i| match catch_unwind(AssertUnwindSafe(|| headers.try_get(i))) {
        Ok(header) => header.map(|h| (Cow::Borrowed(h.key), h.value)),
        Err(_) => Some((Cow::Borrowed("\u{fffd}"), None)),
    };
    (0..headers.count()).filter_map(header).collect()
}

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

/// The header of a copy that a replay of dead letters made: the position of the record it is a copy of.
const REPLAY_OF: &str = "peakdesk-replay-of";

fn name_of(at: SourcePosition) -> String {
    let SourcePartition {
        topic,
        partition,
        generation,
    } = at.partition;
    format!("{}/{generation}/{partition}/{}", topic.name(), at.offset)
}

/// The headers of a copy: the original ones, and last of all where the original was read.
pub fn mark_copy(original: &[(String, Option<Vec<u8>>)], of: SourcePosition) -> OwnedHeaders {
    let headers = original.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
        all.insert(Header {
            key,
            value: value.as_ref(),
        })
    });
    headers.insert(Header {
        key: REPLAY_OF,
        value: Some(&name_of(of)),
    })
}

/// What a record is a copy of, if a replay made it. The last header counts: a copy of a copy has one of each.
pub fn copied_from(message: &BorrowedMessage<'_>) -> Option<SourcePosition> {
    let headers = message.headers()?;
    let last = headers.count().checked_sub(1)?;
    // As above: the library panics at a name that is not UTF-8, and such a name is not ours.
    let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(last))).ok()??;
    if header.key != REPLAY_OF {
        return None;
    }
    let mut fields = std::str::from_utf8(header.value?).ok()?.split('/');
    let mut field = || fields.next();
    let topic = field()?;
    let position = SourcePosition {
        partition: SourcePartition {
            topic: Topic::ALL.into_iter().find(|t| t.name() == topic)?,
            generation: field()?.parse().ok()?,
            partition: field()?.parse().ok()?,
        },
        offset: field()?.parse().ok()?,
    };
    field().is_none().then_some(position)
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
    let mut original = Vec::new();
    let mut ours = std::collections::BTreeMap::new();
    // Ours stand behind the original ones, each once; an original one of the same name stays what it is.
    let mut behind = true;
    for (key, value) in headers_of(message).into_iter().rev() {
        behind &= NAMES.contains(&&*key) && !ours.contains_key(&*key);
        match value {
            Some(value) if behind => {
                ours.insert(key.into_owned(), String::from_utf8_lossy(value).into_owned());
            }
            value => original.push((key.into_owned(), value.map(<[u8]>::to_vec))),
        }
    }
    original.reverse();
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
