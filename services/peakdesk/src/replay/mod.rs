//! Replaying dumps: the tables of a past period, recomputed without Kafka.

mod command;
pub mod dump;
mod lines;
mod pool;
mod rows;
pub mod run;
pub mod step;

pub use command::{Flags, command};
