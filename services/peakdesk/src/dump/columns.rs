//! The columnar form of a topic's dump: a Parquet file, zstd, a row per record.
//!
//! | column | holds |
//! | --- | --- |
//! | `partition`, `offset`, `timestamp_ms` | where and when; no timestamp where none counts |
//! | `key`, `headers` | as they were |
//! | the topic's own ([`columns_of`]) | the fields of a valid record under their own names, times in ms |
//! | `other` | the members of a valid record that have no column: `"name":value,…` |
//! | `value` | the JSON of a record that is not valid |
//! | `raw` | the bytes of a record that did not decode |
//!
//! What always holds: a row has either cells in the topic's own columns, and then intake's tests of fields pass it, or `value`,
//! or `raw`, or (a tombstone) nothing. A row group has rows of one partition, in offset order, and the row groups of a partition
//! are in order too, so that every partition can be read on its own in little memory.
//!
//! The key-value metadata hold the version of this layout and a checksum of all pages, so that damage is noticed before
//! anything is made of it.

use super::record::{Record, Value};
use super::typed::{Cell, Typed, split};
use anyhow::Context;
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Int32Builder, Int64Builder, ListBuilder, RecordBatch, StringBuilder, StructBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use peakdesk_intake::decode::{Edge, Format, Reject, SourceRecord};
use peakdesk_intake::loose::Loose;
use peakdesk_intake::registry::Schemas;
use peakdesk_model::event::DeadReason;
use peakdesk_model::input::Topic;
use peakdesk_model::position::{SourcePartition, SourcePosition};
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Name of the metadata entry with the version of the layout.
pub const VERSION_KEY: &str = "peakdesk.dump.version";
/// The version written here.
pub const VERSION: u32 = 1;
/// Name of the metadata entry with the checksum: `LENGTH:HASH`, the xxh3 (hexadecimal) of the file's first bytes.
pub const CHECKSUM_KEY: &str = "peakdesk.dump.checksum";

/// Rows of a row group: enough for its dictionaries to pay, few enough for the writer's memory.
const GROUP_ROWS_MAX: usize = 64 * 1024;
/// Bytes of values in a row group: a record may be large.
const GROUP_BYTES_MAX: usize = 32 << 20;
/// A reader holds a page per column and partition.
const PAGE_BYTES: usize = 128 * 1024;

/// What a topic's own column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// Texts.
    Text,
    /// 64-bit integers.
    Int,
    /// Booleans.
    Bool,
    /// Lists of texts.
    Texts,
}

/// One of a topic's own columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The name of the field.
    pub name: &'static str,
    /// What it holds.
    pub kind: ColumnType,
}

const fn text(name: &'static str) -> Column {
    Column {
        name,
        kind: ColumnType::Text,
    }
}

const fn int(name: &'static str) -> Column {
    Column {
        name,
        kind: ColumnType::Int,
    }
}

const fn boolean(name: &'static str) -> Column {
    Column {
        name,
        kind: ColumnType::Bool,
    }
}

const CHAT: [Column; 14] = [
    text("event_id"),
    text("shop_id"),
    text("buyer_id"),
    text("kind"),
    int("event_time"),
    text("agent_id"),
    text("to_agent_id"),
    text("text"),
    text("sku_id"),
    boolean("spam"),
    text("source"),
    int("rating"),
    boolean("assisted"),
    text("robot_kind"),
];

const ORDERS: [Column; 12] = [
    text("event_id"),
    text("shop_id"),
    text("buyer_id"),
    text("order_id"),
    text("status"),
    int("event_time"),
    int("amount_fen"),
    int("item_count"),
    int("order_created_at"),
    Column {
        name: "sku_ids",
        kind: ColumnType::Texts,
    },
    boolean("fake"),
    text("source"),
];

const REFUNDS: [Column; 10] = [
    text("event_id"),
    text("shop_id"),
    text("buyer_id"),
    text("order_id"),
    text("refund_id"),
    text("status"),
    int("event_time"),
    int("amount_fen"),
    text("reason"),
    text("phase"),
];

/// A topic's own columns: the fields of its records.
pub fn columns_of(topic: Topic) -> &'static [Column] {
    match topic {
        Topic::Chat => &CHAT,
        Topic::Orders => &ORDERS,
        Topic::Refunds => &REFUNDS,
    }
}

fn header_fields() -> Fields {
    Fields::from(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("value", DataType::Binary, true),
    ])
}

/// All columns of a topic, in order.
pub fn schema(topic: Topic) -> SchemaRef {
    let list_of = |of: DataType| DataType::List(Arc::new(Field::new("item", of, true)));
    let mut fields = vec![
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("timestamp_ms", DataType::Int64, true),
        Field::new("key", DataType::Binary, true),
        Field::new("headers", list_of(DataType::Struct(header_fields())), true),
    ];
    fields.extend(columns_of(topic).iter().map(|column| {
        let of = match column.kind {
            ColumnType::Text => DataType::Utf8,
            ColumnType::Int => DataType::Int64,
            ColumnType::Bool => DataType::Boolean,
            ColumnType::Texts => list_of(DataType::Utf8),
        };
        Field::new(column.name, of, true)
    }));
    fields.push(Field::new("other", DataType::Utf8, true));
    fields.push(Field::new("value", DataType::Utf8, true));
    fields.push(Field::new("raw", DataType::Binary, true));
    Arc::new(Schema::new(fields))
}

fn properties(topic: Topic) -> anyhow::Result<WriterProperties> {
    let path = |name: &str| ColumnPath::from(name);
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_dictionary_page_size_limit(PAGE_BYTES)
        .set_max_row_group_row_count(Some(GROUP_ROWS_MAX))
        .set_statistics_enabled(EnabledStatistics::None)
        // Which row groups are of a partition is read from here.
        .set_column_statistics_enabled(path("partition"), EnabledStatistics::Chunk)
        .set_key_value_metadata(Some(vec![KeyValue::new(VERSION_KEY.to_owned(), VERSION.to_string())]))
        .set_created_by(concat!("peakdesk ", env!("CARGO_PKG_VERSION")).to_owned());
    let ascending = columns_of(topic)
        .iter()
        .filter(|c| matches!(c.name, "event_time" | "order_created_at"))
        .map(|c| c.name);
    for name in ascending.chain(["offset", "timestamp_ms"]) {
        builder = builder
            .set_column_dictionary_enabled(path(name), false)
            .set_column_encoding(path(name), Encoding::DELTA_BINARY_PACKED);
    }
    // No value comes twice, but for redelivery.
    builder = builder.set_column_dictionary_enabled(path("event_id"), false);
    Ok(builder.build())
}

/// Whether a JSON value passes every test of intake that looks at the record alone.
struct Judge(Edge);

impl Judge {
    fn new() -> anyhow::Result<Self> {
        let schemas = Arc::new(Schemas::shipped()?);
        Ok(Judge(Edge {
            buyer_key: [0; 32],
            future_skew_ms: 0,
            order_retention_ms: i64::MAX,
            schemas,
        }))
    }

    fn passes(&self, topic: Topic, value: &str) -> bool {
        let partition = SourcePartition {
            topic,
            partition: 0,
            generation: 1,
        };
        let record = SourceRecord {
            position: SourcePosition { partition, offset: 0 },
            // Before every event: what comes as far as the tests by time has passed all others.
            clock: i64::MIN,
            format: Format::JsonOfDump,
            payload: Some(value.as_bytes()),
        };
        matches!(
            self.0.decode(&record, &mut Loose::default()),
            Ok(_) | Err(Reject::Dead(DeadReason::Future | DeadReason::TooOld))
        )
    }
}

/// Sums up what is written.
struct Summed {
    file: File,
    hash: Xxh3,
    len: u64,
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.update(bytes.get(..n).unwrap_or(bytes));
        self.len += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

enum Cells {
    Text(StringBuilder),
    Int(Int64Builder),
    Bool(BooleanBuilder),
    Texts(ListBuilder<StringBuilder>),
}

impl Cells {
    fn new(column: &Column) -> Self {
        match column.kind {
            ColumnType::Text => Cells::Text(StringBuilder::new()),
            ColumnType::Int => Cells::Int(Int64Builder::new()),
            ColumnType::Bool => Cells::Bool(BooleanBuilder::new()),
            ColumnType::Texts => Cells::Texts(ListBuilder::new(StringBuilder::new())),
        }
    }

    /// Appends a cell; one of another type counts as absent.
    fn push(&mut self, cell: Option<&Cell<'_>>) {
        match (self, cell) {
            (Cells::Text(to), Some(Cell::Text(text))) => to.append_value(text),
            (Cells::Text(to), _) => to.append_null(),
            (Cells::Int(to), Some(Cell::Int(value))) => to.append_value(*value),
            (Cells::Int(to), _) => to.append_null(),
            (Cells::Bool(to), Some(Cell::Bool(value))) => to.append_value(*value),
            (Cells::Bool(to), _) => to.append_null(),
            (Cells::Texts(to), Some(Cell::Texts(texts))) => to.append_value(texts.iter().map(Some)),
            (Cells::Texts(to), _) => to.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Cells::Text(of) => Arc::new(of.finish()),
            Cells::Int(of) => Arc::new(of.finish()),
            Cells::Bool(of) => Arc::new(of.finish()),
            Cells::Texts(of) => Arc::new(of.finish()),
        }
    }
}

/// The rows of a row group, as far as they are known.
struct Group {
    partition: Int32Builder,
    offset: Int64Builder,
    timestamp_ms: Int64Builder,
    key: BinaryBuilder,
    headers: ListBuilder<StructBuilder>,
    cells: Vec<Cells>,
    other: StringBuilder,
    value: StringBuilder,
    raw: BinaryBuilder,
    rows: usize,
    bytes: usize,
}

impl Group {
    fn new(topic: Topic) -> Self {
        Group {
            partition: Int32Builder::new(),
            offset: Int64Builder::new(),
            timestamp_ms: Int64Builder::new(),
            key: BinaryBuilder::new(),
            headers: ListBuilder::new(StructBuilder::from_fields(header_fields(), 0)),
            cells: columns_of(topic).iter().map(Cells::new).collect(),
            other: StringBuilder::new(),
            value: StringBuilder::new(),
            raw: BinaryBuilder::new(),
            rows: 0,
            bytes: 0,
        }
    }

    fn push(&mut self, record: &Record<'_>, typed: Option<&Typed<'_>>) {
        self.partition.append_value(record.partition);
        self.offset.append_value(record.offset);
        self.timestamp_ms.append_option(record.timestamp_ms);
        self.key.append_option(record.key.as_deref());
        self.push_headers(record);
        for (i, cells) in self.cells.iter_mut().enumerate() {
            cells.push(typed.and_then(|t| t.cells.get(i)));
        }
        self.other.append_option(typed.and_then(|t| t.other.as_deref()));
        let (value, raw) = match (&record.value, typed) {
            (Value::Json(text), None) => (Some(text.as_ref()), None),
            (Value::Raw(bytes), _) => (None, Some(bytes.as_ref())),
            (Value::Json(_), Some(_)) | (Value::Missing, _) => (None, None),
        };
        self.value.append_option(value);
        self.raw.append_option(raw);
        self.rows += 1;
        let len = match &record.value {
            Value::Json(text) => text.len(),
            Value::Raw(bytes) => bytes.len(),
            Value::Missing => 0,
        };
        self.bytes += 64 + len + record.key.as_ref().map_or(0, |key| key.len());
    }

    fn push_headers(&mut self, record: &Record<'_>) {
        for (name, value) in &record.headers {
            let row = self.headers.values();
            if let Some(names) = row.field_builder::<StringBuilder>(0) {
                names.append_value(name);
            }
            if let Some(values) = row.field_builder::<BinaryBuilder>(1) {
                values.append_option(value.as_deref());
            }
            row.append(true);
            self.bytes += name.len() + value.as_ref().map_or(0, |value| value.len());
        }
        self.headers.append(!record.headers.is_empty());
    }

    fn finish(&mut self, schema: SchemaRef) -> anyhow::Result<RecordBatch> {
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.timestamp_ms.finish()),
            Arc::new(self.key.finish()),
            Arc::new(self.headers.finish()),
        ];
        arrays.extend(self.cells.iter_mut().map(Cells::finish));
        arrays.push(Arc::new(self.other.finish()));
        arrays.push(Arc::new(self.value.finish()));
        arrays.push(Arc::new(self.raw.finish()));
        (self.rows, self.bytes) = (0, 0);
        Ok(RecordBatch::try_new(schema, arrays)?)
    }
}

/// Writes the file of a topic; its records come partition by partition, in offset order.
pub struct ColumnsWriter {
    topic: Topic,
    judge: Judge,
    schema: SchemaRef,
    writer: ArrowWriter<Summed>,
    group: Group,
    partition: Option<i32>,
}

impl ColumnsWriter {
    /// Writes to `file`, which is empty.
    pub fn new(topic: Topic, file: File) -> anyhow::Result<Self> {
        let schema = schema(topic);
        let summed = Summed {
            file,
            hash: Xxh3::new(),
            len: 0,
        };
        let writer = ArrowWriter::try_new(summed, schema.clone(), Some(properties(topic)?))?;
        Ok(ColumnsWriter {
            topic,
            judge: Judge::new()?,
            schema,
            writer,
            group: Group::new(topic),
            partition: None,
        })
    }

    /// Appends a record.
    pub fn push(&mut self, record: &Record<'_>) -> anyhow::Result<()> {
        let is_full = self.group.rows >= GROUP_ROWS_MAX || self.group.bytes >= GROUP_BYTES_MAX;
        if is_full || self.partition != Some(record.partition) {
            self.end_group()?;
            self.partition = Some(record.partition);
        }
        let typed = match &record.value {
            Value::Json(text) if self.judge.passes(self.topic, text) => split(text, columns_of(self.topic)),
            _ => None,
        };
        self.group.push(record, typed.as_ref());
        Ok(())
    }

    fn end_group(&mut self) -> anyhow::Result<()> {
        if self.group.rows > 0 {
            self.writer.write(&self.group.finish(self.schema.clone())?)?;
            self.writer.flush()?;
        }
        Ok(())
    }

    /// Writes what is pending, and the end of the file; gives its length in bytes.
    pub fn finish(mut self) -> anyhow::Result<u64> {
        self.end_group()?;
        self.writer.sync()?;
        let summed = self.writer.inner();
        let checksum = format!("{}:{:016x}", summed.len, summed.hash.digest());
        self.writer
            .append_key_value_metadata(KeyValue::new(CHECKSUM_KEY.to_owned(), checksum));
        let summed = self.writer.into_inner()?;
        summed.file.sync_all().context("cannot write to the disk")?;
        Ok(summed.len)
    }
}
