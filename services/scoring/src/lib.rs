//! Scoring: every figure of Peakdesk as a pure function of the shop log.
//!
//! A shop's log is one ordered list of frames. [`fold::Fold`] reads them one by one and says rows; replaying a log says the
//! same rows at the same positions.
//!
//! ```text
//!            ┌ buyer: chat in order ─ machine ─ atoms ─┐
//! frame ─► shop                                         ├─► windows ─► rows (publish)
//!            └ deals: orders, refunds ─ facts ─ cohorts ┘
//!                                            └► watch ─► alerts, live figures
//! ```
//!
//! **Set in, difference out.** What a buyer or an order means is a function of the set of its events. When an event arrives,
//! what was contributed before is subtracted and what holds now is added; in order that is one step of a machine, out of
//! order a short derivation. Late replies, refunds and cancellations need no path of their own.
//!
//! **Sealing.** No event can come any more with a time before `complete_until` less the allowed lateness; what lies before is
//! folded into small states, and dropped when no rule can ask for it.
//!
//! This crate reads no clock, does no I/O, and knows neither Kafka nor files.

pub mod alert_knobs;
mod alerts;
mod aside;
mod buyer;
mod cohort;
mod credit;
mod deals;
pub mod figure;
pub mod fold;
mod forget;
pub mod histogram;
mod key;
pub mod live;
pub mod machine;
mod money;
pub mod output;
pub mod policy;
pub mod publish;
mod shop;
mod slab;
pub mod snapshot;
mod window;

#[cfg(feature = "failpoints")]
pub use aside::point;
