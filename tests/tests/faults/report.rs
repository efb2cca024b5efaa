//! The table of faults.
//!
//! The last column but one is the longest time, over the injections after which it was waited for, from when a fault's cause was gone until
//! all that was in the inputs by then was forwarded and published by the scorers. That it is in files too is known at the end only.

use std::fmt;
use std::time::Duration;

use crate::Tally;

/// Its head.
pub const HEAD: &str = "fault                     injected  rows compared  rows different  published again s       s";

/// A line of it.
#[derive(Clone)]
pub struct Line {
    /// The fault.
    pub name: &'static str,
    /// What came of it.
    pub tally: Tally,
    /// Rows that were compared and are all equal; `None` if the fault was not survived.
    pub rows: Option<usize>,
    /// How long it took, without what faults share.
    pub took: Duration,
}

impl Line {
    /// A fault of which nothing is known yet.
    pub fn new(name: &'static str) -> Line {
        Line {
            name,
            tally: Tally::default(),
            rows: None,
            took: Duration::ZERO,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let different = if self.rows.is_some() { "0" } else { "FAILED" };
        write!(
            f,
            "{:<24} {:>9}  {:>13}  {:>14}  {:>17.1}  {:>6.1}",
            self.name,
            self.tally.injected,
            self.rows.unwrap_or(0),
            different,
            self.tally.recovery.as_secs_f64(),
            self.took.as_secs_f64()
        )
    }
}
