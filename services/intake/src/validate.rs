//! The dead-letter tests on the fields of a record, in the order of the metric definitions (§1).
//!
//! | step | reason | what fails it |
//! | --- | --- | --- |
//! | 1 | `bad_id` | an id the kind requires is missing; an id that is there is empty, longer than 256 bytes or has a byte below 0x20 |
//! | 2 | `missing_field` | kind or status, `event_time`, or a field the kind requires is missing |
//! | 3 | `bad_value` | an unknown kind; a field the kind uses is of a wrong type, an unknown symbol or out of range |
//!
//! A step is finished for every field before the next begins. An id of a wrong type is there, so it fails step 3. Where the
//! kind itself is unknown, only what every kind of the topic requires is tested. Agent ids are tested on every chat record
//! that has them; any other field a kind does not use is not looked at.

use crate::loose::{Field, Fields, Found};
use peakdesk_model::event::{DeadReason, Kind, RefundPhase, RefundReason, RobotKind};
use peakdesk_model::input::Topic;

/// Bytes of an id.
const ID_LEN_MAX: usize = 256;

/// 10 billion yuan: no order is larger, and sums of such amounts stay far inside `i64`.
const FEN_MAX: i64 = 1_000_000_000_000;

/// Items of one order.
const ITEMS_MAX: i64 = 1_000_000;

/// A record that passed, with the fields its kind uses; the others are at their defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked<'l> {
    /// Kind or status.
    pub kind: Kind,
    /// Milliseconds since the Unix epoch, any `i64` so far.
    pub event_time: i64,
    /// Never empty.
    pub event_id: &'l str,
    /// Never empty.
    pub shop_id: &'l str,
    /// As the platform names the buyer; goes no further than the hash.
    pub buyer_id: &'l str,
    /// Chat, but for ROBOT_MESSAGE.
    pub agent_id: Option<&'l str>,
    /// TRANSFER.
    pub to_agent_id: Option<&'l str>,
    /// Chat; goes no further than its question category.
    pub text: Option<&'l str>,
    /// BUYER_MESSAGE.
    pub spam: bool,
    /// AGENT_MESSAGE.
    pub assisted: bool,
    /// RATING: 1 to 5, else 0.
    pub rating: u8,
    /// ROBOT_MESSAGE.
    pub robot_kind: RobotKind,
    /// Orders and refunds.
    pub order_id: Option<&'l str>,
    /// Refunds.
    pub refund_id: Option<&'l str>,
    /// CREATED, DEPOSIT_PAID, PAID; REQUESTED, SUCCEEDED. In fen.
    pub amount_fen: Option<i64>,
    /// CREATED, PAID.
    pub item_count: Option<i64>,
    /// Orders.
    pub order_created_at: Option<i64>,
    /// Orders.
    pub fake: bool,
    /// Refunds.
    pub reason: Option<RefundReason>,
    /// Refunds.
    pub phase: Option<RefundPhase>,
}

/// Tests a record of `topic`.
pub fn validate<'l>(record: impl Fields<'l>, topic: Topic) -> Result<Checked<'l>, DeadReason> {
    let name = record.get(if topic == Topic::Chat { Field::kind } else { Field::status });
    let kind = text_of(name).and_then(|name| kind_of(topic, name));
    if !ids_are_good(record, topic, kind) {
        return Err(DeadReason::BadId);
    }
    if is_absent(name) || is_absent(record.get(Field::event_time)) || kind.is_some_and(|kind| lacks_field(record, kind)) {
        return Err(DeadReason::MissingField);
    }
    kind.and_then(|kind| values(record, kind)).ok_or(DeadReason::BadValue)
}

fn kind_of(topic: Topic, name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| {
        let of_topic = match topic {
            Topic::Chat => kind.is_chat(),
            Topic::Orders => kind.is_order(),
            Topic::Refunds => kind.is_refund(),
        };
        of_topic && kind.name() == name
    })
}

fn ids_are_good<'l>(record: impl Fields<'l>, topic: Topic, kind: Option<Kind>) -> bool {
    let required = |id: Found<'_>| !is_absent(id) && id_is_good(id);
    if !(required(record.get(Field::event_id)) && required(record.get(Field::shop_id)) && required(record.get(Field::buyer_id))) {
        return false;
    }
    match topic {
        Topic::Chat => {
            let agents_required = match kind {
                Some(Kind::AgentMessage | Kind::Rating) => !is_absent(record.get(Field::agent_id)),
                Some(Kind::Transfer) => !(is_absent(record.get(Field::agent_id)) && is_absent(record.get(Field::to_agent_id))),
                _ => true,
            };
            agents_required && id_is_good(record.get(Field::agent_id)) && id_is_good(record.get(Field::to_agent_id))
        }
        Topic::Orders => required(record.get(Field::order_id)),
        Topic::Refunds => required(record.get(Field::order_id)) && required(record.get(Field::refund_id)),
    }
}

/// Good, absent, or of a wrong type (which is tested later).
fn id_is_good(id: Found<'_>) -> bool {
    // All bytes are looked at together: ids are short and good.
    let is_plain = |id: &str| id.bytes().fold(true, |plain, byte| plain & (byte >= 0x20));
    text_of(id).is_none_or(|id| !id.is_empty() && id.len() <= ID_LEN_MAX && is_plain(id))
}

fn lacks_field<'l>(record: impl Fields<'l>, kind: Kind) -> bool {
    match kind {
        Kind::Rating => is_absent(record.get(Field::rating)),
        Kind::OrderCreated | Kind::OrderPaid => is_absent(record.get(Field::amount_fen)) || is_absent(record.get(Field::item_count)),
        Kind::OrderDepositPaid | Kind::RefundSucceeded => is_absent(record.get(Field::amount_fen)),
        Kind::RefundRequested => {
            is_absent(record.get(Field::amount_fen)) || is_absent(record.get(Field::reason)) || is_absent(record.get(Field::phase))
        }
        _ => false,
    }
}

/// Reads every field that `kind` uses; `None` where one of them is bad.
fn values<'l>(record: impl Fields<'l>, kind: Kind) -> Option<Checked<'l>> {
    let mut checked = Checked {
        kind,
        event_time: integer(record.get(Field::event_time))??,
        event_id: text(record.get(Field::event_id))??,
        shop_id: text(record.get(Field::shop_id))??,
        buyer_id: text(record.get(Field::buyer_id))??,
        agent_id: None,
        to_agent_id: None,
        text: None,
        spam: false,
        assisted: false,
        rating: 0,
        robot_kind: RobotKind::default(),
        order_id: None,
        refund_id: None,
        amount_fen: None,
        item_count: None,
        order_created_at: None,
        fake: false,
        reason: None,
        phase: None,
    };
    if kind.is_chat() {
        chat_values(record, &mut checked)?;
    } else if kind.is_order() {
        order_values(record, &mut checked)?;
    } else {
        refund_values(record, &mut checked)?;
    }
    Some(checked)
}

fn chat_values<'l>(record: impl Fields<'l>, checked: &mut Checked<'l>) -> Option<()> {
    let agent_id = text(record.get(Field::agent_id))?;
    let to_agent_id = text(record.get(Field::to_agent_id))?;
    checked.text = text(record.get(Field::text))?;
    text(record.get(Field::sku_id))?;
    text(record.get(Field::source))?;
    if checked.kind != Kind::RobotMessage {
        checked.agent_id = agent_id;
    }
    match checked.kind {
        Kind::BuyerMessage => checked.spam = boolean(record.get(Field::spam))?.unwrap_or(false),
        Kind::RobotMessage => {
            checked.robot_kind = symbol(record.get(Field::robot_kind), RobotKind::from_name, Some(RobotKind::Full))?.unwrap_or_default()
        }
        Kind::AgentMessage => checked.assisted = boolean(record.get(Field::assisted))?.unwrap_or(false),
        Kind::Transfer => checked.to_agent_id = to_agent_id,
        Kind::Rating => checked.rating = u8::try_from(in_range(record.get(Field::rating), 1, 5)??).ok()?,
        _ => {}
    }
    Some(())
}

fn order_values<'l>(record: impl Fields<'l>, checked: &mut Checked<'l>) -> Option<()> {
    checked.order_id = text(record.get(Field::order_id))?;
    checked.order_created_at = integer(record.get(Field::order_created_at))?;
    checked.fake = boolean(record.get(Field::fake))?.unwrap_or(false);
    text(record.get(Field::source))?;
    if !matches!(record.get(Field::sku_ids), Found::Absent | Found::Texts) {
        return None;
    }
    if matches!(checked.kind, Kind::OrderCreated | Kind::OrderDepositPaid | Kind::OrderPaid) {
        checked.amount_fen = in_range(record.get(Field::amount_fen), 0, FEN_MAX)?;
    }
    if matches!(checked.kind, Kind::OrderCreated | Kind::OrderPaid) {
        checked.item_count = in_range(record.get(Field::item_count), 0, ITEMS_MAX)?;
    }
    Some(())
}

fn refund_values<'l>(record: impl Fields<'l>, checked: &mut Checked<'l>) -> Option<()> {
    checked.order_id = text(record.get(Field::order_id))?;
    checked.refund_id = text(record.get(Field::refund_id))?;
    checked.reason = symbol(record.get(Field::reason), RefundReason::from_name, Some(RefundReason::Other))?;
    checked.phase = symbol(record.get(Field::phase), RefundPhase::from_name, None)?;
    if matches!(checked.kind, Kind::RefundRequested | Kind::RefundSucceeded) {
        checked.amount_fen = in_range(record.get(Field::amount_fen), 0, FEN_MAX)?;
    }
    Some(())
}

fn is_absent(found: Found<'_>) -> bool {
    found == Found::Absent
}

fn text_of(found: Found<'_>) -> Option<&str> {
    match found {
        Found::Str(text) | Found::Symbol(text) => Some(text),
        _ => None,
    }
}

// The readers below answer `None` for a bad value and `Some(None)` for an absent one.

fn text(found: Found<'_>) -> Option<Option<&str>> {
    match found {
        Found::Absent => Some(None),
        _ => text_of(found).map(Some),
    }
}

fn integer(found: Found<'_>) -> Option<Option<i64>> {
    match found {
        Found::Absent => Some(None),
        Found::Int(value) => Some(Some(value)),
        _ => None,
    }
}

fn in_range(found: Found<'_>, least: i64, most: i64) -> Option<Option<i64>> {
    integer(found).filter(|value| value.is_none_or(|value| (least..=most).contains(&value)))
}

fn boolean(found: Found<'_>) -> Option<Option<bool>> {
    match found {
        Found::Absent => Some(None),
        Found::Bool(value) => Some(Some(value)),
        _ => None,
    }
}

/// A symbol Peakdesk does not know is bad, unless an Avro enum holds it and the shipped schema has a default for that enum.
fn symbol<T: Copy>(found: Found<'_>, from_name: fn(&str) -> Option<T>, default: Option<T>) -> Option<Option<T>> {
    match found {
        Found::Absent => Some(None),
        Found::Str(name) => from_name(name).map(Some),
        Found::Symbol(name) => from_name(name).or(default).map(Some),
        _ => None,
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
