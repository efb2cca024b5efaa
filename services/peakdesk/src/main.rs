//! peakdesk
mod replay;

use clap::Parser;
use std::sync::Arc;

#[derive(Parser)]
enum Cli {
    Replay {
        #[arg(long)]
        input: std::path::PathBuf,
        #[arg(long)]
        output: std::path::PathBuf,
        #[arg(long)]
        policy: Option<std::path::PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    let Cli::Replay { input, output, policy } = Cli::parse();
    let constants = peakdesk_scoring::policy::Constants::default();
    let policy = match policy {
        Some(p) => peakdesk_scoring::policy::Policy::parse(&std::fs::read_to_string(p)?, &constants)?,
        None => Default::default(),
    };
    let settings = replay::run::Settings {
        input,
        output,
        log_partitions: 4,
        workers: 2,
        edge: peakdesk_intake::decode::Edge {
            buyer_key: peakdesk_runtime::config::DEVELOPMENT_BUYER_KEY,
            future_skew_ms: 300_000,
            order_retention_ms: constants.order_retention_ms,
            schemas: Arc::new(peakdesk_intake::registry::Schemas::shipped()?),
        },
        constants,
        policies: peakdesk_scoring::policy::Policies::new(policy, Default::default()),
        generation: 1,
    };
    let report = replay::run::run(&settings)?;
    println!("{report:?}");
    Ok(())
}
