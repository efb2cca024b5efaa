//! Whether consumers get on: a watchdog over every partition that a process reads.
//!
//! | what is seen, for longer than the patience | verdict |
//! | --- | --- |
//! | records wait, and the position does not move | stalled |
//! | the consumer began anew three times or more from the same offset, each time for less than the patience, and records wait | stalled: it goes in circles |
//! | the partition is held (the schema registry is away), or the broker does not answer | waiting; said, and no fault of this process |
//! | nothing waits | well |
//!
//! A stalled partition fails `/livez`, with the reason, sets the gauge `consumer_stalled` to 1 and is logged as an error, once.
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
    /// 1 for a stalled partition, by consumer, topic and partition.
    stalled: Option<IntGaugeVec>,
    lanes: Mutex<BTreeMap<Key, Lane>>,
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
    /// It waits for something outside.
    Waits(&'static str),
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
}

impl Lane {
    fn stall(&self, now: Instant, patience: Duration) -> Option<String> {
        let waits = |since: Instant| now.saturating_duration_since(since) > patience;
        if matches!(self.state, State::Waits(_)) {
            return None;
        }
        if self.attempts >= CIRCLES && self.end > self.start && waits(self.attempts_since) {
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
    pub(crate) fn new(patience: Duration, stalled: Option<IntGaugeVec>) -> Self {
        Consumers {
            inner: Arc::new(Inner {
                patience,
                stalled,
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
                self.show(key, lane.stalled);
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
            let name = || format!("{consumer} {topic}[{partition}]");
            match (stall, lane.state) {
                (Some(why), _) => report.add(false, &name(), &why),
                (None, State::Waits(why)) => report.add(true, &name(), &format!("waits at {} of {}: {why}", lane.position, lane.end)),
                (None, _) => {}
            }
        }
    }

    fn show(&self, key: &Key, stalled: bool) {
        if let Some(gauge) = &self.inner.stalled {
            gauge
                .with_label_values(&[key.0.as_str(), key.1.as_str(), &key.2.to_string()])
                .set(i64::from(stalled));
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

    /// A partition is read from `start` on.
    pub fn assigned(&self, topic: &str, partition: i32, start: i64) {
        let (now, key) = (Instant::now(), (self.consumer.clone(), topic.to_owned(), partition));
        self.lanes(|lanes| {
            let before = lanes.get(&key).filter(|lane| start <= lane.start && lane.attempts > 0);
            let (attempts, attempts_since) = before.map_or((1, now), |lane| (lane.attempts + 1, lane.attempts_since));
            let (end, stalled) = lanes.get(&key).map_or((start, false), |lane| (lane.end, lane.stalled));
            self.consumers.show(&key, stalled);
            let lane = Lane {
                state: State::Read,
                start,
                assigned_at: now,
                attempts,
                attempts_since,
                position: start,
                moved_at: now,
                end,
                stalled,
            };
            lanes.insert(key, lane);
        });
    }

    /// Another consumer has the partition now.
    pub fn revoked(&self, topic: &str, partition: i32) {
        let key = (self.consumer.clone(), topic.to_owned(), partition);
        self.lanes(|lanes| lanes.remove(&key));
        if let Some(gauge) = &self.consumers.inner.stalled {
            // A gauge that was never set cannot be removed; nothing is lost then.
            let _ = gauge.remove_label_values(&[self.consumer.as_str(), topic, &partition.to_string()]);
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

    /// The partition waits for something outside.
    pub fn waits(&self, topic: &str, partition: i32, why: &'static str) {
        self.lane(topic, partition, |lane| lane.state = State::Waits(why));
    }

    /// It is read again; the time it waited does not count.
    pub fn goes_on(&self, topic: &str, partition: i32) {
        self.lane(topic, partition, |lane| {
            if matches!(lane.state, State::Waits(_)) {
                lane.state = State::Read;
                lane.moved_at = Instant::now();
            }
        });
    }
}

#[cfg(test)]
mod tests {
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
        progress.assigned("chat", 3, 10);
        progress.at("chat", 3, 10, end);
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
        progress.goes_on("chat", 3);
        assert!(judged(&consumers, PATIENCE / 2).ok);
        progress.revoked("chat", 3);
        assert!(judged(&consumers, 2 * PATIENCE).ok);
    }

    #[test]
    fn going_in_circles_is_a_stall_though_the_position_moves() {
        let (consumers, progress) = reading(12);
        for _ in 0..3 {
            progress.at("chat", 3, 12, 12);
            progress.began();
            progress.assigned("chat", 3, 10);
            progress.at("chat", 3, 12, 12);
        }
        assert!(judged(&consumers, PATIENCE / 2).ok);
        let report = judged(&consumers, 2 * PATIENCE);
        assert!(!report.ok && report.text.contains("began 4 times at 10 of 12"), "{}", report.text);
        // From further on it is another attempt.
        progress.began();
        assert!(!judged(&consumers, 2 * PATIENCE).ok, "between attempts it is what it was");
        progress.assigned("chat", 3, 11);
        progress.at("chat", 3, 12, 12);
        assert!(judged(&consumers, 2 * PATIENCE).ok);
    }
}
