//! The simulator from outside: what it generates, and that its sinks lose nothing. One binary, a module per topic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod encode;
mod generator;
mod kafka;
mod sinks;

use peakdesk_simulator::{Profile, SimConfig};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// 2025-11-11T00:00:00+08:00.
const SALE_MS: i64 = 1_762_790_400_000;

/// Three hours around midnight in a few small shops, with everything that can go wrong switched on.
fn busy_night(seed: u64) -> SimConfig {
    SimConfig {
        seed,
        shops: 4,
        agents: Some(4),
        start_ms: SALE_MS - HOUR_MS,
        duration_ms: 3 * HOUR_MS,
        duplicate_share: 0.01,
        late_share: 0.005,
        dead_share: 0.005,
        brushing_share: 0.02,
        ..SimConfig::default()
    }
}

/// Ordinary days of a few shops, without faults.
fn plain_days(seed: u64, shops: u32, agents: u32, days: i64) -> SimConfig {
    SimConfig {
        seed,
        shops,
        agents: Some(agents),
        start_ms: SALE_MS,
        duration_ms: days * DAY_MS,
        profile: Profile::Ordinary,
        disorder: 0.0,
        duplicate_share: 0.0,
        ..SimConfig::default()
    }
}
