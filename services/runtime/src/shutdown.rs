//! The end of a process: one flag that threads and async tasks see.
//!
//! SIGTERM or SIGINT asks for it: every loop finishes what it has in hand, commits and returns. A second signal does not wait
//! for that; a process may be killed at any instant without harm, it only repeats work at its next start.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// A request to end, shared by all clones.
#[derive(Debug, Clone)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    requested: Mutex<bool>,
    changed: Condvar,
    watched: watch::Sender<bool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown::new()
    }
}

impl Shutdown {
    /// Nothing is requested yet.
    pub fn new() -> Self {
        Shutdown {
            inner: Arc::new(Inner {
                requested: Mutex::new(false),
                changed: Condvar::new(),
                watched: watch::Sender::new(false),
            }),
        }
    }

    /// Asks every loop to end. Asking again changes nothing.
    pub fn request(&self) {
        *self.inner.requested.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.inner.changed.notify_all();
        self.inner.watched.send_replace(true);
    }

    /// Whether the end was asked for; cheap enough for every turn of a loop.
    pub fn is_requested(&self) -> bool {
        *self.inner.watched.borrow()
    }

    /// For threads: waits until the end is asked for, at most `timeout`. Returns whether it was.
    pub fn wait(&self, timeout: Duration) -> bool {
        // An instant cannot be arbitrarily far away; a day is as good as for ever for a loop that asks again.
        let deadline = Instant::now() + timeout.min(Duration::from_secs(86_400));
        let mut requested = self.inner.requested.lock().unwrap_or_else(PoisonError::into_inner);
        while !*requested {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            requested = self
                .inner
                .changed
                .wait_timeout(requested, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// For async tasks: resolves when the end is asked for.
    pub async fn requested(&self) {
        let mut watched = self.inner.watched.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = watched.wait_for(|requested| *requested).await;
    }

    /// Takes over SIGTERM and SIGINT: the first asks for the end, the second ends the process at once (status 128 + signal).
    /// To be called on a tokio runtime; fails where the handlers cannot be installed.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            let (name, _) = next(&mut terminate, &mut interrupt).await;
            tracing::info!(signal = name, "shutting down; a second signal ends at once");
            shutdown.request();
            let (name, status) = next(&mut terminate, &mut interrupt).await;
            tracing::warn!(signal = name, "ending at once");
            std::process::exit(status);
        });
        Ok(())
    }
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> (&'static str, i32) {
    tokio::select! {
        _ = terminate.recv() => ("SIGTERM", 128 + 15),
        _ = interrupt.recv() => ("SIGINT", 128 + 2),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn threads_see_the_request() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_requested());
        assert!(!shutdown.wait(Duration::from_millis(1)));
        let waiting = shutdown.clone();
        let thread = std::thread::spawn(move || waiting.wait(LONG));
        shutdown.request();
        shutdown.request();
        assert!(thread.join().unwrap());
        assert!(shutdown.is_requested());
        assert!(shutdown.wait(Duration::ZERO));
    }

    #[tokio::test]
    async fn tasks_see_the_request_before_and_after() {
        let shutdown = Shutdown::new();
        let waiting = shutdown.clone();
        let task = tokio::spawn(async move { waiting.requested().await });
        shutdown.request();
        tokio::time::timeout(LONG, task).await.unwrap().unwrap();
        tokio::time::timeout(LONG, shutdown.requested()).await.unwrap();
    }
}
