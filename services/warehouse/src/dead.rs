//! Dead letters as Parquet: what was refused, why, and its original bytes.
//!
//! Files lie in one directory, without business day: a refused record often has none. Each is written whole, under a name
//! made of where its first letter came from.

use crate::file::{self, WriteError};
use arrow::array::{
    Array, ArrayRef, BinaryBuilder, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, StructBuilder,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use peakdesk_model::event::DeadReason;
use peakdesk_model::position::SourcePosition;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Letters in a file.
const FILE_LETTERS_MAX: usize = 50_000;
/// Bytes of values in a file: a letter may be large.
const FILE_BYTES_MAX: usize = 64 << 20;

/// A refused record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it was read.
    pub position: SourcePosition,
    /// Why it was refused.
    pub reason: DeadReason,
    /// The clock of its source partition at it (ms), unless its own timestamp was bad.
    pub clock: Option<i64>,
    /// Its own timestamp (ms).
    pub timestamp_ms: Option<i64>,
    /// Original key.
    pub key: Option<Vec<u8>>,
    /// Original value.
    pub value: Option<Vec<u8>>,
    /// Original headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Collects letters into files.
#[derive(Debug)]
pub struct DeadLetterFiles {
    dir: PathBuf,
    prefix: String,
    pending: Vec<DeadLetter>,
    bytes: usize,
}

impl DeadLetterFiles {
    /// Files under `dir` whose names begin with `prefix`.
    pub fn new(dir: &Path, prefix: &str) -> Self {
        DeadLetterFiles { dir: dir.to_owned(), prefix: prefix.to_owned(), pending: Vec::new(), bytes: 0 }
    }

    /// Letters that are in no file yet.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Adds a letter; says which file was written, if one became full.
    pub fn push(&mut self, letter: DeadLetter) -> Result<Option<PathBuf>, WriteError> {
        self.bytes += letter.value.as_ref().map_or(0, Vec::len) + letter.key.as_ref().map_or(0, Vec::len) + 64;
        self.pending.push(letter);
        if self.pending.len() >= FILE_LETTERS_MAX || self.bytes >= FILE_BYTES_MAX { self.finish() } else { Ok(None) }
    }

    /// Writes what is pending.
    pub fn finish(&mut self) -> Result<Option<PathBuf>, WriteError> {
        let Some(first) = self.pending.first() else { return Ok(None) };
        let p = first.position;
        let name = format!(
            "{}-{}-{:05}-g{}-{:020}.parquet",
            self.prefix,
            p.partition.topic.name(),
            p.partition.partition,
            p.partition.generation,
            p.offset
        );
        let path = file::write(&self.dir, &name, &to_batch(&self.pending)?)?;
        self.pending.clear();
        self.bytes = 0;
        Ok(Some(path))
    }
}

fn header_fields() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)])
}

/// The letters as rows of the table `dead_letters`.
pub fn to_batch(letters: &[DeadLetter]) -> Result<RecordBatch, WriteError> {
    let mut keys = BinaryBuilder::new();
    let mut values = BinaryBuilder::new();
    let mut headers = ListBuilder::new(StructBuilder::from_fields(header_fields(), letters.len()));
    for letter in letters {
        keys.append_option(letter.key.as_deref());
        values.append_option(letter.value.as_deref());
        for (key, value) in &letter.headers {
            let row = headers.values();
            if let Some(names) = row.field_builder::<StringBuilder>(0) {
                names.append_value(key);
            }
            if let Some(texts) = row.field_builder::<BinaryBuilder>(1) {
                texts.append_option(value.as_deref());
            }
            row.append(true);
        }
        headers.append(true);
    }
    let headers = headers.finish();
    let columns: Vec<(&str, bool, ArrayRef)> = vec![
        ("topic", false, Arc::new(StringArray::from_iter_values(letters.iter().map(|l| l.position.partition.topic.name())))),
        ("partition", false, Arc::new(Int32Array::from_iter_values(letters.iter().map(|l| l.position.partition.partition)))),
        ("generation", false, Arc::new(Int32Array::from_iter_values(letters.iter().map(|l| l.position.partition.generation)))),
        ("offset", false, Arc::new(Int64Array::from_iter_values(letters.iter().map(|l| l.position.offset)))),
        ("reason", false, Arc::new(StringArray::from_iter_values(letters.iter().map(|l| l.reason.name())))),
        ("clock", true, Arc::new(TimestampMillisecondArray::from_iter(letters.iter().map(|l| l.clock)).with_timezone("UTC"))),
        ("timestamp", true, Arc::new(TimestampMillisecondArray::from_iter(letters.iter().map(|l| l.timestamp_ms)).with_timezone("UTC"))),
        ("key", true, Arc::new(keys.finish())),
        ("value", true, Arc::new(values.finish())),
        ("headers", false, Arc::new(headers)),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, nullable, array)| Field::new(*name, array.data_type().clone(), *nullable)).collect();
    let arrays = columns.into_iter().map(|c| c.2).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}
