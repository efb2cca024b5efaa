//! The alerter role: transitions of alerts from Kafka, to those who are to know.
//!
//! ```text
//! alerts ─► span: repeat? gap? ─► core: open alerts, groups, limits ─► store ─► a thread per receiver ─► Alertmanager, robots, webhooks
//!                                   ▲                                    │
//!                                   └── how the attempt went ◄───────────┘ then commit
//! ```
//!
//! Order of what is durable: an alert is in the store before its offset is committed; a delivery is in the store before it is sent, and
//! stays there until its fate is known. So a process killed at any instant loses nothing, and repeats at most what was under way, under its
//! id. [`core`] has the rules, and no I/O; [`routes`] what is configured; [`service`] the loop.
//!
//! It does not judge: what fires, and how bad it is, the scorer has decided. One alerter runs at a time; another one with a state
//! directory of its own may take over, and then tells of what fires again.

pub mod alert;
mod alertmanager;
pub mod api;
mod chat;
pub mod core;
mod flight;
mod glob;
mod group;
mod manager;
pub mod message;
pub mod metrics;
mod quiet;
mod robots;
pub mod routes;
mod send;
pub mod service;
pub mod store;
mod text;
mod webhook;
mod words;
