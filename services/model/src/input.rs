//! The three kinds of input record, as a producer writes them.
//!
//! These are the *outer* shapes: owned, every optional field an `Option`, enum values as text. They are what the simulator
//! writes (JSON or Avro) and what the shipped Avro schemas in `schemas/avro/` describe. What intake reads is checked field by
//! field instead (any field may be missing or of a wrong type there), so nothing here validates.

use serde::{Deserialize, Serialize};

/// The input topics, in the order in which ties between source partitions are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Chat messages, transfers and ratings.
    Chat,
    /// Order status changes.
    Orders,
    /// Refund status changes.
    Refunds,
}

impl Topic {
    /// All topics, in order.
    pub const ALL: [Topic; 3] = [Topic::Chat, Topic::Orders, Topic::Refunds];

    /// `chat`, `orders` or `refunds`: the logical name, used in tables and file names whatever the Kafka topic is called.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Chat => "chat",
            Topic::Orders => "orders",
            Topic::Refunds => "refunds",
        }
    }

    /// The Avro schema shipped for the topic's values (`schemas/avro/`), as JSON text.
    pub fn avro_schema(self) -> &'static str {
        match self {
            Topic::Chat => include_str!("../../../schemas/avro/chat.avsc"),
            Topic::Orders => include_str!("../../../schemas/avro/order.avsc"),
            Topic::Refunds => include_str!("../../../schemas/avro/refund.avsc"),
        }
    }

    /// The id that stands for the shipped schema in the Confluent framing where there is no schema registry.
    pub fn shipped_schema_id(self) -> u32 {
        match self {
            Topic::Chat => 1,
            Topic::Orders => 2,
            Topic::Refunds => 3,
        }
    }
}

/// A chat record (one of BUYER_MESSAGE, ROBOT_MESSAGE, AGENT_MESSAGE, TRANSFER, RATING).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChatRecord {
    /// Unique within the shop; redelivery repeats it.
    pub event_id: String,
    /// The shop.
    pub shop_id: String,
    /// The buyer, as the platform names them; leaves intake only as a keyed hash.
    pub buyer_id: String,
    /// One of the five kinds.
    pub kind: String,
    /// Milliseconds since the Unix epoch.
    pub event_time: i64,
    /// Addressee (BUYER_MESSAGE), sender (AGENT_MESSAGE), giver (TRANSFER), rated agent (RATING).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// Receiver of a TRANSFER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_agent_id: Option<String>,
    /// What was said; never leaves intake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The goods talked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku_id: Option<String>,
    /// BUYER_MESSAGE only: advertising, peers, internal tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spam: Option<bool>,
    /// Traffic channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// RATING only: 1 to 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<i32>,
    /// AGENT_MESSAGE only: sent by a robot on a human's behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assisted: Option<bool>,
    /// ROBOT_MESSAGE only: WELCOME, KEYWORD or FULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub robot_kind: Option<String>,
}

/// An order record: one status change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderRecord {
    /// Identifies the record; repeats are harmless.
    pub event_id: String,
    /// The shop.
    pub shop_id: String,
    /// The buyer.
    pub buyer_id: String,
    /// The order.
    pub order_id: String,
    /// CREATED, DEPOSIT_PAID, PAID, SHIPPED, COMPLETED or CLOSED.
    pub status: String,
    /// Milliseconds since the Unix epoch.
    pub event_time: i64,
    /// Total payable (CREATED, PAID) or the deposit (DEPOSIT_PAID), in fen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_fen: Option<i64>,
    /// Number of items (CREATED, PAID).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_count: Option<i64>,
    /// When the order was created, where the platform repeats it on later records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_created_at: Option<i64>,
    /// Goods ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku_ids: Option<Vec<String>>,
    /// Brushing (刷单).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fake: Option<bool>,
    /// Traffic channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A refund record: one status change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RefundRecord {
    /// Identifies the record; repeats are harmless.
    pub event_id: String,
    /// The shop.
    pub shop_id: String,
    /// The buyer.
    pub buyer_id: String,
    /// The order that is refunded.
    pub order_id: String,
    /// The refund.
    pub refund_id: String,
    /// REQUESTED, AGREED, REFUSED, SUCCEEDED or CLOSED.
    pub status: String,
    /// Milliseconds since the Unix epoch.
    pub event_time: i64,
    /// Requested (REQUESTED) or refunded (SUCCEEDED) amount in fen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_fen: Option<i64>,
    /// QUALITY, NOT_AS_DESCRIBED, OUT_OF_STOCK, SIZE, NO_REASON or OTHER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// BEFORE_SHIPMENT, AFTER_SHIPMENT or AFTER_RECEIPT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
}
