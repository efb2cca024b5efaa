//! Faults on a real Kafka: whatever is killed, paused, cut off or sent twice, in the end the tables and alerts are those of an
//! undisturbed run.
//!
//! ```text
//! cargo test --test faults [NAME...]              every fault a few times, one after the other: this runs in CI
//! cargo test --test faults -- --long [NAME...]    the same many times
//! ```
//!
//! Either way a table is printed at the end. Random instants follow from a seed, which is printed; `PEAKDESK_FAULT_SEED` sets it.
//! A broker of the faults' own stands behind a proxy; the faults share it, each with topics and groups of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alerts;
mod brokers;
mod deaths;
mod disk;
mod gap;
mod input;
mod judge;
mod owners;
mod stage;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use peakdesk_tests::{Context, Kafka, Proxy, Result, Scene, scene_named};
use rand::SeedableRng;
use rand::rngs::SmallRng;

/// What the faults stand on.
pub struct Plant {
    /// The way to the broker that can be disturbed.
    pub proxy: Proxy,
    /// The broker.
    pub kafka: Kafka,
    /// The source of random instants.
    pub random: SmallRng,
    /// Many times instead of a few.
    pub long: bool,
}

impl Plant {
    /// How often something is done.
    pub fn times(&self, short: usize, long: usize) -> usize {
        if self.long { long } else { short }
    }
}

/// What came of a fault.
#[derive(Debug, Default)]
pub struct Tally {
    /// How often it was injected.
    pub injected: usize,
    /// Rows compared with an undisturbed run.
    pub rows: usize,
    /// The longest time until all that was there when the fault ended was published.
    pub recovery: Duration,
}

/// A fault.
struct Fault {
    name: &'static str,
    run: fn(&mut Plant, &Scene) -> Result<Tally>,
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "kill at random instants",
        run: deaths::at_random_instants,
    },
    Fault {
        name: "death at marked points",
        run: deaths::at_marked_points,
    },
    Fault {
        name: "SIGTERM under load",
        run: deaths::terminated_under_load,
    },
    Fault {
        name: "two owners on purpose",
        run: owners::two_owners,
    },
    Fault {
        name: "zombie",
        run: owners::zombie,
    },
    Fault {
        name: "rebalance storm",
        run: owners::storm,
    },
    Fault {
        name: "slow consumer",
        run: owners::slow_consumer,
    },
    Fault {
        name: "broker restarts",
        run: brokers::restarts,
    },
    Fault {
        name: "line to the broker",
        run: brokers::lines,
    },
    Fault {
        name: "deliveries given up",
        run: brokers::given_up,
    },
    Fault {
        name: "gap in the log",
        run: gap::in_the_log,
    },
    Fault {
        name: "disorder and repeats",
        run: input::disorder,
    },
    Fault {
        name: "tenfold burst",
        run: input::burst,
    },
    Fault {
        name: "partitions added",
        run: input::partitions_added,
    },
    Fault {
        name: "input topic made again",
        run: input::recreated,
    },
    Fault {
        name: "full disk",
        run: disk::full,
    },
    Fault {
        name: "told while killed",
        run: alerts::told,
    },
];

fn main() -> ExitCode {
    let (flags, names): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|arg| arg.starts_with('-'));
    let chosen = |fault: &&Fault| names.is_empty() || names.iter().any(|name| fault.name.contains(name.as_str()));
    let faults: Vec<&Fault> = FAULTS.iter().filter(chosen).collect();
    if flags.iter().any(|flag| flag == "--list") {
        faults.iter().for_each(|fault| println!("{}: test", fault.name));
        return ExitCode::SUCCESS;
    }
    if faults.is_empty() {
        return ExitCode::SUCCESS;
    }
    match run(&faults, flags.iter().any(|flag| flag == "--long")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("faults: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs them one after the other; whether all held.
fn run(faults: &[&Fault], long: bool) -> Result<bool> {
    let seed = match std::env::var("PEAKDESK_FAULT_SEED") {
        Ok(seed) => seed.parse().context("PEAKDESK_FAULT_SEED")?,
        Err(_) => u64::from(std::process::id()),
    };
    println!("seed {seed}");
    let proxy = Proxy::start()?;
    let kafka = Kafka::start_behind(&proxy)?;
    let mut plant = Plant {
        proxy,
        kafka,
        random: SmallRng::seed_from_u64(seed),
        long,
    };
    let mut lines = vec![format!(
        "{:<28} {:>8} {:>13} {:>14} {:>11} {:>6}",
        "fault", "injected", "rows compared", "rows different", "recovery s", "s"
    )];
    let mut all_held = true;
    for fault in faults {
        println!("---- {}", fault.name);
        let (begun, mut tally) = (Instant::now(), Tally::default());
        let held = catch_unwind(AssertUnwindSafe(|| {
            scene_named(&fault.name.replace(' ', "-"), |scene| {
                tally = (fault.run)(&mut plant, scene)?;
                Ok(())
            });
        }));
        all_held &= held.is_ok();
        let different = if held.is_ok() { "0" } else { "FAILED" };
        lines.push(format!(
            "{:<28} {:>8} {:>13} {:>14} {:>11.1} {:>6.1}",
            fault.name,
            tally.injected,
            tally.rows,
            different,
            tally.recovery.as_secs_f64(),
            begun.elapsed().as_secs_f64()
        ));
        println!("{}", lines.last().map_or("", String::as_str));
    }
    println!("\n{}", lines.join("\n"));
    Ok(all_held)
}
