//! What a member of a group tells the watchdog: how far each partition is dealt with, and how far it goes.
//!
//! ```text
//! poll ─► handed out ─► (the next poll) dealt with ─┐
//! statistics of the client ─► end, broker's silence ─┴─► progress, every 500 ms
//! ```
//!
//! Nothing here judges; [`peakdesk_runtime::progress`] does.

use crate::group::Change;
use peakdesk_runtime::progress::Progress;
use rdkafka::statistics::{Partition, Statistics};
use std::sync::{Mutex, PoisonError};

/// A broker that was asked something and has said nothing for this long (µs) is away.
const SILENCE_MAX_US: i64 = 10_000_000;
const HELD: &str = "held by its owner";
const SILENT: &str = "the broker does not answer";

struct Lane {
    topic: String,
    partition: i32,
    /// First offset that was not handed out.
    next: i64,
    held: bool,
    silent: bool,
}

/// The partitions of a member.
pub(crate) struct Watch {
    progress: Progress,
    lanes: Mutex<Vec<Lane>>,
}

impl Watch {
    pub(crate) fn new(progress: Progress) -> Self {
        progress.began();
        Watch {
            progress,
            lanes: Mutex::default(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<Lane>) -> T) -> T {
        act(&mut self.lanes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn lane(&self, topic: &str, partition: i32, act: impl FnOnce(&mut Lane)) {
        self.with(|lanes| lanes.iter_mut().find(|l| l.partition == partition && l.topic == topic).map(act));
    }

    pub(crate) fn changed(&self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Assigned(starts) => {
                    for start in starts {
                        self.progress.assigned(&start.topic, start.partition, start.offset, start.high);
                        self.with(|lanes| {
                            lanes.retain(|l| l.partition != start.partition || l.topic != start.topic);
                            lanes.push(Lane {
                                topic: start.topic.clone(),
                                partition: start.partition,
                                next: start.offset,
                                held: false,
                                silent: false,
                            });
                        });
                    }
                }
                Change::Revoked(gone) => {
                    for (topic, partition) in gone {
                        self.progress.revoked(topic, *partition);
                        self.with(|lanes| lanes.retain(|l| l.partition != *partition || l.topic != *topic));
                    }
                }
            }
        }
    }

    /// The owner has this message now. Statistics are told inside of a poll, when it is done with it.
    pub(crate) fn handed_out(&self, topic: &str, partition: i32, offset: i64) {
        self.lane(topic, partition, |lane| lane.next = lane.next.max(offset + 1));
    }

    /// Whether there are partitions.
    pub(crate) fn has_any(&self) -> bool {
        self.with(|lanes| !lanes.is_empty())
    }

    /// The partition is held, and will be read again from `offset`.
    pub(crate) fn held(&self, topic: &str, partition: i32, offset: i64) {
        self.lane(topic, partition, |lane| {
            lane.held = true;
            lane.next = offset;
        });
        self.progress.waits(topic, partition, HELD);
    }

    /// The partition is not read before it is resumed, and this is why.
    pub(crate) fn waits_for(&self, topic: &str, partition: i32, why: &'static str) {
        self.lane(topic, partition, |lane| lane.held = true);
        self.progress.waits(topic, partition, why);
    }

    pub(crate) fn resumed(&self, topic: &str, partition: i32) {
        self.lane(topic, partition, |lane| lane.held = false);
        self.progress.goes_on(topic, partition);
    }

    /// All partitions wait for something that the owner knows of (`why`), or no longer do.
    pub(crate) fn waits(&self, why: Option<&'static str>) {
        self.with(|lanes| {
            for lane in lanes.iter().filter(|lane| !lane.held) {
                match why {
                    Some(why) => self.progress.waits(&lane.topic, lane.partition, why),
                    None => self.progress.goes_on(&lane.topic, lane.partition),
                }
            }
        });
    }

    /// Tells what the client knows.
    pub(crate) fn look(&self, statistics: &Statistics) {
        self.with(|lanes| {
            for lane in lanes.iter_mut() {
                let topic = statistics.topics.get(&lane.topic);
                let Some(partition) = topic.and_then(|t| t.partitions.get(&lane.partition)) else {
                    continue;
                };
                let silent = !answers(statistics, partition.leader);
                if silent && !lane.held {
                    self.progress.waits(&lane.topic, lane.partition, SILENT);
                } else if lane.silent && !silent && !lane.held {
                    self.progress.goes_on(&lane.topic, lane.partition);
                }
                lane.silent = silent;
                let position = dealt_with(lane, partition);
                self.progress.at(&lane.topic, lane.partition, position, partition.ls_offset);
            }
        });
    }
}

impl Drop for Watch {
    /// An attempt may end before any statistics came: what it had in hand is known to be there.
    fn drop(&mut self) {
        self.with(|lanes| {
            for lane in lanes.iter() {
                self.progress.at(&lane.topic, lane.partition, i64::MIN, lane.next);
            }
        });
    }
}

/// A broker that was asked nothing is silent too, and no excuse for a client that does not ask.
fn answers(statistics: &Statistics, broker: i32) -> bool {
    let found = statistics.brokers.values().find(|b| b.nodeid == broker && broker >= 0);
    found.is_some_and(|b| b.state == "UP" && (b.rxidle <= SILENCE_MAX_US || b.waitresp_cnt + b.outbuf_cnt == 0))
}

/// The end of a partition may hold no record (marks of transactions): where nothing that was fetched waits, and the client asks for what
/// lies further on, nothing is left before that.
fn dealt_with(lane: &Lane, partition: &Partition) -> i64 {
    if partition.fetchq_cnt == 0 && !lane.held {
        lane.next.max(partition.next_offset)
    } else {
        lane.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Start;
    use peakdesk_runtime::health::Health;
    use rdkafka::statistics::{Broker, Topic};
    use std::time::Duration;

    /// What a client says that has fetched nothing yet, of a broker that was last heard so long ago and has so many requests to answer.
    fn statistics(rxidle: i64, waitresp_cnt: i64) -> Statistics {
        let broker = Broker {
            nodeid: 1,
            state: "UP".into(),
            rxidle,
            waitresp_cnt,
            ..Broker::default()
        };
        let partition = Partition {
            partition: 3,
            leader: 1,
            ..Partition::default()
        };
        let topic = Topic {
            partitions: [(3, partition)].into(),
            ..Topic::default()
        };
        Statistics {
            brokers: [("one".into(), broker)].into(),
            topics: [("chat".into(), topic)].into(),
            ..Statistics::default()
        }
    }

    #[test]
    fn a_client_that_never_fetches_after_its_assignment_is_stalled_and_one_that_gets_no_answer_waits() {
        let health = Health::watching(Duration::ZERO, None);
        let heartbeat = health.heartbeat("intake", Duration::from_secs(3_600));
        let watch = Watch::new(heartbeat.progress());
        watch.changed(&[Change::Assigned(vec![Start {
            topic: "chat".into(),
            partition: 3,
            offset: 2,
            low: 0,
            high: 5,
            metadata: None,
        }])]);
        let live = || {
            std::thread::sleep(Duration::from_millis(1));
            health.live()
        };
        watch.look(&statistics(2 * SILENCE_MAX_US, 0));
        let report = live();
        assert!(
            !report.ok && report.text.contains("BAD intake chat[3]: stands at 2 of 5"),
            "{}",
            report.text
        );
        watch.look(&statistics(2 * SILENCE_MAX_US, 1));
        let report = live();
        assert!(
            report.ok && report.text.contains("chat[3]: waits at 2 of 5: the broker does not answer"),
            "{}",
            report.text
        );
        watch.look(&statistics(1, 1));
        assert!(!live().ok);
        watch.handed_out("chat", 3, 4);
        watch.look(&statistics(1, 1));
        assert!(live().ok);
    }
}
