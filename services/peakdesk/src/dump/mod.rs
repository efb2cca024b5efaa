//! Dumps: the records of the three input topics as files, to be replayed without Kafka.
//!
//! ```text
//! Kafka ──────────► kafka ──┐                ┌─► lines    chat.ndjson   … (any tool can read and make them)
//!                           ├─► Record ─► sink
//! another dump ─► convert ──┘                └─► columns  chat.parquet  … (replays faster, takes less space)
//! ```
//!
//! Both forms hold the same: per record its partition, offset and timestamp, its key and headers, and its value, either as
//! JSON or, where the bytes were no record at all, as they were. Going from one form to the other and back loses nothing that
//! JSON can tell apart; only blanks, the order of an object's members and the spelling of texts (`\u0041`) may change.
//!
//! The files of a dump get their names when all of them are complete; until then, and after a failure, none of them is there.
//!
//! Reading for a replay is the business of [`crate::replay`]; this module writes.

mod avro;
pub mod columns;
mod command;
mod convert;
mod kafka;
mod lines;
pub mod record;
mod sink;
pub mod typed;

pub use command::{Flags, command};

#[cfg(test)]
mod tests;

use peakdesk_model::input::Topic;
use std::collections::BTreeMap;

/// The two forms of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A JSON object per line and record.
    Ndjson,
    /// Typed columns.
    Parquet,
}

impl Form {
    /// Both.
    pub const ALL: [Form; 2] = [Form::Ndjson, Form::Parquet];

    /// The name of a topic's file.
    pub fn file_name(self, topic: Topic) -> String {
        match self {
            Form::Ndjson => format!("{}.ndjson", topic.name()),
            Form::Parquet => format!("{}.parquet", topic.name()),
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DumpReport {
    /// Records by topic name.
    pub records: BTreeMap<&'static str, u64>,
    /// Records of a live topic whose JSON is too large for a replay, though the record itself was not.
    pub oversized: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

impl DumpReport {
    /// All records.
    pub fn total(&self) -> u64 {
        self.records.values().sum()
    }
}
