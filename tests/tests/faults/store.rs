//! The store of the checkpoints refuses, hangs, or does what it is told and does not say so.

use peakdesk_tests::support::LONG;
use peakdesk_tests::{Line, Result, ensure, wait_until};

use crate::Plant;
use crate::stage::Stage;

/// The bucket.
pub const BUCKET: &str = "states";

/// An answer in place of the store's own, which has done what it was asked for.
const REFUSED: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Each kind of trouble, until checkpoints fail of it; then a scorer dies in the midst of it, and goes on from what is stored
/// when the store is well again.
pub fn trouble(plant: &mut Plant, stage: &mut Stage<'_>) -> Result {
    for _ in 0..plant.times(1, 5) {
        // The last answers nothing, until the request's time is over.
        for line in [Line::Instead(REFUSED), Line::Instead(""), Line::Cut, Line::HalfOpen] {
            wait_for_checkpoints(stage, "saved")?;
            plant.way_to_store.set(line);
            stage.tally.injected += 1;
            let scorers = stage.members_of("scorer");
            let failed = wait_for_checkpoints(stage, "failed").and_then(|()| stage.recovered());
            let failed = match line {
                Line::HalfOpen => failed
                    .and_then(|()| one_says(stage, TIMED_OUT))
                    .and_then(|()| stage.kill(scorers[0])),
                _ => failed,
            };
            plant.way_to_store.set(Line::Whole);
            failed?;
            if line == Line::HalfOpen {
                stage.start(scorers[0])?;
                wait_until("the scorer to go on from a checkpoint", LONG, || {
                    let labels = "outcome=\"checkpoint\"";
                    let restored = stage.member(scorers[0])?.metric("peakdesk_scorer_restores_total", labels)?;
                    ensure!(restored.iter().sum::<f64>() > 0.0, "no partition of it did");
                    Ok(Some(()))
                })?;
                stage.recovered()?;
            }
            wait_for_checkpoints(stage, "saved")?;
        }
    }
    stage.ensure_load()
}

/// What the client says of a request that was given up.
const TIMED_OUT: &str = "timed out";

/// Insists that a scorer has said so when it did not save a checkpoint.
fn one_says(stage: &mut Stage<'_>, words: &str) -> Result {
    let mut said = String::new();
    for scorer in stage.members_of("scorer") {
        said += &stage.member(scorer)?.process()?.stderr()?;
    }
    let mut failed = said.lines().filter(|line| line.contains("checkpoint not saved"));
    ensure!(
        failed.any(|line| line.contains(words)),
        "no checkpoint failed as a request {words}: {said}"
    );
    Ok(())
}

/// Waits until there was one more of this outcome.
pub fn wait_for_checkpoints(stage: &mut Stage<'_>, outcome: &str) -> Result {
    let labels = format!("outcome=\"{outcome}\"");
    let before = stage.sum("scorer", "peakdesk_scorer_checkpoints_total", &labels)?;
    wait_until(&format!("a checkpoint to be {outcome}"), LONG, || {
        let now = stage.sum("scorer", "peakdesk_scorer_checkpoints_total", &labels)?;
        ensure!(now > before, "{now}");
        Ok(Some(()))
    })
}
