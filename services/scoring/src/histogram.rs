//! Latencies of a window: percentiles within 2 %, the maximum exact, and every addition can be taken back.
//!
//! A maximum cannot be subtracted, so the latencies of rounds that may still change are kept one by one; of those that are sealed
//! there are counts per logarithmic bucket, and the greatest. A latency that is added is only noted: sealed ones are looked for
//! when many have come since the last look.

use peakdesk_model::time::MINUTE_MS;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

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

/// A latency that may still be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Unsealed {
    latency_ms: u32,
    /// The minute in which its round ended.
    minute: u32,
}

/// Unsealed latencies from which on it is worth to look which of them are sealed by now.
const LOOK_FROM: u32 = 16;

/// The latencies of the replied rounds of one window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latencies {
    /// Those that are sealed: ascending by bucket; no count is zero.
    buckets: Vec<(u16, u32)>,
    sealed_max: Option<u32>,
    unsealed: Vec<Unsealed>,
    /// How many must be unsealed for the next look at them: part of the state, so that the state follows from the log alone.
    look_at: u32,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies {
            buckets: Vec::new(),
            sealed_max: None,
            unsealed: Vec::new(),
            look_at: LOOK_FROM,
        }
    }
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

fn minute_of(t: i64) -> u32 {
    u32::try_from(t.div_euclid(MINUTE_MS).max(0)).unwrap_or(u32::MAX)
}

fn count(buckets: &mut Vec<(u16, u32)>, latency_ms: u32) {
    let bucket = bucket_of(latency_ms);
    match buckets.binary_search_by_key(&bucket, |b| b.0) {
        Ok(i) => buckets[i].1 += 1,
        Err(i) => buckets.insert(i, (bucket, 1)),
    }
}

impl Latencies {
    /// Adds the latency (ms) of a round that ended at `ended_at` (ms). Rounds that ended before `sealed_until` (ms) stay as
    /// they are; what is known of them individually may be given up.
    pub fn add(&mut self, latency_ms: i64, ended_at: i64, sealed_until: i64) {
        if self.unsealed.len() >= self.look_at as usize {
            self.seal(sealed_until);
        }
        self.unsealed.push(Unsealed {
            latency_ms: clamp(latency_ms),
            minute: minute_of(ended_at),
        });
    }

    /// Takes back one that was added with the same figures, and was not sealed since.
    pub fn remove(&mut self, latency_ms: i64, ended_at: i64) {
        let gone = Unsealed {
            latency_ms: clamp(latency_ms),
            minute: minute_of(ended_at),
        };
        // What changes is mostly what came last.
        if let Some(i) = self.unsealed.iter().rposition(|u| *u == gone) {
            self.unsealed.swap_remove(i);
        }
    }

    /// Counts what is sealed, if much of it may be: what is counted needs no sorting when it is summed up.
    pub fn settle(&mut self, sealed_until: i64) {
        if self.unsealed.len() > 2 * LOOK_FROM as usize {
            self.seal(sealed_until);
        }
    }

    /// Counts by bucket what ended before a moment (ms).
    fn seal(&mut self, until: i64) {
        let (buckets, max, until) = (&mut self.buckets, &mut self.sealed_max, minute_of(until));
        self.unsealed.retain(|u| {
            let stays = u.minute >= until;
            if !stays {
                count(buckets, u.latency_ms);
                *max = Some(u.latency_ms).max(*max);
            }
            stays
        });
        self.look_at = LOOK_FROM.max(2 * self.unsealed.len() as u32);
    }

    /// `None` without any latency.
    pub fn summary(&self) -> Option<Summary> {
        let max = self.unsealed.iter().map(|u| u.latency_ms).max().max(self.sealed_max)?;
        let mut more: SmallVec<[u16; 32]> = self.unsealed.iter().map(|u| bucket_of(u.latency_ms)).collect();
        more.sort_unstable();
        let total: u64 = more.len() as u64 + self.buckets.iter().map(|b| u64::from(b.1)).sum::<u64>();
        let ranks = [50, 90, 95, 99].map(|p: u64| (total * p).div_ceil(100).max(1));
        let mut percentiles = [i64::from(max); 4];
        let (mut sealed, mut more) = (self.buckets.iter().copied().peekable(), more.into_iter().peekable());
        let (mut seen, mut at) = (0, 0);
        while at < ranks.len() {
            // Two ascending runs.
            let bucket = match (sealed.peek(), more.peek()) {
                (Some((bucket, _)), Some(other)) => *bucket.min(other),
                (Some((bucket, _)), None) => *bucket,
                (None, Some(other)) => *other,
                (None, None) => break,
            };
            seen += sealed.next_if(|b| b.0 == bucket).map_or(0, |b| u64::from(b.1));
            while more.next_if_eq(&bucket).is_some() {
                seen += 1;
            }
            while let (Some(percentile), true) = (percentiles.get_mut(at), ranks.get(at).is_some_and(|rank| seen >= *rank)) {
                *percentile = i64::from(middle_of(bucket).min(max));
                at += 1;
            }
        }
        Some(Summary {
            max: i64::from(max),
            p50_p90_p95_p99: percentiles,
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
        fn percentiles_agree_with_a_sorted_list(mut values in prop::collection::vec(0i64..2_000_000, 1..200), sealed in 0i64..400) {
            let mut latencies = Latencies::default();
            for (ended, v) in (0..).zip(&values) {
                latencies.add(*v, ended * MINUTE_MS, (ended - sealed) * MINUTE_MS);
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
        fn sealing_changes_no_figure(
            values in prop::collection::vec((0i64..100_000, 0i64..60 * MINUTE_MS), 1..120),
            looks in prop::collection::vec(0i64..60 * MINUTE_MS, 0..3),
            taken in 0usize..120,
        ) {
            let mut plain = Latencies::default();
            let mut latencies = Latencies::default();
            for (v, ended) in &values {
                plain.add(*v, *ended, 0);
                latencies.add(*v, *ended, 0);
            }
            looks.iter().for_each(|until| latencies.seal(*until));
            prop_assert_eq!(latencies.summary(), plain.summary());
            // What is not sealed can still be taken back.
            let until = looks.iter().copied().max().unwrap_or(0);
            if let Some((v, ended)) = values.iter().filter(|(_, ended)| *ended >= until).nth(taken) {
                plain.remove(*v, *ended);
                latencies.remove(*v, *ended);
                prop_assert_eq!(latencies.summary(), plain.summary());
            }
        }

        #[test]
        fn what_is_kept_one_by_one_is_bounded_by_what_is_not_sealed(rounds in prop::collection::vec(0i64..3, 1..300)) {
            let (mut latencies, mut now, mut open, mut most) = (Latencies::default(), 0, Vec::new(), 0);
            for step in rounds {
                now += step * MINUTE_MS;
                latencies.add(1, now, now - 15 * MINUTE_MS);
                open.push(now);
                open.retain(|ended| *ended >= now - 15 * MINUTE_MS);
                most = open.len().max(most);
                prop_assert!(latencies.unsealed.len() <= (2 * most).max(LOOK_FROM as usize));
            }
        }

        #[test]
        fn removing_undoes_adding(kept in prop::collection::vec(0i64..1_000_000, 0..50), extra in prop::collection::vec(0i64..1_000_000, 0..50)) {
            let mut expected = Latencies::default();
            let mut latencies = Latencies::default();
            extra.iter().for_each(|v| latencies.add(*v, *v, 0));
            for v in &kept {
                expected.add(*v, *v, 0);
                latencies.add(*v, *v, 0);
            }
            extra.iter().for_each(|v| latencies.remove(*v, *v));
            prop_assert_eq!(latencies.summary(), expected.summary());
            prop_assert_eq!(latencies.unsealed.len(), kept.len());
        }
    }
}
