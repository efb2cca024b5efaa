//! Reading: a thread for each of the topics, from the beginning of what is kept, all partitions, outside of any group.
//!
//! ```text
//! live, alerts, acknowledgements ─► apply to the state ─► flush, 10 times a second ─► whoever watches
//! ```
//!
//! Spans of alerts are contiguous per partition: repeats and overlaps are known by position, and a gap waits for its repeat. The
//! first span of a partition is taken as the beginning, since what came before it may have expired.
//!
//! The client goes on by itself when a broker restarts. What it gives up on ends the thread, which begins again from the beginning;
//! the state stays, and takes what it knows for known.

use crate::shared::{ConsoleError, Shared};
use crate::state::Applied;
use peakdesk_log::follow::Follower;
use peakdesk_log::group::{Polled, wall_ms};
use peakdesk_model::alert::AlertRow;
use peakdesk_model::position::{Coverage, LogPosition, coverage};
use peakdesk_model::results;
use peakdesk_runtime::config::TopicsConfig;
use peakdesk_runtime::health::Heartbeat;
use rdkafka::message::{BorrowedMessage, Message};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Short, so that what was read is flushed in time.
const POLL: Duration = Duration::from_millis(50);

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Live figures.
    Live,
    /// Transitions of alerts.
    Alerts,
    /// Who has taken on which alert.
    Acknowledgements,
}

impl Source {
    /// All of them.
    pub const ALL: [Source; 3] = [Source::Live, Source::Alerts, Source::Acknowledgements];

    /// The name in metrics, logs and names of threads.
    pub fn name(self) -> &'static str {
        match self {
            Source::Live => "live",
            Source::Alerts => "alerts",
            Source::Acknowledgements => "acknowledgements",
        }
    }

    pub(crate) fn topic(self, topics: &TopicsConfig) -> &str {
        match self {
            Source::Live => &topics.live,
            Source::Alerts => &topics.alerts,
            Source::Acknowledgements => &topics.acknowledgements,
        }
    }
}

/// Runs the thread that reads a source until shutdown.
pub fn run(shared: &Shared, source: Source, heartbeat: &Heartbeat) -> Result<(), ConsoleError> {
    let topic = source.topic(&shared.config.topics);
    let follower = Follower::new(&shared.config.kafka, topic, heartbeat)?;
    let mut reading = Reading {
        source,
        open: follower.partitions().iter().copied().collect(),
        at: BTreeMap::new(),
    };
    while !shared.shutdown.is_requested() {
        heartbeat.beat();
        match follower.poll(POLL)? {
            Polled::Nothing => {}
            Polled::Message(message) => reading.take(shared, &message),
            Polled::End(partition) => {
                let was_open = reading.open.remove(&partition);
                if was_open && reading.open.is_empty() {
                    shared.source_read(source);
                }
            }
        }
        shared.flush(wall_ms());
    }
    Ok(())
}

struct Reading {
    source: Source,
    /// Partitions not yet read to an end.
    open: BTreeSet<i32>,
    /// How far the alerts of each partition are covered.
    at: BTreeMap<i32, LogPosition>,
}

impl Reading {
    fn take(&mut self, shared: &Shared, message: &BorrowedMessage<'_>) {
        let now_ms = wall_ms();
        let key = message.key().unwrap_or_default();
        match self.source {
            Source::Live => {
                let applied = shared.state().apply_live(key, message.payload(), now_ms);
                self.note(shared, message, applied);
            }
            Source::Acknowledgements => {
                let applied = shared.state().apply_acknowledgement(key, message.payload(), now_ms);
                self.note(shared, message, applied);
                shared.acknowledgements_read(message.offset() + 1);
            }
            Source::Alerts => {
                let applied = self.alerts(shared, message, now_ms).unwrap_or(Applied::Unreadable);
                self.note(shared, message, applied);
            }
        }
    }

    /// Applies a span of alerts; `None` if it is not readable.
    fn alerts(&mut self, shared: &Shared, message: &BorrowedMessage<'_>, now_ms: i64) -> Option<Applied> {
        let (span, batches) = results::decode(message.payload().unwrap_or_default()).ok()?;
        let at = self.at.entry(message.partition()).or_insert(span.from);
        match coverage(&span.from, &span.to, at) {
            Coverage::Repeat => return Some(Applied::Stale),
            Coverage::Gap => {
                shared.metrics.gaps.inc();
                tracing::error!(partition = message.partition(), offset = message.offset(), from = ?span.from, ?at, "alerts are missing before this message; waiting for their repeat");
                return Some(Applied::Stale);
            }
            Coverage::Apply => {}
        }
        let rows = AlertRow::of_message(&batches, *at)?;
        *at = span.to;
        if !rows.is_empty() {
            let mut state = shared.state();
            for row in &rows {
                state.apply_alert(row, now_ms);
            }
        }
        Some(Applied::New)
    }

    fn note(&self, shared: &Shared, message: &BorrowedMessage<'_>, applied: Applied) {
        let outcome = match applied {
            Applied::New => "new",
            Applied::Stale => "known",
            Applied::Unreadable => {
                tracing::error!(
                    topic = message.topic(),
                    partition = message.partition(),
                    offset = message.offset(),
                    "not a message of this topic; passed over"
                );
                "unreadable"
            }
        };
        shared.metrics.messages.with_label_values(&[self.source.name(), outcome]).inc();
    }
}
