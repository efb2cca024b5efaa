//! A rate that changes over time, and the next arrival of a Poisson process that follows it.
//!
//! A curve is the cumulated volume at a set of times, linear in between; the unit is "mean days". An arrival is found by
//! adding an exponential step to the volume and looking up its time, which is exact and needs no rejection.

/// Cumulated volume over the simulated period. Times and volumes never decrease.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    points: Vec<(i64, f64)>,
}

impl Curve {
    /// A curve that begins at `start_ms` with volume 0.
    pub(crate) fn new(start_ms: i64) -> Self {
        Self {
            points: vec![(start_ms, 0.0)],
        }
    }

    fn last(&self) -> (i64, f64) {
        self.points.last().copied().unwrap_or((i64::MIN, 0.0))
    }

    /// Adds `volume` between the end so far and `to_ms`; nothing if that lies not ahead.
    pub(crate) fn extend(&mut self, to_ms: i64, volume: f64) {
        let (at, sum) = self.last();
        if to_ms > at {
            self.points.push((to_ms, sum + volume.max(0.0)));
        }
    }

    /// The end of the curve so far.
    pub(crate) fn end_ms(&self) -> i64 {
        self.last().0
    }

    /// Volume over the whole curve.
    #[cfg(test)]
    pub(crate) fn total(&self) -> f64 {
        self.last().1
    }

    /// The time at which `volume` is reached; `None` if the curve ends before.
    pub(crate) fn time_of(&self, volume: f64) -> Option<i64> {
        let above = self.points.partition_point(|&(_, sum)| sum < volume);
        let &(to, high) = self.points.get(above)?;
        let Some(&(from, low)) = above.checked_sub(1).and_then(|below| self.points.get(below)) else {
            return Some(to);
        };
        let share = if high > low { (volume - low) / (high - low) } else { 1.0 };
        Some(from + ((to - from) as f64 * share) as i64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn volume_is_looked_up_between_points() {
        let mut curve = Curve::new(1_000);
        curve.extend(2_000, 1.0);
        curve.extend(3_000, 0.0);
        curve.extend(4_000, 2.0);
        curve.extend(3_500, 9.0);
        assert_eq!(curve.total(), 3.0);
        assert_eq!(curve.time_of(0.5).unwrap(), 1_500);
        assert_eq!(curve.time_of(1.5).unwrap(), 3_250);
        assert_eq!(curve.time_of(3.0).unwrap(), 4_000);
        assert_eq!(curve.time_of(3.01), None);
    }
}
