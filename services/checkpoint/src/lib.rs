//! Checkpoints: a state as it stood at an offset of a log, where it survives the process.
//!
//! ```text
//! state ─► form (head, compressed body, checksum) ─► store: PREFIX/TOPIC/PARTITION/OFFSET.ckpt, the newest few
//!                                                      │
//! state ◄─ form ◄─ the newest one that is good ◄───────┘   a damaged one is reported, and the next older tried
//! ```
//!
//! Always holds:
//! - what is read is what was written: every byte of a file is covered by its checksum;
//! - a file is there as a whole or not at all, and one that is written again says the same;
//! - nothing here blocks its caller: [`keeper::Keeper`] has threads of its own and hands out [`keeper::Task`]s.
//!
//! Not here: what a state is, when a checkpoint is due, and whether it belongs to the log that is read (the head carries what
//! the reader needs to find out). This crate knows neither Kafka nor scoring.

pub mod form;
pub mod keeper;
pub mod store;
