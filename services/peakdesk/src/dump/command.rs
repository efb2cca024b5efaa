//! The `dump` command.

use super::convert::{ConvertSettings, convert};
use super::kafka::{InputTopic, KafkaSettings, dump};
use super::{DumpReport, Form};
use crate::progress::{Line, grouped};
use crate::setup;
use clap::{Args, ValueEnum};
use peakdesk_intake::decode::Format;
use peakdesk_model::input::Topic;
use peakdesk_runtime::config::{Config, TopicFormat};
use peakdesk_runtime::shutdown::Shutdown;
use std::path::PathBuf;
use std::time::Duration;

/// How long Kafka or a schema registry may give no answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The form of the files.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormFlag {
    /// A JSON object per line and record
    Ndjson,
    /// Typed columns: smaller, and replays faster
    Parquet,
}

/// Flags of `dump`.
#[derive(Args, Debug)]
#[command(
    after_help = "Reads every partition up to where it ends when the command starts, outside of any consumer group. Mind that a dump holds what the topics hold: buyer ids and chat texts."
)]
pub struct Flags {
    /// Directory to write to; must not hold a dump
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Form of the files
    #[arg(long, value_enum, default_value = "ndjson")]
    form: FormFlag,
    /// Convert the dump in this directory instead of reading Kafka
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
}

/// Runs `dump`.
pub fn command(config: &Config, flags: &Flags) -> anyhow::Result<()> {
    peakdesk_runtime::telemetry::init(&config.log)?;
    let shutdown = Shutdown::new();
    let _runtime = crate::roles::runtime_with_signals(&shutdown)?;
    let form = match flags.form {
        FormFlag::Ndjson => Form::Ndjson,
        FormFlag::Parquet => Form::Parquet,
    };
    let mut line = Line::new();
    let report = match &flags.from {
        Some(from) => {
            let settings = ConvertSettings {
                from: from.clone(),
                output: flags.output.clone(),
                form,
            };
            convert(&settings, |records| {
                line.say(|| format!("{} records", grouped(records)));
                !shutdown.is_requested()
            })?
        }
        None => dump(settings(config, flags, form)?, |records, of| {
            line.say(|| format!("{} of {} records", grouped(records), grouped(of)));
            !shutdown.is_requested()
        })?,
    };
    line.end();
    print(&report);
    Ok(())
}

fn settings(config: &Config, flags: &Flags, form: Form) -> anyhow::Result<KafkaSettings> {
    let edge = setup::edge(config, setup::schemas(config)?);
    let schemas = edge.schemas.clone();
    let input = |topic| {
        let input = config.topics.input(topic);
        let format = match input.format {
            TopicFormat::Avro => Format::Avro,
            TopicFormat::Json => Format::Json,
        };
        InputTopic {
            topic,
            name: input.name.clone(),
            format,
        }
    };
    Ok(KafkaSettings {
        client: peakdesk_log::client::reader(&config.kafka),
        topics: Topic::ALL.map(input).to_vec(),
        edge,
        schema_text: Box::new(move |id| Ok(schemas.get(id)?.text().to_owned())),
        output: flags.output.clone(),
        form,
        wall_ms: peakdesk_log::group::wall_ms(),
        patience: PATIENCE,
    })
}

fn print(report: &DumpReport) {
    let topics: Vec<String> = report.records.iter().map(|(topic, n)| format!("{topic} {}", grouped(*n))).collect();
    println!(
        "{} records ({}), {} bytes",
        grouped(report.total()),
        topics.join(", "),
        grouped(report.bytes)
    );
    if report.oversized > 0 {
        eprintln!(
            "warning: {} records are larger than 1 MiB as JSON; a replay will refuse them",
            grouped(report.oversized)
        );
    }
}
