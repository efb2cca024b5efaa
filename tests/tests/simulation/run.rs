//! One seed from its story to its judgement, and many of them.

use crate::auditor;
use crate::judge;
use crate::scorer::LIVES_MAX;
use crate::shelf::Files;
use crate::story::{self, Story};
use crate::world::{Mutant, World};
use peakdesk_intake::decode::Edge;
use peakdesk_intake::registry::Schemas;
use peakdesk_model::time::{DAY_MS, MINUTE_MS};
use std::cell::OnceCell;
use std::env;
use std::ops::Range;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

/// Seeds that are tried unless something else is asked for.
pub const SEEDS: u64 = 2_000;
const SEEDS_VARIABLE: &str = "PEAKDESK_SIMULATION_SEEDS";
const SEED_VARIABLE: &str = "PEAKDESK_SIMULATION_SEED";
/// Steps that are shown of a seed that failed.
const STEPS_SHOWN: usize = 60;

pub static EDGE: LazyLock<Edge> = LazyLock::new(|| Edge {
    buyer_key: std::array::from_fn(|i| i as u8),
    future_skew_ms: 5 * MINUTE_MS,
    order_retention_ms: 45 * DAY_MS,
    schemas: Arc::new(Schemas::shipped().unwrap()),
});

/// What came of a seed.
pub struct Outcome {
    /// What must not be.
    pub problem: Option<String>,
    pub story: Story,
    pub files: Files,
    /// Empty unless asked for.
    pub steps: Vec<String>,
}

/// Lives through a seed and judges it.
pub fn run(seed: u64, mutant: Option<Mutant>, traced: bool) -> Outcome {
    let partitions = [1 + (seed % 3) as i32, 2, 1 + (seed / 3 % 2) as i32];
    let story = story::tell(seed, partitions);
    let lives: Vec<OnceCell<_>> = (0..LIVES_MAX).map(|_| OnceCell::new()).collect();
    let mut world = World::new(seed, &story, &EDGE, &lives, mutant, traced);
    let judged = world.run().and_then(|()| {
        let (files, rows) = judge::straight(&world.broker, world.chaos.slice_ms)?;
        if let Some(path) = world.shelf.changed() {
            return Err(format!("{} was written again with other rows", path.display()));
        }
        judge::same_files(&world.shelf.files(), &files)?;
        judge::same_rows(&rows, &judge::undisturbed(&story, &EDGE)?)?;
        auditor::audit(&story, &rows, &world.broker)
    });
    let (files, steps) = (world.shelf.files(), world.trace.take().unwrap_or_default());
    drop(world);
    Outcome {
        problem: judged.err(),
        story,
        files,
        steps,
    }
}

/// What to say of a seed: its last steps, what is wrong, and how to see it again.
pub fn shown(seed: u64, outcome: &Outcome) -> String {
    let from = outcome.steps.len().saturating_sub(STEPS_SHOWN);
    format!(
        "{}\nseed {seed}: {}\nagain: {SEED_VARIABLE}={seed} cargo test --workspace --test simulation -- --nocapture whatever_happens",
        outcome.steps.get(from..).unwrap_or_default().join("\n"),
        outcome.problem.as_deref().unwrap_or("as it should be")
    )
}

fn number<T: FromStr>(variable: &str) -> Option<T> {
    let text = env::var(variable).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{variable}={text} is not a number"),
    }
}

/// The one seed that is to be tried.
pub fn chosen_seed() -> Option<u64> {
    number(SEED_VARIABLE)
}

/// How many seeds are to be tried.
pub fn seeds() -> u64 {
    number(SEEDS_VARIABLE).unwrap_or(SEEDS)
}

/// Tries seeds on all cores; what was found, in order. No seed knows of another, so this is as reproducible as one thread.
pub fn in_parallel(seeds: Range<u64>, work: impl Fn(u64) -> Option<u64> + Sync) -> Vec<u64> {
    let (next, found) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let failed = work(seed);
                    found.lock().unwrap().extend(failed);
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort_unstable();
    found
}
