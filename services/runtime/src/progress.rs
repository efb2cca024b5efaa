//! Whether consumers get on: a watchdog over every partition that a process reads.
//!
//! | what is seen, for longer than the patience | verdict |
//! | --- | --- |
//! | records wait, and the position does not move | stalled |
//! | the consumer began anew three times or more from the same offset, each time for less than the patience, and records wait | stalled: it goes in circles, until an attempt lasts longer |
//! | the partition waits: for the schema registry, its state, a disk, or a broker that does not answer | waiting; said, and no fault of this process |
//! | nothing waits | well |
//!
//! A stalled partition fails `/livez`, with the reason, sets the gauge `consumer_stalled` to 1 and is logged as an error, once. For how
//! long one waits stands in `consumer_waiting_seconds`; beyond the patience that is logged as a warning, once.
//!
//! Consumers report; nothing here knows Kafka. Time passes by [`std::time::Instant`], and only [`Consumers::judge`] looks at it.

use crate::health::Report;
use prometheus::IntGaugeVec;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many attempts from one offset are no accident.
const CIRCLES: u32 = 3;

/// Consumer, topic, partition.
type Key = (String, String, i32);

/// All consumers of a process; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Consumers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    patience: Duration,
    gauges: Option<Gauges>,
    lanes: Mutex<BTreeMap<Key, Lane>>,
}

/// Gauges by consumer, topic and partition.
#[derive(Debug, Clone)]
pub struct Gauges {
    /// 1 for a stalled partition, else 0.
    pub stalled: IntGaugeVec,
    /// For how long (s) a partition has been waiting for something outside; 0 while it does not.
    pub waiting: IntGaugeVec,
}

/// What one consumer reports.
#[derive(Debug, Clone)]
pub struct Progress {
    consumer: String,
    consumers: Consumers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is read.
    Read,
    /// The consumer began anew and has not been given it yet.
    Between,
    /// It waits for something outside, since then.
    Waits(&'static str, Instant),
}

#[derive(Debug)]
struct Lane {
    state: State,
    /// Where the newest attempt began, and when.
    start: i64,
    assigned_at: Instant,
    /// Attempts from that offset in a row, each shorter than the patience, and when the first began.
    attempts: u32,
    attempts_since: Instant,
    /// The first offset that is not dealt with, and since when.
    position: i64,
    moved_at: Instant,
    /// The offset behind the last record there is, as far as known.
    end: i64,
    stalled: bool,
    /// It was said that it has been waiting for longer than the patience.
    waits_long: bool,
}

impl Lane {
    fn stall(&self, now: Instant, patience: Duration) -> Option<String> {
        let waits = |since: Instant| now.saturating_duration_since(since) > patience;
        if matches!(self.state, State::Waits(..)) {
            return None;
        }
        let lasts = self.state == State::Read && waits(self.assigned_at);
        if self.attempts >= CIRCLES && !lasts && self.end > self.start && waits(self.attempts_since) {
            return Some(format!(
                "began {} times at {} of {} and came no further",
                self.attempts, self.start, self.end
            ));
        }
        (self.state == State::Read && self.end > self.position && waits(self.moved_at)).then(|| {
            let age = now.saturating_duration_since(self.moved_at).as_secs();
            format!("stands at {} of {} for {age} s", self.position, self.end)
        })
    }
}

impl Consumers {
    pub(crate) fn new(patience: Duration, gauges: Option<Gauges>) -> Self {
        Consumers {
            inner: Arc::new(Inner {
                patience,
                gauges,
                lanes: Mutex::default(),
            }),
        }
    }

    pub(crate) fn of(&self, consumer: &str) -> Progress {
        Progress {
            consumer: consumer.to_owned(),
            consumers: self.clone(),
        }
    }

    /// Looks at every partition; says what is stalled and what waits. What has changed since the last look is logged.
    pub(crate) fn judge(&self, now: Instant, report: &mut Report) {
        let mut lanes = self.inner.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, lane) in lanes.iter_mut() {
            let (consumer, topic, partition) = (key.0.as_str(), key.1.as_str(), key.2);
            let stall = lane.stall(now, self.inner.patience);
            if stall.is_some() != lane.stalled {
                lane.stalled = stall.is_some();
                match &stall {
                    Some(why) => {
                        tracing::error!(
                            consumer,
                            topic,
                            partition,
                            why,
                            "the consumer does not get on; look at the log before this line"
                        )
                    }
                    None => tracing::info!(consumer, topic, partition, "the consumer gets on again"),
                }
            }
            let waited = match lane.state {
                State::Waits(_, since) => now.saturating_duration_since(since),
                _ => Duration::ZERO,
            };
            self.show(key, lane.stalled, waited);
            let long = waited > self.inner.patience;
            if let (State::Waits(why, _), true, false) = (lane.state, long, lane.waits_long) {
                tracing::warn!(consumer, topic, partition, why, ?waited, "the partition waits for long");
            }
            lane.waits_long = long;
            let name = || format!("{consumer} {topic}[{partition}]");
            match (stall, lane.state) {
                (Some(why), _) => report.add(false, &name(), &why),
                (None, State::Waits(why, _)) => report.add(true, &name(), &format!("waits at {} of {}: {why}", lane.position, lane.end)),
                (None, _) => {}
            }
        }
    }

    fn show(&self, key: &Key, stalled: bool, waited: Duration) {
        if let Some(gauges) = &self.inner.gauges {
            let labels = [key.0.as_str(), key.1.as_str(), &key.2.to_string()];
            gauges.stalled.with_label_values(&labels).set(i64::from(stalled));
            gauges.waiting.with_label_values(&labels).set(waited.as_secs() as i64);
        }
    }
}

impl Progress {
    fn lanes<T>(&self, act: impl FnOnce(&mut BTreeMap<Key, Lane>) -> T) -> T {
        act(&mut self.consumers.inner.lanes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn lane(&self, topic: &str, partition: i32, act: impl FnOnce(&mut Lane)) {
        let key = (self.consumer.clone(), topic.to_owned(), partition);
        self.lanes(|lanes| lanes.get_mut(&key).map(act));
    }

    /// The consumer begins, for the first time or after a failure; it has no partition yet.
    pub fn began(&self) {
        let patience = self.consumers.inner.patience;
        self.lanes(|lanes| {
            for (_, lane) in lanes.iter_mut().filter(|((consumer, _, _), _)| *consumer == self.consumer) {
                if lane.state != State::Between && lane.assigned_at.elapsed() > patience {
                    lane.attempts = 0;
                }
                lane.state = State::Between;
            }
        });
    }

    /// A partition is read from `start` on, and there are records up to `end`: whoever is told of none has lag all the same.
    pub fn assigned(&self, topic: &str, partition: i32, start: i64, end: i64) {
        let (now, key) = (Instant::now(), (self.consumer.clone(), topic.to_owned(), partition));
        self.lanes(|lanes| {
            let before = lanes.get(&key).filter(|lane| start <= lane.start && lane.attempts > 0);
            let (attempts, attempts_since) = before.map_or((1, now), |lane| (lane.attempts + 1, lane.attempts_since));
            let stalled = lanes.get(&key).is_some_and(|lane| lane.stalled);
            self.consumers.show(&key, stalled, Duration::ZERO);
            let lane = Lane {
                state: State::Read,
                start,
                assigned_at: now,
                attempts,
                attempts_since,
                position: start,
                moved_at: now,
                end: end.max(start),
                stalled,
                waits_long: false,
            };
            lanes.insert(key, lane);
        });
    }

    /// Another consumer has the partition now.
    pub fn revoked(&self, topic: &str, partition: i32) {
        let key = (self.consumer.clone(), topic.to_owned(), partition);
        self.lanes(|lanes| lanes.remove(&key));
        if let Some(gauges) = &self.consumers.inner.gauges {
            // A gauge that was never set cannot be removed; nothing is lost then.
            let labels = [self.consumer.as_str(), topic, &partition.to_string()];
            let _ = gauges.stalled.remove_label_values(&labels);
            let _ = gauges.waiting.remove_label_values(&labels);
        }
    }

    /// Everything below `position` is dealt with, and there are records up to `end`, as far as known. What is less than before says
    /// nothing.
    pub fn at(&self, topic: &str, partition: i32, position: i64, end: i64) {
        self.lane(topic, partition, |lane| {
            if position > lane.position {
                lane.position = position;
                lane.moved_at = Instant::now();
            }
            lane.end = lane.end.max(end).max(lane.position);
        });
    }

    /// The partition waits for something outside; saying so again changes the reason only.
    pub fn waits(&self, topic: &str, partition: i32, why: &'static str) {
        self.lane(topic, partition, |lane| {
            let since = match lane.state {
                State::Waits(_, since) => since,
                _ => Instant::now(),
            };
            lane.state = State::Waits(why, since);
        });
    }

    /// It is read again; the time it waited does not count.
    pub fn goes_on(&self, topic: &str, partition: i32) {
        self.lane(topic, partition, |lane| {
            if matches!(lane.state, State::Waits(..)) {
                lane.state = State::Read;
                lane.moved_at = Instant::now();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn judged(consumers: &Consumers, after: Duration) -> Report {
        let mut report = Report {
            ok: true,
            text: String::new(),
        };
        consumers.judge(Instant::now() + after, &mut report);
        report
    }

    fn reading(end: i64) -> (Consumers, Progress) {
        let consumers = Consumers::new(PATIENCE, None);
        let progress = consumers.of("intake");
        progress.began();
        progress.assigned("chat", 3, 10, end);
        (consumers, progress)
    }

    #[test]
    fn stalled_when_records_wait_and_the_position_stands() {
        let (consumers, progress) = reading(12);
        assert!(judged(&consumers, PATIENCE / 2).ok);
        let report = judged(&consumers, 2 * PATIENCE);
        assert!(
            !report.ok && report.text.contains("intake chat[3]: stands at 10 of 12"),
            "{}",
            report.text
        );
        progress.at("chat", 3, 11, 12);
        assert!(judged(&consumers, PATIENCE / 2).ok);
        assert!(!judged(&consumers, 2 * PATIENCE).ok);
        progress.at("chat", 3, 12, 12);
        assert!(judged(&consumers, 2 * PATIENCE).ok);
    }

    #[test]
    fn a_partition_that_waits_says_so_and_is_not_stalled() {
        let (consumers, progress) = reading(12);
        progress.waits("chat", 3, "held");
        let report = judged(&consumers, 2 * PATIENCE);
        assert_eq!(report.text, "ok intake chat[3]: waits at 10 of 12: held\n");
        assert!(report.ok);
        progress.waits("chat", 3, "refused");
        assert!(judged(&consumers, 2 * PATIENCE).text.ends_with("waits at 10 of 12: refused\n"));
        progress.goes_on("chat", 3);
        assert!(judged(&consumers, PATIENCE / 2).ok);
        assert!(!judged(&consumers, 2 * PATIENCE).ok);
        progress.revoked("chat", 3);
        assert!(judged(&consumers, 2 * PATIENCE).ok);
    }

    #[test]
    fn gauges_say_how_long_a_partition_waits_and_go_with_it() {
        let gauge = |name| IntGaugeVec::new(prometheus::Opts::new(name, "a gauge"), &["consumer", "topic", "partition"]).unwrap();
        let gauges = Gauges {
            stalled: gauge("stalled"),
            waiting: gauge("waiting"),
        };
        let consumers = Consumers::new(PATIENCE, Some(gauges.clone()));
        let progress = consumers.of("intake");
        let shown = |gauge: &IntGaugeVec| gauge.with_label_values(&["intake", "chat", "3"]).get();
        progress.assigned("chat", 3, 0, 5);
        progress.waits("chat", 3, "held");
        assert!(judged(&consumers, 2 * PATIENCE).ok);
        // The report is made a moment later.
        assert_eq!((shown(&gauges.waiting), shown(&gauges.stalled)), (120, 0));
        progress.goes_on("chat", 3);
        assert!(!judged(&consumers, 2 * PATIENCE).ok);
        assert_eq!((shown(&gauges.waiting), shown(&gauges.stalled)), (0, 1));
        progress.revoked("chat", 3);
        for gauge in [gauges.stalled, gauges.waiting] {
            assert!(
                prometheus::core::Collector::collect(&gauge)
                    .iter()
                    .all(|family| family.get_metric().is_empty())
            );
        }
    }

    #[test]
    fn going_in_circles_is_a_stall_though_the_position_moves() {
        let (consumers, progress) = reading(12);
        for _ in 0..3 {
            progress.at("chat", 3, 12, 12);
            progress.began();
            progress.assigned("chat", 3, 10, 12);
            progress.at("chat", 3, 12, 12);
        }
        assert!(
            judged(&consumers, 2 * PATIENCE).ok,
            "the newest attempt lasts longer than those before"
        );
        progress.began();
        assert!(judged(&consumers, PATIENCE / 2).ok);
        let report = judged(&consumers, 2 * PATIENCE);
        assert!(!report.ok && report.text.contains("began 4 times at 10 of 12"), "{}", report.text);
        // From further on it is another attempt.
        progress.assigned("chat", 3, 11, 12);
        progress.at("chat", 3, 12, 12);
        assert!(judged(&consumers, 2 * PATIENCE).ok);
    }
}
