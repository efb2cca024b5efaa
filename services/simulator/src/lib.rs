//! Double 11 traffic for Peakdesk's three input topics: chats, orders and refunds of shops that behave as shops do.
//!
//! ```text
//! SimConfig ─► Generator ─► SimRecord, in order of arrival ─┬─► DumpWriter   three NDJSON files
//!              (pure: seed in, records out)                 └─► KafkaSink    topics, paced or as fast as it goes
//! ```
//!
//! What always holds:
//! - The records are a function of the configuration alone. Sink, pacing and machine speed change nothing.
//! - Records come in the order of their arrival time, over all topics and partitions together.
//! - Memory follows open conversations and open orders, not the length of the run.
//! - [`SimTotals`] counts exactly the records that were handed out.
//!
//! The quantities and distributions (latencies, conversion, shape of the night, disorder) are constants next to the code that
//! draws them. What is *not* simulated: consumer behaviour of any kind, a platform's own outages, and chat that spans shops.

mod calendar;
mod config;
mod curve;
mod dist;
mod dump;
mod encode;
mod error;
mod generator;
mod kafka;
mod order;
mod outbox;
mod record;
mod session;
mod shop;
mod talk;
mod text;
mod totals;

pub use config::{Format, Partitions, Profile, SimConfig};
pub use dump::{DumpWriter, write_dump};
pub use encode::{Encoder, SchemaIds};
pub use error::SimError;
pub use generator::Generator;
pub use kafka::{KafkaReport, KafkaSink, KafkaSinkConfig, Progress};
pub use record::{SimBody, SimRecord};
pub use totals::SimTotals;
