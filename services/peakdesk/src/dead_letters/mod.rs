//! The `dead-letters` command: shows what was refused, and copies chosen records back to their input topics.
//!
//! ```text
//! dead letters ─► filter ─┬─► list: a line each, counts by reason
//!                         └─► replay: turn ─► what is copied already? ─► copy the rest
//! ```
//!
//! Nothing here judges records: a copy is judged by intake like any other, and one that is refused again is a new dead letter.

mod filter;
mod replay;
mod turn;

use crate::progress::grouped;
use anyhow::Context;
use clap::{Args, Subcommand};
use filter::{Filter, FilterFlags};
use peakdesk_log::letter::{self, Letter};
use peakdesk_log::span::{Part, Reader};
use peakdesk_model::time::format_local;
use peakdesk_runtime::config::Config;
use peakdesk_runtime::shutdown::Shutdown;
use rdkafka::message::{BorrowedMessage, Message};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long Kafka may give no answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// `dead-letters`.
#[derive(Args, Debug)]
pub struct Flags {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Show dead letters: when and why each was refused, where it was read, its size
    List {
        #[command(flatten)]
        filter: FilterFlags,
        /// Lines to show; the counts are of all
        #[arg(long, default_value_t = 100)]
        limit: u64,
    },
    /// Copy chosen dead letters back to their input topics, each once
    ///
    /// A copy has the value, the key and the headers of the original, and the header peakdesk-replay-of, which says where the
    /// original was read. What was copied before, by whatever run, is known by it and not copied again.
    Replay {
        #[command(flatten)]
        filter: FilterFlags,
        /// All of them; needed where no filter is given
        #[arg(long)]
        all: bool,
        /// Say what would be copied, and copy nothing
        #[arg(long)]
        dry_run: bool,
        /// Copies per second at most, to spare the intake
        #[arg(long, value_name = "N")]
        rate: Option<u32>,
    },
}

/// Runs `dead-letters`.
pub fn command(config: &Config, flags: &Flags) -> anyhow::Result<()> {
    peakdesk_runtime::telemetry::init(&config.log)?;
    let shutdown = Shutdown::new();
    let _runtime = crate::roles::runtime_with_signals(&shutdown)?;
    let letters = Letters::open(config, shutdown)?;
    match &flags.action {
        Action::List { filter, limit } => list(&letters, &filter.validated(config.scoring.utc_offset)?, *limit),
        Action::Replay {
            filter,
            all,
            dry_run,
            rate,
        } => {
            let filter = filter.validated(config.scoring.utc_offset)?;
            anyhow::ensure!(
                *all == filter.is_all(),
                "dead-letters replay needs either a filter (--topic, --reason, --partition, --offsets, --since, --until) or --all"
            );
            replay::run(&letters, &filter, *dry_run, *rate)
        }
    }
}

/// The dead letters as they stood when the command began.
struct Letters<'c> {
    config: &'c Config,
    reader: Reader,
    parts: Vec<Part>,
    shutdown: Shutdown,
}

impl<'c> Letters<'c> {
    fn open(config: &'c Config, shutdown: Shutdown) -> anyhow::Result<Self> {
        let reader = Reader::new(&config.kafka, PATIENCE)?;
        let parts = reader.parts(&config.topics.dead_letters)?;
        Ok(Letters {
            config,
            reader,
            parts,
            shutdown,
        })
    }

    fn go_on(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.shutdown.is_requested(),
            "stopped; the same command goes on where this one ended"
        );
        Ok(())
    }

    /// Calls `each` for every letter that the filter chooses, partition by partition.
    fn read(&self, filter: &Filter, mut each: impl FnMut(&Letter, &BorrowedMessage<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let topic = self.config.topics.dead_letters.as_str();
        for part in &self.parts {
            self.reader.read(topic, part, |message| {
                self.go_on()?;
                let Some(message) = message else { return Ok(()) };
                let Some(letter) = letter::read(message) else {
                    tracing::warn!(
                        topic,
                        partition = message.partition(),
                        offset = message.offset(),
                        "not a dead letter of peakdesk; left out"
                    );
                    return Ok(());
                };
                if filter.chooses(&letter, message.timestamp().to_millis()) {
                    each(&letter, message)
                } else {
                    Ok(())
                }
            })?;
        }
        Ok(())
    }
}

fn list(letters: &Letters<'_>, filter: &Filter, limit: u64) -> anyhow::Result<()> {
    let utc = letters.config.scoring.utc_offset;
    let (mut count, mut reasons) = (0, BTreeMap::<&str, u64>::new());
    println!("refused at               reason         topic/partition/offset          bytes");
    letters.read(filter, |letter, message| {
        count += 1;
        *reasons.entry(letter.reason.name()).or_default() += 1;
        if count <= limit {
            let at = letter.position;
            let refused = message.timestamp().to_millis().context("a dead letter without a timestamp")?;
            println!(
                "{}  {:13}  {:30}  {}",
                format_local(refused, utc),
                letter.reason.name(),
                format!("{}/{}/{}", at.partition.topic.name(), at.partition.partition, at.offset),
                message.payload().map_or("none".to_owned(), |value| value.len().to_string())
            );
        }
        Ok(())
    })?;
    if count > limit {
        println!("… {} more; --limit shows them", grouped(count - limit));
    }
    println!("{}", counted(count, &reasons));
    Ok(())
}

/// `3 dead letters (bad_id 1, undecodable 2)`
fn counted(count: u64, reasons: &BTreeMap<&str, u64>) -> String {
    let by: Vec<String> = reasons.iter().map(|(reason, n)| format!("{reason} {}", grouped(*n))).collect();
    match by.is_empty() {
        true => "no dead letters".to_owned(),
        false => format!("{} dead letters ({})", grouped(count), by.join(", ")),
    }
}
