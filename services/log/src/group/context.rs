//! What a member's client calls back: changes of the assignment, and what it hears of its partitions.

use super::{Begin, Change, Heard, Start, read_error, wall_ms};
use crate::commits::Commits;
use crate::error::LogError;
use crate::watch::Watch;
use peakdesk_runtime::shutdown::Shutdown;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long the broker may take to say where reading begins: its group coordinator may have to load first.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// What is known on both sides of the client's callbacks.
pub(super) struct Context {
    begin: Begin,
    changes: Mutex<Vec<Result<Change, LogError>>>,
    commits: Mutex<Commits>,
    /// By partition.
    heard: Mutex<BTreeMap<i32, Heard>>,
    /// The least difference between the wall clock and the client's clock at which statistics came (ms).
    clocks_apart_ms: AtomicI64,
    /// The member is leaving: nothing may be asked of the brokers any more, as no answer would come.
    leaving: AtomicBool,
    pub(super) watch: OnceLock<Watch>,
    /// When it is requested, no answer is waited for any more.
    pub(super) shutdown: OnceLock<Shutdown>,
    /// What to do where more is committed than there is.
    pub(super) advice: OnceLock<String>,
    group: String,
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        // Whoever comes after it speaks for the partitions.
        if self.leaving.load(Ordering::Relaxed) {
            return;
        }
        let now = wall_ms();
        if let Some(watch) = self.watch.get() {
            watch.look(&statistics);
        }
        let made_at = self.made_at(&statistics, now);
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, partition) in statistics.topics.values().flat_map(|t| &t.partitions) {
            let broker = statistics.brokers.values().find(|b| b.nodeid == partition.leader);
            let Some(broker) = broker.filter(|b| partition.desired && b.state == "UP" && b.rxidle >= 0) else {
                continue;
            };
            // The end of a partition may hold no record (marks of transactions), so it counts only while something waits to be read.
            let until = if partition.fetchq_cnt == 0 { 0 } else { partition.next_offset };
            let at_ms = made_at - broker.rxidle / 1000;
            let known = heard.entry(*number).or_default();
            if at_ms >= known.at_ms {
                *known = Heard { at_ms, until };
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is no error; poll tells it.
        if matches!(error, KafkaError::Global(RDKafkaErrorCode::PartitionEOF)) {
            return;
        }
        tracing::warn!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        if self.ends() {
            self.answer(consumer, &err, list, cooperative);
            return;
        }
        // What was heard of partitions that come anew was heard when others were read.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let change = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let assigned = self.assign(consumer, list, cooperative);
                if assigned.is_err() {
                    // Without an answer to the change the client could never be closed.
                    self.answer(consumer, &err, &TopicPartitionList::new(), cooperative);
                    if self.ends() {
                        return;
                    }
                }
                assigned.map(Change::Assigned)
            }
            _ => {
                let result = if cooperative {
                    consumer.incremental_unassign(list)
                } else {
                    consumer.unassign()
                };
                result
                    .map(|()| Change::Revoked(names(list)))
                    .map_err(|e| read_error("assignment", &e))
            }
        };
        match &change {
            Ok(Change::Assigned(starts)) => self.commits().hold(starts.iter().map(|s| (s.topic.clone(), s.partition))),
            Ok(Change::Revoked(gone)) => self.commits().let_go(gone),
            Err(_) => {}
        }
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }
}

/// A time of the client's clock as wall time, given the second in which it lies (all ms); `apart` is the least difference between
/// the two clocks so far.
fn date(apart: &AtomicI64, (client, second): (i64, i64), now: i64) -> i64 {
    let now_apart = now - client;
    let apart = apart.fetch_min(now_apart, Ordering::Relaxed).min(now_apart);
    (client + apart).clamp(second, second + 999).min(now)
}

fn names(list: &TopicPartitionList) -> Vec<(String, i32)> {
    list.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect()
}

fn is_final(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{GroupAuthorizationFailed, TopicAuthorizationFailed, UnknownTopic};
    matches!(
        error.rdkafka_error_code(),
        Some(UnknownTopic | GroupAuthorizationFailed | TopicAuthorizationFailed)
    )
}

impl Context {
    pub(super) fn new(begin: Begin, group: &str) -> Self {
        Context {
            begin,
            changes: Mutex::new(Vec::new()),
            commits: Mutex::default(),
            heard: Mutex::default(),
            clocks_apart_ms: AtomicI64::new(i64::MAX),
            leaving: AtomicBool::new(false),
            watch: OnceLock::new(),
            shutdown: OnceLock::new(),
            advice: OnceLock::new(),
            group: group.to_owned(),
        }
    }

    /// From here on nothing is begun any more.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    pub(super) fn take_changes(&self) -> Vec<Result<Change, LogError>> {
        std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn heard(&self, partition: i32) -> Heard {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(&partition).copied().unwrap_or_default()
    }

    pub(super) fn commits(&self) -> MutexGuard<'_, Commits> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advice(&self) -> String {
        let reset = || {
            format!(
                "reset the offsets of group {}, for example with kafka-consumer-groups.sh",
                self.group
            )
        };
        self.advice.get().cloned().unwrap_or_else(reset)
    }

    /// Whether the member is leaving, or is about to.
    fn ends(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) || self.shutdown.get().is_some_and(Shutdown::is_requested)
    }

    /// Repeats what a broker refuses while it starts or moves its coordinator.
    pub(super) fn patiently<T>(&self, what: &str, mut ask: impl FnMut() -> Result<T, KafkaError>) -> Result<T, LogError> {
        let begun = Instant::now();
        loop {
            match ask() {
                Ok(value) => return Ok(value),
                Err(error) if begun.elapsed() >= START_PATIENCE || is_final(&error) || self.ends() => return Err(read_error(what, &error)),
                Err(error) => {
                    tracing::debug!(%error, what, "asking again");
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }
    }

    /// When statistics were made (wall time, ms): they may have waited long for somebody to poll. Their wall time is in seconds, their
    /// other clock is finer.
    fn made_at(&self, statistics: &Statistics, now: i64) -> i64 {
        let clocks = (statistics.ts / 1000, statistics.time * 1000);
        date(&self.clocks_apart_ms, clocks, now)
    }

    /// The client waits for an answer to a change before it is closed; what is assigned here it gives up at once.
    fn answer(&self, consumer: &BaseConsumer<Self>, err: &RDKafkaRespErr, list: &TopicPartitionList, cooperative: bool) {
        let answer = match (matches!(err, RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS), cooperative) {
            (true, true) => consumer.incremental_assign(list),
            (true, false) => consumer.assign(list),
            (false, true) => consumer.incremental_unassign(list),
            (false, false) => consumer.unassign(),
        };
        if let Err(error) = answer {
            tracing::debug!(%error, "a change of the assignment while leaving");
        }
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList, cooperative: bool) -> Result<Vec<Start>, LogError> {
        let mut starts = Vec::new();
        let mut from = TopicPartitionList::new();
        let committed = match self.begin {
            Begin::Held => None,
            Begin::Committed(_) => {
                let ask = || consumer.committed_offsets(list.clone(), Duration::from_secs(5));
                Some(self.patiently("committed offsets", ask)?)
            }
        };
        for element in list.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            let ask = || consumer.fetch_watermarks(topic, partition, Duration::from_secs(5));
            let (low, high) = self.patiently("watermarks", ask)?;
            let known = committed.as_ref().and_then(|c| c.find_partition(topic, partition));
            let (offset, metadata) = match known.map(|k| (k.offset(), k.metadata().to_owned())) {
                Some((Offset::Offset(offset), metadata)) => match &self.begin {
                    Begin::Committed(usable) if !usable(&metadata) => (low, Some(metadata)),
                    _ => (offset, Some(metadata)),
                },
                _ => (low, None),
            };
            if offset < low {
                return Err(LogError::Truncated {
                    topic: topic.to_owned(),
                    partition,
                    needed: offset,
                    low,
                });
            }
            if offset > high {
                return Err(LogError::Beyond {
                    topic: topic.to_owned(),
                    partition,
                    committed: offset,
                    low,
                    high,
                    advice: self.advice(),
                });
            }
            let added = from.add_partition_offset(topic, partition, Offset::Offset(offset));
            added.map_err(|e| read_error("assignment", &e))?;
            starts.push(Start {
                topic: topic.to_owned(),
                partition,
                offset,
                low,
                high,
                metadata,
            });
        }
        let assigned = if cooperative {
            consumer.incremental_assign(&from)
        } else {
            consumer.assign(&from)
        };
        assigned.map_err(|e| read_error("assignment", &e))?;
        if matches!(self.begin, Begin::Held) {
            consumer.pause(&from).map_err(|e| read_error("pause", &e))?;
        }
        Ok(starts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_dated_by_when_they_were_made() {
        let apart = AtomicI64::new(i64::MAX);
        let made_at = |client, second, now| date(&apart, (client, second), now);
        assert_eq!(made_at(7_000, 1_000_000, 1_000_250), 1_000_250);
        // Nobody polled for ten minutes.
        assert_eq!(made_at(7_500, 1_000_000, 1_600_900), 1_000_750);
        // The wall clock was set forward, then back.
        assert_eq!(made_at(8_000, 5_000_000, 5_000_400), 5_000_000);
        assert_eq!(made_at(8_500, 900_000, 900_100), 900_100);
    }
}
