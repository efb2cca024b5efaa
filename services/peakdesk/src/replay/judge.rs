//! From typed columns to an event: what [`Edge::decode`] does once it has read the bytes.

use super::rows::Row;
use peakdesk_intake::decode::{Decoded, Edge};
use peakdesk_intake::loose::Loose;
use peakdesk_model::event::DeadReason;
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
    edge.judge(loose, position, clock)
}
