//! The metrics of a process, in Prometheus' text format, and what the system says about the process.
//!
//! Names are `peakdesk_WHAT_UNIT[_total]`; the prefix is added here. Labels are bounded: partitions, reasons, topics and
//! tables, never a buyer, never free text.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::time::{SystemTime, UNIX_EPOCH};

/// What every name begins with.
pub const NAMESPACE: &str = "peakdesk";

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metric could not be registered or written: a name or label is illegal, or taken.
#[derive(Debug, thiserror::Error)]
#[error("metric {name}: {error}")]
pub struct MetricsError {
    name: String,
    error: prometheus::Error,
}

/// The metrics of a process; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    resident: IntGauge,
    resident_peak: IntGauge,
}

impl Metrics {
    /// With the metrics of the process itself, and `version` as a label of `peakdesk_build_info`.
    pub fn new(version: &str) -> Result<Self, MetricsError> {
        let registry = Registry::new_custom(Some(NAMESPACE.to_owned()), None).map_err(|error| failed("registry", error))?;
        let resident = plain_gauge("process_resident_memory_bytes", "Resident memory.")?;
        let resident_peak = plain_gauge("process_resident_memory_peak_bytes", "The most resident memory there was.")?;
        let metrics = Metrics {
            registry,
            resident,
            resident_peak,
        };
        metrics.add("process_resident_memory_bytes", metrics.resident.clone())?;
        metrics.add("process_resident_memory_peak_bytes", metrics.resident_peak.clone())?;
        metrics
            .int_gauge_vec("build_info", "Always 1.", &["version"])?
            .with_label_values(&[version])
            .set(1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        metrics
            .gauge("process_start_time_seconds", "When the process started (Unix time).")?
            .set(now.as_secs_f64());
        Ok(metrics)
    }

    /// A count of events; the name ends in `_total`.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.add(name, IntCounter::new(name, help).map_err(|error| failed(name, error))?)
    }

    /// Counts by labels.
    pub fn counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
        self.add(
            name,
            IntCounterVec::new(Opts::new(name, help), labels).map_err(|error| failed(name, error))?,
        )
    }

    /// A whole number that rises and falls.
    pub fn int_gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.add(name, plain_gauge(name, help)?)
    }

    /// Whole numbers by labels.
    pub fn int_gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
        self.add(
            name,
            IntGaugeVec::new(Opts::new(name, help), labels).map_err(|error| failed(name, error))?,
        )
    }

    /// A number that rises and falls.
    pub fn gauge(&self, name: &str, help: &str) -> Result<Gauge, MetricsError> {
        self.add(name, Gauge::new(name, help).map_err(|error| failed(name, error))?)
    }

    /// Numbers by labels.
    pub fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, MetricsError> {
        self.add(
            name,
            GaugeVec::new(Opts::new(name, help), labels).map_err(|error| failed(name, error))?,
        )
    }

    /// A distribution over `buckets` (upper bounds, ascending).
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, MetricsError> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add(name, Histogram::with_opts(opts).map_err(|error| failed(name, error))?)
    }

    /// Distributions by labels.
    pub fn histogram_vec(&self, name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> Result<HistogramVec, MetricsError> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add(name, HistogramVec::new(opts, labels).map_err(|error| failed(name, error))?)
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> Result<String, MetricsError> {
        if let Some(memory) = Memory::of_process() {
            self.resident.set(as_gauge(memory.resident_bytes));
            self.resident_peak.set(as_gauge(memory.peak_bytes));
        }
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .map_err(|error| failed("(all)", error))
    }

    fn add<C: Collector + Clone + 'static>(&self, name: &str, metric: C) -> Result<C, MetricsError> {
        self.registry
            .register(Box::new(metric.clone()))
            .map_err(|error| failed(name, error))?;
        Ok(metric)
    }
}

fn plain_gauge(name: &str, help: &str) -> Result<IntGauge, MetricsError> {
    IntGauge::new(name, help).map_err(|error| failed(name, error))
}

fn failed(name: &str, error: prometheus::Error) -> MetricsError {
    MetricsError {
        name: name.to_owned(),
        error,
    }
}

fn as_gauge(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Memory of this process, as Linux reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Resident now.
    pub resident_bytes: u64,
    /// The most there was.
    pub peak_bytes: u64,
}

impl Memory {
    /// `None` where there is no `/proc`.
    pub fn of_process() -> Option<Self> {
        Memory::of_status(&std::fs::read_to_string("/proc/self/status").ok()?)
    }

    fn of_status(status: &str) -> Option<Self> {
        let bytes_of = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
        };
        Some(Memory {
            resident_bytes: bytes_of("VmRSS:")?,
            peak_bytes: bytes_of("VmHWM:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn names_are_prefixed_and_values_rendered() {
        let metrics = Metrics::new("1.2.3").unwrap();
        metrics.counter("intake_events_total", "Events.").unwrap().inc_by(3);
        metrics
            .counter_vec("dead_letters_total", "Dead letters.", &["reason"])
            .unwrap()
            .with_label_values(&["bad_id"])
            .inc();
        metrics.int_gauge("lag_records", "Lag.").unwrap().set(-2);
        metrics.gauge("speed_ratio", "Speed.").unwrap().set(0.5);
        metrics.histogram("poll_seconds", "Poll.", &[0.1, 1.0]).unwrap().observe(0.2);
        let text = metrics.render().unwrap();
        for line in [
            "peakdesk_intake_events_total 3",
            "peakdesk_dead_letters_total{reason=\"bad_id\"} 1",
            "peakdesk_lag_records -2",
            "peakdesk_speed_ratio 0.5",
            "peakdesk_poll_seconds_bucket{le=\"0.1\"} 0",
            "peakdesk_poll_seconds_bucket{le=\"1\"} 1",
            "peakdesk_build_info{version=\"1.2.3\"} 1",
            "# TYPE peakdesk_intake_events_total counter",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_name_that_is_taken_or_illegal_is_an_error() {
        let metrics = Metrics::new("0").unwrap();
        metrics.counter("events_total", "Events.").unwrap();
        let error = metrics.counter("events_total", "Events.").unwrap_err();
        assert!(error.to_string().starts_with("metric events_total: "), "{error}");
        assert!(metrics.gauge("no-such-name", "x").is_err());
    }

    #[test]
    fn memory_is_read_from_proc() {
        let memory = Memory::of_status("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t  1024 kB\n").unwrap();
        assert_eq!(
            memory,
            Memory {
                resident_bytes: 1 << 20,
                peak_bytes: 2 << 20
            }
        );
        assert_eq!(Memory::of_status("Name:\tx\n"), None);
        let now = Memory::of_process().unwrap();
        assert!(now.resident_bytes > 0 && now.peak_bytes >= now.resident_bytes);
    }
}
