//! The console role: live figures and alerts for people who watch, as a page, an HTTP API and a stream of events.
//!
//! ```text
//! live, alerts, acknowledgements ─► consume ─► state ─┬─► api      (JSON, the newest value of everything)
//!                                  (a thread each)    ├─► stream   (server-sent events, resumed by id)
//! POST acknowledge ─► writer (a thread) ─► acknowledgements       └─► page     (files in the binary)
//! who asks ─► auth ─► access: what is answered
//! ```
//!
//! Every console reads everything, so any number may run behind a balancer. What always holds:
//!
//! * Every answer and every event is checked against what the user may see ([`access`]).
//! * Figures are shown as they came; nothing is computed here but counts of open alerts.
//! * Memory is bounded by what there is to show (shops, agents, kept alerts), not by who watches: a client has a place in what
//!   is shared, not a queue of its own ([`feed`]), and one that does not keep up is dropped.
//! * An acknowledgement is answered when the broker has it and this console has read it back.
//!
//! It holds nothing that is not in Kafka; after a restart it reads its topics again before it is ready.

// Refusals are answers of HTTP, as large as any other; they are made once per request.
#![allow(clippy::result_large_err)]

pub mod access;
mod acknowledge;
mod api;
pub mod auth;
pub mod book;
mod consume;
pub mod feed;
mod metrics;
mod page;
mod route;
mod shared;
pub mod state;
mod stream;
pub mod users;

pub use acknowledge::run_writer;
pub use consume::{Source, run};
pub use route::{router, router_with};
pub use shared::{Around, ConsoleError, Shared, check};
