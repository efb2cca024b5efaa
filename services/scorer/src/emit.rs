//! Rows to their topics, as messages that say which span of the log they cover.

use crate::ScorerError;
use crate::core::Outbox;
use arrow::array::RecordBatch;
use peakdesk_model::position::LogPosition;
use peakdesk_model::results::{self, Span};
use peakdesk_model::table::{Rows, Table};
use std::time::Instant;

/// Rows in a message: at some 500 bytes a row well below the broker's limit.
pub(crate) const MESSAGE_ROWS_MAX: usize = 1_000;

/// Rows that go to one topic, and up to where they are told.
pub(crate) struct Stream {
    pub(crate) rows: Rows,
    told: LogPosition,
    pub(crate) emitted_at: Instant,
}

impl Stream {
    /// Whose first message begins at a log offset.
    pub(crate) fn from(offset: i64, now: Instant) -> Self {
        Stream {
            rows: Rows::default(),
            told: LogPosition::start_of(offset),
            emitted_at: now,
        }
    }
}

/// Writes what waits in a stream as messages, the last of which ends at `end`.
pub(crate) fn emit(outbox: &mut impl Outbox, topic: &str, stream: &mut Stream, end: Span, now: Instant) -> Result<(), ScorerError> {
    if stream.told >= end.to {
        return Ok(());
    }
    let rows = std::mem::take(&mut stream.rows);
    for (from, to, batches) in cut(&rows.to_batches(end.log_partition)?, stream.told, end.to) {
        let log_time_ms = if to == end.to { end.log_time_ms } else { i64::MIN };
        let span = Span {
            from,
            to,
            log_time_ms,
            ..end
        };
        let bytes = results::encode(&span, &batches)?;
        outbox.send(topic, end.log_partition, &bytes)?;
    }
    stream.told = end.to;
    stream.emitted_at = now;
    Ok(())
}

/// A message: the span it covers and its rows.
type Piece = (LogPosition, LogPosition, Vec<(Table, RecordBatch)>);

/// Cuts rows at positions so that no piece has more than [`MESSAGE_ROWS_MAX`].
fn cut(batches: &[(Table, RecordBatch)], from: LogPosition, to: LogPosition) -> Vec<Piece> {
    let mut positions: Vec<LogPosition> = batches
        .iter()
        .flat_map(|(_, b)| (0..b.num_rows()).map(|i| results::position(b, i)))
        .collect();
    positions.sort_unstable();
    let mut ends: Vec<LogPosition> = positions.iter().skip(MESSAGE_ROWS_MAX).step_by(MESSAGE_ROWS_MAX).copied().collect();
    ends.push(to);
    let mut begin = from;
    let mut pieces = Vec::with_capacity(ends.len());
    for end in ends {
        let within = |(table, batch): &(Table, RecordBatch)| {
            let lo = results::rows_before(batch, begin);
            let hi = results::rows_before(batch, end);
            (hi > lo).then(|| (*table, batch.slice(lo, hi - lo)))
        };
        pieces.push((begin, end, batches.iter().filter_map(within).collect()));
        begin = end;
    }
    pieces
}
