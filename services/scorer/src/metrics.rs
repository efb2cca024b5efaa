//! Counters and gauges of the scorer.

use peakdesk_runtime::metrics::{Metrics, MetricsError};
use peakdesk_scoring::fold::{Fold, Size};
use peakdesk_scoring::output::Counts;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGaugeVec};

/// Seconds for which taking a checkpoint may hold up a partition.
const PAUSES_S: [f64; 8] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25];

/// Counters and gauges of the role.
#[derive(Clone)]
pub struct ScorerMetrics {
    pub(crate) checkpoints: IntCounterVec,
    pub(crate) checkpoint_bytes: IntGaugeVec,
    pub(crate) checkpoint_age: IntGaugeVec,
    pub(crate) checkpoint_pause: Histogram,
    pub(crate) restores: IntCounterVec,
    pub(crate) restoring: IntGaugeVec,
    pub(crate) left: IntGaugeVec,
    pub(crate) refused: IntGaugeVec,
    set_aside: IntGaugeVec,
    events: IntCounterVec,
    pub(crate) evaluations: IntCounter,
    pub(crate) frames: IntCounter,
    pub(crate) rows: IntCounter,
    pub(crate) alerts: IntCounterVec,
    pub(crate) live: IntCounter,
    pub(crate) live_failures: IntCounter,
    caught_up: IntGaugeVec,
    now_ms: IntGaugeVec,
    complete_until_ms: IntGaugeVec,
    state: IntGaugeVec,
}

impl ScorerMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(ScorerMetrics {
            checkpoints: metrics.counter_vec(
                "scorer_checkpoints_total",
                "Checkpoints: saved, failed to be, or found and not usable.",
                &["outcome"],
            )?,
            checkpoint_bytes: metrics.int_gauge_vec("scorer_checkpoint_bytes", "Size of the last checkpoint saved.", &["partition"])?,
            checkpoint_age: metrics.int_gauge_vec(
                "scorer_checkpoint_age_seconds",
                "Since the state that was last saved was taken; without one, since the partition was taken over.",
                &["partition"],
            )?,
            checkpoint_pause: metrics.histogram(
                "scorer_checkpoint_pause_seconds",
                "How long taking a checkpoint held up the fold.",
                &PAUSES_S,
            )?,
            restores: metrics.counter_vec(
                "scorer_restores_total",
                "Partitions taken over, by where the state came from: checkpoint, memory, beginning of the log, or refused.",
                &["outcome"],
            )?,
            restoring: metrics.int_gauge_vec(
                "scorer_restoring",
                "1 while the state of a partition is looked for or read, else 0.",
                &["partition"],
            )?,
            left: metrics.int_gauge_vec(
                "scorer_replay_messages_left",
                "Messages of the log that a partition that was taken over has still to fold: all, before a state is found; absent once there are none.",
                &["partition"],
            )?,
            refused: metrics.int_gauge_vec(
                "scorer_refused",
                "1 for a partition that cannot start: its log is truncated, and no checkpoint can be used.",
                &["partition"],
            )?,
            set_aside: metrics.int_gauge_vec(
                "scorer_shops_set_aside",
                "Shops that are not folded any more, as a frame of theirs let the fold panic.",
                &["partition"],
            )?,
            events: metrics.counter_vec(
                "scorer_events_total",
                "Events of the shop log, by what was decided about them.",
                &["outcome"],
            )?,
            evaluations: metrics.counter(
                "scorer_alert_evaluations_total",
                "Times that the alert rules of an agent or a shop were evaluated.",
            )?,
            frames: metrics.counter("scorer_frames_total", "Frames folded, ticks included.")?,
            rows: metrics.counter("scorer_rows_total", "Rows written to the results.")?,
            alerts: metrics.counter_vec(
                "scorer_alert_transitions_total",
                "Transitions of alerts written, by rule and kind.",
                &["rule", "kind"],
            )?,
            live: metrics.counter("scorer_live_messages_total", "Live figures written.")?,
            live_failures: metrics.counter(
                "scorer_live_failures_total",
                "Times live figures could not be written; the next ones replace them.",
            )?,
            caught_up: metrics.int_gauge_vec(
                "scorer_caught_up",
                "1 while sources and log are read to their ends, else 0.",
                &["partition"],
            )?,
            now_ms: metrics.int_gauge_vec(
                "scorer_now_milliseconds",
                "Newest log time seen, since the Unix epoch.",
                &["partition"],
            )?,
            complete_until_ms: metrics.int_gauge_vec(
                "scorer_complete_until_milliseconds",
                "Time up to which every source partition is read, since the Unix epoch.",
                &["partition"],
            )?,
            state: metrics.int_gauge_vec(
                "scorer_state_objects",
                "What is kept in state, by partition of the shop log.",
                &["partition", "kind"],
            )?,
        })
    }

    pub(crate) fn count(&self, counts: &Counts) {
        let outcomes = [
            ("accepted", counts.accepted),
            ("late", counts.late),
            ("sealed", counts.sealed),
            ("duplicate", counts.duplicates),
            ("raised", counts.raised),
            ("repeated", counts.repeated),
            ("gap", counts.gaps),
        ];
        for (outcome, n) in outcomes {
            self.events.with_label_values(&[outcome]).inc_by(n);
        }
    }

    pub(crate) fn show(&self, partition: i32, fold: &Fold, caught_up: bool) {
        let label = partition.to_string();
        self.caught_up.with_label_values(&[&label]).set(i64::from(caught_up));
        self.set_aside.with_label_values(&[&label]).set(fold.shops_set_aside() as i64);
        self.now_ms.with_label_values(&[&label]).set(fold.now());
        self.complete_until_ms
            .with_label_values(&[&label])
            .set(fold.complete_until().unwrap_or(0));
        let Size {
            shops,
            buyers,
            orders,
            refunds,
            windows,
        } = fold.size();
        let kinds = [
            ("shops", shops),
            ("buyers", buyers),
            ("orders", orders),
            ("refunds", refunds),
            ("windows", windows),
        ];
        for (kind, n) in kinds {
            self.state.with_label_values(&[label.as_str(), kind]).set(n as i64);
        }
    }

    /// So many messages of what lay in the log are still to be folded.
    pub(crate) fn show_left(&self, partition: i32, messages: i64) {
        let label = partition.to_string();
        match messages {
            1.. => self.left.with_label_values(&[&label]).set(messages),
            // It may never have been set: nothing is lost then.
            _ => drop(self.left.remove_label_values(&[&label])),
        }
    }

    /// A partition was given up.
    pub(crate) fn forget(&self, partition: i32) {
        let label = partition.to_string();
        // A gauge that was never set cannot be removed; nothing is lost then.
        for gauge in [
            &self.checkpoint_bytes,
            &self.checkpoint_age,
            &self.restoring,
            &self.left,
            &self.refused,
        ] {
            let _ = gauge.remove_label_values(&[&label]);
        }
        let _ = self.set_aside.remove_label_values(&[&label]);
        let _ = self.caught_up.remove_label_values(&[&label]);
        let _ = self.now_ms.remove_label_values(&[&label]);
        let _ = self.complete_until_ms.remove_label_values(&[&label]);
        for kind in ["shops", "buyers", "orders", "refunds", "windows"] {
            let _ = self.state.remove_label_values(&[label.as_str(), kind]);
        }
    }
}
