//! How the clock of a source partition runs on through silence.
//!
//! While a partition is read to its end, its clock goes on from the last arrival time at the speed of the wall clock (times a
//! factor in simulations), so that a backfill of last year keeps its own time. It goes no further than the broker has been
//! heard: silence behind a cut line is not silence.

/// The clock of a source partition as it is told to the log.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RunOn {
    /// Where it stood, and at what wall time (ms).
    base: Option<(i64, i64)>,
    /// Where it stands (ms); never falls.
    clock: Option<i64>,
    at_end: bool,
    /// When it was last seen to be at its end (wall time, ms).
    end_seen: Option<i64>,
}

/// Under a steady stream the end of a partition is seen again and again, but not at every moment.
const END_PATIENCE_MS: i64 = 5_000;

impl RunOn {
    /// A clock that stood at `clock` at the wall time `wall` (ms). It runs on when the end of the partition is seen again.
    pub fn resume(clock: Option<i64>, wall: i64) -> Self {
        RunOn {
            base: clock.map(|c| (c, wall)),
            clock,
            at_end: false,
            end_seen: None,
        }
    }

    /// Where it stands (ms); `None` before the first record.
    pub fn clock(&self) -> Option<i64> {
        self.clock
    }

    /// A record was read: `arrival` is the running maximum of arrival times now.
    pub fn read(&mut self, arrival: Option<i64>, wall: i64) {
        self.at_end = false;
        let clock = self.clock.max(arrival);
        if arrival.is_some() && clock != self.clock {
            self.base = clock.map(|c| (c, wall));
        }
        self.clock = clock;
    }

    /// The partition is read to its end.
    pub fn reached_end(&mut self, arrival: Option<i64>, wall: i64) {
        if self.base.is_none() {
            self.base = arrival.map(|a| (a, wall));
        }
        self.at_end = true;
        self.end_seen = Some(wall);
    }

    /// Whether it is read to its end, or was a moment ago.
    pub fn caught_up(&self, wall: i64) -> bool {
        self.at_end || self.end_seen.is_some_and(|seen| wall - seen <= END_PATIENCE_MS)
    }

    /// Lets the clock run on to the wall time `wall` (ms); where it stands then.
    pub fn run(&mut self, wall: i64, speed: f64) -> Option<i64> {
        if let (Some((clock, since)), true) = (self.base, self.at_end) {
            let elapsed = (wall - since).max(0) as f64 * speed;
            // In steps: a speed that changes meanwhile counts from here on.
            let now = clock.saturating_add(elapsed as i64);
            self.base = Some((now.max(clock), wall.max(since)));
            self.clock = self.clock.max(Some(now));
        }
        self.clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_only_at_the_end_and_never_back() {
        let mut run_on = RunOn::default();
        assert_eq!(run_on.run(10_000, 1.0), None);
        run_on.read(Some(500), 1_000);
        assert_eq!(run_on.run(2_000, 1.0), Some(500), "there may be more to read");
        run_on.reached_end(Some(500), 1_000);
        assert_eq!(run_on.run(1_250, 1.0), Some(750));
        assert_eq!(run_on.run(1_300, 1.0), Some(800));
        run_on.read(Some(790), 1_310);
        assert_eq!(run_on.run(1_400, 1.0), Some(800), "a record from before stops it where it is");
        run_on.reached_end(Some(790), 1_400);
        assert_eq!(
            run_on.run(1_300, 1.0),
            Some(800),
            "a wall clock that goes back does not take it along"
        );
    }

    #[test]
    fn a_speed_that_changes_counts_from_then_on() {
        let mut run_on = RunOn::default();
        run_on.read(Some(0), 0);
        run_on.reached_end(Some(0), 0);
        assert_eq!(run_on.run(100, 1.0), Some(100));
        assert_eq!(run_on.run(200, 60.0), Some(6_100));
    }

    #[test]
    fn a_restart_goes_on_with_the_time_that_passed() {
        let mut run_on = RunOn::resume(Some(5_000), 100);
        assert_eq!(run_on.run(400, 1.0), Some(5_000), "not before the end is seen");
        run_on.reached_end(None, 400);
        assert_eq!(run_on.run(400, 1.0), Some(5_300));
    }
}
