//! The command line.

use crate::{dead_letters, demo, dump, replay, roles, setup, simulate};
use clap::{Args, Parser, Subcommand};
use peakdesk_runtime::config::Config;
use peakdesk_runtime::layers::Sources;
use std::path::PathBuf;

/// Live customer-service figures for large online sellers: reply rounds, conversion, money, as Parquet.
#[derive(Parser, Debug)]
#[command(
    version,
    about,
    after_help = "Start with `peakdesk demo`. Every setting, with its default: `peakdesk check-config`."
)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Debug)]
struct Common {
    /// Configuration file (TOML); needs only what differs from the defaults
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting over file and environment, such as topics.chat.format=json; may be repeated
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// All roles in one process on an embedded broker, with a simulated midnight peak
    Demo(demo::Flags),
    /// Input topics to the shop log
    ///
    /// Reads chats, orders and refunds (Avro in Confluent framing, or JSON), refuses bad records to the dead-letter topic, hashes
    /// buyer ids, and appends what is good to the log partition of its shop. Any number may run; they share the source partitions.
    Intake,
    /// Shop log to results
    ///
    /// Folds every log partition assigned to it into figures. Any number may run; they share the log partitions.
    Scorer(ScorerFlags),
    /// Results and dead letters to Parquet files
    Warehouse,
    /// Alerts to Alertmanager, chat robots (DingTalk, Feishu, WeCom) and webhooks
    ///
    /// Tells receivers what fires, by the routes in alerter.routes_file; schemas/alerter.example.toml shows and explains every key, and
    /// `peakdesk check-config` checks the file. Nothing is told before a backlog is read: then only what still fires. What was delivered and
    /// what is to be is kept in alerter.state_dir; run one alerter at a time. Deliveries: GET /api/deliveries at http.listen.
    Alerter,
    /// Live figures and alerts as a page, an HTTP API and a stream of events
    ///
    /// Serves at http.listen. Any number may run; each reads everything. Who may see what: [console] in the configuration.
    Console,
    /// Simulated Double 11 traffic, into Kafka or into a dump
    Simulator(simulate::Flags),
    /// Recompute the tables from a dump of the input topics, without Kafka
    ///
    /// The same path as in life, as fast as the machine allows; at the end time runs on until every row is final.
    Replay(replay::Flags),
    /// Write the records of the input topics to files, to be replayed
    Dump(dump::Flags),
    /// Show refused records, or copy them back to their input topics after a fix
    DeadLetters(dead_letters::Flags),
    /// Check the configuration and print it as it takes effect, with where each setting comes from
    CheckConfig,
}

#[derive(Args, Debug)]
struct ScorerFlags {
    /// Threads that fold; each has log partitions of its own
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
}

/// Runs what the command line says.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    let config = Config::load(&Sources::of_process(cli.common.config, cli.common.set))?;
    match cli.command {
        Command::Demo(flags) => demo::run(config, &flags),
        Command::Intake => roles::serve(config, roles::Role::Intake),
        Command::Scorer(flags) => roles::serve(
            config,
            roles::Role::Scorer {
                threads: flags.threads.max(1),
            },
        ),
        Command::Warehouse => roles::serve(config, roles::Role::Warehouse),
        Command::Alerter => roles::serve(config, roles::Role::Alerter),
        Command::Console => roles::serve(config, roles::Role::Console),
        Command::Simulator(flags) => simulate::run(&config, &flags),
        Command::Replay(flags) => replay::command(&config, &flags),
        Command::Dump(flags) => dump::command(&config, &flags),
        Command::DeadLetters(flags) => dead_letters::command(&config, &flags),
        Command::CheckConfig => check_config(&config),
    }
}

fn check_config(config: &Config) -> anyhow::Result<()> {
    // Policies are part of the configuration: a bad one is refused here, not when a role starts.
    let constants = setup::constants(config);
    setup::policies(config, &constants)?;
    peakdesk_console::check(config)?;
    peakdesk_alerter::service::plan(config)?;
    print!("{}", config.render());
    if config.intake.has_development_key() {
        eprintln!("{}", setup::DEVELOPMENT_KEY_WARNING);
    }
    Ok(())
}
