//! Counters of the role. Labels are bounded: receivers of the routes file, kinds, partitions.

use peakdesk_runtime::metrics::{Metrics, MetricsError};
use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGaugeVec};

/// Counters of the role.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct AlerterMetrics {
    pub transitions: IntCounterVec,
    pub deliveries: IntCounterVec,
    pub outbox: IntGaugeVec,
    pub oldest: GaugeVec,
    pub open: IntGaugeVec,
    pub caught_up: IntGaugeVec,
    pub repeats: IntCounter,
    pub gaps: IntCounter,
    pub unreadable: IntCounter,
}

impl AlerterMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(AlerterMetrics {
            transitions: metrics.counter_vec("alerter_transitions_total", "Transitions of alerts that were read.", &["kind"])?,
            deliveries: metrics.counter_vec(
                "alerter_deliveries_total",
                "Attempts to deliver, by outcome: delivered, retrying, failed (for good), dropped (over before it arrived).",
                &["receiver", "outcome"],
            )?,
            outbox: metrics.int_gauge_vec(
                "alerter_outbox_entries",
                "Changes of alerts that are to be told and are not yet.",
                &["receiver"],
            )?,
            oldest: metrics.gauge_vec(
                "alerter_oldest_undelivered_seconds",
                "How long the oldest of them waits; 0: there is none.",
                &["receiver"],
            )?,
            open: metrics.int_gauge_vec("alerter_open_alerts", "Alerts that fire.", &["severity"])?,
            caught_up: metrics.int_gauge_vec(
                "alerter_caught_up",
                "1 where a partition is read to its end and the scorer has caught up; else nothing is delivered of it.",
                &["partition"],
            )?,
            repeats: metrics.counter("alerter_repeats_total", "Messages of the alerts that held nothing new.")?,
            gaps: metrics.counter("alerter_gaps_total", "Messages of the alerts before which something is missing.")?,
            unreadable: metrics.counter(
                "alerter_unreadable_total",
                "Messages on the topic of the alerts that cannot be read; passed over.",
            )?,
        })
    }
}
