//! Logs: one subscriber for the process, to standard error.
//!
//! Levels by consequence: `error` means that somebody must act, `warn` that somebody should look, `info` what an operator
//! wants to have read afterwards.

use crate::config::{LogConfig, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("log filter {filter:?}: {error}; correct log.level")]
    BadFilter {
        /// As configured.
        filter: String,
        /// The parser's words.
        error: tracing_subscriber::filter::ParseError,
    },
    /// A process has one subscriber.
    #[error("logging is set up already")]
    AlreadySet,
}

/// Sets up logging for the whole process; once.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&config.level).map_err(|error| TelemetryError::BadFilter {
        filter: config.level.clone(),
        error,
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match config.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    set.map_err(|_| TelemetryError::AlreadySet)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn logging_is_set_up_once() {
        let config = |level: &str| LogConfig {
            format: LogFormat::Json,
            level: level.to_owned(),
        };
        assert!(matches!(init(&config("info,x=loud")), Err(TelemetryError::BadFilter { .. })));
        assert!(init(&config("warn,peakdesk=debug")).is_ok());
        assert!(matches!(init(&config("info")), Err(TelemetryError::AlreadySet)));
    }
}
