//! From typed columns to an event: what [`Edge::decode`] does after it has read the bytes.

use super::rows::Row;
use peakdesk_intake::decode::{Decoded, Edge};
use peakdesk_intake::loose::Loose;
use peakdesk_intake::question::Question;
use peakdesk_intake::validate::validate;
use peakdesk_model::event::{BuyerKey, DeadReason, Event, Kind};
use peakdesk_model::position::SourcePosition;

/// Makes every test but `bad_timestamp` and `undecodable`; the event borrows from `loose`.
pub fn decode_row<'l, 'a>(
    edge: &Edge,
    row: Row<'a>,
    position: SourcePosition,
    clock: i64,
    loose: &'l mut Loose<'a>,
) -> Result<Decoded<'l>, DeadReason> {
    *loose = Loose::default();
    row.read(loose);
    let checked = validate(loose, position.partition.topic)?;
    if checked.event_time > clock.saturating_add(edge.future_skew_ms) {
        return Err(DeadReason::Future);
    }
    if checked.event_time < clock.saturating_sub(edge.order_retention_ms) {
        return Err(DeadReason::TooOld);
    }
    let buyer = BuyerKey::new(&edge.buyer_key, checked.shop_id, checked.buyer_id);
    let event = Event {
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
        ..Event::new(
            position,
            clock,
            checked.event_time,
            checked.kind,
            checked.shop_id,
            checked.event_id,
            buyer,
        )
    };
    let question = if checked.kind == Kind::BuyerMessage {
        checked.text.map(Question::of)
    } else {
        None
    };
    Ok(Decoded { event, question })
}
