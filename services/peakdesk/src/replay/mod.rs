//! Replaying dumps.

mod command;
pub mod dump;
pub mod run;
pub mod step;

pub use command::{Flags, command};
