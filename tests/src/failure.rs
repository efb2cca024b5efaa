//! The error of the harness: one line for a human.
//!
//! A failing whole-system test is read in a CI log, so `Debug` prints the same line as `Display` and no backtrace:
//! where it happened is in the words.

use std::fmt;

/// Result of harness functions and of the bodies of tests.
pub type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// Why a test or a step of the harness cannot go on, in one line.
///
/// Every standard error turns into one with `?`. It does not implement `std::error::Error` itself, which is what allows
/// that conversion.
pub struct Failure {
    message: String,
    fatal: bool,
}

impl Failure {
    /// A failure that [`wait_until`](crate::wait_until) takes for "not yet".
    pub fn new(message: impl fmt::Display) -> Failure {
        Failure {
            message: message.to_string(),
            fatal: false,
        }
    }

    /// A failure that ends a wait at once, as no time can mend it: a process that has ended, a tool that is missing.
    pub fn fatal(message: impl fmt::Display) -> Failure {
        Failure {
            message: message.to_string(),
            fatal: true,
        }
    }

    /// Whether waiting longer is of no use.
    pub fn is_fatal(&self) -> bool {
        self.fatal
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Many libraries already print their cause.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = error.source();
        }
        Failure::new(message)
    }
}

/// Says what was being done when something failed.
pub trait Context<T> {
    /// Puts `what` and a colon before the message of the failure.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Failure>> Context<T> for Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| {
            let failure = error.into();
            Failure {
                message: format!("{what}: {failure}"),
                fatal: failure.fatal,
            }
        })
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.ok_or_else(|| Failure::new(what))
    }
}

/// Returns from the function with a [`Failure`] of this format.
#[macro_export]
macro_rules! bail {
    ($($arg:tt)*) => {
        return Err($crate::Failure::new(format!($($arg)*)))
    };
}

/// Returns with a [`Failure`] of this format unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($arg:tt)*) => {
        let holds: bool = $condition;
        if !holds {
            $crate::bail!($($arg)*);
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_causes_and_context() {
        let error = std::fs::read("/nowhere/at/all").context("reading the policy").unwrap_err();
        assert_eq!(format!("{error:?}"), "reading the policy: No such file or directory (os error 2)");
        assert!(!error.is_fatal());
    }

    #[test]
    fn context_keeps_what_is_fatal() {
        let error: Failure = Err::<(), _>(Failure::fatal("gone")).context("waiting").unwrap_err();
        assert!(error.is_fatal());
    }
}
