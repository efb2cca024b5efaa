//! Peakdesk's cores in worlds of their own, driven by seeds: no process, no broker, no file, no clock.
//!
//! ```text
//! seed ─► story ─┬─► world: intakes, log, scorers with checkpoints, warehouses; faults at every step; healed ─► files, log
//!                └─► judges: the log folded in one go; the story undisturbed; an auditor that knows only the definitions
//! ```
//!
//! The claim: whatever is killed, paused, cut off or sent twice, after healing the published tables are those of an undisturbed
//! run, row for row, alerts those of the log, and nobody had to do anything.
//!
//! `PEAKDESK_SIMULATION_SEEDS` sets how many seeds are tried, `PEAKDESK_SIMULATION_SEED` tries one and prints its steps.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod auditor;
mod broker;
mod chaos;
mod intake;
mod judge;
mod members;
mod oracle;
mod run;
mod scorer;
mod shelf;
mod sources;
mod store;
mod story;
mod warehouse;
mod world;

// Worlds are made of small allocations.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

use run::{Outcome, SEEDS, chosen_seed, in_parallel, run, seeds, shown};
use world::Mutant;

#[test]
fn whatever_happens_the_tables_are_those_of_an_undisturbed_run() {
    if let Some(seed) = chosen_seed() {
        let outcome = run(seed, None, true);
        println!("{}", shown(seed, &outcome));
        assert!(outcome.problem.is_none());
        return;
    }
    let begun = std::time::Instant::now();
    let failed = in_parallel(0..seeds(), |seed| run(seed, None, false).problem.map(|_| seed));
    println!("{} seeds, {:?}", seeds(), begun.elapsed());
    if let Some(seed) = failed.first() {
        panic!(
            "{} seeds failed: {failed:?}\n{}",
            failed.len(),
            shown(*seed, &run(*seed, None, true))
        );
    }
    for (what, outcome) in [
        ("restores", "memory"),
        ("restores", "checkpoint"),
        ("restores", "beginning"),
        ("checkpoints", "failed"),
        ("checkpoints", "unusable"),
    ] {
        let count = scorer::counted(what, outcome);
        println!("{what} {outcome}: {count}");
        assert!(
            count > 0 || seeds() < SEEDS,
            "no {what} of the scorers had the outcome {outcome}: the worlds are too quiet"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_steps() {
    for seed in 0..4 {
        let [one, other] = [run(seed, None, true), run(seed, None, true)];
        assert_eq!(one.steps, other.steps, "seed {seed}");
        assert_eq!(one.files, other.files, "seed {seed}");
    }
}

#[test]
fn planted_faults_are_found() {
    for mutant in [
        Mutant::CommitsBeforeAcknowledged,
        Mutant::SkipsARecord,
        Mutant::ImaginesToHear,
        Mutant::SavesBeforeAcknowledged,
        Mutant::ReadsFromBehindItsState,
        Mutant::BrokerLoses,
        Mutant::CommitsWhatIsInNoFile,
    ] {
        let found = (0..MUTANT_SEEDS).find_map(|seed| {
            let Outcome { problem, .. } = run(seed, Some(mutant), false);
            Some((seed, problem?))
        });
        let (seed, problem) = found.unwrap_or_else(|| panic!("{mutant:?} is not found in {MUTANT_SEEDS} seeds"));
        println!("{mutant:?}: seed {seed}: {}", problem.lines().next().unwrap_or_default());
    }
}

/// A planted fault is found among so many seeds.
const MUTANT_SEEDS: u64 = 300;
