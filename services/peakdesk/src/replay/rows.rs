//! Columnar dumps ([`crate::dump::columns`]): a row per record, the row groups of a partition in offset order.
//!
//! Each partition is read on its own, a page per column at a time. A row of typed columns becomes an event without any JSON;
//! it passes the same tests as a record that was read from Kafka, so that a file from elsewhere can do no harm.

use super::dump::{Payload, Stamp};
use crate::dump::columns::{CHECKSUM_KEY, ColumnType, VERSION, VERSION_KEY, columns_of};
use crate::dump::record::{Header, Record, Value};
use crate::dump::typed::{Cell, Typed, join};
use anyhow::{Context, bail};
use arrow::array::{Array, AsArray, BinaryViewArray, BooleanArray, Int32Array, Int64Array, ListArray, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type, SchemaRef};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use peakdesk_intake::loose::{Loose, Scalar};
use peakdesk_model::input::Topic;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Rows that are decoded at a time, per partition.
const BATCH_ROWS: usize = 1024;

/// Where a field of a record is put.
type Slot = for<'l, 'a> fn(&'l mut Loose<'a>) -> &'l mut Scalar<'a>;

fn slot_of(name: &str) -> Option<Slot> {
    Some(match name {
        "event_id" => |l| &mut l.event_id,
        "shop_id" => |l| &mut l.shop_id,
        "buyer_id" => |l| &mut l.buyer_id,
        "kind" => |l| &mut l.kind,
        "status" => |l| &mut l.status,
        "event_time" => |l| &mut l.event_time,
        "agent_id" => |l| &mut l.agent_id,
        "to_agent_id" => |l| &mut l.to_agent_id,
        "text" => |l| &mut l.text,
        "sku_id" => |l| &mut l.sku_id,
        "spam" => |l| &mut l.spam,
        "source" => |l| &mut l.source,
        "rating" => |l| &mut l.rating,
        "assisted" => |l| &mut l.assisted,
        "robot_kind" => |l| &mut l.robot_kind,
        "order_id" => |l| &mut l.order_id,
        "refund_id" => |l| &mut l.refund_id,
        "amount_fen" => |l| &mut l.amount_fen,
        "item_count" => |l| &mut l.item_count,
        "order_created_at" => |l| &mut l.order_created_at,
        "sku_ids" => |l| &mut l.sku_ids,
        "fake" => |l| &mut l.fake,
        "reason" => |l| &mut l.reason,
        "phase" => |l| &mut l.phase,
        _ => return None,
    })
}

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

    fn scalar(&self, row: usize) -> Scalar<'_> {
        match self {
            Cells::Text(of) if of.is_valid(row) => Scalar::Str(Cow::Borrowed(of.value(row))),
            Cells::Int(of) if of.is_valid(row) => Scalar::Int(of.value(row)),
            Cells::Bool(of) if of.is_valid(row) => Scalar::Bool(of.value(row)),
            Cells::Texts(of) if of.is_valid(row) => Scalar::Texts,
            _ => Scalar::Absent,
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
    key: BinaryViewArray,
    headers: ListArray,
    cells: Vec<(Slot, Cells)>,
    other: StringViewArray,
    value: StringViewArray,
    raw: BinaryViewArray,
}

impl Batch {
    fn of(batch: &RecordBatch, topic: Topic) -> Option<Self> {
        let cells = columns_of(topic)
            .iter()
            .map(|column| Some((slot_of(column.name)?, Cells::of(batch.column_by_name(column.name)?, column.kind)?)));
        Some(Batch {
            partition: batch.column_by_name("partition")?.as_primitive_opt::<Int32Type>()?.clone(),
            offset: batch.column_by_name("offset")?.as_primitive_opt::<Int64Type>()?.clone(),
            timestamp_ms: batch.column_by_name("timestamp_ms")?.as_primitive_opt::<Int64Type>()?.clone(),
            key: batch.column_by_name("key")?.as_binary_view_opt()?.clone(),
            headers: batch.column_by_name("headers")?.as_list_opt()?.clone(),
            cells: cells.collect::<Option<_>>()?,
            other: batch.column_by_name("other")?.as_string_view_opt()?.clone(),
            value: batch.column_by_name("value")?.as_string_view_opt()?.clone(),
            raw: batch.column_by_name("raw")?.as_binary_view_opt()?.clone(),
        })
    }

    /// Valid records all have an event id.
    fn is_typed(&self, row: usize) -> bool {
        self.cells
            .first()
            .is_some_and(|(_, ids)| matches!(ids, Cells::Text(ids) if ids.is_valid(row)))
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

impl<'a> Row<'a> {
    /// Puts the fields where decoding would have put them.
    pub fn read(self, loose: &mut Loose<'a>) {
        for (slot, cells) in &self.batch.cells {
            *slot(loose) = cells.scalar(self.row);
        }
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

    fn next_batch(&mut self) -> anyhow::Result<Option<Batch>> {
        let cannot = || {
            format!(
                "cannot read {}: partition {} after {} records",
                self.file.path.display(),
                self.partition,
                self.rows_before
            )
        };
        if self.reader.is_none() {
            let file = File::open(&self.file.path).with_context(cannot)?;
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.file.metadata.clone());
            let groups = std::mem::take(&mut self.groups);
            self.reader = Some(
                builder
                    .with_row_groups(groups)
                    .with_batch_size(BATCH_ROWS)
                    .build()
                    .with_context(cannot)?,
            );
        }
        let Some(reader) = &mut self.reader else { return Ok(None) };
        // The library does not promise to survive pages that contradict themselves.
        let read = catch_unwind(AssertUnwindSafe(|| reader.next()));
        let Some(batch) = read.map_err(|_| anyhow::anyhow!("a page is damaged")).with_context(cannot)? else {
            return Ok(None);
        };
        let batch = Batch::of(&batch.with_context(cannot)?, self.file.topic)
            .context("unexpected column types")
            .with_context(cannot)?;
        if batch.partition.values().iter().any(|partition| *partition != self.partition) {
            bail!("{}: a row of another partition; the file is damaged", cannot());
        }
        Ok(Some(batch))
    }

    /// What there is to decode.
    pub fn payload(&self) -> Payload<'_> {
        match &self.batch {
            Some(batch) if batch.raw.is_valid(self.row) => Payload::Undecodable,
            Some(batch) if batch.value.is_valid(self.row) => Payload::Json {
                text: batch.value.value(self.row).as_bytes(),
                sure: true,
            },
            Some(batch) if batch.is_typed(self.row) => Payload::Row(Row { batch, row: self.row }),
            _ => Payload::Undecodable,
        }
    }

    /// The whole record.
    pub fn record(&self) -> anyhow::Result<Record<'_>> {
        let batch = self.batch.as_ref().context("no record was read")?;
        let row = self.row;
        let value = match self.payload() {
            Payload::Json { .. } => Value::Json(Cow::Borrowed(batch.value.value(row))),
            Payload::Row(_) => {
                let cells = batch.cells.iter().map(|(_, cells)| cells.cell(row)).collect();
                let other = batch.other.is_valid(row).then(|| batch.other.value(row).to_owned());
                Value::Json(Cow::Owned(join(&Typed { cells, other }, columns_of(self.file.topic))))
            }
            Payload::Undecodable if batch.raw.is_valid(row) => Value::Raw(Cow::Borrowed(batch.raw.value(row))),
            Payload::Undecodable => Value::Missing,
        };
        Ok(Record {
            partition: self.partition,
            offset: batch.offset.value(row),
            timestamp_ms: batch.timestamp_ms.is_valid(row).then(|| batch.timestamp_ms.value(row)),
            key: batch.key.is_valid(row).then(|| Cow::Borrowed(batch.key.value(row))),
            headers: batch.headers(row),
            value,
        })
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
