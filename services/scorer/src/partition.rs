//! One partition of the log that is being folded.

use crate::aside::{Panicked, cause};
use crate::core::{LogMessage, Outbox};
use crate::emit::{MESSAGE_ROWS_MAX, Stream, emit};
use crate::{ScorerError, Shared};
use peakdesk_checkpoint::form::Head;
use peakdesk_log::error::LogError;
use peakdesk_model::frame::Frame;
use peakdesk_model::position::LogPosition;
use peakdesk_model::results::Span;
use peakdesk_scoring::fold::Fold;
use peakdesk_scoring::output::{Counts, Output};
use peakdesk_scoring::snapshot::STATE_VERSION;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_128;

/// Rows that wait at most this long for more of them.
const EMIT_EVERY: Duration = Duration::from_millis(200);
/// Without any alert its topic is told this often how far the log has come.
const ALERTS_EVERY: Duration = Duration::from_secs(1);
/// A partition of the log whose end was seen so lately is read to its end.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is said how far a partition that was taken over has come.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Which rows are to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emit {
    /// Those of which there are enough, or that have waited long enough.
    Waiting,
    /// All.
    All,
}

/// One partition of the log.
pub(crate) struct Partition {
    pub(crate) number: i32,
    pub(crate) fold: Fold,
    /// The first offset that is not folded.
    pub(crate) next: i64,
    /// xxh3-128 of the message before it; 0 before the first.
    pub(crate) last_message: u128,
    rows: Stream,
    alerts: Stream,
    /// When the end of the log was last seen.
    pub(crate) end_seen: Option<Instant>,
    counted: Counts,
    /// Evaluations of alert rules that are counted.
    evaluated: u64,
    /// Where the log ended when it was taken over, until it is folded up to there, and when this was last reported.
    behind: Option<(i64, Instant)>,
}

impl Partition {
    /// Goes on from a state that holds everything before `next`.
    pub(crate) fn new(number: i32, fold: Fold, next: i64, last_message: u128, now: Instant) -> Self {
        Partition {
            number,
            counted: fold.counts(),
            evaluated: fold.alert_evaluations(),
            fold,
            next,
            last_message,
            rows: Stream::from(next, now),
            alerts: Stream::from(next, now),
            end_seen: None,
            behind: None,
        }
    }

    /// Begins to read, in a log that ends at `end`.
    pub(crate) fn begin(&mut self, end: i64, shared: &Shared, now: Instant) {
        shared.metrics.show_left(self.number, end - self.next);
        self.end_seen = None;
        self.behind = Some((end, now));
    }

    pub(crate) fn caught_up(&self, now: Instant) -> bool {
        self.end_seen.is_some_and(|at| now.duration_since(at) <= END_PATIENCE) && self.fold.caught_up()
    }

    /// Folds a message; one that is folded already is passed over. Where the fold of a shop panics, this is to be dropped.
    pub(crate) fn read(&mut self, message: &LogMessage<'_>, shared: &Shared) -> Result<Option<Panicked>, ScorerError> {
        let LogMessage { offset, payload, .. } = *message;
        if offset < self.next {
            return Ok(None);
        }
        let frame = Frame::decode(payload).map_err(|e| LogError::Message {
            topic: shared.config.topics.shop_log.clone(),
            partition: self.number,
            offset,
            cause: e.to_string(),
        })?;
        let mut out = Output::default();
        let apply = || self.fold.apply(offset, &frame.head, frame.events(), &shared.policies, &mut out);
        // What it leaves behind is only asked for a name.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(apply)) {
            let Some(shop) = self.fold.at_work(&out) else {
                resume_unwind(panic)
            };
            return Ok(Some(Panicked {
                shop: shop.to_owned(),
                offset,
                cause: cause(&*panic),
            }));
        }
        self.next = offset + 1;
        self.last_message = xxh3_128(payload);
        for row in &out.rows.alerts {
            let labels = [row.rule.name(), row.kind.name()];
            shared.metrics.alerts.with_label_values(&labels).inc();
        }
        self.alerts.rows.alerts.append(&mut out.rows.alerts);
        self.rows.rows.append(out.rows);
        let counts = self.fold.counts();
        shared.metrics.count(&counts.since(&self.counted));
        self.counted = counts;
        let evaluated = self.fold.alert_evaluations();
        shared.metrics.evaluations.inc_by(evaluated - self.evaluated);
        self.evaluated = evaluated;
        shared.metrics.frames.inc();
        Ok(None)
    }

    /// Writes rows.
    pub(crate) fn emit(&mut self, which: Emit, outbox: &mut impl Outbox, shared: &Shared, now: Instant) -> Result<(), ScorerError> {
        let end = Span {
            log_partition: self.number,
            from: LogPosition::start_of(self.next),
            to: LogPosition::start_of(self.next),
            log_time_ms: self.fold.now(),
            complete_until_ms: self.fold.complete_until(),
            caught_up: self.caught_up(now),
        };
        let (topics, all, rows) = (&shared.config.topics, which == Emit::All, &mut self.rows);
        if all || rows.rows.len() >= MESSAGE_ROWS_MAX || now.duration_since(rows.emitted_at) >= EMIT_EVERY {
            shared.metrics.rows.inc_by(rows.rows.len() as u64);
            emit(outbox, &topics.results, rows, end, now)?;
        }
        let alerts = &mut self.alerts;
        if all || !alerts.rows.is_empty() || now.duration_since(alerts.emitted_at) >= ALERTS_EVERY {
            emit(outbox, &topics.alerts, alerts, end, now)?;
        }
        Ok(())
    }

    /// The head of a checkpoint taken now.
    pub(crate) fn head(&self, topic: &str) -> Head {
        Head {
            state_version: STATE_VERSION,
            topic: topic.to_owned(),
            partition: self.number,
            offset: self.next,
            last_message: self.last_message,
            taken_at_ms: peakdesk_log::group::wall_ms(),
        }
    }

    /// Shows how much of what lay in the log is still to be folded, and logs it once in a while.
    pub(crate) fn report(&mut self, shared: &Shared, now: Instant) {
        let Some((end, reported_at)) = &mut self.behind else { return };
        let (partition, next, end) = (self.number, self.next, *end);
        shared.metrics.show_left(partition, end - next);
        if next >= end {
            self.behind = None;
            tracing::info!(partition, offset = next, "folded up to where the log ended when it was taken over");
        } else if now.duration_since(*reported_at) >= REPORT_EVERY {
            *reported_at = now;
            tracing::info!(partition, offset = next, end, "folding what lies in the log");
        }
    }
}
