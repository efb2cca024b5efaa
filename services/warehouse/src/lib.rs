//! The warehouse: rows of the results topic, and dead letters, as Parquet files.
//!
//! ```text
//! results ─► slices (cut at points of the log) ─► sorted ─► OUT/<table>/dt=YYYY-MM-DD/<name from the log>.parquet
//! dead letters ─► OUT/dead_letters/<name from the source>.parquet
//! ```
//!
//! Always holds: a file is whole or absent; writing a slice again yields the same names and bytes; every row is in one file.

pub mod dead;
pub mod file;
pub mod reader;
pub mod service;
pub mod slice;
