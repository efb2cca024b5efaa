//! Whole-system tests: real processes on a real Kafka and a real schema registry. A module per topic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alerter;
mod alerter_api;
mod alerter_kills;
mod alerter_robots;
mod alerter_support;
mod bad_input;
mod checkpoint;
mod checkpoint_rebalance;
mod checkpoint_s3;
mod checkpoint_support;
mod console;
mod console_limits;
mod console_support;
mod dead_letters;
mod dead_letters_replay;
mod demo;
mod fuzz;
mod harness;
mod http;
mod live;
mod oracle;
mod page;
mod page_floor;
mod pipeline;
mod poison;
mod registry;
mod stalled;

use peakdesk_tests::support;
