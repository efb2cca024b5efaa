//! Whole-system tests: real processes on a real Kafka and a real schema registry. A module per topic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;
mod pipeline;
mod support;
