//! The `replay` command.

use super::run::{Report, Settings, run};
use crate::progress::grouped;
use crate::setup;
use clap::Args;
use peakdesk_runtime::config::Config;
use peakdesk_runtime::metrics::Memory;
use std::path::PathBuf;

/// Flags of `replay`.
#[derive(Args, Debug)]
pub struct Flags {
    /// Directory of the dump: chat.ndjson, orders.ndjson, refunds.ndjson, or their .parquet forms
    #[arg(long, value_name = "DIR")]
    input: PathBuf,
    /// Directory for the tables; must not hold anything
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Policy file for all shops, instead of the configured ones
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Log partitions: the `log_partition` of rows depends on it, nothing else does
    #[arg(long, default_value_t = 8)]
    log_partitions: i32,
    /// Threads that fold
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
}

/// Runs `replay`.
pub fn command(config: &Config, flags: &Flags) -> anyhow::Result<()> {
    peakdesk_runtime::telemetry::init(&config.log)?;
    let constants = setup::constants(config);
    let policies = match &flags.policy {
        Some(path) => peakdesk_scoring::policy::Policies::new(setup::policy(path, &constants)?, Default::default()),
        None => setup::policies(config, &constants)?,
    };
    if config.intake.has_development_key() {
        eprintln!("{}", setup::DEVELOPMENT_KEY_WARNING);
    }
    let settings = Settings {
        input: flags.input.clone(),
        output: flags.output.clone(),
        log_partitions: flags.log_partitions.clamp(1, 1024),
        workers: flags.threads.clamp(1, 64),
        edge: setup::edge(config, peakdesk_intake::registry::Schemas::shipped()?),
        constants,
        policies,
        generation: 1,
    };
    let report = run(&settings)?;
    print(&report);
    Ok(())
}

fn print(report: &Report) {
    let list = |map: &std::collections::BTreeMap<&'static str, u64>| {
        map.iter()
            .map(|(name, n)| format!("{name} {}", grouped(*n)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let total = report.total();
    let c = &report.counts;
    println!("records    {} ({})", grouped(total), list(&report.records));
    println!(
        "events     {} accepted, {} late, {} sealed, {} duplicates, {} raised, {} dead ({})",
        grouped(c.accepted),
        grouped(c.late),
        grouped(c.sealed),
        grouped(c.duplicates),
        grouped(c.raised),
        grouped(report.dead.values().sum()),
        list(&report.dead)
    );
    println!("rows       {} ({})", grouped(report.rows.values().sum()), list(&report.rows));
    println!("files      {}", grouped(report.files));
    let s = &report.size;
    println!(
        "state      {} shops, {} buyers, {} orders, {} refunds, {} windows when the input ended",
        grouped(s.shops as u64),
        grouped(s.buyers as u64),
        grouped(s.orders as u64),
        grouped(s.refunds as u64),
        grouped(s.windows as u64)
    );
    println!(
        "speed      {} events/s, {:.1} s in all",
        grouped((total as f64 / report.seconds.max(0.001)) as u64),
        report.seconds
    );
    if let Some(memory) = Memory::of_process() {
        println!("memory     {} MiB at most", grouped(memory.peak_bytes >> 20));
    }
    if !report.growth.is_empty() {
        let steps = report
            .growth
            .iter()
            .map(|(records, mib)| format!("{} MiB after {}", grouped(*mib), grouped(*records)));
        println!("growth     {}", steps.collect::<Vec<_>>().join(", "));
    }
}
