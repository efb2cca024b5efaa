//! Tests of the fold through its public interface: laws that hold for any set of events, and worked examples of every rule.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod example_alerts;
mod example_chat;
mod example_cohort;
mod example_live;
mod example_orders;
mod example_refunds;
mod example_rows;
mod generate;
mod kit;
mod law_alerts;
mod law_aside;
mod law_frames;
mod law_history;
mod law_live;
mod law_set;
mod story;
