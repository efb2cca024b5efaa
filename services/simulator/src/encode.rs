//! Record values as bytes: JSON, or Avro in the Confluent framing.

use peakdesk_model::input::{ChatRecord, OrderRecord, RefundRecord, Topic};
use serde::{Deserialize, Serialize};
use serde_avro_fast::Schema;
use serde_avro_fast::ser::SerializerConfig;

use crate::SimError;
use crate::config::Format;
use crate::record::SimBody;

/// The schema ids written into the framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaIds {
    /// Of the chat schema.
    pub chat: u32,
    /// Of the order schema.
    pub order: u32,
    /// Of the refund schema.
    pub refund: u32,
}

impl Default for SchemaIds {
    /// The ids that readers know without a registry.
    fn default() -> Self {
        Self {
            chat: Topic::Chat.shipped_schema_id(),
            order: Topic::Orders.shipped_schema_id(),
            refund: Topic::Refunds.shipped_schema_id(),
        }
    }
}

/// Turns bodies into record values.
#[derive(Debug)]
pub struct Encoder {
    avro: Option<AvroSchemas>,
}

#[derive(Debug)]
struct AvroSchemas {
    ids: SchemaIds,
    chat: Schema,
    order: Schema,
    refund: Schema,
}

impl Encoder {
    /// An encoder for a format; `ids` are used by Avro only, and always name the shipped schemas.
    ///
    /// # Errors
    /// [`SimError::Schema`] if a shipped schema does not parse.
    pub fn new(format: Format, ids: SchemaIds) -> Result<Self, SimError> {
        let avro = match format {
            Format::Json => None,
            Format::Avro => Some(AvroSchemas {
                ids,
                chat: shipped(Topic::Chat)?,
                order: shipped(Topic::Orders)?,
                refund: shipped(Topic::Refunds)?,
            }),
        };
        Ok(Self { avro })
    }

    /// Writes the value of a record into `out`, which is cleared first. Raw bodies are written as they stand.
    ///
    /// # Errors
    /// [`SimError::Encode`] if the body does not fit the schema, for instance an enum symbol that it does not have.
    pub fn encode(&self, body: &SimBody, out: &mut Vec<u8>) -> Result<(), SimError> {
        out.clear();
        match (body, &self.avro) {
            (SimBody::Raw(bytes), _) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            (SimBody::Chat(record), None) => json(Topic::Chat, record, out),
            (SimBody::Order(record), None) => json(Topic::Orders, record, out),
            (SimBody::Refund(record), None) => json(Topic::Refunds, record, out),
            (SimBody::Chat(record), Some(avro)) => datum(Topic::Chat, &AvroChat::from(record), avro.ids.chat, &avro.chat, out),
            (SimBody::Order(record), Some(avro)) => datum(Topic::Orders, &AvroOrder::from(record), avro.ids.order, &avro.order, out),
            (SimBody::Refund(record), Some(avro)) => datum(Topic::Refunds, &AvroRefund::from(record), avro.ids.refund, &avro.refund, out),
        }
    }
}

fn shipped(topic: Topic) -> Result<Schema, SimError> {
    topic.avro_schema().parse().map_err(|error| SimError::Schema {
        topic,
        problem: format!("{error}"),
    })
}

fn json<T: Serialize>(topic: Topic, record: &T, out: &mut Vec<u8>) -> Result<(), SimError> {
    serde_json::to_writer(out, record).map_err(|error| SimError::Encode {
        topic,
        problem: error.to_string(),
    })
}

fn datum<T: Serialize>(topic: Topic, record: &T, id: u32, schema: &Schema, out: &mut Vec<u8>) -> Result<(), SimError> {
    out.push(0);
    out.extend_from_slice(&id.to_be_bytes());
    serde_avro_fast::to_datum(record, &mut *out, &mut SerializerConfig::new(schema))
        .map(|_| ())
        .map_err(|error| SimError::Encode {
            topic,
            problem: error.to_string(),
        })
}

// The Avro records have a value in every field and all fields in the order of the schema, which the serializer writes straight
// through; the JSON records leave absent fields out.

#[derive(Serialize)]
struct AvroChat<'a> {
    event_id: &'a str,
    shop_id: &'a str,
    buyer_id: &'a str,
    kind: &'a str,
    event_time: i64,
    agent_id: Option<&'a str>,
    to_agent_id: Option<&'a str>,
    text: Option<&'a str>,
    sku_id: Option<&'a str>,
    spam: bool,
    source: Option<&'a str>,
    rating: Option<i32>,
    assisted: bool,
    robot_kind: Option<&'a str>,
}

impl<'a> From<&'a ChatRecord> for AvroChat<'a> {
    fn from(record: &'a ChatRecord) -> Self {
        Self {
            event_id: &record.event_id,
            shop_id: &record.shop_id,
            buyer_id: &record.buyer_id,
            kind: &record.kind,
            event_time: record.event_time,
            agent_id: record.agent_id.as_deref(),
            to_agent_id: record.to_agent_id.as_deref(),
            text: record.text.as_deref(),
            sku_id: record.sku_id.as_deref(),
            spam: record.spam.unwrap_or(false),
            source: record.source.as_deref(),
            rating: record.rating,
            assisted: record.assisted.unwrap_or(false),
            robot_kind: record.robot_kind.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct AvroOrder<'a> {
    event_id: &'a str,
    shop_id: &'a str,
    buyer_id: &'a str,
    order_id: &'a str,
    status: &'a str,
    event_time: i64,
    amount_fen: Option<i64>,
    item_count: Option<i64>,
    order_created_at: Option<i64>,
    sku_ids: Option<&'a [String]>,
    fake: bool,
    source: Option<&'a str>,
}

impl<'a> From<&'a OrderRecord> for AvroOrder<'a> {
    fn from(record: &'a OrderRecord) -> Self {
        Self {
            event_id: &record.event_id,
            shop_id: &record.shop_id,
            buyer_id: &record.buyer_id,
            order_id: &record.order_id,
            status: &record.status,
            event_time: record.event_time,
            amount_fen: record.amount_fen,
            item_count: record.item_count,
            order_created_at: record.order_created_at,
            sku_ids: record.sku_ids.as_deref(),
            fake: record.fake.unwrap_or(false),
            source: record.source.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct AvroRefund<'a> {
    event_id: &'a str,
    shop_id: &'a str,
    buyer_id: &'a str,
    order_id: &'a str,
    refund_id: &'a str,
    status: &'a str,
    event_time: i64,
    amount_fen: Option<i64>,
    reason: Option<&'a str>,
    phase: Option<&'a str>,
}

impl<'a> From<&'a RefundRecord> for AvroRefund<'a> {
    fn from(record: &'a RefundRecord) -> Self {
        Self {
            event_id: &record.event_id,
            shop_id: &record.shop_id,
            buyer_id: &record.buyer_id,
            order_id: &record.order_id,
            refund_id: &record.refund_id,
            status: &record.status,
            event_time: record.event_time,
            amount_fen: record.amount_fen,
            reason: record.reason.as_deref(),
            phase: record.phase.as_deref(),
        }
    }
}
