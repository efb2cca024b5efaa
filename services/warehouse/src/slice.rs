//! Slices: rows of one log partition, cut into files at points that follow from the log alone.
//!
//! A slice holds the rows published in one span of log time; a long one is cut into parts of a fixed number of rows, counted
//! in the order of their positions over all tables. So whoever writes a slice, from whichever messages, however they were cut,
//! writes the same files.
//!
//! ```text
//! OUT/<table>/dt=YYYY-MM-DD/p00003-20251111T000500-300s-000.parquet
//!                            │      │              │    └ part
//!                            │      │              └ length of the slice
//!                            │      └ its start in log time, UTC
//!                            └ log partition
//! ```

use crate::file::{Disk, Shelf, WriteError};
use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Date32Type, TimestampMillisecondType};
use arrow::row::{RowConverter, SortField};
use peakdesk_model::position::LogPosition;
use peakdesk_model::results;
use peakdesk_model::table::Table;
use peakdesk_model::time::{DAY_MS, Day, format_date};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows in a part; at some 500 bytes a row a part stays below 100 MB in memory, for each log partition.
pub const PART_ROWS_MAX: usize = 150_000;

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Where it is.
    pub path: PathBuf,
    /// Of which table.
    pub table: Table,
    /// How many rows it holds.
    pub rows: usize,
}

/// Where the slices of a log partition have come to: everything before `covered` is in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// Rows at and after this position are in no file yet.
    pub covered: LogPosition,
    /// Start of the slice they belong to, if it is begun (ms).
    pub slice: Option<i64>,
    /// Number of the next part of that slice.
    pub part: u32,
}

impl Default for Mark {
    fn default() -> Self {
        Mark {
            covered: LogPosition::start_of(i64::MIN),
            slice: None,
            part: 0,
        }
    }
}

/// The rows of one log partition that are in no file yet.
#[derive(Debug)]
pub struct Slicer {
    shelf: Arc<dyn Shelf>,
    dir: PathBuf,
    log_partition: i32,
    slice_ms: i64,
    part_rows_max: usize,
    mark: Mark,
    pending: BTreeMap<Table, Vec<RecordBatch>>,
    rows: usize,
    /// First position of the rows pending.
    first: Option<LogPosition>,
    /// When the first of them were published (ms). Kept, since many batches may be pending and every push asks.
    published: Option<i64>,
}

impl Slicer {
    /// A slicer that goes on from `mark`.
    pub fn new(dir: &Path, log_partition: i32, slice_ms: i64, mark: Mark) -> Self {
        Slicer {
            shelf: Arc::new(Disk),
            dir: dir.to_owned(),
            log_partition,
            slice_ms: slice_ms.max(1),
            part_rows_max: PART_ROWS_MAX,
            mark,
            pending: BTreeMap::new(),
            rows: 0,
            first: None,
            published: None,
        }
    }

    /// With another number of rows in a part (for tests).
    pub fn with_part_rows(mut self, part_rows_max: usize) -> Self {
        self.part_rows_max = part_rows_max.max(1);
        self
    }

    /// With another place for the files.
    pub fn on(mut self, shelf: Arc<dyn Shelf>) -> Self {
        self.shelf = shelf;
        self
    }

    /// Where it has come to.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Rows that are in no file yet.
    pub fn pending_rows(&self) -> usize {
        self.rows
    }

    /// First position of the rows that are in no file yet.
    pub fn first_pending(&self) -> Option<LogPosition> {
        self.first
    }

    /// Takes rows in, in the order of their positions; `log_time` (ms) is how far the log has come with them. Files whose slice or
    /// part is whole are written; on an error nothing is lost: the same call may be made again with no rows.
    pub fn push(&mut self, batches: Vec<(Table, RecordBatch)>, log_time: i64) -> Result<Vec<Written>, WriteError> {
        for (table, batch) in batches {
            let batch = self.only_new(&batch);
            if batch.num_rows() > 0 {
                self.first = self.first.min_some(first_position(&batch));
                self.published = self.published.min_some(Some(published_at(&batch, 0)));
                self.rows += batch.num_rows();
                self.pending.entry(table).or_default().push(batch);
            }
        }
        self.write_whole(log_time)
    }

    /// Writes everything that is pending, whole or not: the log has ended.
    pub fn finish(&mut self) -> Result<Vec<Written>, WriteError> {
        let mut written = self.write_whole(i64::MAX)?;
        written.append(&mut self.write_whole(i64::MAX)?);
        Ok(written)
    }

    fn only_new(&self, batch: &RecordBatch) -> RecordBatch {
        let from = results::rows_before(batch, self.mark.covered);
        batch.slice(from, batch.num_rows() - from)
    }

    fn write_whole(&mut self, log_time: i64) -> Result<Vec<Written>, WriteError> {
        let mut written = Vec::new();
        while let (Some(first), Some(published)) = (self.first, self.published) {
            let start = published.div_euclid(self.slice_ms) * self.slice_ms;
            let end = start.saturating_add(self.slice_ms);
            if self.mark.slice != Some(start) {
                self.mark = Mark {
                    covered: first,
                    slice: Some(start),
                    part: 0,
                };
            }
            let Some(cut) = self.cut(end, log_time) else { break };
            let part = self.take_before(cut);
            if let Err(error) = self.write_part(&part, start, &mut written) {
                self.put_back(part);
                return Err(error);
            }
            self.first = self.pending.values().flatten().filter_map(first_position).min();
            self.published = self.pending.values().flatten().map(|b| published_at(b, 0)).min();
            self.mark = Mark {
                covered: cut.max(self.mark.covered),
                slice: Some(start),
                part: self.mark.part + 1,
            };
        }
        Ok(written)
    }

    /// The position before which the next part ends, if it is whole.
    fn cut(&self, slice_end: i64, log_time: i64) -> Option<LogPosition> {
        if log_time < slice_end && self.rows < self.part_rows_max {
            return None;
        }
        let mut in_slice: Vec<(&RecordBatch, usize)> = Vec::new();
        let mut beyond: Option<LogPosition> = None;
        for batch in self.pending.values().flatten() {
            let n = results::partition_point(batch.num_rows(), |i| published_at(batch, i) < slice_end);
            in_slice.push((batch, n));
            beyond = beyond.min_some((n < batch.num_rows()).then(|| results::position(batch, n)));
        }
        let count: usize = in_slice.iter().map(|(_, n)| n).sum();
        if count > self.part_rows_max {
            let mut positions: Vec<LogPosition> = in_slice.iter().flat_map(|(batch, n)| results::positions(batch, *n)).collect();
            if self.part_rows_max < positions.len() {
                return Some(*positions.select_nth_unstable(self.part_rows_max).1);
            }
        }
        let lasts = in_slice.iter().filter(|(_, n)| *n > 0);
        let last = lasts.map(|(batch, n)| results::position(batch, n - 1)).max()?;
        let after = LogPosition {
            offset: last.offset,
            index: last.index + 1,
        };
        (beyond.is_some() || log_time >= slice_end || count == self.part_rows_max).then_some(after)
    }

    fn take_before(&mut self, cut: LogPosition) -> BTreeMap<Table, Vec<RecordBatch>> {
        let mut part: BTreeMap<Table, Vec<RecordBatch>> = BTreeMap::new();
        for (table, batches) in &mut self.pending {
            let mut rest = Vec::new();
            for batch in std::mem::take(batches) {
                let n = results::rows_before(&batch, cut);
                if n > 0 {
                    part.entry(*table).or_default().push(batch.slice(0, n));
                }
                if n < batch.num_rows() {
                    rest.push(batch.slice(n, batch.num_rows() - n));
                }
            }
            *batches = rest;
        }
        self.rows -= part.values().flatten().map(RecordBatch::num_rows).sum::<usize>();
        part
    }

    fn put_back(&mut self, part: BTreeMap<Table, Vec<RecordBatch>>) {
        for (table, mut batches) in part {
            self.rows += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
            let pending = self.pending.entry(table).or_default();
            batches.append(pending);
            *pending = batches;
        }
    }

    fn write_part(&self, part: &BTreeMap<Table, Vec<RecordBatch>>, start: i64, written: &mut Vec<Written>) -> Result<(), WriteError> {
        let name = file_name(self.log_partition, start, self.slice_ms, self.mark.part);
        for (table, batches) in part {
            let Some(first) = batches.first() else { continue };
            let rows = sorted(*table, &concat_batches(&first.schema(), batches)?)?;
            for (day, rows) in by_day(&rows) {
                let dir = self.dir.join(table.name()).join(format!("dt={}", format_date(day)));
                let path = self.shelf.put(&dir, &name, &rows)?;
                written.push(Written {
                    path,
                    table: *table,
                    rows: rows.num_rows(),
                });
            }
        }
        Ok(())
    }
}

/// `min` of options in which `None` is no bound.
trait MinSome: Sized {
    fn min_some(self, other: Self) -> Self;
}

impl<T: Ord> MinSome for Option<T> {
    fn min_some(self, other: Self) -> Self {
        match (self, other) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

fn first_position(batch: &RecordBatch) -> Option<LogPosition> {
    (batch.num_rows() > 0).then(|| results::position(batch, 0))
}

fn published_at(batch: &RecordBatch, row: usize) -> i64 {
    let column = batch
        .column_by_name("published_at")
        .and_then(|c| c.as_primitive_opt::<TimestampMillisecondType>());
    column.map_or(0, |c| c.value(row))
}

fn file_name(log_partition: i32, start: i64, slice_ms: i64, part: u32) -> String {
    let day = start.div_euclid(DAY_MS) as Day;
    let seconds = start.rem_euclid(DAY_MS) / 1000;
    let date = format_date(day).replace('-', "");
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!(
        "p{log_partition:05}-{date}T{h:02}{m:02}{s:02}-{}s-{part:03}.parquet",
        slice_ms / 1000
    )
}

/// By day first, so that a day's rows lie together, then by the table's key.
fn sorted(table: Table, batch: &RecordBatch) -> Result<RecordBatch, WriteError> {
    let columns = std::iter::once(&"dt").chain(table.sort_key());
    let columns: Vec<ArrayRef> = columns.filter_map(|name| batch.column_by_name(name).cloned()).collect();
    let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
    // One string of bytes for each row, whose order is that of the rows: comparing column by column costs several times as much.
    let keys = RowConverter::new(fields)?.convert_columns(&columns)?;
    let mut order: Vec<u32> = (0..batch.num_rows() as u32).collect();
    order.sort_unstable_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
    Ok(take_record_batch(batch, &UInt32Array::from(order))?)
}

/// The rows of each day, without the column that names it.
fn by_day(batch: &RecordBatch) -> Vec<(Day, RecordBatch)> {
    let Ok(at) = batch.schema().index_of("dt") else { return Vec::new() };
    let Some(days) = batch.column(at).as_primitive_opt::<Date32Type>().cloned() else {
        return Vec::new();
    };
    let mut rest = batch.clone();
    rest.remove_column(at);
    let mut out = Vec::new();
    let mut begin = 0;
    while begin < days.len() {
        let day = days.value(begin);
        let n = (begin..days.len()).take_while(|i| days.value(*i) == day).count();
        out.push((day, rest.slice(begin, n)));
        begin += n;
    }
    out
}
