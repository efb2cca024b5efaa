//! The few distributions the simulation draws from.

use rand::Rng;
use rand_distr::{Exp1, StandardNormal};

pub(crate) type SimRng = rand::rngs::SmallRng;

/// True with probability `p`.
pub(crate) fn chance(rng: &mut SimRng, p: f64) -> bool {
    rng.random::<f64>() < p
}

/// Log-normal with the given median; `sigma` is the standard deviation of the logarithm.
pub(crate) fn log_normal(rng: &mut SimRng, median: f64, sigma: f64) -> f64 {
    median * (sigma * rng.sample::<f64, _>(StandardNormal)).exp()
}

/// Log-normal milliseconds, kept inside `[low, high]`.
pub(crate) fn log_normal_ms(rng: &mut SimRng, median_ms: f64, sigma: f64, low: i64, high: i64) -> i64 {
    (log_normal(rng, median_ms, sigma) as i64).clamp(low, high)
}

/// Number of failures before the first success, with the given mean.
pub(crate) fn geometric(rng: &mut SimRng, mean: f64) -> u32 {
    let failure = mean / (1.0 + mean);
    (rng.random::<f64>().max(1e-12).ln() / failure.ln()) as u32
}

/// Exponential with mean 1.
pub(crate) fn exponential(rng: &mut SimRng) -> f64 {
    rng.sample(Exp1)
}

/// Uniform in `[low, high)`; `low` if that is empty.
pub(crate) fn between(rng: &mut SimRng, low: i64, high: i64) -> i64 {
    if low < high { rng.random_range(low..high) } else { low }
}

/// Uniform in the logarithm, in `[low, high]`; both at least 1.
pub(crate) fn log_uniform(rng: &mut SimRng, low: i64, high: i64) -> i64 {
    let (from, to) = ((low.max(1) as f64).ln(), (high.max(1) as f64).ln());
    ((from + rng.random::<f64>() * (to - from).max(0.0)).exp() as i64).clamp(low, high.max(low))
}

/// One element, if there is any.
pub(crate) fn pick<'a, T>(rng: &mut SimRng, items: &'a [T]) -> Option<&'a T> {
    if items.is_empty() {
        None
    } else {
        items.get(rng.random_range(0..items.len()))
    }
}

/// Adds `delta` to the log-odds of `p`.
pub(crate) fn shift_logit(p: f64, delta: f64) -> f64 {
    let p = p.clamp(0.001, 0.999);
    let odds = (p / (1.0 - p)).ln() + delta;
    1.0 / (1.0 + (-odds).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn means_and_medians_are_as_asked() {
        let seed = 5;
        let mut rng = SimRng::seed_from_u64(seed);
        let n = 40_000;
        let mean = (0..n).map(|_| f64::from(geometric(&mut rng, 2.6))).sum::<f64>() / f64::from(n);
        assert!((2.5..2.7).contains(&mean), "seed {seed}: geometric mean {mean}");
        let below = (0..n).filter(|_| log_normal(&mut rng, 300.0, 2.95) < 3_600.0).count() as f64 / f64::from(n);
        assert!((0.785..0.815).contains(&below), "seed {seed}: {below} of orders within the hour");
        assert!((shift_logit(0.5, 0.0) - 0.5).abs() < 1e-9);
        assert!(shift_logit(0.5, -0.6) < 0.36);
        for _ in 0..n {
            assert!((30_000..=600_000).contains(&log_uniform(&mut rng, 30_000, 600_000)));
        }
    }
}
