//! `demo`: all roles in one process on an embedded broker, with a simulated midnight peak.
//!
//! ```text
//! simulator ─► embedded broker ─► intake ─► scorer ─┬─► warehouse ─► Parquet
//!                                                   ├─► console ─► the page
//!                                                   └─► alerter ─► a receiver in this process, or those of alerter.routes_file
//! ```
//!
//! The roles are the same as in life, and speak to the broker over its protocol. The simulated night runs faster than the
//! clock; when it is over, time runs on faster still, until its days are final.

mod receiver;

use crate::progress::{Line, grouped};
use crate::roles::{self, Role, Surroundings, Threads};
use crate::simulate::{Shape, local, sink_config};
use anyhow::{Context, bail};
use clap::Args;
use peakdesk_model::input::Topic;
use peakdesk_model::time::{HOUR_MS, MINUTE_MS};
use peakdesk_runtime::config::Config;
use peakdesk_runtime::http::{Probes, Server};
use peakdesk_simulator::{Generator, KafkaSink, SimTotals};
use rdkafka::mocking::MockCluster;
use receiver::Receiver;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Partitions of the log: enough to show that shops are spread, few enough for one machine.
const LOG_PARTITIONS: i32 = 4;
const LETTER_PARTITIONS: i32 = 2;
/// Nobody sleeps on the night of a sale: alerts are raised around the clock.
const SALE_POLICY: &str = include_str!("../../../../schemas/policy.double11.toml");
/// How long the roles may take to find each other.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);
/// How long the rest may take once the night is over.
const END_PATIENCE: Duration = Duration::from_secs(300);

/// Flags of `demo`.
#[derive(Args, Debug)]
pub struct Flags {
    /// Directory under which each run makes its own; `latest` in it leads to the newest
    #[arg(long, default_value = "peakdesk-demo")]
    output: PathBuf,
    /// Simulated seconds per second
    #[arg(long, default_value_t = 100.0)]
    speed_up: f64,
    /// Simulated seconds per second when the night is over and its days become final
    #[arg(long, default_value_t = 20_000.0)]
    speed_up_after: f64,
    /// Number of shops
    #[arg(long, default_value_t = 6)]
    shops: u32,
    /// Agents per shop
    #[arg(long, default_value_t = 20)]
    agents: u32,
    /// Local start, YYYY-MM-DD or YYYY-MM-DDTHH:MM
    #[arg(long, default_value = "2025-11-10T22:00")]
    start: String,
    /// Simulated time
    #[arg(long, default_value = "3h")]
    duration: String,
    /// Seed of every random choice
    #[arg(long, default_value_t = 11)]
    seed: u64,
}

/// Runs `demo`.
pub fn run(mut config: Config, flags: &Flags) -> anyhow::Result<()> {
    if !(flags.speed_up > 0.0 && flags.speed_up_after > 0.0) {
        bail!("--speed-up and --speed-up-after must be more than 0");
    }
    let begun = Instant::now();
    peakdesk_runtime::telemetry::init(&quiet(&config).log)?;
    let output = run_directory(&flags.output)?;
    let sim = shape(flags).to_config(config.scoring.utc_offset, peakdesk_simulator::Format::Avro)?;

    let broker = MockCluster::new(1).map_err(|e| anyhow::anyhow!("the embedded broker does not start: {e}"))?;
    config.kafka.bootstrap = broker.bootstrap_servers();
    config.topics.log_partitions = LOG_PARTITIONS;
    config.warehouse.output = output.clone();
    let counts = [
        (Topic::Chat, sim.partitions.chat),
        (Topic::Orders, sim.partitions.orders),
        (Topic::Refunds, sim.partitions.refunds),
    ];
    let own = [
        (&config.topics.shop_log, LOG_PARTITIONS),
        (&config.topics.results, LOG_PARTITIONS),
        (&config.topics.alerts, LOG_PARTITIONS),
        (&config.topics.live, LOG_PARTITIONS),
        (&config.topics.acknowledgements, 1),
        (&config.topics.dead_letters, LETTER_PARTITIONS),
    ];
    let inputs = counts.iter().map(|(topic, n)| (&config.topics.input(*topic).name, *n));
    for (name, partitions) in inputs.chain(own) {
        broker
            .create_topic(name, partitions, 1)
            .map_err(|e| anyhow::anyhow!("the embedded broker does not create {name}: {e}"))?;
    }

    let around = Surroundings::new()?;
    let runtime = roles::runtime_with_signals(&around.shutdown)?;
    if config.policy.file.is_none() {
        let path = output.join("policy.toml");
        std::fs::write(&path, SALE_POLICY).with_context(|| format!("cannot write {}", path.display()))?;
        config.policy.file = Some(path);
    }
    let console = roles::console(&config, &around)?;
    let receiver = Receiver::default();
    let server = serve(&runtime, &config, &around, &console, &receiver);
    let told = alerter_config(&config, server.as_ref(), &output)?;
    let speed = Arc::new(AtomicU64::new(flags.speed_up.to_bits()));
    let mut threads = Threads::new();
    threads.append(&mut roles::start(&config, Role::Warehouse, &around, &speed)?);
    threads.append(&mut roles::start(&config, Role::Scorer { threads: 1 }, &around, &speed)?);
    threads.append(&mut roles::start(&config, Role::Intake, &around, &speed)?);
    threads.append(&mut roles::start_console(&config, &console, &around)?);
    if let Some(config) = &told {
        threads.append(&mut roles::start(config, Role::Alerter, &around, &speed)?);
    }

    eprintln!(
        "peakdesk demo: {} shops with {} agents each, from {} for {}, {} times as fast as life",
        flags.shops, flags.agents, flags.start, flags.duration, flags.speed_up
    );
    if let Some(server) = &server {
        let address = server.local_addr();
        eprintln!("the page: http://{address}/    metrics: http://{address}/metrics");
        if config.alerter.routes_file.is_none() && told.is_some() {
            eprintln!("what the alerter sends: http://{address}{}", receiver::PATH);
        }
    }
    let outcome = night(&config, flags, &sim, &around, &speed);
    around.shutdown.request();
    let joined = roles::join(threads);
    drop(server);
    drop(broker);
    let totals = outcome?;
    joined?;
    if let Some(totals) = totals {
        report(&totals, &around, &receiver, &output, begun.elapsed())?;
    }
    Ok(())
}

/// How the alerter is run: by the routes that are configured, else to this process. Without either there is nobody to tell.
fn alerter_config(config: &Config, server: Option<&Server>, output: &Path) -> anyhow::Result<Option<Config>> {
    let mut config = config.clone();
    // The broker of this run is new, and so is what was told of it.
    config.alerter.state_dir = output.join("alerter");
    if config.alerter.routes_file.is_none() {
        let Some(server) = server.filter(|s| s.local_addr().ip().is_loopback()) else {
            return Ok(None);
        };
        let path = output.join("alerter.toml");
        std::fs::write(&path, Receiver::routes_file(server.local_addr())).with_context(|| format!("cannot write {}", path.display()))?;
        config.alerter.routes_file = Some(path);
    }
    Ok(Some(config))
}

fn shape(flags: &Flags) -> Shape {
    Shape {
        seed: flags.seed,
        shops: flags.shops,
        agents: Some(flags.agents),
        buyers_per_agent: None,
        start: flags.start.clone(),
        duration: flags.duration.clone(),
        days: crate::simulate::Days::Double11,
        disorder: 1.0,
        duplicates: 0.002,
        late_share: 0.0005,
        dead_share: 0.0005,
        partitions: "4,2,1".into(),
    }
}

/// A demonstration shows progress instead of logs, unless the configuration asks for more.
fn quiet(config: &Config) -> Config {
    let mut config = config.clone();
    if config.log.level == "info" {
        config.log.level = "error".into();
    }
    config
}

/// A directory of this run's own: rows of two runs in one place would be counted together.
fn run_directory(parent: &Path) -> anyhow::Result<PathBuf> {
    peakdesk_warehouse::file::check_writable(parent)?;
    let stamp = peakdesk_log::group::wall_ms();
    let name = format!("run-{stamp}");
    let path = parent.join(&name);
    std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let (latest, new) = (parent.join("latest"), parent.join(format!(".latest-{stamp}")));
    std::os::unix::fs::symlink(&name, &new).with_context(|| format!("cannot link {}", new.display()))?;
    std::fs::rename(&new, &latest).with_context(|| format!("cannot replace {}", latest.display()))?;
    Ok(path)
}

fn serve(
    runtime: &tokio::runtime::Runtime,
    config: &Config,
    around: &Surroundings,
    console: &Arc<peakdesk_console::Shared>,
    receiver: &Receiver,
) -> Option<Server> {
    let listen = config.http_listen?;
    let page = || {
        let page = peakdesk_console::router(console.clone()).merge(peakdesk_alerter::api::routes(around.deliveries.clone()));
        // What it was sent is shown to everybody, so it is there for this machine only.
        if listen.ip().is_loopback() {
            page.merge(receiver.routes())
        } else {
            page
        }
    };
    let probes = || Probes {
        metrics: around.metrics.clone(),
        health: around.health.clone(),
        shutdown: around.shutdown.clone(),
    };
    let any_port = std::net::SocketAddr::new(listen.ip(), 0);
    let server = runtime.block_on(Server::start(listen, probes(), page()));
    // Another process may have the port; a demonstration takes the next best.
    server.or_else(|_| runtime.block_on(Server::start(any_port, probes(), page()))).ok()
}

/// The simulated night, and then time until its days are final; `None` if it was stopped.
fn night(
    config: &Config,
    flags: &Flags,
    sim: &peakdesk_simulator::SimConfig,
    around: &Surroundings,
    speed: &Arc<AtomicU64>,
) -> anyhow::Result<Option<SimTotals>> {
    wait_for(around, JOIN_PATIENCE, "the roles to find each other", |seen| {
        seen.count("peakdesk_scorer_now_milliseconds") == LOG_PARTITIONS as usize
            && seen.count("peakdesk_warehouse_pending_rows") == 2 * LOG_PARTITIONS as usize
            && seen.sum("peakdesk_intake_source_partitions")
                == f64::from(sim.partitions.chat + sim.partitions.orders + sim.partitions.refunds)
    })?;
    let utc = config.scoring.utc_offset;
    let (stop, done, at) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicI64::new(0)),
    );
    let mut sink = KafkaSink::new(sink_config(config, Some(flags.speed_up))?)?;
    let progress = sink.progress();
    let display = {
        let (around, stop, done, at) = (around.clone(), stop.clone(), done.clone(), at.clone());
        std::thread::spawn(move || {
            let mut line = Line::new();
            while !done.load(Ordering::Acquire) {
                if around.shutdown.wait(Duration::from_millis(100)) {
                    stop.store(true, Ordering::Release);
                }
                at.fetch_max(progress.sim_time_ms.load(Ordering::Relaxed), Ordering::Relaxed);
                line.say(|| show(&Seen::now(&around), at.load(Ordering::Relaxed), utc));
            }
            line.end();
        })
    };
    let mut generator = Generator::new(sim)?;
    let sent = sink.run(generator.by_ref(), &stop);
    let ended = sent.map_err(anyhow::Error::new).and_then(|report| {
        if report.stopped || around.shutdown.is_requested() {
            return Ok(None);
        }
        finish(config, flags, sim, around, speed, &at, report.acknowledged)?;
        Ok((!around.shutdown.is_requested()).then(|| generator.totals().clone()))
    });
    done.store(true, Ordering::Release);
    // The display ends by the flag.
    let _ = display.join();
    ended
}

/// Everything was sent: when it is read, time runs on until the last simulated day is final and in files.
fn finish(
    config: &Config,
    flags: &Flags,
    sim: &peakdesk_simulator::SimConfig,
    around: &Surroundings,
    speed: &AtomicU64,
    at: &AtomicI64,
    sent: u64,
) -> anyhow::Result<()> {
    let utc = config.scoring.utc_offset;
    wait_for(around, END_PATIENCE, "all records to be read", |seen| {
        seen.sum("peakdesk_intake_records_total") >= sent as f64
    })?;
    speed.store(flags.speed_up_after.to_bits(), Ordering::Relaxed);
    let last_day_final = utc.end(utc.day(sim.end_ms()) + 2) + config.scoring.allowed_lateness_money_ms;
    let settled = last_day_final + HOUR_MS.max(2 * config.warehouse.slice_ms) + MINUTE_MS;
    wait_for(around, END_PATIENCE, "the simulated days to become final", |seen| {
        at.fetch_max(seen.min("peakdesk_scorer_complete_until_milliseconds") as i64, Ordering::Relaxed);
        seen.min("peakdesk_scorer_complete_until_milliseconds") >= settled as f64 && seen.sum("peakdesk_warehouse_pending_rows") == 0.0
    })
}

fn wait_for(around: &Surroundings, limit: Duration, what: &str, met: impl Fn(&Seen) -> bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !around.shutdown.is_requested() {
        if met(&Seen::now(around)) {
            return Ok(());
        }
        if begun.elapsed() > limit {
            bail!(
                "waited {} s for {what}, in vain; run with --set log.level=debug to see why",
                limit.as_secs()
            );
        }
        around.shutdown.wait(Duration::from_millis(100));
    }
    Ok(())
}

/// The process's own metrics, as anybody sees them.
struct Seen(BTreeMap<String, Vec<f64>>);

impl Seen {
    fn now(around: &Surroundings) -> Self {
        let mut seen: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for line in around.metrics.render().unwrap_or_default().lines().filter(|l| !l.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let name = series.split('{').next().unwrap_or(series);
            if let Ok(value) = value.parse() {
                seen.entry(name.to_owned()).or_default().push(value);
            }
        }
        Seen(seen)
    }

    fn values(&self, name: &str) -> &[f64] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    fn count(&self, name: &str) -> usize {
        self.values(name).len()
    }

    fn sum(&self, name: &str) -> f64 {
        self.values(name).iter().sum()
    }

    fn min(&self, name: &str) -> f64 {
        self.values(name).iter().copied().fold(f64::INFINITY, f64::min)
    }
}

fn show(seen: &Seen, at: i64, utc: peakdesk_model::time::UtcOffset) -> String {
    let n = |name: &str| grouped(seen.sum(name) as u64);
    format!(
        "{}  in {} records, {} refused │ state {} objects │ out {} rows, in {} files {}",
        local(at, utc),
        n("peakdesk_intake_records_total"),
        n("peakdesk_intake_dead_letters_total"),
        n("peakdesk_scorer_state_objects"),
        n("peakdesk_scorer_rows_total"),
        n("peakdesk_warehouse_files_total"),
        n("peakdesk_warehouse_rows_total"),
    )
}

fn report(totals: &SimTotals, around: &Surroundings, receiver: &Receiver, output: &Path, elapsed: Duration) -> anyhow::Result<()> {
    let seen = Seen::now(around);
    println!("simulated: {}", serde_json::to_string(totals)?);
    println!(
        "read {} records, refused {}; wrote {} rows in {} files under {} in {} s",
        grouped(seen.sum("peakdesk_intake_records_total") as u64),
        grouped(seen.sum("peakdesk_intake_dead_letters_total") as u64),
        grouped(seen.sum("peakdesk_warehouse_rows_total") as u64),
        grouped(seen.sum("peakdesk_warehouse_files_total") as u64),
        output.display(),
        elapsed.as_secs(),
    );
    println!(
        "alerts: {} transitions; {} messages to the demonstration's receiver",
        grouped(seen.sum("peakdesk_scorer_alert_transitions_total") as u64),
        grouped(receiver.received() as u64),
    );
    println!("README.md shows how to ask them with DuckDB: which agents convert best, and how fast do they answer");
    Ok(())
}
