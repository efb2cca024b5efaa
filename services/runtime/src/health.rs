//! Whether a process is alive (its loops make progress) and ready (it has what it needs to work).
//!
//! | endpoint | is well while |
//! | --- | --- |
//! | `/livez` | every loop has reported progress within its own limit, or has ended in order; no consumer is stalled ([`crate::progress`]) |
//! | `/readyz` | every condition is met, and no shutdown was asked for |
//!
//! A loop that ends without [`Heartbeat::finish`] (a panic) is dead from then on. A loop that waits for something outside,
//! such as a broker that is down, is making progress: it beats while it waits. Restarting it would not help.

use crate::progress::{Consumers, Gauges, Progress};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The value of a heart that will not beat again because its loop ended in order.
const FINISHED: u64 = u64::MAX;
/// The value of a heart whose loop is gone without a word.
const LOST: u64 = u64::MAX - 1;

/// How long a consumer may stand while records wait, unless it is said.
pub const CONSUMER_PATIENCE: Duration = Duration::from_secs(60);
/// How often consumers are looked at while nobody asks.
const LOOK_EVERY_MS: u64 = 1_000;

/// The hearts and conditions of a process; clones share them.
#[derive(Debug, Clone)]
pub struct Health {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    start: Instant,
    loops: Mutex<Vec<Loop>>,
    conditions: Mutex<Vec<(String, Condition)>>,
    consumers: Consumers,
}

#[derive(Debug)]
struct Loop {
    name: String,
    limit: Duration,
    /// Milliseconds from the start to the last beat, [`FINISHED`] or [`LOST`].
    last_ms: Arc<AtomicU64>,
}

/// One loop's report of progress. Beating is one atomic store, and now and then a look at the consumers.
#[derive(Debug)]
pub struct Heartbeat {
    name: String,
    start: Instant,
    last_ms: Arc<AtomicU64>,
    looked_ms: AtomicU64,
    consumers: Consumers,
}

/// One condition of readiness; not met at first. Clones share it.
#[derive(Debug, Clone)]
pub struct Condition(Arc<State>);

#[derive(Debug, Default)]
struct State {
    met: AtomicBool,
    /// Why it is not met, where there is more to say.
    why: Mutex<String>,
}

/// The answer to a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether all is well.
    pub ok: bool,
    /// A line for each loop or condition.
    pub text: String,
}

impl Default for Health {
    fn default() -> Self {
        Health::new()
    }
}

impl Health {
    /// Without loops and conditions: alive and ready. Consumers have the usual patience, and no gauge.
    pub fn new() -> Self {
        Health::watching(CONSUMER_PATIENCE, None)
    }

    /// The same, where a consumer may stand for `patience`, and gauges show which does.
    pub fn watching(patience: Duration, gauges: Option<Gauges>) -> Self {
        Health {
            inner: Arc::new(Inner {
                start: Instant::now(),
                loops: Mutex::default(),
                conditions: Mutex::default(),
                consumers: Consumers::new(patience, gauges),
            }),
        }
    }

    /// Registers a loop that reports progress at least every `limit`; registering counts as the first report.
    pub fn heartbeat(&self, name: impl Into<String>, limit: Duration) -> Heartbeat {
        let (name, start) = (name.into(), self.inner.start);
        let last_ms = Arc::new(AtomicU64::new(since_ms(start, Instant::now())));
        let entry = Loop {
            name: name.clone(),
            limit,
            last_ms: Arc::clone(&last_ms),
        };
        self.inner.loops.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        Heartbeat {
            name,
            start,
            last_ms,
            looked_ms: AtomicU64::new(0),
            consumers: self.inner.consumers.clone(),
        }
    }

    /// Registers a condition of readiness.
    pub fn condition(&self, name: impl Into<String>) -> Condition {
        let condition = Condition(Arc::default());
        self.inner
            .conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((name.into(), condition.clone()));
        condition
    }

    /// Whether every loop makes progress.
    pub fn live(&self) -> Report {
        self.live_at(Instant::now())
    }

    fn live_at(&self, now: Instant) -> Report {
        let now_ms = since_ms(self.inner.start, now);
        let mut report = Report {
            ok: true,
            text: String::new(),
        };
        for entry in self.inner.loops.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let limit_ms = u64::try_from(entry.limit.as_millis()).unwrap_or(u64::MAX);
            let (ok, words) = match entry.last_ms.load(Ordering::Relaxed) {
                FINISHED => (true, "finished".to_owned()),
                LOST => (false, "gone".to_owned()),
                last_ms => {
                    let age_ms = now_ms.saturating_sub(last_ms);
                    (age_ms <= limit_ms, format!("last progress {age_ms} ms ago, limit {limit_ms} ms"))
                }
            };
            report.add(ok, &entry.name, &words);
        }
        self.inner.consumers.judge(now, &mut report);
        report
    }

    /// Whether every condition is met.
    pub fn ready(&self) -> Report {
        let mut report = Report {
            ok: true,
            text: String::new(),
        };
        for (name, condition) in self.inner.conditions.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let why = condition.0.why.lock().unwrap_or_else(PoisonError::into_inner);
            match (condition.0.met.load(Ordering::Relaxed), why.as_str()) {
                (true, _) => report.add(true, name, "met"),
                (false, "") => report.add(false, name, "not met"),
                (false, why) => report.add(false, name, why),
            }
        }
        report
    }
}

impl Report {
    /// A report with one more line, which may turn it bad.
    pub fn add(&mut self, ok: bool, name: &str, words: &str) {
        self.ok &= ok;
        // Writing into a String does not fail.
        let _ = writeln!(self.text, "{} {name}: {words}", if ok { "ok" } else { "BAD" });
    }
}

impl Heartbeat {
    /// Reports progress.
    pub fn beat(&self) {
        let now = Instant::now();
        let now_ms = since_ms(self.start, now);
        self.last_ms.store(now_ms, Ordering::Relaxed);
        if now_ms >= self.looked_ms.load(Ordering::Relaxed) + LOOK_EVERY_MS {
            self.looked_ms.store(now_ms, Ordering::Relaxed);
            let mut unread = Report {
                ok: true,
                text: String::new(),
            };
            self.consumers.judge(now, &mut unread);
        }
    }

    /// What the consumer of this loop reports.
    pub fn progress(&self) -> Progress {
        self.consumers.of(&self.name)
    }

    /// The loop has ended in order.
    pub fn finish(self) {
        self.last_ms.store(FINISHED, Ordering::Relaxed);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if self.last_ms.load(Ordering::Relaxed) != FINISHED {
            self.last_ms.store(LOST, Ordering::Relaxed);
        }
    }
}

impl Condition {
    /// Says whether the condition is met now.
    pub fn set(&self, met: bool) {
        self.0.met.store(met, Ordering::Relaxed);
    }

    /// Says that it is not met now, and why: one line.
    pub fn fail(&self, why: &str) {
        why.clone_into(&mut self.0.why.lock().unwrap_or_else(PoisonError::into_inner));
        self.set(false);
    }
}

fn since_ms(start: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(start).as_millis()).unwrap_or(LOST - 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_loop_is_alive_within_its_limit() {
        let health = Health::new();
        assert!(health.live().ok);
        let limit = Duration::from_secs(3600);
        let heartbeat = health.heartbeat("intake 0", limit);
        let now = Instant::now();
        assert!(health.live_at(now + limit - Duration::from_secs(1)).ok);
        let late = health.live_at(now + limit + Duration::from_secs(1));
        assert!(!late.ok);
        assert!(late.text.starts_with("BAD intake 0: last progress 36"), "{}", late.text);
        heartbeat.beat();
        assert!(health.live().ok);
    }

    #[test]
    fn a_loop_that_ended_in_order_is_well_and_one_that_vanished_is_not() {
        let health = Health::new();
        let far = Instant::now() + Duration::from_secs(1_000_000);
        health.heartbeat("a", Duration::ZERO).finish();
        assert_eq!(
            health.live_at(far),
            Report {
                ok: true,
                text: "ok a: finished\n".into()
            }
        );
        drop(health.heartbeat("b", Duration::from_secs(9_999_999)));
        assert_eq!(
            health.live_at(far),
            Report {
                ok: false,
                text: "ok a: finished\nBAD b: gone\n".into()
            }
        );
    }

    #[test]
    fn ready_when_every_condition_is_met() {
        let health = Health::new();
        assert!(health.ready().ok);
        let (broker, disk) = (health.condition("broker"), health.condition("disk"));
        broker.set(true);
        assert_eq!(
            health.ready(),
            Report {
                ok: false,
                text: "ok broker: met\nBAD disk: not met\n".into()
            }
        );
        disk.set(true);
        assert!(health.ready().ok);
        broker.set(false);
        assert!(!health.ready().ok);
        disk.fail("full");
        assert_eq!(health.ready().text, "BAD broker: not met\nBAD disk: full\n");
    }
}
