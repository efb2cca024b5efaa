//! Columnar dumps ([`crate::dump::columns`]): a row per record, the row groups of a partition in offset order.
//!
//! Each partition is read on its own, a page per column at a time. A row of typed columns becomes an event without any JSON;
//! it passes the same tests as a record that was read from Kafka, so that a file from elsewhere can do no harm. Columns that only
//! a dead letter needs, chat texts above all, are passed over until there is one.

use super::dump::{Payload, Stamp};
use crate::dump::columns::{CHECKSUM_KEY, ColumnType, VERSION, VERSION_KEY, columns_of};
use crate::dump::record::{Header, Record, Value};
use crate::dump::typed::{Cell, Typed, join};
use anyhow::{Context, bail};
use arrow::array::{Array, AsArray, BinaryViewArray, BooleanArray, Int32Array, Int64Array, ListArray, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use peakdesk_intake::loose::{Field, Fields, Found};
use peakdesk_model::input::Topic;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Rows that are decoded at a time, per partition.
const BATCH_ROWS: usize = 1024;

/// Columns that no event is made of. Of those that hold fields only the type counts, which a column has for all its rows.
const OF_WHOLE_RECORDS: [&str; 7] = ["key", "headers", "text", "sku_id", "source", "sku_ids", "other"];

/// One of the topic's own columns.
enum Cells {
    Text(StringViewArray),
    Int(Int64Array),
    Bool(BooleanArray),
    Texts(ListArray),
}

impl Cells {
    fn of(array: &dyn Array, kind: ColumnType) -> Option<Self> {
        Some(match kind {
            ColumnType::Text => Cells::Text(array.as_string_view_opt()?.clone()),
            ColumnType::Int => Cells::Int(array.as_primitive_opt::<Int64Type>()?.clone()),
            ColumnType::Bool => Cells::Bool(array.as_boolean_opt()?.clone()),
            ColumnType::Texts => Cells::Texts(array.as_list_opt()?.clone()),
        })
    }

    fn found(&self, row: usize) -> Found<'_> {
        match self {
            Cells::Text(of) if of.is_valid(row) => Found::Str(of.value(row)),
            Cells::Int(of) if of.is_valid(row) => Found::Int(of.value(row)),
            Cells::Bool(of) if of.is_valid(row) => Found::Bool(of.value(row)),
            Cells::Texts(of) if of.is_valid(row) => Found::Texts,
            _ => Found::Absent,
        }
    }

    fn cell(&self, row: usize) -> Cell<'_> {
        match self {
            Cells::Text(of) if of.is_valid(row) => Cell::Text(Cow::Borrowed(of.value(row))),
            Cells::Int(of) if of.is_valid(row) => Cell::Int(of.value(row)),
            Cells::Bool(of) if of.is_valid(row) => Cell::Bool(of.value(row)),
            Cells::Texts(of) if of.is_valid(row) => {
                let texts = of.value(row);
                let texts = texts
                    .as_string_opt::<i32>()
                    .map(|t| t.iter().map(|t| t.unwrap_or_default().to_owned()).collect());
                Cell::Texts(texts.unwrap_or_default())
            }
            _ => Cell::Absent,
        }
    }
}

/// Decoded rows of one partition.
struct Batch {
    partition: Int32Array,
    offset: Int64Array,
    timestamp_ms: Int64Array,
    cells: Vec<Cells>,
    /// Where the cells of a field are, by field.
    places: [Option<usize>; Field::ALL.len()],
    value: StringViewArray,
    raw: BinaryViewArray,
}

/// The same rows with all columns.
struct Whole {
    batch: Batch,
    key: BinaryViewArray,
    headers: ListArray,
    other: StringViewArray,
}

impl Batch {
    fn of(batch: &RecordBatch, topic: Topic) -> Option<Self> {
        let mut cells = Vec::new();
        let mut places = [None; Field::ALL.len()];
        for column in columns_of(topic) {
            let Some(array) = batch.column_by_name(column.name) else { continue };
            let place = places.get_mut(Field::from_name(column.name)? as usize)?;
            *place = Some(cells.len());
            cells.push(Cells::of(array, column.kind)?);
        }
        Some(Batch {
            partition: batch.column_by_name("partition")?.as_primitive_opt::<Int32Type>()?.clone(),
            offset: batch.column_by_name("offset")?.as_primitive_opt::<Int64Type>()?.clone(),
            timestamp_ms: batch.column_by_name("timestamp_ms")?.as_primitive_opt::<Int64Type>()?.clone(),
            cells,
            places,
            value: batch.column_by_name("value")?.as_string_view_opt()?.clone(),
            raw: batch.column_by_name("raw")?.as_binary_view_opt()?.clone(),
        })
    }

    /// Valid records all have an event id.
    fn is_typed(&self, row: usize) -> bool {
        self.cells
            .first()
            .is_some_and(|ids| matches!(ids, Cells::Text(ids) if ids.is_valid(row)))
    }

    fn payload(&self, row: usize) -> Payload<'_> {
        if self.raw.is_valid(row) {
            Payload::Undecodable
        } else if self.value.is_valid(row) {
            Payload::Json {
                text: self.value.value(row).as_bytes(),
                sure: true,
            }
        } else if self.is_typed(row) {
            Payload::Row(Row { batch: self, row })
        } else {
            Payload::Undecodable
        }
    }
}

impl Whole {
    fn of(batch: &RecordBatch, topic: Topic) -> Option<Self> {
        Some(Whole {
            key: batch.column_by_name("key")?.as_binary_view_opt()?.clone(),
            headers: batch.column_by_name("headers")?.as_list_opt()?.clone(),
            other: batch.column_by_name("other")?.as_string_view_opt()?.clone(),
            batch: Batch::of(batch, topic)?,
        })
    }

    fn record(&self, row: usize, topic: Topic) -> Record<'static> {
        let batch = &self.batch;
        let value = match batch.payload(row) {
            Payload::Json { .. } => Value::Json(Cow::Owned(batch.value.value(row).to_owned())),
            Payload::Row(_) => {
                let cells = batch.cells.iter().map(|cells| cells.cell(row)).collect();
                let other = self.other.is_valid(row).then(|| self.other.value(row).to_owned());
                Value::Json(Cow::Owned(join(&Typed { cells, other }, columns_of(topic))))
            }
            Payload::Undecodable if batch.raw.is_valid(row) => Value::Raw(Cow::Owned(batch.raw.value(row).to_owned())),
            Payload::Undecodable => Value::Missing,
        };
        Record {
            partition: batch.partition.value(row),
            offset: batch.offset.value(row),
            timestamp_ms: batch.timestamp_ms.is_valid(row).then(|| batch.timestamp_ms.value(row)),
            key: self.key.is_valid(row).then(|| Cow::Owned(self.key.value(row).to_owned())),
            headers: self.headers(row),
            value,
        }
    }

    fn headers(&self, row: usize) -> Vec<Header<'static>> {
        let headers = self.headers.value(row);
        let Some(headers) = headers.as_struct_opt().filter(|_| self.headers.is_valid(row)) else {
            return Vec::new();
        };
        let [names, values] = headers.columns() else { return Vec::new() };
        let (Some(names), Some(values)) = (names.as_string_opt::<i32>(), values.as_binary_opt::<i32>()) else {
            return Vec::new();
        };
        let header = |(name, value): (Option<&str>, Option<&[u8]>)| {
            (
                Cow::Owned(name.unwrap_or_default().to_owned()),
                value.map(|value| Cow::Owned(value.to_vec())),
            )
        };
        names.iter().zip(values.iter()).map(header).collect()
    }
}

/// One row of typed columns.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    batch: &'a Batch,
    row: usize,
}

impl std::fmt::Debug for Row<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Row").field(&self.row).finish()
    }
}

impl<'a> Fields<'a> for Row<'a> {
    fn get(self, field: Field) -> Found<'a> {
        let cells = self.batch.places.get(field as usize).copied().flatten();
        cells
            .and_then(|at| self.batch.cells.get(at))
            .map_or(Found::Absent, |cells| cells.found(self.row))
    }
}

/// A file whose layout was checked.
struct Checked {
    path: PathBuf,
    topic: Topic,
    metadata: ArrowReaderMetadata,
}

/// The rows of one partition.
pub struct Rows {
    file: Arc<Checked>,
    partition: i32,
    groups: Vec<usize>,
    reader: Option<ParquetRecordBatchReader>,
    batch: Option<Batch>,
    row: usize,
    rows_before: u64,
    /// Made by the first dead letter.
    whole: RefCell<Option<WholeRows>>,
}

/// A second reading of a partition, with all columns; it never stands before the first.
struct WholeRows {
    reader: ParquetRecordBatchReader,
    batch: Option<Whole>,
    rows_before: u64,
}

/// Opens a file; its partitions, each with its rows.
pub fn open(topic: Topic, path: &Path) -> anyhow::Result<Vec<(i32, Rows)>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let damaged = |what: String| format!("{} is damaged or not a dump: {what}", path.display());
    let plain = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new().with_skip_arrow_metadata(true))
        .map_err(|e| anyhow::anyhow!(damaged(e.to_string())))?;
    check_metadata(&file, plain.metadata()).map_err(|e| anyhow::anyhow!(damaged(e.to_string())))?;
    let options = ArrowReaderOptions::new().with_schema(schema_to_read(topic));
    let metadata = ArrowReaderMetadata::try_new(plain.metadata().clone(), options)
        .map_err(|e| anyhow::anyhow!(damaged(format!("its columns are not those of {} records: {e}", topic.name()))))?;
    let mut partitions: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
    for (i, group) in metadata.metadata().row_groups().iter().enumerate() {
        let partition = partition_of(group).with_context(|| {
            damaged(format!(
                "row group {i} is not of one partition; `peakdesk dump` writes one row group for each, and so must whoever writes a dump"
            ))
        })?;
        partitions.entry(partition).or_default().push(i);
    }
    let file = Arc::new(Checked {
        path: path.to_owned(),
        topic,
        metadata,
    });
    let rows = |(partition, groups)| {
        (
            partition,
            Rows {
                file: file.clone(),
                partition,
                groups,
                reader: None,
                batch: None,
                row: 0,
                rows_before: 0,
                whole: RefCell::new(None),
            },
        )
    };
    Ok(partitions.into_iter().map(rows).collect())
}

/// The columns as they are wanted in memory: texts and bytes stay in the pages they were read in.
fn schema_to_read(topic: Topic) -> SchemaRef {
    let schema = crate::dump::columns::schema(topic);
    let fields = schema.fields().iter().map(|field| {
        let wanted = match field.data_type() {
            DataType::Utf8 => DataType::Utf8View,
            DataType::Binary => DataType::BinaryView,
            other => other.clone(),
        };
        field.as_ref().clone().with_data_type(wanted)
    });
    Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
}

fn partition_of(group: &RowGroupMetaData) -> Option<i32> {
    match group.columns().first()?.statistics()? {
        Statistics::Int32(of) if of.min_opt()? == of.max_opt()? => of.min_opt().copied(),
        _ => None,
    }
}

fn check_metadata(file: &File, metadata: &ParquetMetaData) -> anyhow::Result<()> {
    let entries = metadata.file_metadata().key_value_metadata();
    let entry = |key: &str| {
        entries
            .and_then(|all| all.iter().find(|e| e.key == key))
            .and_then(|e| e.value.clone())
    };
    if let Some(version) = entry(VERSION_KEY)
        && version.parse::<u32>().map_or(true, |version| version > VERSION)
    {
        bail!("its layout has version {version}; this program reads up to {VERSION}");
    }
    // Files from elsewhere have no checksum.
    let Some(checksum) = entry(CHECKSUM_KEY) else { return Ok(()) };
    let (len, hash) = checksum
        .split_once(':')
        .and_then(|(len, hash)| Some((len.parse().ok()?, hash)))
        .context("its checksum cannot be read")?;
    let (mut reader, mut sum, mut block) = (file.take(len), Xxh3::new(), vec![0; 1 << 20]);
    std::io::Seek::rewind(reader.get_mut())?;
    let mut read = 0;
    loop {
        let n = reader.read(&mut block)?;
        if n == 0 {
            break;
        }
        sum.update(block.get(..n).unwrap_or(&block));
        read += n as u64;
    }
    if read != len || format!("{:016x}", sum.digest()) != hash {
        bail!("its checksum does not fit");
    }
    Ok(())
}

/// The library does not promise to survive pages that contradict themselves.
fn read_batch(reader: &mut ParquetRecordBatchReader) -> anyhow::Result<Option<RecordBatch>> {
    let read = catch_unwind(AssertUnwindSafe(|| reader.next()));
    Ok(read.map_err(|_| anyhow::anyhow!("a page is damaged"))?.transpose()?)
}

impl Rows {
    /// Goes on to the next row.
    pub fn advance(&mut self) -> anyhow::Result<Option<Stamp>> {
        self.row += 1;
        while self.batch.as_ref().is_none_or(|batch| self.row >= batch.offset.len()) {
            self.rows_before += self.batch.as_ref().map_or(0, |batch| batch.offset.len() as u64);
            self.row = 0;
            self.batch = None;
            let Some(batch) = self.next_batch()? else { return Ok(None) };
            self.batch = Some(batch);
        }
        Ok(self.batch.as_ref().map(|batch| Stamp {
            offset: batch.offset.value(self.row),
            timestamp_ms: batch.timestamp_ms.is_valid(self.row).then(|| batch.timestamp_ms.value(self.row)),
        }))
    }

    fn cannot(&self) -> String {
        format!(
            "cannot read {}: partition {} after {} records",
            self.file.path.display(),
            self.partition,
            self.rows_before
        )
    }

    /// A reader of the partition's rows, with all columns or those that events are made of.
    fn reader(&self, whole: bool) -> anyhow::Result<ParquetRecordBatchReader> {
        let file = File::open(&self.file.path)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.file.metadata.clone());
        let schema = builder.parquet_schema();
        let wanted = |i: &usize| {
            let path = schema.column(*i);
            whole
                || !path
                    .path()
                    .parts()
                    .first()
                    .is_some_and(|root| OF_WHOLE_RECORDS.contains(&root.as_str()))
        };
        let columns = ProjectionMask::leaves(schema, (0..schema.num_columns()).filter(wanted));
        let builder = builder.with_projection(columns).with_row_groups(self.groups.clone());
        Ok(builder.with_batch_size(BATCH_ROWS).build()?)
    }

    fn next_batch(&mut self) -> anyhow::Result<Option<Batch>> {
        if self.reader.is_none() {
            self.reader = Some(self.reader(false).with_context(|| self.cannot())?);
        }
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let read = read_batch(reader);
        let Some(batch) = read.with_context(|| self.cannot())? else {
            return Ok(None);
        };
        let batch = Batch::of(&batch, self.file.topic)
            .context("unexpected column types")
            .with_context(|| self.cannot())?;
        if batch.partition.values().iter().any(|partition| *partition != self.partition) {
            bail!("{}: a row of another partition; the file is damaged", self.cannot());
        }
        Ok(Some(batch))
    }

    /// What there is to decode.
    pub fn payload(&self) -> Payload<'_> {
        self.batch.as_ref().map_or(Payload::Undecodable, |batch| batch.payload(self.row))
    }

    /// The whole record.
    pub fn record(&self) -> anyhow::Result<Record<'static>> {
        let mut whole = self.whole.borrow_mut();
        let rows = match &mut *whole {
            Some(rows) => rows,
            none => none.insert(WholeRows {
                reader: self.reader(true).with_context(|| self.cannot())?,
                batch: None,
                rows_before: 0,
            }),
        };
        let at = self.rows_before + self.row as u64;
        loop {
            let read = rows.batch.as_ref().map_or(0, |whole| whole.batch.offset.len() as u64);
            if let Some(batch) = rows.batch.as_ref().filter(|_| at < rows.rows_before + read) {
                return Ok(batch.record((at - rows.rows_before) as usize, self.file.topic));
            }
            rows.rows_before += read;
            let batch = read_batch(&mut rows.reader).with_context(|| self.cannot())?;
            let batch = batch.and_then(|batch| Whole::of(&batch, self.file.topic));
            rows.batch = Some(batch.context("no record was read").with_context(|| self.cannot())?);
        }
    }

    /// File, partition and row of it.
    pub fn place(&self) -> String {
        format!(
            "{}: partition {}, row {}",
            self.file.path.display(),
            self.partition,
            self.rows_before + self.row as u64
        )
    }
}
