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

use crate::loose::{Loose, Scalar};
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
pub fn validate<'l>(loose: &'l Loose<'_>, topic: Topic) -> Result<Checked<'l>, DeadReason> {
    let name = if topic == Topic::Chat { &loose.kind } else { &loose.status };
    let kind = text_of(name).and_then(|name| kind_of(topic, name));
    if !ids_are_good(loose, topic, kind) {
        return Err(DeadReason::BadId);
    }
    if is_absent(name) || is_absent(&loose.event_time) || kind.is_some_and(|kind| lacks_field(loose, kind)) {
        return Err(DeadReason::MissingField);
    }
    kind.and_then(|kind| values(loose, kind)).ok_or(DeadReason::BadValue)
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

fn ids_are_good(loose: &Loose<'_>, topic: Topic, kind: Option<Kind>) -> bool {
    let required = |id: &Scalar<'_>| !is_absent(id) && id_is_good(id);
    if !(required(&loose.event_id) && required(&loose.shop_id) && required(&loose.buyer_id)) {
        return false;
    }
    match topic {
        Topic::Chat => {
            let agents_required = match kind {
                Some(Kind::AgentMessage | Kind::Rating) => !is_absent(&loose.agent_id),
                Some(Kind::Transfer) => !(is_absent(&loose.agent_id) && is_absent(&loose.to_agent_id)),
                _ => true,
            };
            agents_required && id_is_good(&loose.agent_id) && id_is_good(&loose.to_agent_id)
        }
        Topic::Orders => required(&loose.order_id),
        Topic::Refunds => required(&loose.order_id) && required(&loose.refund_id),
    }
}

/// Good, absent, or of a wrong type (which is tested later).
fn id_is_good(id: &Scalar<'_>) -> bool {
    text_of(id).is_none_or(|id| !id.is_empty() && id.len() <= ID_LEN_MAX && id.bytes().all(|byte| byte >= 0x20))
}

fn lacks_field(loose: &Loose<'_>, kind: Kind) -> bool {
    match kind {
        Kind::Rating => is_absent(&loose.rating),
        Kind::OrderCreated | Kind::OrderPaid => is_absent(&loose.amount_fen) || is_absent(&loose.item_count),
        Kind::OrderDepositPaid | Kind::RefundSucceeded => is_absent(&loose.amount_fen),
        Kind::RefundRequested => is_absent(&loose.amount_fen) || is_absent(&loose.reason) || is_absent(&loose.phase),
        _ => false,
    }
}

/// Reads every field that `kind` uses; `None` where one of them is bad.
fn values<'l>(loose: &'l Loose<'_>, kind: Kind) -> Option<Checked<'l>> {
    let mut checked = Checked {
        kind,
        event_time: integer(&loose.event_time)??,
        event_id: text(&loose.event_id)??,
        shop_id: text(&loose.shop_id)??,
        buyer_id: text(&loose.buyer_id)??,
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
        chat_values(loose, &mut checked)?;
    } else if kind.is_order() {
        order_values(loose, &mut checked)?;
    } else {
        refund_values(loose, &mut checked)?;
    }
    Some(checked)
}

fn chat_values<'l>(loose: &'l Loose<'_>, checked: &mut Checked<'l>) -> Option<()> {
    let agent_id = text(&loose.agent_id)?;
    let to_agent_id = text(&loose.to_agent_id)?;
    checked.text = text(&loose.text)?;
    text(&loose.sku_id)?;
    text(&loose.source)?;
    if checked.kind != Kind::RobotMessage {
        checked.agent_id = agent_id;
    }
    match checked.kind {
        Kind::BuyerMessage => checked.spam = boolean(&loose.spam)?.unwrap_or(false),
        Kind::RobotMessage => {
            checked.robot_kind = symbol(&loose.robot_kind, RobotKind::from_name, Some(RobotKind::Full))?.unwrap_or_default()
        }
        Kind::AgentMessage => checked.assisted = boolean(&loose.assisted)?.unwrap_or(false),
        Kind::Transfer => checked.to_agent_id = to_agent_id,
        Kind::Rating => checked.rating = u8::try_from(in_range(&loose.rating, 1, 5)??).ok()?,
        _ => {}
    }
    Some(())
}

fn order_values<'l>(loose: &'l Loose<'_>, checked: &mut Checked<'l>) -> Option<()> {
    checked.order_id = text(&loose.order_id)?;
    checked.order_created_at = integer(&loose.order_created_at)?;
    checked.fake = boolean(&loose.fake)?.unwrap_or(false);
    text(&loose.source)?;
    if !matches!(loose.sku_ids, Scalar::Absent | Scalar::Texts) {
        return None;
    }
    if matches!(checked.kind, Kind::OrderCreated | Kind::OrderDepositPaid | Kind::OrderPaid) {
        checked.amount_fen = in_range(&loose.amount_fen, 0, FEN_MAX)?;
    }
    if matches!(checked.kind, Kind::OrderCreated | Kind::OrderPaid) {
        checked.item_count = in_range(&loose.item_count, 0, ITEMS_MAX)?;
    }
    Some(())
}

fn refund_values<'l>(loose: &'l Loose<'_>, checked: &mut Checked<'l>) -> Option<()> {
    checked.order_id = text(&loose.order_id)?;
    checked.refund_id = text(&loose.refund_id)?;
    checked.reason = symbol(&loose.reason, RefundReason::from_name, Some(RefundReason::Other))?;
    checked.phase = symbol(&loose.phase, RefundPhase::from_name, None)?;
    if matches!(checked.kind, Kind::RefundRequested | Kind::RefundSucceeded) {
        checked.amount_fen = in_range(&loose.amount_fen, 0, FEN_MAX)?;
    }
    Some(())
}

fn is_absent(scalar: &Scalar<'_>) -> bool {
    *scalar == Scalar::Absent
}

fn text_of<'l>(scalar: &'l Scalar<'_>) -> Option<&'l str> {
    match scalar {
        Scalar::Str(text) | Scalar::Symbol(text) => Some(text),
        _ => None,
    }
}

// The readers below answer `None` for a bad value and `Some(None)` for an absent one.

fn text<'l>(scalar: &'l Scalar<'_>) -> Option<Option<&'l str>> {
    match scalar {
        Scalar::Absent => Some(None),
        _ => text_of(scalar).map(Some),
    }
}

fn integer(scalar: &Scalar<'_>) -> Option<Option<i64>> {
    match scalar {
        Scalar::Absent => Some(None),
        Scalar::Int(value) => Some(Some(*value)),
        _ => None,
    }
}

fn in_range(scalar: &Scalar<'_>, least: i64, most: i64) -> Option<Option<i64>> {
    integer(scalar).filter(|value| value.is_none_or(|value| (least..=most).contains(&value)))
}

fn boolean(scalar: &Scalar<'_>) -> Option<Option<bool>> {
    match scalar {
        Scalar::Absent => Some(None),
        Scalar::Bool(value) => Some(Some(*value)),
        _ => None,
    }
}

/// A symbol Peakdesk does not know is bad, unless an Avro enum holds it and the shipped schema has a default for that enum.
fn symbol<T: Copy>(scalar: &Scalar<'_>, from_name: fn(&str) -> Option<T>, default: Option<T>) -> Option<Option<T>> {
    match scalar {
        Scalar::Absent => Some(None),
        Scalar::Str(name) => from_name(name).map(Some),
        Scalar::Symbol(name) => from_name(name).or(default).map(Some),
        _ => None,
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
