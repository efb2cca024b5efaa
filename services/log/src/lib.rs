//! Kafka plumbing that every role shares: client options with their reasons, group membership with explicit starting points,
//! deliveries that are counted, topics that exist.
//!
//! Always holds: a consumer starts where its owner says, never where the library would choose; a delivery that failed is an
//! error of its producer from then on; no message is acknowledged by its offset before what it caused is acknowledged.
//!
//! Nothing here knows what a message means.

pub mod client;
mod closing;
mod commits;
pub mod delivery;
pub mod error;
pub mod follow;
pub mod group;
pub mod letter;
pub mod span;
pub mod topics;
mod watch;
