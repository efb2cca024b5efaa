//! Replaying dumps.

pub mod dump;
pub mod run;
pub mod step;
