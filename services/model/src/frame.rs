//! Frames: the messages of the shop log.
//!
//! A frame holds the events that one intake poll had for one log partition, as an Arrow record batch in arrival order, and a
//! head that says which source offsets it covers and how far the clocks of their partitions stand. A *tick* is a frame
//! without events: it carries clocks through silence.
//!
//! Always holds: the events of a frame lie in the ranges of its head; ranges that one intake sends to one log partition are
//! contiguous per source partition.
//!
//! The schema is published in `schemas/frame.md`; a change of it needs a new version number.

use crate::envelope::{Envelope, EnvelopeError};
use crate::event::{BuyerKey, Event, Kind, RefundPhase, RefundReason, RobotKind};
use crate::input::Topic;
use crate::position::{SourcePartition, SourcePosition};
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, FixedSizeBinaryArray, FixedSizeBinaryBuilder, Int64Array, Int64Builder, PrimitiveBuilder,
    RecordBatch, StringArray, StringBuilder, UInt8Array, UInt8Builder, UInt16Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The part of a source partition that a frame speaks for: offsets `[from, to)`, of which it holds every event of its log
/// partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RangeTuple", into = "RangeTuple")]
pub struct SourceRange {
    /// Where.
    pub partition: SourcePartition,
    /// The offset at which reading of this generation began: a reader that knows nothing yet accepts ranges from here.
    pub origin: i64,
    /// First offset covered.
    pub from: i64,
    /// First offset not covered.
    pub to: i64,
    /// Arrival time up to which the partition has been forwarded (ms); `None` while it never had a record.
    pub clock: Option<i64>,
}

/// In the head a range is `[topic, partition, generation, origin, from, to, clock]`: ticks are many and should be small.
type RangeTuple = (Topic, i32, i32, i64, i64, i64, Option<i64>);

impl From<RangeTuple> for SourceRange {
    fn from((topic, partition, generation, origin, from, to, clock): RangeTuple) -> Self {
        SourceRange {
            partition: SourcePartition {
                topic,
                partition,
                generation,
            },
            origin,
            from,
            to,
            clock,
        }
    }
}

impl From<SourceRange> for RangeTuple {
    fn from(r: SourceRange) -> Self {
        (
            r.partition.topic,
            r.partition.partition,
            r.partition.generation,
            r.origin,
            r.from,
            r.to,
            r.clock,
        )
    }
}

/// What a frame says besides its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct FrameHead {
    /// Wall time of the intake that wrote it (ms).
    pub wall_ms: i64,
    /// The source partitions it speaks for.
    pub ranges: Vec<SourceRange>,
    /// Source partitions known to hold records, of all inputs, each up to an offset: until the log has their clocks it
    /// is not complete. Said in the first frames of an intake, so that one that starts sooner does not run ahead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected: Vec<(SourcePartition, i64)>,
    /// The events, and those of the frames before, are in the order of their clocks over all source partitions: so a dump is read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_step: bool,
    /// Advice, not part of what follows from the log: the intake had read its source partitions to their ends a moment ago.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub caught_up: bool,
}

impl FrameHead {
    /// The newest clock of its ranges (ms).
    pub fn newest_clock(&self) -> Option<i64> {
        self.ranges.iter().filter_map(|r| r.clock).max()
    }
}

/// Why a message of the log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The container is damaged.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The batch inside is not Arrow.
    #[error("frame: damaged arrow batch: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A column is missing or of another type, or a value is out of range.
    #[error("frame: {0}")]
    Content(String),
}

/// Name in the envelope of the message.
pub const FRAME_KIND: &str = "frame";
const VERSION: u32 = 1;

mod column {
    pub(super) const NAMES: [&str; 19] = [
        "range",
        "offset",
        "clock",
        "event_time",
        "kind",
        "shop_id",
        "event_id",
        "buyer_key",
        "agent_id",
        "to_agent_id",
        "flags",
        "detail",
        "order_id",
        "refund_id",
        "amount_fen",
        "item_count",
        "order_created_at",
        "reason",
        "phase",
    ];
}

const SPAM: u8 = 1;
const ASSISTED: u8 = 2;
const FAKE: u8 = 4;
/// The question category lies above the flags.
const QUESTION_SHIFT: u8 = 3;

fn schema() -> SchemaRef {
    let types = [
        (DataType::UInt16, false),
        (DataType::Int64, false),
        (DataType::Int64, false),
        (DataType::Int64, false),
        (DataType::UInt8, false),
        (DataType::Utf8, false),
        (DataType::Utf8, false),
        (DataType::FixedSizeBinary(16), false),
        (DataType::Utf8, true),
        (DataType::Utf8, true),
        (DataType::UInt8, false),
        (DataType::UInt8, false),
        (DataType::Utf8, true),
        (DataType::Utf8, true),
        (DataType::Int64, true),
        (DataType::Int64, true),
        (DataType::Int64, true),
        (DataType::UInt8, true),
        (DataType::UInt8, true),
    ];
    let fields: Vec<Field> = column::NAMES
        .into_iter()
        .zip(types)
        .map(|(name, (data_type, nullable))| Field::new(name, data_type, nullable))
        .collect();
    Arc::new(Schema::new(fields))
}

/// A column in which values are rare: nulls are only counted until one comes.
#[derive(Debug, Default)]
struct Rare<B> {
    builder: B,
    nulls: usize,
}

impl Rare<StringBuilder> {
    fn push(&mut self, value: Option<&str>) {
        let Some(value) = value else {
            self.nulls += 1;
            return;
        };
        self.builder.append_nulls(std::mem::take(&mut self.nulls));
        self.builder.append_value(value);
    }

    fn finish(&mut self) -> ArrayRef {
        self.builder.append_nulls(std::mem::take(&mut self.nulls));
        Arc::new(self.builder.finish())
    }
}

impl<T: ArrowPrimitiveType> Rare<PrimitiveBuilder<T>> {
    fn push(&mut self, value: Option<T::Native>) {
        let Some(value) = value else {
            self.nulls += 1;
            return;
        };
        self.builder.append_nulls(std::mem::take(&mut self.nulls));
        self.builder.append_value(value);
    }

    fn finish(&mut self) -> ArrayRef {
        self.builder.append_nulls(std::mem::take(&mut self.nulls));
        Arc::new(self.builder.finish())
    }
}

/// Takes the values and leaves room for as many.
fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}

/// Builds the batch of a frame.
#[derive(Debug, Default)]
pub struct FrameBuilder {
    range: Vec<u16>,
    offset: Vec<i64>,
    clock: Vec<i64>,
    event_time: Vec<i64>,
    kind: Vec<u8>,
    shop_id: StringBuilder,
    event_id: StringBuilder,
    buyer_key: Vec<[u8; 16]>,
    agent_id: Rare<StringBuilder>,
    to_agent_id: Rare<StringBuilder>,
    flags: Vec<u8>,
    detail: Vec<u8>,
    order_id: Rare<StringBuilder>,
    refund_id: Rare<StringBuilder>,
    amount_fen: Rare<Int64Builder>,
    item_count: Rare<Int64Builder>,
    order_created_at: Rare<Int64Builder>,
    reason: Rare<UInt8Builder>,
    phase: Rare<UInt8Builder>,
    bytes: usize,
}

impl FrameBuilder {
    /// Adds an event; `range` is the index of its source partition among the head's ranges, `question` the code of its
    /// question category (0 for none, at most 31).
    pub fn push(&mut self, range: u16, event: &Event<'_>, question: u8) {
        self.range.push(range);
        self.offset.push(event.source.offset);
        self.clock.push(event.clock);
        self.event_time.push(event.event_time);
        self.kind.push(event.kind as u8);
        self.shop_id.append_value(event.shop_id);
        self.event_id.append_value(event.event_id);
        self.buyer_key.push(event.buyer.0);
        self.agent_id.push(event.agent_id);
        self.to_agent_id.push(event.to_agent_id);
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let flags = flag(event.spam, SPAM) | flag(event.assisted, ASSISTED) | flag(event.fake, FAKE) | (question.min(31) << QUESTION_SHIFT);
        self.flags.push(flags);
        let detail = match event.kind {
            Kind::Rating => event.rating,
            Kind::RobotMessage => event.robot_kind as u8,
            _ => 0,
        };
        self.detail.push(detail);
        self.order_id.push(event.order_id);
        self.refund_id.push(event.refund_id);
        self.amount_fen.push(event.amount_fen);
        self.item_count.push(event.item_count);
        self.order_created_at.push(event.order_created_at);
        self.reason.push(event.reason.map(|r| r as u8));
        self.phase.push(event.phase.map(|p| p as u8));
        let texts = [
            Some(event.shop_id),
            Some(event.event_id),
            event.agent_id,
            event.to_agent_id,
            event.order_id,
            event.refund_id,
        ];
        self.bytes += 96 + texts.into_iter().flatten().map(str::len).sum::<usize>();
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.buyer_key.len()
    }

    /// No event yet.
    pub fn is_empty(&self) -> bool {
        self.buyer_key.is_empty()
    }

    /// About how many bytes the message will have.
    pub fn estimated_bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the events out as a batch; the builder is empty again.
    pub fn finish(&mut self) -> Result<RecordBatch, FrameError> {
        let mut keys = FixedSizeBinaryBuilder::with_capacity(self.buyer_key.len(), 16);
        for key in self.buyer_key.drain(..) {
            keys.append_value(key)?;
        }
        self.bytes = 0;
        let ints = |values: &mut Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(take(values))) };
        let bytes = |values: &mut Vec<u8>| -> ArrayRef { Arc::new(UInt8Array::from(take(values))) };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt16Array::from(take(&mut self.range))),
            ints(&mut self.offset),
            ints(&mut self.clock),
            ints(&mut self.event_time),
            bytes(&mut self.kind),
            Arc::new(self.shop_id.finish()),
            Arc::new(self.event_id.finish()),
            Arc::new(keys.finish()),
            self.agent_id.finish(),
            self.to_agent_id.finish(),
            bytes(&mut self.flags),
            bytes(&mut self.detail),
            self.order_id.finish(),
            self.refund_id.finish(),
            self.amount_fen.finish(),
            self.item_count.finish(),
            self.order_created_at.finish(),
            self.reason.finish(),
            self.phase.finish(),
        ];
        Ok(RecordBatch::try_new(schema(), columns)?)
    }
}

/// A frame: head and, unless it is a tick, events.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Ranges and clocks.
    pub head: FrameHead,
    batch: Option<Columns>,
}

/// The columns of a batch, of known types.
#[derive(Debug, Clone)]
struct Columns {
    range: UInt16Array,
    offset: Int64Array,
    clock: Int64Array,
    event_time: Int64Array,
    kind: UInt8Array,
    shop_id: StringArray,
    event_id: StringArray,
    buyer_key: FixedSizeBinaryArray,
    agent_id: StringArray,
    to_agent_id: StringArray,
    flags: UInt8Array,
    detail: UInt8Array,
    order_id: StringArray,
    refund_id: StringArray,
    amount_fen: Int64Array,
    item_count: Int64Array,
    order_created_at: Int64Array,
    reason: UInt8Array,
    phase: UInt8Array,
}

impl Frame {
    /// A frame of a head and a batch made by [`FrameBuilder`].
    pub fn new(head: FrameHead, batch: Option<&RecordBatch>) -> Result<Self, FrameError> {
        let frame = Frame {
            batch: batch.map(Columns::new).transpose()?,
            head,
        };
        frame.check()?;
        Ok(frame)
    }

    /// The bytes of the message.
    pub fn encode(head: &FrameHead, batch: Option<&RecordBatch>) -> Result<Vec<u8>, FrameError> {
        let mut envelope = Envelope::new(FRAME_KIND, VERSION, head)?;
        if let Some(batch) = batch {
            envelope.push_batch("events", batch)?;
        }
        Ok(envelope.encode())
    }

    /// Reads a message of the log.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let envelope = Envelope::decode(bytes)?;
        let head: FrameHead = envelope.head(FRAME_KIND, VERSION)?;
        let batch = envelope.batches()?.into_iter().next().map(|(_, batch)| batch);
        Frame::new(head, batch.as_ref())
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.batch.as_ref().map_or(0, |b| b.offset.len())
    }

    /// Whether it is a tick.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The events in arrival order.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        self.batch
            .iter()
            .flat_map(|columns| (0..columns.offset.len()).filter_map(|i| columns.event(i, &self.head)))
    }

    /// What `events` relies on, checked once: codes are known, ranges exist.
    fn check(&self) -> Result<(), FrameError> {
        let Some(c) = &self.batch else { return Ok(()) };
        if let Some(bad) = c.range.values().iter().find(|r| usize::from(**r) >= self.head.ranges.len()) {
            return Err(FrameError::Content(format!(
                "an event names range {bad} of {}",
                self.head.ranges.len()
            )));
        }
        if let Some(bad) = c.kind.values().iter().find(|k| Kind::from_code(**k).is_none()) {
            return Err(FrameError::Content(format!(
                "unknown kind {bad}; was it written by a newer version?"
            )));
        }
        Ok(())
    }
}

impl Columns {
    fn new(batch: &RecordBatch) -> Result<Self, FrameError> {
        let types = schema();
        let get = |name: &str| -> Result<ArrayRef, FrameError> {
            let array = batch
                .column_by_name(name)
                .ok_or_else(|| FrameError::Content(format!("column {name} is missing")))?;
            let expected = types.field_with_name(name)?;
            if array.data_type() != expected.data_type() || (!expected.is_nullable() && array.null_count() > 0) {
                return Err(FrameError::Content(format!(
                    "column {name} is {}, not {}",
                    array.data_type(),
                    expected.data_type()
                )));
            }
            Ok(array.clone())
        };
        let ints = |name: &str| -> Result<Int64Array, FrameError> { Ok(Int64Array::from(get(name)?.to_data())) };
        let bytes = |name: &str| -> Result<UInt8Array, FrameError> { Ok(UInt8Array::from(get(name)?.to_data())) };
        let texts = |name: &str| -> Result<StringArray, FrameError> { Ok(StringArray::from(get(name)?.to_data())) };
        Ok(Columns {
            range: UInt16Array::from(get("range")?.to_data()),
            offset: ints("offset")?,
            clock: ints("clock")?,
            event_time: ints("event_time")?,
            kind: bytes("kind")?,
            shop_id: texts("shop_id")?,
            event_id: texts("event_id")?,
            buyer_key: FixedSizeBinaryArray::from(get("buyer_key")?.to_data()),
            agent_id: texts("agent_id")?,
            to_agent_id: texts("to_agent_id")?,
            flags: bytes("flags")?,
            detail: bytes("detail")?,
            order_id: texts("order_id")?,
            refund_id: texts("refund_id")?,
            amount_fen: ints("amount_fen")?,
            item_count: ints("item_count")?,
            order_created_at: ints("order_created_at")?,
            reason: bytes("reason")?,
            phase: bytes("phase")?,
        })
    }

    fn event<'a>(&'a self, i: usize, head: &FrameHead) -> Option<Event<'a>> {
        let text = |array: &'a StringArray| array.is_valid(i).then(|| array.value(i));
        let int = |array: &Int64Array| array.is_valid(i).then(|| array.value(i));
        let byte = |array: &UInt8Array| array.is_valid(i).then(|| array.value(i));
        let partition = head.ranges.get(usize::from(self.range.value(i)))?.partition;
        let kind = Kind::from_code(self.kind.value(i))?;
        let flags = self.flags.value(i);
        let mut key = [0; 16];
        key.copy_from_slice(self.buyer_key.value(i));
        let source = SourcePosition {
            partition,
            offset: self.offset.value(i),
        };
        let detail = self.detail.value(i);
        Some(Event {
            agent_id: text(&self.agent_id),
            to_agent_id: text(&self.to_agent_id),
            spam: flags & SPAM != 0,
            assisted: flags & ASSISTED != 0,
            rating: if kind == Kind::Rating { detail } else { 0 },
            robot_kind: if kind == Kind::RobotMessage {
                RobotKind::from_code(detail)?
            } else {
                RobotKind::Full
            },
            order_id: text(&self.order_id),
            refund_id: text(&self.refund_id),
            amount_fen: int(&self.amount_fen),
            item_count: int(&self.item_count),
            order_created_at: int(&self.order_created_at),
            fake: flags & FAKE != 0,
            reason: byte(&self.reason).and_then(RefundReason::from_code),
            phase: byte(&self.phase).and_then(RefundPhase::from_code),
            ..Event::new(
                source,
                self.clock.value(i),
                self.event_time.value(i),
                kind,
                self.shop_id.value(i),
                self.event_id.value(i),
                BuyerKey(key),
            )
        })
    }
}
