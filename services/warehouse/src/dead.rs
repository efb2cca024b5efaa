//! Dead letters as Parquet: what was refused, why, and its original bytes.
//!
//! Files lie in one directory, without business day: a refused record often has none. Each is written whole, under a name
//! made of where its first letter came from.

use crate::file::{self, WriteError};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, StructBuilder,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use peakdesk_model::event::DeadReason;
use peakdesk_model::input::Topic;
use peakdesk_model::position::{SourcePartition, SourcePosition};
use std::collections::BTreeMap;
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
        DeadLetterFiles {
            dir: dir.to_owned(),
            prefix: prefix.to_owned(),
            pending: Vec::new(),
            bytes: 0,
        }
    }

    /// Letters that are in no file yet.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Adds a letter.
    pub fn add(&mut self, letter: DeadLetter) {
        self.bytes += letter.value.as_ref().map_or(0, Vec::len) + letter.key.as_ref().map_or(0, Vec::len) + 64;
        self.pending.push(letter);
    }

    /// Whether what is pending should be written.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= FILE_LETTERS_MAX || self.bytes >= FILE_BYTES_MAX
    }

    /// Adds a letter; says which file was written, if one became full.
    pub fn push(&mut self, letter: DeadLetter) -> Result<Option<PathBuf>, WriteError> {
        self.add(letter);
        if self.is_full() { self.finish() } else { Ok(None) }
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

/// Which letters are in files: of each source partition they come in order, so the highest offset says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known(BTreeMap<SourcePartition, i64>);

impl Known {
    /// What the files of a prefix in `dir` hold.
    pub fn of_files(dir: &Path, prefix: &str) -> Result<Self, WriteError> {
        let mut known = Known::default();
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(known),
            Err(source) => {
                return Err(WriteError::Io {
                    path: dir.to_owned(),
                    source,
                });
            }
        };
        for entry in entries {
            let path = entry
                .map_err(|source| WriteError::Io {
                    path: dir.to_owned(),
                    source,
                })?
                .path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with(&format!("{prefix}-")) && name.ends_with(".parquet") {
                known.read(&path)?;
            }
        }
        Ok(known)
    }

    fn read(&mut self, path: &Path) -> Result<(), WriteError> {
        let parquet = |source| WriteError::Parquet {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::File::open(path).map_err(|source| WriteError::Io {
            path: path.to_owned(),
            source,
        })?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(parquet)?;
        let columns = ProjectionMask::columns(builder.parquet_schema(), ["topic", "partition", "generation", "offset"]);
        for batch in builder.with_projection(columns).build().map_err(parquet)? {
            let batch = batch?;
            for row in 0..batch.num_rows() {
                if let Some(position) = position(&batch, row) {
                    self.is_new(position);
                }
            }
        }
        Ok(())
    }

    /// Notes a letter; `false` if it was known.
    pub fn is_new(&mut self, position: SourcePosition) -> bool {
        let highest = self.0.entry(position.partition).or_insert(i64::MIN);
        let is_new = position.offset > *highest;
        *highest = position.offset.max(*highest);
        is_new
    }
}

fn position(batch: &RecordBatch, row: usize) -> Option<SourcePosition> {
    let name = batch.column_by_name("topic")?.as_string_opt::<i32>()?.value(row);
    let topic = Topic::ALL.into_iter().find(|t| t.name() == name)?;
    let small = |name: &str| Some(batch.column_by_name(name)?.as_primitive_opt::<Int32Type>()?.value(row));
    let partition = SourcePartition {
        topic,
        partition: small("partition")?,
        generation: small("generation")?,
    };
    let offset = batch.column_by_name("offset")?.as_primitive_opt::<Int64Type>()?.value(row);
    Some(SourcePosition { partition, offset })
}

fn header_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Binary, true),
    ])
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
        (
            "topic",
            false,
            Arc::new(StringArray::from_iter_values(
                letters.iter().map(|l| l.position.partition.topic.name()),
            )),
        ),
        (
            "partition",
            false,
            Arc::new(Int32Array::from_iter_values(letters.iter().map(|l| l.position.partition.partition))),
        ),
        (
            "generation",
            false,
            Arc::new(Int32Array::from_iter_values(
                letters.iter().map(|l| l.position.partition.generation),
            )),
        ),
        (
            "offset",
            false,
            Arc::new(Int64Array::from_iter_values(letters.iter().map(|l| l.position.offset))),
        ),
        (
            "reason",
            false,
            Arc::new(StringArray::from_iter_values(letters.iter().map(|l| l.reason.name()))),
        ),
        (
            "clock",
            true,
            Arc::new(TimestampMillisecondArray::from_iter(letters.iter().map(|l| l.clock)).with_timezone("UTC")),
        ),
        (
            "timestamp",
            true,
            Arc::new(TimestampMillisecondArray::from_iter(letters.iter().map(|l| l.timestamp_ms)).with_timezone("UTC")),
        ),
        ("key", true, Arc::new(keys.finish())),
        ("value", true, Arc::new(values.finish())),
        ("headers", false, Arc::new(headers)),
    ];
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, nullable, array)| Field::new(*name, array.data_type().clone(), *nullable))
        .collect();
    let arrays = columns.into_iter().map(|c| c.2).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}
