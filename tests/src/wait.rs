//! Waiting for a condition, with a deadline.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{Failure, Result};

/// Pause between two probes. Short against everything waited for, long against what a probe costs.
const PAUSE: Duration = Duration::from_millis(25);

/// Polls `probe` until it returns a value, at most for `limit`.
///
/// `Ok(None)` and an error both mean "not yet"; the last error's text is the last state in the failure, so a probe does
/// well to return what it sees as an error (`bail!("{have} of {want} rows")`). A [fatal](Failure::fatal) failure ends
/// the wait at once.
///
/// # Errors
///
/// Says `what` was waited for, for how long, and the last state.
pub fn wait_until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        let state = match probe() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => String::from("not yet"),
            Err(failure) if failure.is_fatal() => return Err(Failure::fatal(format!("waiting for {what}: {failure}"))),
            Err(failure) => failure.to_string(),
        };
        if start.elapsed() >= limit {
            return Err(Failure::fatal(format!(
                "waited {:.1} s for {what}; last state: {state}",
                limit.as_secs_f64()
            )));
        }
        sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bail;

    #[test]
    fn returns_the_value_when_it_comes() {
        let mut calls = 0;
        let value = wait_until("three calls", Duration::from_secs(60), || {
            calls += 1;
            if calls < 3 { bail!("{calls} calls") } else { Ok(Some(calls)) }
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn names_what_it_waited_for_and_the_last_state() {
        let failure = wait_until::<()>("the moon", Duration::from_millis(60), || bail!("7 of 9 rows")).unwrap_err();
        assert_eq!(failure.to_string(), "waited 0.1 s for the moon; last state: 7 of 9 rows");
    }

    #[test]
    fn a_fatal_failure_ends_the_wait() {
        let mut calls = 0;
        let failure = wait_until::<()>("a dead process", Duration::from_secs(60), || {
            calls += 1;
            Err(Failure::fatal("it has ended"))
        });
        assert_eq!(failure.unwrap_err().to_string(), "waiting for a dead process: it has ended");
        assert_eq!(calls, 1);
    }
}
