//! The clock of a source partition: how far its own history has come.
//!
//! Lateness, future and age of a record are judged by the clock of its partition, never by the wall clock, so that an
//! outage or a backlog inside the pipeline makes nothing late and a replay judges as the live system did.

use peakdesk_model::event::DeadReason;

/// A live record may be this far ahead of the wall clock. Beyond that its timestamp is an error, and letting it into the clock
/// would make every later record of the partition late.
pub const AHEAD_OF_WALL_MAX_MS: i64 = 24 * 60 * 60 * 1000;

/// The running maximum of the arrival times of one source partition.
///
/// Every record counts, dead letters too, except those whose own timestamp is bad. A partition keeps its clock over
/// generations of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceClock {
    at: Option<i64>,
}

impl SourceClock {
    /// The clock of a partition of which nothing was read yet.
    pub fn new() -> Self {
        SourceClock::default()
    }

    /// A clock that goes on from where it stood (ms).
    pub fn resume(at: i64) -> Self {
        SourceClock { at: Some(at) }
    }

    /// Where it stands (ms); `None` before the first record.
    pub fn at(self) -> Option<i64> {
        self.at
    }

    /// Counts one record's arrival time and gives the clock at that record (ms).
    ///
    /// `timestamp` is the Kafka record timestamp (ms), `wall` the wall clock (ms) when reading live, `None` for a dump.
    /// [`DeadReason::BadTimestamp`] leaves the clock as it was.
    pub fn observe(&mut self, timestamp: Option<i64>, wall: Option<i64>) -> Result<i64, DeadReason> {
        let timestamp = timestamp.filter(|at| *at >= 0).ok_or(DeadReason::BadTimestamp)?;
        if wall.is_some_and(|wall| timestamp > wall.saturating_add(AHEAD_OF_WALL_MAX_MS)) {
            return Err(DeadReason::BadTimestamp);
        }
        let at = self.at.map_or(timestamp, |at| at.max(timestamp));
        self.at = Some(at);
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn it_never_goes_back() {
        let mut clock = SourceClock::new();
        assert_eq!(clock.at(), None);
        let clocks: Vec<_> = [5, 3, 9, 0, 9, 10].into_iter().map(|at| clock.observe(Some(at), None)).collect();
        assert_eq!(clocks, [5, 5, 9, 9, 9, 10].map(Ok));
    }

    #[test]
    fn a_bad_timestamp_does_not_move_it() {
        let wall = 1_000_000;
        let mut clock = SourceClock::resume(7);
        for bad in [
            None,
            Some(-1),
            Some(i64::MIN),
            Some(wall + AHEAD_OF_WALL_MAX_MS + 1),
            Some(i64::MAX),
        ] {
            assert_eq!(clock.observe(bad, Some(wall)), Err(DeadReason::BadTimestamp), "{bad:?}");
        }
        assert_eq!(clock.at(), Some(7));
        assert_eq!(
            clock.observe(Some(wall + AHEAD_OF_WALL_MAX_MS), Some(wall)),
            Ok(wall + AHEAD_OF_WALL_MAX_MS)
        );
    }

    #[test]
    fn a_dump_has_no_wall_clock() {
        assert_eq!(SourceClock::new().observe(Some(i64::MAX), None), Ok(i64::MAX));
        assert_eq!(SourceClock::new().observe(Some(0), None), Ok(0));
    }
}
