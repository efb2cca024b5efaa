//! What every Peakdesk service agrees on: ids, times, input records, validated events, frames of the shop log, and rows of
//! the published tables.
//!
//! ```text
//! input (outer records) ─► event (validated, borrowed) ─► frame (Arrow batch + positions) ─► scoring ─► table (rows)
//! ```
//!
//! Nothing here reads a clock, a file or a network.

pub mod alert;
pub mod envelope;
pub mod event;
pub mod frame;
pub mod input;
pub mod live;
pub mod position;
pub mod results;
pub mod table;
pub mod time;
