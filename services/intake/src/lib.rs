//! Intake: the only part of Peakdesk that knows the outside world's topics, encodings, schemas and personal data.
//!
//! ```text
//! record ─► SourceClock ─► json | avro ─► Loose ─► validate ─► Event + Question ─► frame of the shop log
//!               │              │                      │
//!               └──────────────┴──────────────────────┴─► DeadReason ─► dead letters
//! ```
//!
//! What always holds: an [`Event`](peakdesk_model::event::Event) that leaves here has passed every dead-letter test of the
//! metric definitions, its buyer is a keyed hash, and chat text has been reduced to a [`question::Question`]. A record that
//! fails is never dropped: it is refused with a reason. A registry that does not answer refuses nothing; it is an error to
//! retry ([`decode::Reject::Retry`]).
//!
//! Two modules talk to the world: [`service`] to Kafka, and [`registry`] to a schema registry where one is configured. All
//! others are pure; [`core`] is what the role does, without Kafka.

mod avro;
pub mod clock;
pub mod core;
pub mod decode;
mod json;
pub mod loose;
pub mod question;
pub mod registry;
pub mod router;
pub mod run_on;
pub mod schema;
pub mod service;
pub mod validate;

pub use json::compact_len;
