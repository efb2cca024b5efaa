//! The roles as processes: threads that begin again after a passing failure, health and metrics over HTTP, an orderly end.

use crate::setup;
use anyhow::Context;
use peakdesk_alerter::api::{self as deliveries, Board};
use peakdesk_alerter::metrics::AlerterMetrics;
use peakdesk_alerter::service::{self as alerter, AlerterError};
use peakdesk_alerter::store::Store as Outbox;
use peakdesk_checkpoint::keeper::Keeper;
use peakdesk_checkpoint::store::Store;
use peakdesk_console::{self as console, ConsoleError, Source};
use peakdesk_intake::service::{self as intake, IntakeError, IntakeMetrics};
use peakdesk_log::error::LogError;
use peakdesk_log::topics;
use peakdesk_model::input::Topic;
use peakdesk_runtime::config::Config;
use peakdesk_runtime::health::{Health, Heartbeat};
use peakdesk_runtime::http::{Probes, Server};
use peakdesk_runtime::metrics::Metrics;
use peakdesk_runtime::progress::Gauges;
use peakdesk_runtime::shutdown::Shutdown;
use peakdesk_scorer::{self as scorer, Aside, Held, Refusals, ScorerError, ScorerMetrics};
use peakdesk_warehouse::service::{self as warehouse, WarehouseError, WarehouseMetrics};
use prometheus::IntCounterVec;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A loop that has not turned for this long is stuck: longer than any wait inside of it.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(150);
const RESTART_MIN: Duration = Duration::from_millis(500);
const RESTART_MAX: Duration = Duration::from_secs(30);
/// A thread that ran this long before it failed starts with the shortest wait again.
const RESTART_FORGIVEN: Duration = Duration::from_secs(60);

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Input topics to the shop log.
    Intake,
    /// Shop log to results.
    Scorer {
        /// Threads.
        threads: usize,
    },
    /// Results to files.
    Warehouse,
    /// Live figures and alerts to people.
    Console,
    /// Alerts to receivers.
    Alerter,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Intake => "intake",
            Role::Scorer { .. } => "scorer",
            Role::Warehouse => "warehouse",
            Role::Console => "console",
            Role::Alerter => "alerter",
        }
    }
}

/// What the roles of a process share.
#[derive(Clone)]
pub struct Surroundings {
    /// Metrics of the process.
    pub metrics: Metrics,
    /// Health of the process.
    pub health: Health,
    /// Its end.
    pub shutdown: Shutdown,
    /// What an alerter in this process says of its deliveries.
    pub deliveries: Board,
    restarts: IntCounterVec,
}

impl Surroundings {
    /// New ones.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"))?;
        let labels = ["consumer", "topic", "partition"];
        let gauges = Gauges {
            stalled: metrics.int_gauge_vec(
                "consumer_stalled",
                "1 where records wait and the consumer does not get on, else 0.",
                &labels,
            )?,
            waiting: metrics.int_gauge_vec(
                "consumer_waiting_seconds",
                "How long a partition has been waiting for something outside, which /livez names; 0 while it does not.",
                &labels,
            )?,
        };
        let restarts = metrics.counter_vec(
            "thread_restarts_total",
            "Threads that failed and began again, by name.",
            &["thread"],
        )?;
        Ok(Surroundings {
            metrics,
            health: Health::watching(config.consumer_patience, Some(gauges)),
            shutdown: Shutdown::new(),
            deliveries: Board::default(),
            restarts,
        })
    }
}

/// Threads of roles, each of which ends with an error or at shutdown.
pub type Threads = Vec<JoinHandle<anyhow::Result<()>>>;

/// Runs one role until it is told to stop.
pub fn serve(config: Config, role: Role) -> anyhow::Result<()> {
    peakdesk_runtime::telemetry::init(&config.log)?;
    let around = Surroundings::new(&config)?;
    let runtime = runtime_with_signals(&around.shutdown)?;
    let ready = around.health.condition("started");
    let watched = match role {
        Role::Console => Some(console(&config, &around)?),
        _ => None,
    };
    let more = match &watched {
        Some(shared) => console::router(shared.clone()),
        None if role == Role::Alerter => deliveries::guarded(&around.deliveries, config.http_listen, &config.alerter.api_token),
        None => axum::Router::new(),
    };
    let server = match config.http_listen {
        Some(listen) => {
            let probes = Probes {
                metrics: around.metrics.clone(),
                health: around.health.clone(),
                shutdown: around.shutdown.clone(),
            };
            let server = runtime.block_on(Server::start(listen, probes, more))?;
            tracing::info!(address = %server.local_addr(), "serving /metrics, /livez and /readyz");
            Some(server)
        }
        None => None,
    };
    if role == Role::Intake && config.intake.has_development_key() {
        tracing::warn!("{}", setup::DEVELOPMENT_KEY_WARNING);
    }
    let clock_speed = Arc::new(AtomicU64::new(config.intake.clock_speed.to_bits()));
    let threads = match watched {
        Some(shared) => start_console(&config, &shared, &around)?,
        None => start(&config, role, &around, &clock_speed)?,
    };
    ready.set(true);
    tracing::info!(role = role.name(), "running");
    let outcome = join(threads);
    drop(server);
    outcome
}

/// The runtime for what is really asynchronous, with SIGTERM and SIGINT leading to an orderly end.
pub fn runtime_with_signals(shutdown: &Shutdown) -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let inside = runtime.enter();
    shutdown.on_signals().context("cannot listen to signals")?;
    drop(inside);
    Ok(runtime)
}

/// Waits for all threads; the first error is the outcome.
pub fn join(threads: Threads) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    for thread in threads {
        let ended = thread
            .join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked; its message stands above")));
        if outcome.is_ok() {
            outcome = ended;
        }
    }
    outcome
}

/// Starts the threads of a role.
pub fn start(config: &Config, role: Role, around: &Surroundings, clock_speed: &Arc<AtomicU64>) -> anyhow::Result<Threads> {
    let partitions = topics::prepare(&config.kafka, &config.topics)?;
    let (shutdown, mut threads) = (around.shutdown.clone(), Threads::new());
    match role {
        Role::Intake => {
            let shared = Arc::new(intake::Shared {
                config: config.clone(),
                edge: setup::edge(config, setup::schemas(config)?),
                partitions,
                metrics: IntakeMetrics::new(&around.metrics)?,
                shutdown,
                clock_speed: clock_speed.clone(),
            });
            for topic in Topic::ALL {
                let shared = shared.clone();
                threads.push(supervise(around, format!("intake-{}", topic.name()), move |beat| {
                    intake::run_topic(&shared, topic, beat)
                })?);
            }
        }
        Role::Scorer { threads: n } => {
            let constants = setup::constants(config);
            let policies = setup::policies(config, &constants)?;
            let keeper = match config.checkpoint.enabled {
                true => Some(Arc::new(Keeper::new(Store::open(&scorer::store_config(&config.checkpoint))?)?)),
                false => None,
            };
            let shared = Arc::new(scorer::Shared {
                config: config.clone(),
                constants,
                policies,
                metrics: ScorerMetrics::new(&around.metrics)?,
                keeper,
                aside: Aside::default(),
                held: Held::new(&config.checkpoint),
                refusals: Refusals::new(around.health.condition("log partitions can start")),
                shutdown,
            });
            for i in 0..n {
                let shared = shared.clone();
                threads.push(supervise(around, format!("scorer-{i}"), move |beat| scorer::run(&shared, beat))?);
            }
        }
        Role::Warehouse => {
            peakdesk_warehouse::file::check_writable(&config.warehouse.output)?;
            let metrics = WarehouseMetrics::new(&around.metrics)?;
            let shared = Arc::new(warehouse::Shared {
                config: config.clone(),
                metrics,
                shutdown,
            });
            let (letters, alerts) = (shared.clone(), shared.clone());
            threads.push(supervise(around, "warehouse-alerts".into(), move |beat| {
                warehouse::run_alerts(&alerts, beat)
            })?);
            threads.push(supervise(around, "warehouse-results".into(), move |beat| {
                warehouse::run_results(&shared, beat)
            })?);
            threads.push(supervise(around, "warehouse-letters".into(), move |beat| {
                warehouse::run_dead_letters(&letters, beat)
            })?);
        }
        Role::Console => return start_console(config, &console(config, around)?, around),
        Role::Alerter => {
            let plan = alerter::plan(config)?.ok_or(AlerterError::NoRoutes)?;
            // A directory that cannot be used is said now; later it may be a full disk, which passes.
            drop(Outbox::open(&config.alerter.state_dir)?);
            let shared = Arc::new(alerter::Shared {
                config: config.clone(),
                plan: Arc::new(plan),
                metrics: AlerterMetrics::new(&around.metrics)?,
                board: around.deliveries.clone(),
                shutdown,
            });
            threads.push(supervise(around, "alerter".into(), move |beat| alerter::run(&shared, beat))?);
        }
    }
    Ok(threads)
}

/// What a console is made of: its router goes into the server of the process, its threads are those of [`start_console`].
pub fn console(config: &Config, around: &Surroundings) -> anyhow::Result<Arc<console::Shared>> {
    let policies = setup::policies(config, &setup::constants(config))?;
    let around = console::Around {
        metrics: &around.metrics,
        health: &around.health,
        shutdown: around.shutdown.clone(),
    };
    Ok(Arc::new(console::Shared::new(config, policies, &around)?))
}

/// Starts the threads of a console.
pub fn start_console(config: &Config, shared: &Arc<console::Shared>, around: &Surroundings) -> anyhow::Result<Threads> {
    topics::prepare(&config.kafka, &config.topics)?;
    let mut threads = Threads::new();
    for source in Source::ALL {
        let shared = shared.clone();
        threads.push(supervise(around, format!("console-{}", source.name()), move |beat| {
            console::run(&shared, source, beat)
        })?);
    }
    let shared = shared.clone();
    threads.push(supervise(around, "console-writer".into(), move |beat| {
        console::run_writer(&shared, beat)
    })?);
    Ok(threads)
}

/// Whether beginning again may help.
trait Failure: std::error::Error + Send + Sync + 'static {
    fn may_pass(&self) -> bool;
}

impl Failure for LogError {
    fn may_pass(&self) -> bool {
        matches!(
            self,
            LogError::Delivery { .. } | LogError::Read { .. } | LogError::Unreachable { .. } | LogError::NoTopic(_)
        )
    }
}

impl Failure for IntakeError {
    fn may_pass(&self) -> bool {
        matches!(self, IntakeError::Log(e) if e.may_pass())
    }
}

impl Failure for ScorerError {
    fn may_pass(&self) -> bool {
        matches!(self, ScorerError::Log(e) if e.may_pass())
    }
}

impl Failure for WarehouseError {
    fn may_pass(&self) -> bool {
        matches!(self, WarehouseError::Log(e) if e.may_pass())
    }
}

impl Failure for ConsoleError {
    fn may_pass(&self) -> bool {
        matches!(self, ConsoleError::Log(e) if e.may_pass())
    }
}

impl Failure for AlerterError {
    fn may_pass(&self) -> bool {
        // A disk may have room again, and what is committed is in the store: nothing is lost by beginning again.
        matches!(self, AlerterError::Log(e) if e.may_pass()) || matches!(self, AlerterError::Store(_))
    }
}

/// A thread that begins again after a failure that may pass, and asks the process to end after one that will not.
fn supervise<E: Failure>(
    around: &Surroundings,
    name: String,
    mut work: impl FnMut(&Heartbeat) -> Result<(), E> + Send + 'static,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let (shutdown, restarts) = (around.shutdown.clone(), around.restarts.clone());
    let heartbeat = around.health.heartbeat(name.clone(), HEARTBEAT_LIMIT);
    let body = move || {
        let mut wait = RESTART_MIN;
        loop {
            let begun = Instant::now();
            // A panic is a defect: the process must not go on with a thread less.
            let ended = catch_unwind(AssertUnwindSafe(|| work(&heartbeat))).unwrap_or_else(|panic| {
                tracing::error!(thread = name, "panicked; the process ends");
                shutdown.request();
                resume_unwind(panic)
            });
            match ended {
                Ok(()) => {
                    heartbeat.finish();
                    return Ok(());
                }
                Err(error) if error.may_pass() && !shutdown.is_requested() => {
                    if begun.elapsed() > RESTART_FORGIVEN {
                        wait = RESTART_MIN;
                    }
                    restarts.with_label_values(&[&name]).inc();
                    tracing::error!(%error, thread = name, again_in = ?wait, "failed; beginning again from what is committed");
                    heartbeat.beat();
                    shutdown.wait(wait);
                    wait = (wait * 2).min(RESTART_MAX);
                }
                Err(error) => {
                    tracing::error!(%error, thread = name, "failed; the process ends");
                    shutdown.request();
                    return Err(anyhow::Error::new(error));
                }
            }
        }
    };
    Ok(std::thread::Builder::new().name("role".into()).spawn(body)?)
}
