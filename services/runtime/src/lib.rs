//! What every Peakdesk role needs around its loop: configuration, logs, metrics, health, and an orderly end.
//!
//! ```text
//! defaults ◄ file ◄ environment ◄ flags ─► layers (raw) ─► config (validated)
//! loop ─► heartbeat ─┬─► /livez /readyz
//! loop ─► metrics ───┴─► /metrics
//! SIGTERM ─► shutdown flag ─► loop ends
//! ```
//!
//! What always holds: a [`config::Config`] that exists is valid; a setting nobody knows is refused, with where it was found;
//! a secret is never printed. Nothing here knows Kafka, events or files of data.

pub mod config;
pub mod failpoint;
pub mod health;
pub mod http;
pub mod layers;
pub mod metrics;
pub mod patience;
pub mod progress;
pub mod secret;
pub mod shutdown;
pub mod telemetry;
