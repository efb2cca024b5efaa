//! Faults on a real Kafka: whatever is killed, paused, cut off or sent twice, in the end the tables and alerts are those of an
//! undisturbed run.
//!
//! ```text
//! cargo test --test faults [NAME...]              every fault a few times, one after the other: this runs in CI
//! cargo test --test faults -- --long [NAME...]    the same many times
//! ```
//!
//! In the short form those that need nothing of their own are injected into one running system, one after the other, and compared
//! once; in the long form each has a system of its own. Those that make a system for themselves run beside them. Either way a table is
//! printed at the end. Random instants follow from a seed, which is printed; `PEAKDESK_FAULT_SEED` sets it.
//! Each of the two has a broker and a store for checkpoints, both behind proxies, and all faults have topics and groups of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alerts;
mod brokers;
mod deaths;
mod disk;
mod gap;
mod input;
mod judge;
mod owners;
mod panic;
mod poison;
mod recording;
mod report;
mod stage;
mod states;
mod store;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use peakdesk_tests::object_store::ObjectStore;
use peakdesk_tests::{Context, Failure, Kafka, Proxy, Result, Scene, scene_named};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::report::Line;
use crate::stage::{Plan, Stage};

/// What the faults stand on.
pub struct Plant {
    /// The way to the broker that can be disturbed.
    pub proxy: Proxy,
    /// The broker.
    pub kafka: Kafka,
    /// The way to the store of the checkpoints.
    pub way_to_store: Proxy,
    /// That store.
    pub store: ObjectStore,
    /// The source of random instants.
    pub random: SmallRng,
    /// Many times instead of a few.
    pub long: bool,
}

impl Plant {
    fn start(seed: u64, long: bool) -> Result<Plant> {
        let proxy = Proxy::start()?;
        let kafka = Kafka::start_behind(&proxy)?;
        let store = ObjectStore::start(store::BUCKET)?;
        Ok(Plant {
            proxy,
            kafka,
            way_to_store: Proxy::to(store.port())?,
            store,
            random: SmallRng::seed_from_u64(seed),
            long,
        })
    }

    /// How often something is done.
    pub fn times(&self, short: usize, long: usize) -> usize {
        if self.long { long } else { short }
    }
}

/// What came of a fault.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// How often it was injected.
    pub injected: usize,
    /// The longest time until all that was there when the fault ended was published.
    pub recovery: Duration,
}

/// How a fault is injected.
enum Run {
    /// Into a running system, which is as before when it ends.
    Into(fn(&mut Plant, &mut Stage<'_>) -> Result),
    /// With a system of its own making; how many rows were compared.
    Alone(fn(&mut Plant, &Scene) -> Result<(Tally, usize)>),
}

/// A fault.
struct Fault {
    name: &'static str,
    run: Run,
}

const fn into(name: &'static str, run: fn(&mut Plant, &mut Stage<'_>) -> Result) -> Fault {
    Fault { name, run: Run::Into(run) }
}

const fn alone(name: &'static str, run: fn(&mut Plant, &Scene) -> Result<(Tally, usize)>) -> Fault {
    Fault {
        name,
        run: Run::Alone(run),
    }
}

const FAULTS: &[Fault] = &[
    into("kill at random instants", deaths::at_random_instants),
    into("death at marked points", deaths::at_marked_points),
    into("SIGTERM under load", deaths::terminated_under_load),
    into("two owners on purpose", owners::two_owners),
    into("zombie", owners::zombie),
    into("rebalance storm", owners::storm),
    into("slow consumer", owners::slow_consumer),
    into("broker restarts", brokers::restarts),
    into("line to the broker", brokers::lines),
    into("SIGTERM without broker", brokers::ended_without_broker),
    into("deliveries given up", brokers::given_up),
    into("store of checkpoints", store::trouble),
    into("damaged checkpoints", states::harmed),
    into("poison", poison::buried),
    into("disorder and repeats", input::disorder),
    // Ends the load, so it comes last.
    into("told while killed", alerts::told),
    alone("gap in the log", gap::in_the_log),
    alone("tenfold burst", input::burst),
    alone("partitions added", input::partitions_added),
    alone("input topic made again", input::recreated),
    alone("full disk", disk::full),
    alone("no room for checkpoints", disk::full_of_states),
    alone("panic of a shop", panic::of_a_shop),
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
    // Built once, before two threads ask for it.
    peakdesk_tests::peakdesk()?;
    let (shared, own): (Vec<&Fault>, Vec<&Fault>) = faults.iter().partition(|fault| matches!(fault.run, Run::Into(_)));
    let (first, second) = std::thread::scope(|scope| {
        let beside = scope.spawn(|| all_by_themselves(&own, seed, long));
        let first = all_into_stages(&shared, seed.wrapping_add(1), long);
        (first, beside.join())
    });
    let second = second.map_err(|_| Failure::fatal("the thread of the faults with systems of their own panicked"))?;
    let mut lines = [first?, second?].concat();
    lines.sort_by_key(|line| FAULTS.iter().position(|fault| fault.name == line.name));
    println!("\n{}", report::HEAD);
    lines.iter().for_each(|line| println!("{line}"));
    Ok(lines.iter().all(|line| line.rows.is_some()))
}

/// Injects faults into running systems: one in the short form, one for each in the long form.
fn all_into_stages(faults: &[&Fault], seed: u64, long: bool) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    if !faults.is_empty() {
        let mut plant = Plant::start(seed, long)?;
        for together in faults.chunks(if long { 1 } else { faults.len() }) {
            let new = into_a_stage(&mut plant, together);
            new.iter().for_each(|line| println!("{line}"));
            lines.extend(new);
        }
    }
    Ok(lines)
}

/// Runs faults that make their own systems, one after the other.
fn all_by_themselves(faults: &[&Fault], seed: u64, long: bool) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    if !faults.is_empty() {
        let mut plant = Plant::start(seed, long)?;
        for fault in faults {
            if let Run::Alone(run) = fault.run {
                let line = by_itself(&mut plant, fault, run);
                println!("{line}");
                lines.push(line);
            }
        }
    }
    Ok(lines)
}

/// Injects faults into one running system; the first that fails is the last.
fn into_a_stage(plant: &mut Plant, faults: &[&Fault]) -> Vec<Line> {
    let mut lines: Vec<Line> = faults.iter().map(|fault| Line::new(fault.name)).collect();
    let mut rows = None;
    let name = if let [only] = faults { only.name } else { "shared" };
    let held = catch_unwind(AssertUnwindSafe(|| {
        scene_named(&name.replace(' ', "-"), |scene| {
            let mut stage = Stage::begin(scene, plant, &Plan::default())?;
            for (fault, line) in faults.iter().zip(&mut lines) {
                if let Run::Into(run) = fault.run {
                    println!("---- {}", fault.name);
                    let begun = Instant::now();
                    stage.tally = Tally::default();
                    run(plant, &mut stage).context(fault.name)?;
                    (line.tally, line.took) = (stage.tally, begun.elapsed());
                }
            }
            rows = Some(stage.end()?);
            Ok(())
        });
    }));
    if held.is_ok() {
        lines.iter_mut().for_each(|line| line.rows = rows);
    }
    lines
}

/// Runs a fault that makes its own system.
fn by_itself(plant: &mut Plant, fault: &Fault, run: fn(&mut Plant, &Scene) -> Result<(Tally, usize)>) -> Line {
    println!("---- {}", fault.name);
    let (begun, mut line) = (Instant::now(), Line::new(fault.name));
    let mut outcome = None;
    let held = catch_unwind(AssertUnwindSafe(|| {
        scene_named(&fault.name.replace(' ', "-"), |scene| {
            outcome = Some(run(plant, scene)?);
            Ok(())
        });
    }));
    if let (Ok(()), Some((tally, rows))) = (held, outcome) {
        (line.tally, line.rows) = (tally, Some(rows));
    }
    line.took = begun.elapsed();
    line
}
