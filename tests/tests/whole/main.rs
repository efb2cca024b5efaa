//! Whole-system tests: real processes on a real Kafka and a real schema registry. A module per topic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod dead_letters;
mod harness;
mod http;
mod oracle;
mod pipeline;
mod registry;
mod support;
