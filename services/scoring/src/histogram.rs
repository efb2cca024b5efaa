//! Latencies of a window: percentiles within 2 %, the maximum exact, and every addition can be taken back.
//!
//! Counts per logarithmic bucket add and subtract. The maximum does not, so the latencies of rounds that may still change are
//! kept one by one until they are sealed; what is sealed only raises a maximum, and whatever lies at or below that maximum
//! need not be kept: it cannot become the greatest any more.

use serde::{Deserialize, Serialize};

/// Buckets per doubling: a bucket is at most 1/64 of its lower bound wide, so its middle is within 0.8 % of all it holds.
const BUCKETS_PER_DOUBLING_LOG2: u32 = 6;
/// Below this every millisecond has a bucket of its own.
const EXACT_BELOW: u32 = 1 << BUCKETS_PER_DOUBLING_LOG2;

fn bucket_of(latency_ms: u32) -> u16 {
    if latency_ms < EXACT_BELOW {
        return latency_ms as u16;
    }
    let doubling = 31 - latency_ms.leading_zeros() - BUCKETS_PER_DOUBLING_LOG2;
    let within = (latency_ms >> doubling) - EXACT_BELOW;
    (EXACT_BELOW + doubling * EXACT_BELOW + within) as u16
}

fn middle_of(bucket: u16) -> u32 {
    let bucket = u32::from(bucket);
    if bucket < EXACT_BELOW {
        return bucket;
    }
    let doubling = (bucket - EXACT_BELOW) / EXACT_BELOW;
    let within = (bucket - EXACT_BELOW) % EXACT_BELOW;
    let low = (EXACT_BELOW + within) << doubling;
    low + ((1 << doubling) >> 1)
}

/// The latencies of the replied rounds of one window.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latencies {
    /// Ascending by bucket; no count is zero.
    buckets: Vec<(u16, u32)>,
    /// Of rounds that may still change; all above `sealed_max`.
    unsealed: Vec<u32>,
    sealed_max: Option<u32>,
}

/// Maximum and percentiles (ms).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Exact.
    pub max: i64,
    /// Nearest rank, within 2 %.
    pub p50_p90_p95_p99: [i64; 4],
}

fn clamp(latency_ms: i64) -> u32 {
    u32::try_from(latency_ms.max(0)).unwrap_or(u32::MAX)
}

impl Latencies {
    /// Adds one latency (ms) that may still be taken back.
    pub fn add(&mut self, latency_ms: i64) {
        let latency = clamp(latency_ms);
        let bucket = bucket_of(latency);
        match self.buckets.binary_search_by_key(&bucket, |b| b.0) {
            Ok(i) => self.buckets[i].1 += 1,
            Err(i) => self.buckets.insert(i, (bucket, 1)),
        }
        if Some(latency) > self.sealed_max {
            self.unsealed.push(latency);
        }
    }

    /// Takes back one latency that was added and not sealed.
    pub fn remove(&mut self, latency_ms: i64) {
        let latency = clamp(latency_ms);
        let bucket = bucket_of(latency);
        if let Ok(i) = self.buckets.binary_search_by_key(&bucket, |b| b.0) {
            self.buckets[i].1 -= 1;
            if self.buckets[i].1 == 0 {
                self.buckets.remove(i);
            }
        }
        if Some(latency) > self.sealed_max
            && let Some(i) = self.unsealed.iter().position(|l| *l == latency)
        {
            self.unsealed.swap_remove(i);
        }
    }

    /// Says that a latency that was added will not be taken back.
    pub fn seal(&mut self, latency_ms: i64) {
        let latency = clamp(latency_ms);
        if Some(latency) > self.sealed_max {
            self.sealed_max = Some(latency);
            self.unsealed.retain(|l| *l > latency);
        }
    }

    /// `None` without any latency.
    pub fn summary(&self) -> Option<Summary> {
        let total: u64 = self.buckets.iter().map(|b| u64::from(b.1)).sum();
        if total == 0 {
            return None;
        }
        let max = self.unsealed.iter().copied().max().max(self.sealed_max).unwrap_or(0);
        let percentile = |p: u64| -> i64 {
            let rank = (total * p).div_ceil(100).max(1);
            let mut seen = 0;
            for (bucket, count) in &self.buckets {
                seen += u64::from(*count);
                if seen >= rank {
                    return i64::from(middle_of(*bucket).min(max));
                }
            }
            i64::from(max)
        };
        Some(Summary {
            max: i64::from(max),
            p50_p90_p95_p99: [50, 90, 95, 99].map(percentile),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_is_within_two_per_cent_of_what_it_holds(latency in 0u32..200_000_000) {
            let middle = i64::from(middle_of(bucket_of(latency)));
            let error = (middle - i64::from(latency)).abs();
            prop_assert!(error * 100 <= i64::from(latency) * 2, "{latency} -> {middle}");
        }

        #[test]
        fn percentiles_agree_with_a_sorted_list(mut values in prop::collection::vec(0i64..2_000_000, 1..200)) {
            let mut latencies = Latencies::default();
            for v in &values {
                latencies.add(*v);
            }
            values.sort_unstable();
            let summary = latencies.summary().unwrap_or(Summary { max: -1, p50_p90_p95_p99: [0; 4] });
            prop_assert_eq!(summary.max, values[values.len() - 1]);
            for (i, p) in [50, 90, 95, 99].into_iter().enumerate() {
                let exact = values[(values.len() * p).div_ceil(100) - 1];
                prop_assert!((summary.p50_p90_p95_p99[i] - exact).abs() * 100 <= exact * 2, "p{}", p);
            }
        }

        #[test]
        fn sealing_changes_no_figure(values in prop::collection::vec((0i64..100_000, any::<bool>()), 1..60), taken in 0usize..60) {
            let mut plain = Latencies::default();
            let mut latencies = Latencies::default();
            for (v, _) in &values {
                plain.add(*v);
                latencies.add(*v);
            }
            values.iter().filter(|v| v.1).for_each(|v| latencies.seal(v.0));
            prop_assert_eq!(latencies.summary(), plain.summary());
            // What is not sealed can still be taken back.
            if let Some((v, _)) = values.iter().filter(|v| !v.1).nth(taken) {
                plain.remove(*v);
                latencies.remove(*v);
                prop_assert_eq!(latencies.summary(), plain.summary());
            }
        }

        #[test]
        fn removing_undoes_adding(kept in prop::collection::vec(0i64..1_000_000, 0..50), extra in prop::collection::vec(0i64..1_000_000, 0..50)) {
            let mut expected = Latencies::default();
            let mut latencies = Latencies::default();
            for v in &extra {
                latencies.add(*v);
            }
            for v in &kept {
                expected.add(*v);
                latencies.add(*v);
            }
            for v in &extra {
                latencies.remove(*v);
            }
            prop_assert_eq!(latencies.summary(), expected.summary());
            prop_assert_eq!(latencies.buckets, expected.buckets);
        }
    }
}
