//! Messages of the topics of results and of alerts: rows of the tables, and the span of log positions they are all of.
//!
//! Partition N of either holds what follows from partition N of the shop log. Spans are contiguous: a message begins
//! where the one before it ended. Where spans are cut carries no meaning; a scorer that starts anew may cut elsewhere.

use crate::envelope::{Envelope, EnvelopeError};
use crate::position::LogPosition;
use crate::table::Table;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, UInt32Type};
use serde::{Deserialize, Serialize};

/// Name in the envelope of the message.
pub const RESULTS_KIND: &str = "results";
const VERSION: u32 = 1;

/// What a message says besides its rows: it holds all rows at positions `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Partition of the shop log.
    pub log_partition: i32,
    /// First position covered.
    pub from: LogPosition,
    /// First position not covered.
    pub to: LogPosition,
    /// Log time at its end: no row behind it was published before (ms).
    pub log_time_ms: i64,
    /// How far the log is complete at its end (ms).
    pub complete_until_ms: Option<i64>,
    /// Advice, not part of what follows from the log: whether everything was read to its end when this was written. What fires while it
    /// is not may long be over.
    #[serde(default)]
    pub caught_up: bool,
}

/// The bytes of a message.
pub fn encode(span: &Span, batches: &[(Table, RecordBatch)]) -> Result<Vec<u8>, EnvelopeError> {
    let mut envelope = Envelope::new(RESULTS_KIND, VERSION, span)?;
    for (table, batch) in batches {
        envelope.push_batch(table.name(), batch)?;
    }
    Ok(envelope.encode())
}

/// Reads a message.
pub fn decode(bytes: &[u8]) -> Result<(Span, Vec<(Table, RecordBatch)>), EnvelopeError> {
    let envelope = Envelope::decode(bytes)?;
    let span = envelope.head(RESULTS_KIND, VERSION)?;
    let named = |(name, batch): (&str, RecordBatch)| {
        let table = Table::ALL.into_iter().find(|t| t.name() == name);
        table
            .map(|t| (t, batch))
            .ok_or_else(|| EnvelopeError::Head(format!("rows of an unknown table {name}; were they written by a newer version?")))
    };
    let batches = envelope.batches()?.into_iter().map(named).collect::<Result<_, _>>()?;
    Ok((span, batches))
}

/// The position of a row (its first one, for a batch of another schema).
pub fn position(batch: &RecordBatch, row: usize) -> LogPosition {
    let offset = batch
        .column_by_name("log_offset")
        .and_then(|c| c.as_primitive_opt::<Int64Type>())
        .map_or(0, |c| c.value(row));
    let index = batch
        .column_by_name("log_index")
        .and_then(|c| c.as_primitive_opt::<UInt32Type>())
        .map_or(0, |c| c.value(row));
    LogPosition { offset, index }
}

/// The positions of the first `n` rows.
pub fn positions(batch: &RecordBatch, n: usize) -> impl Iterator<Item = LogPosition> {
    let offsets = batch.column_by_name("log_offset").and_then(|c| c.as_primitive_opt::<Int64Type>());
    let indices = batch.column_by_name("log_index").and_then(|c| c.as_primitive_opt::<UInt32Type>());
    let (offsets, indices) = (offsets.map_or(&[][..], |c| c.values()), indices.map_or(&[][..], |c| c.values()));
    let both = offsets.iter().zip(indices).take(n);
    both.map(|(offset, index)| LogPosition {
        offset: *offset,
        index: *index,
    })
}

/// How many rows of a batch, whose positions ascend, lie before a position.
pub fn rows_before(batch: &RecordBatch, at: LogPosition) -> usize {
    partition_point(batch.num_rows(), |row| position(batch, row) < at)
}

/// The first of `0..n` for which `before` is false; `before` must be true for a prefix only.
pub fn partition_point(n: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut lo, mut hi) = (0, n);
    while lo < hi {
        let middle = (lo + hi) / 2;
        if before(middle) { lo = middle + 1 } else { hi = middle }
    }
    lo
}
