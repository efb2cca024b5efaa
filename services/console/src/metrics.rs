//! What the console says about itself.

use peakdesk_runtime::metrics::{Metrics, MetricsError};
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge};

/// Counters of the role.
#[derive(Clone)]
pub struct ConsoleMetrics {
    pub clients: IntGauge,
    pub events: IntCounterVec,
    pub dropped_clients: IntCounter,
    pub resets: IntCounter,
    pub live_age: Gauge,
    pub requests: IntCounterVec,
    pub messages: IntCounterVec,
    pub gaps: IntCounter,
    pub refused: IntCounterVec,
    pub acknowledgements: IntCounterVec,
}

impl ConsoleMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(ConsoleMetrics {
            clients: metrics.int_gauge("console_clients", "Event streams that are open.")?,
            events: metrics.counter_vec("console_events_total", "Changes that were made into events, by kind.", &["event"])?,
            dropped_clients: metrics.counter("console_dropped_clients_total", "Event streams ended because they did not keep up.")?,
            resets: metrics.counter("console_resets_total", "Event streams that could not be resumed.")?,
            live_age: metrics.gauge("console_live_age_seconds", "Age of the newest figures of any shop.")?,
            requests: metrics.counter_vec(
                "console_requests_total",
                "Requests answered, by route and status.",
                &["route", "status"],
            )?,
            messages: metrics.counter_vec(
                "console_messages_total",
                "Messages read, by source and what became of them.",
                &["source", "outcome"],
            )?,
            gaps: metrics.counter("console_alert_gaps_total", "Messages of alerts before which something is missing.")?,
            refused: metrics.counter_vec("console_refused_total", "Requests refused for who asked, by reason.", &["reason"])?,
            acknowledgements: metrics.counter_vec(
                "console_acknowledgements_total",
                "Acknowledgements written or taken back, by outcome.",
                &["outcome"],
            )?,
        })
    }
}
