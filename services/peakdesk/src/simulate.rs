//! The `simulator` command.

use crate::progress::{Line, grouped};
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use peakdesk_model::input::Topic;
use peakdesk_model::time::{MINUTE_MS, UtcOffset, format_date, parse_duration_ms, parse_local};
use peakdesk_runtime::config::{Config, TopicFormat};
use peakdesk_runtime::shutdown::Shutdown;
use peakdesk_simulator::{Format, Generator, KafkaSink, KafkaSinkConfig, Partitions, Profile, SimConfig, SimTotals, write_dump};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Which days are simulated.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Days {
    /// The sale: it opens at the first midnight at or after the start
    Double11,
    /// Working days
    Ordinary,
}

/// Flags of `simulator`.
#[derive(Args, Debug)]
#[command(after_help = "Two runs with equal flags give the same records. Kafka's address and topics come from the configuration.")]
pub struct Flags {
    /// Write a dump (chat.ndjson, orders.ndjson, refunds.ndjson) into this directory instead of Kafka
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
    #[command(flatten)]
    pub shape: Shape,
    /// Simulated seconds per second; without it as fast as Kafka takes them
    #[arg(long)]
    speed_up: Option<f64>,
}

/// What is simulated.
#[derive(Args, Debug, Clone)]
pub struct Shape {
    /// Seed of every random choice
    #[arg(long, default_value_t = 11)]
    pub seed: u64,
    /// Number of shops
    #[arg(long, default_value_t = 20)]
    pub shops: u32,
    /// Agents per shop [default: few shops with many, many with few]
    #[arg(long)]
    pub agents: Option<u32>,
    /// Consulting buyers per agent and day [default: 500 on Double 11, 72 on ordinary days]
    #[arg(long)]
    pub buyers_per_agent: Option<f64>,
    /// Local start, YYYY-MM-DD or YYYY-MM-DDTHH:MM
    #[arg(long, default_value = "2025-11-10T22:00")]
    pub start: String,
    /// Simulated time, such as 26h or 3d
    #[arg(long, default_value = "26h")]
    pub duration: String,
    /// Kind of days
    #[arg(long, value_enum, default_value = "double11")]
    pub days: Days,
    /// Scale of disorder: 0 none, 1 as in life (2 % of records take more than a second)
    #[arg(long, default_value_t = 1.0)]
    pub disorder: f64,
    /// Share of records delivered twice
    #[arg(long, default_value_t = 0.002)]
    pub duplicates: f64,
    /// Share of records made late on purpose
    #[arg(long, default_value_t = 0.0)]
    pub late_share: f64,
    /// Share of records followed by a damaged copy
    #[arg(long, default_value_t = 0.0)]
    pub dead_share: f64,
    /// Partitions of a dump's chat, order and refund topics (Kafka's own count in Kafka)
    #[arg(long, default_value = "4,2,1", value_name = "CHAT,ORDERS,REFUNDS")]
    pub partitions: String,
}

/// Reads a local start time.
pub fn parse_start(text: &str, utc: UtcOffset) -> anyhow::Result<i64> {
    parse_local(text, utc).with_context(|| format!("--start {text}: not a local time like 2025-11-10 or 2025-11-10T22:00"))
}

impl Shape {
    /// The simulator's configuration.
    pub fn to_config(&self, utc: UtcOffset, format: Format) -> anyhow::Result<SimConfig> {
        let counts: Vec<i32> = self.partitions.split(',').filter_map(|n| n.trim().parse().ok()).collect();
        let [chat, orders, refunds] = counts[..] else {
            bail!("--partitions {}: three numbers are needed, such as 4,2,1", self.partitions);
        };
        let duration_ms = parse_duration_ms(&self.duration)
            .with_context(|| format!("--duration {}: not a duration like 90m, 26h or 3d", self.duration))?;
        let config = SimConfig {
            seed: self.seed,
            shops: self.shops,
            agents: self.agents,
            buyers_per_agent: self.buyers_per_agent,
            start_ms: parse_start(&self.start, utc)?,
            duration_ms,
            profile: match self.days {
                Days::Double11 => Profile::Double11,
                Days::Ordinary => Profile::Ordinary,
            },
            utc_offset_minutes: (utc.as_ms() / MINUTE_MS) as i32,
            partitions: Partitions { chat, orders, refunds },
            disorder: self.disorder,
            duplicate_share: self.duplicates,
            late_share: self.late_share,
            dead_share: self.dead_share,
            format,
            ..SimConfig::default()
        };
        config.check()?;
        Ok(config)
    }
}

/// Runs `simulator`.
pub fn run(config: &Config, flags: &Flags) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    let _runtime = crate::roles::runtime_with_signals(&shutdown)?;
    let totals = match &flags.dump {
        Some(dir) => {
            if flags.speed_up.is_some() {
                bail!("--speed-up paces Kafka; a dump is written as fast as it goes");
            }
            into_dump(config, flags, dir, &shutdown)?
        }
        None => into_kafka(config, flags, &shutdown)?,
    };
    println!("{}", serde_json::to_string_pretty(&totals)?);
    Ok(())
}

fn into_dump(config: &Config, flags: &Flags, dir: &std::path::Path, shutdown: &Shutdown) -> anyhow::Result<SimTotals> {
    let sim = flags.shape.to_config(config.scoring.utc_offset, Format::Json)?;
    let mut line = Line::new();
    let utc = config.scoring.utc_offset;
    let totals = write_dump(&sim, dir, |at, records| {
        line.say(|| format!("{}  {} records", local(at, utc), grouped(records)));
        !shutdown.is_requested()
    })?;
    line.end();
    Ok(totals)
}

/// Local time of day and date, for people.
pub fn local(at: i64, utc: UtcOffset) -> String {
    let seconds = utc.time_of_day_ms(at) / 1000;
    format!(
        "{} {:02}:{:02}:{:02}",
        format_date(utc.day(at)),
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// How the simulator reaches the topics of the configuration.
pub fn sink_config(config: &Config, speed_up: Option<f64>) -> anyhow::Result<KafkaSinkConfig> {
    let format = format_of(config)?;
    let mut sink = KafkaSinkConfig::new(&config.kafka.bootstrap);
    sink.chat_topic = config.topics.chat.name.clone();
    sink.orders_topic = config.topics.orders.name.clone();
    sink.refunds_topic = config.topics.refunds.name.clone();
    sink.format = format;
    sink.options = config.kafka.options.iter().map(|(k, v)| (k.clone(), v.reveal().clone())).collect();
    sink.speed_up = speed_up;
    if format == Format::Avro && config.schema_registry.is_some() {
        let schemas = crate::setup::schemas(config)?;
        let id = |topic| schemas.register_shipped(topic, &config.topics.input(topic).name);
        sink.schema_ids.chat = id(Topic::Chat)?;
        sink.schema_ids.order = id(Topic::Orders)?;
        sink.schema_ids.refund = id(Topic::Refunds)?;
    }
    Ok(sink)
}

fn format_of(config: &Config) -> anyhow::Result<Format> {
    let formats = Topic::ALL.map(|t| config.topics.input(t).format);
    match formats {
        [TopicFormat::Avro, TopicFormat::Avro, TopicFormat::Avro] => Ok(Format::Avro),
        [TopicFormat::Json, TopicFormat::Json, TopicFormat::Json] => Ok(Format::Json),
        _ => bail!(
            "the simulator writes all three topics in one format; set topics.chat.format, topics.orders.format and topics.refunds.format alike"
        ),
    }
}

fn into_kafka(config: &Config, flags: &Flags, shutdown: &Shutdown) -> anyhow::Result<SimTotals> {
    peakdesk_runtime::telemetry::init(&config.log)?;
    let found = peakdesk_log::topics::prepare(&config.kafka, &config.topics)?;
    let mut sim = flags.shape.to_config(config.scoring.utc_offset, format_of(config)?)?;
    let of = |topic| found.of(&config.topics.input(topic).name);
    sim.partitions = Partitions {
        chat: of(Topic::Chat),
        orders: of(Topic::Orders),
        refunds: of(Topic::Refunds),
    };
    let mut generator = Generator::new(&sim)?;
    let mut sink = KafkaSink::new(sink_config(config, flags.speed_up)?)?;
    let progress = sink.progress();
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicBool::new(false));
    let (watch, flag, ended, utc) = (shutdown.clone(), stop.clone(), done.clone(), config.scoring.utc_offset);
    let display = std::thread::spawn(move || {
        let mut line = Line::new();
        let begun = Instant::now();
        while !ended.load(Ordering::Acquire) {
            if watch.wait(Duration::from_millis(100)) {
                flag.store(true, Ordering::Release);
            }
            let (sent, at) = (progress.sent.load(Ordering::Relaxed), progress.sim_time_ms.load(Ordering::Relaxed));
            line.say(|| {
                format!(
                    "{}  {} records, {}/s",
                    local(at, utc),
                    grouped(sent),
                    grouped((sent as f64 / begun.elapsed().as_secs_f64()) as u64)
                )
            });
        }
        line.end();
    });
    let outcome = sink.run(generator.by_ref(), &stop);
    done.store(true, Ordering::Release);
    // The display ends by the flag; a panic in it would be its own and is no loss.
    let _ = display.join();
    let report = outcome?;
    if report.stopped {
        eprintln!("stopped early: the totals are of what was sent");
    }
    Ok(generator.totals().clone())
}
