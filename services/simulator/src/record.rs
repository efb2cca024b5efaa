//! One simulated Kafka record.

use peakdesk_model::input::{ChatRecord, OrderRecord, RefundRecord, Topic};

/// A record as the broker would hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimRecord {
    /// The input topic.
    pub topic: Topic,
    /// Partition of the topic, from 0.
    pub partition: i32,
    /// Arrival: the broker's append time, milliseconds since the Unix epoch. Never decreases over the run.
    pub timestamp_ms: i64,
    /// Record key: `shop:buyer` for chat, the order id, the refund id.
    pub key: String,
    /// What the record says.
    pub body: SimBody,
}

/// The value of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SimBody {
    /// A chat event.
    Chat(ChatRecord),
    /// An order event.
    Order(OrderRecord),
    /// A refund event.
    Refund(RefundRecord),
    /// Bytes that are no record at all; written as they stand in every format.
    Raw(Vec<u8>),
}

impl SimBody {
    /// Event time in milliseconds since the Unix epoch; `None` for [`SimBody::Raw`].
    pub fn event_time_ms(&self) -> Option<i64> {
        match self {
            SimBody::Chat(record) => Some(record.event_time),
            SimBody::Order(record) => Some(record.event_time),
            SimBody::Refund(record) => Some(record.event_time),
            SimBody::Raw(_) => None,
        }
    }
}
