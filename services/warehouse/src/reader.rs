//! One partition of results as it is read: which messages are new, which of their rows are in files, and what may be committed.
//!
//! ```text
//! message ─► repeat, gap, or new rows ─► slicer ─► files
//!                                          └─► the first message whose rows are not all in files: that is committed, with the mark
//! ```
//!
//! Always holds: what is committed is enough to write again, with the same bytes, every file that does not hold all its rows yet.
//! No Kafka in here: its owner brings messages and takes what is to be committed.

use crate::file::WriteError;
use crate::slice::{Mark, Slicer, Written};
use arrow::array::RecordBatch;
use peakdesk_model::position::{Coverage, LogPosition, coverage};
use peakdesk_model::results::{self, Span};
use peakdesk_model::table::Table;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::path::Path;

/// What is committed beside an offset of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Where the slices stand.
    pub mark: Mark,
    /// Where the first message to be read again begins.
    pub at: LogPosition,
}

impl Default for Committed {
    fn default() -> Self {
        Committed {
            mark: Mark::default(),
            at: LogPosition::start_of(0),
        }
    }
}

/// One partition of results.
#[derive(Debug)]
pub struct Reader {
    slicer: Slicer,
    /// Everything before it has been read.
    at: LogPosition,
    /// Messages whose rows are not all in files: offset, and from where to where they were new.
    open: VecDeque<(i64, LogPosition, LogPosition)>,
    next: i64,
    committed: i64,
    /// The log time read so far (ms).
    log_time: i64,
}

impl Reader {
    /// Goes on from the message at `offset` with what was committed beside it.
    pub fn new(dir: &Path, log_partition: i32, slice_ms: i64, offset: i64, committed: Committed) -> Self {
        Reader {
            slicer: Slicer::new(dir, log_partition, slice_ms, committed.mark),
            at: committed.at,
            open: VecDeque::new(),
            next: offset,
            committed: offset,
            log_time: i64::MIN,
        }
    }

    /// With a slicer changed before anything is read.
    pub fn with(mut self, change: impl FnOnce(Slicer) -> Slicer) -> Self {
        self.slicer = change(self.slicer);
        self
    }

    /// Everything before this position has been read.
    pub fn at(&self) -> LogPosition {
        self.at
    }

    /// Rows that are in no file yet.
    pub fn pending_rows(&self) -> usize {
        self.slicer.pending_rows()
    }

    /// Takes the message at `offset` in: the rows of it that are new, to be given to [`Reader::write`]. After a gap there are none:
    /// the repeat that must follow has them.
    pub fn take(&mut self, offset: i64, span: &Span, batches: Vec<(Table, RecordBatch)>) -> (Coverage, Vec<(Table, RecordBatch)>) {
        self.next = offset + 1;
        let coverage = coverage(&span.from, &span.to, &self.at);
        if coverage != Coverage::Apply {
            return (coverage, Vec::new());
        }
        let new = |(table, batch): (Table, RecordBatch)| {
            let known = results::rows_before(&batch, self.at);
            (table, batch.slice(known, batch.num_rows() - known))
        };
        let batches = batches.into_iter().map(new).collect();
        self.open.push_back((offset, self.at, span.to));
        self.at = span.to;
        self.log_time = self.log_time.max(span.log_time_ms);
        (coverage, batches)
    }

    /// Writes the files that are whole with these rows. On an error nothing is lost: the same call may be made again with no rows.
    pub fn write(&mut self, batches: Vec<(Table, RecordBatch)>) -> Result<Vec<Written>, WriteError> {
        let written = self.slicer.push(batches, self.log_time)?;
        let first = self.slicer.first_pending();
        while self.open.front().is_some_and(|(_, _, to)| first.is_none_or(|f| *to <= f)) {
            self.open.pop_front();
        }
        Ok(written)
    }

    /// The first message that must be read again, and what to commit beside it; `None` where that is committed already.
    pub fn to_commit(&mut self) -> Option<(i64, Committed)> {
        let (offset, at) = self.open.front().map_or((self.next, self.at), |(offset, from, _)| (*offset, *from));
        if offset <= self.committed {
            return None;
        }
        self.committed = offset;
        let mark = self.slicer.mark();
        Some((offset, Committed { mark, at }))
    }
}
