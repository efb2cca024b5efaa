//! From the bytes of a record to an event, or to the reason why it is a dead letter.

use crate::loose::{Fields, Loose};
use crate::question::Question;
use crate::registry::{SchemaError, Schemas};
use crate::validate::{Checked, validate};
use crate::{avro, json};
use peakdesk_model::event::{BuyerKey, DeadReason, Event, Kind};
use peakdesk_model::position::SourcePosition;
use std::sync::Arc;

pub use crate::avro::frame;

/// A record larger than this is undecodable; Kafka's own default limit is about the same.
pub const RECORD_LEN_MAX: usize = 1 << 20;

/// How the values of a topic are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Avro in Confluent framing.
    Avro,
    /// One JSON object.
    Json,
    /// One JSON object out of a dump, whose size counts without the blanks between its tokens.
    JsonOfDump,
}

/// A record as it was read, with the clock of its source partition at it.
#[derive(Debug, Clone, Copy)]
pub struct SourceRecord<'a> {
    /// Where it was read.
    pub position: SourcePosition,
    /// What [`SourceClock::observe`](crate::clock::SourceClock::observe) answered for it (ms).
    pub clock: i64,
    /// How `payload` is written.
    pub format: Format,
    /// The value; `None` is a Kafka tombstone.
    pub payload: Option<&'a [u8]>,
}

/// A good record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded<'l> {
    /// The event.
    pub event: Event<'l>,
    /// The text of a buyer's message; goes no further than its question.
    text: Option<&'l str>,
}

impl Decoded<'_> {
    /// What a buyer's message is about; `None` for other records and messages without text.
    pub fn question(&self) -> Option<Question> {
        self.text.map(Question::of)
    }
}

/// Why a record gave no event.
#[derive(Debug, thiserror::Error)]
pub enum Reject {
    /// It never will: it belongs to the dead letters.
    #[error("dead letter: {}", .0.name())]
    Dead(DeadReason),
    /// It may yet: pause its partition and try the same record again.
    #[error(transparent)]
    Retry(SchemaError),
}

impl From<DeadReason> for Reject {
    fn from(reason: DeadReason) -> Self {
        Reject::Dead(reason)
    }
}

/// The edge of the system: everything that is needed to turn records into events.
#[derive(Clone)]
pub struct Edge {
    /// The deployment's secret for buyer ids.
    pub buyer_key: [u8; 32],
    /// How far an event may be ahead of its partition's clock (ms).
    pub future_skew_ms: i64,
    /// How far an event may be behind it (ms).
    pub order_retention_ms: i64,
    /// Where writers' schemas come from.
    pub schemas: Arc<Schemas>,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge")
            .field("buyer_key", &"(secret)")
            .field("future_skew_ms", &self.future_skew_ms)
            .field("order_retention_ms", &self.order_retention_ms)
            .finish_non_exhaustive()
    }
}

impl Edge {
    /// Makes every test but `bad_timestamp`, which the clock makes before.
    ///
    /// `loose` is where the fields are read into; the event borrows from it, and it may be used again for the next record.
    /// [`Reject::Retry`] is only possible for Avro with a schema registry.
    pub fn decode<'l, 'a>(&self, record: &SourceRecord<'a>, loose: &'l mut Loose<'a>) -> Result<Decoded<'l>, Reject> {
        *loose = Loose::default();
        let payload = record
            .payload
            .filter(|payload| fits(record.format, payload))
            .ok_or(DeadReason::Undecodable)?;
        match record.format {
            Format::Avro => self.read_avro(payload, loose)?,
            Format::Json | Format::JsonOfDump => json::read(payload, loose).map_err(|_| DeadReason::Undecodable)?,
        }
        Ok(self.judge(&*loose, record.position, record.clock)?)
    }

    /// Makes the tests that come after a record's fields are read, from wherever they were read.
    pub fn judge<'l>(&self, record: impl Fields<'l>, position: SourcePosition, clock: i64) -> Result<Decoded<'l>, DeadReason> {
        let checked = validate(record, position.partition.topic)?;
        if checked.event_time > clock.saturating_add(self.future_skew_ms) {
            return Err(DeadReason::Future);
        }
        if checked.event_time < clock.saturating_sub(self.order_retention_ms) {
            return Err(DeadReason::TooOld);
        }
        Ok(Decoded {
            text: checked.text.filter(|_| checked.kind == Kind::BuyerMessage),
            event: self.event_of(&checked, position, clock),
        })
    }

    fn read_avro<'a>(&self, payload: &'a [u8], loose: &mut Loose<'a>) -> Result<(), Reject> {
        let (schema_id, datum) = avro::unframe(payload).map_err(|_| DeadReason::Undecodable)?;
        let schema = self.schemas.get(schema_id).map_err(|error| {
            if error.is_retriable() {
                Reject::Retry(error)
            } else {
                Reject::Dead(DeadReason::Undecodable)
            }
        })?;
        avro::read(datum, &schema, loose).map_err(|_| DeadReason::Undecodable.into())
    }

    fn event_of<'l>(&self, checked: &Checked<'l>, position: SourcePosition, clock: i64) -> Event<'l> {
        Event {
            source: position,
            clock,
            event_time: checked.event_time,
            kind: checked.kind,
            shop_id: checked.shop_id,
            event_id: checked.event_id,
            buyer: BuyerKey::new(&self.buyer_key, checked.shop_id, checked.buyer_id),
            agent_id: checked.agent_id,
            to_agent_id: checked.to_agent_id,
            spam: checked.spam,
            assisted: checked.assisted,
            rating: checked.rating,
            robot_kind: checked.robot_kind,
            order_id: checked.order_id,
            refund_id: checked.refund_id,
            amount_fen: checked.amount_fen,
            item_count: checked.item_count,
            order_created_at: checked.order_created_at,
            fake: checked.fake,
            reason: checked.reason,
            phase: checked.phase,
        }
    }
}

fn fits(format: Format, payload: &[u8]) -> bool {
    payload.len() <= RECORD_LEN_MAX || (format == Format::JsonOfDump && json::compact_len(payload) <= RECORD_LEN_MAX)
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
