//! What the threads and the HTTP server of a console share.

use crate::acknowledge::{Outbox, Request};
use crate::auth::{Auth, NoRandomness};
use crate::consume::Source;
use crate::feed::Kind;
use crate::metrics::ConsoleMetrics;
use crate::state::State;
use crate::users::{Users, UsersError};
use peakdesk_log::error::LogError;
use peakdesk_log::group::wall_ms;
use peakdesk_runtime::config::{Config, ConsoleAuth};
use peakdesk_runtime::health::{Condition, Health};
use peakdesk_runtime::metrics::{Metrics, MetricsError};
use peakdesk_runtime::shutdown::Shutdown;
use peakdesk_scoring::policy::Policies;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Events wait at most this long for others to travel with them.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// Why the role does not run.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// Kafka.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Who may see what.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// Everybody on the network would see everything.
    #[error(
        "console.auth = \"none\" would show every shop to whoever reaches {0}; set http.listen to a loopback address such as 127.0.0.1:9464, or console.auth to \"token\" or \"proxy\""
    )]
    Open(SocketAddr),
    /// There would be no page.
    #[error("http.listen is empty, but the console is a page; set it to an address and port")]
    NoServer,
    /// Sessions cannot be signed.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// A metric.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// What a console is given by its process.
pub struct Around<'a> {
    /// Metrics of the process.
    pub metrics: &'a Metrics,
    /// Health of the process: it is ready once everything is read.
    pub health: &'a Health,
    /// Its end.
    pub shutdown: Shutdown,
}

/// What the threads and the server of a console share.
pub struct Shared {
    /// Configuration.
    pub(crate) config: Config,
    /// Ends loops and streams.
    pub(crate) shutdown: Shutdown,
    pub(crate) metrics: ConsoleMetrics,
    pub(crate) auth: Auth,
    state: Mutex<State>,
    /// Which sources are read to the end they had.
    read: Mutex<[bool; Source::ALL.len()]>,
    ready: Condition,
    loaded: watch::Sender<bool>,
    flushed_ms: AtomicI64,
    pub(crate) streams: AtomicUsize,
    pub(crate) outbox: Outbox,
    pub(crate) requests: Mutex<Receiver<Request>>,
    /// The first offset of the acknowledgements that is not read.
    acknowledged: watch::Sender<i64>,
}

impl Shared {
    /// Checks who may see what, and prepares a console that knows nothing yet.
    pub fn new(config: &Config, policies: Policies, around: &Around<'_>) -> Result<Self, ConsoleError> {
        let users = check(config)?;
        match (config.http_listen, config.console.auth) {
            (None, _) => return Err(ConsoleError::NoServer),
            (Some(listen), ConsoleAuth::None) if !listen.ip().is_loopback() => return Err(ConsoleError::Open(listen)),
            _ => {}
        }
        // Unique among the lives of all consoles: a page may come back to another one.
        let epoch = format!("{:x}{:08x}", wall_ms(), RandomState::new().hash_one(std::process::id()) as u32);
        let state = State::new(epoch, config.console.past_alerts, policies, config.scoring.utc_offset);
        let (outbox, requests) = Outbox::new();
        Ok(Shared {
            config: config.clone(),
            shutdown: around.shutdown.clone(),
            metrics: ConsoleMetrics::new(around.metrics)?,
            auth: Auth::new(&config.console, users)?,
            state: Mutex::new(state),
            read: Mutex::default(),
            ready: around.health.condition("console has read its topics"),
            loaded: watch::Sender::new(false),
            flushed_ms: AtomicI64::new(0),
            streams: AtomicUsize::new(0),
            outbox,
            requests: Mutex::new(requests),
            acknowledged: watch::Sender::new(0),
        })
    }

    /// The state, for a moment: nothing is waited for while it is held.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A source is read to the end it had.
    pub(crate) fn source_read(&self, source: Source) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(this) = read.get_mut(source as usize) {
            *this = true;
        }
        if read.iter().all(|read| *read) && !*self.loaded.borrow() {
            self.state().flush();
            self.ready.set(true);
            self.loaded.send_replace(true);
            tracing::info!("everything is read; answering");
        }
    }

    /// Whether everything has been read once.
    pub(crate) fn is_loaded(&self) -> bool {
        *self.loaded.borrow()
    }

    /// Tells when everything has been read once.
    pub(crate) fn loaded(&self) -> watch::Receiver<bool> {
        self.loaded.subscribe()
    }

    /// Publishes what changed, if it is time.
    pub(crate) fn flush(&self, now_ms: i64) {
        let before = self.flushed_ms.load(Ordering::Relaxed);
        if !self.is_loaded() || now_ms - before < FLUSH_EVERY.as_millis() as i64 {
            return;
        }
        self.flushed_ms.store(now_ms, Ordering::Relaxed);
        let mut state = self.state();
        for (kind, n) in Kind::ALL.iter().zip(state.flush()) {
            self.metrics.events.with_label_values(&[kind.name()]).inc_by(n);
        }
        if let Some(sent_ms) = state.newest_sent_ms() {
            self.metrics.live_age.set((now_ms - sent_ms).max(0) as f64 / 1_000.0);
        }
    }

    /// The acknowledgements are read up to this offset.
    pub(crate) fn acknowledgements_read(&self, next: i64) {
        self.acknowledged.send_if_modified(|at| std::mem::replace(at, next.max(*at)) < next);
    }

    /// Tells how far the acknowledgements are read.
    pub(crate) fn acknowledgements(&self) -> watch::Receiver<i64> {
        self.acknowledged.subscribe()
    }
}

/// Reads who may see what, as the configuration says; for `check-config` too.
pub fn check(config: &Config) -> Result<Users, UsersError> {
    match (&config.console.users_file, config.console.auth) {
        (Some(file), auth) => Users::load(file, auth),
        (None, _) => Ok(Users::default()),
    }
}
