//! The store of the checkpoints refuses, hangs, or does what it is told and does not say so.

use std::time::Duration;

use peakdesk_tests::support::LONG;
use peakdesk_tests::{Line, Result, ensure, wait_until};

use crate::Plant;
use crate::stage::{Stage, lasts};

/// The bucket.
pub const BUCKET: &str = "states";

/// An answer in place of the store's own, which has done what it was asked for.
const REFUSED: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Each kind of trouble, until checkpoints fail of it; then a scorer dies in the midst of it, and goes on from what is stored
/// when the store is well again.
pub fn trouble(plant: &mut Plant, stage: &mut Stage<'_>) -> Result {
    for _ in 0..plant.times(1, 5) {
        for line in [Line::Instead(REFUSED), Line::Instead(""), Line::Cut] {
            wait_for_checkpoints(stage, "saved")?;
            plant.way_to_store.set(line);
            stage.tally.injected += 1;
            let failed = wait_for_checkpoints(stage, "failed").and_then(|()| stage.recovered());
            plant.way_to_store.set(Line::Whole);
            failed?;
            wait_for_checkpoints(stage, "saved")?;
        }
        // A request that hangs does so for minutes before it is given up; here the line comes back.
        plant.way_to_store.set(Line::HalfOpen);
        stage.tally.injected += 1;
        lasts(HANGS);
        let scorers = stage.members_of("scorer");
        let outcome = stage.recovered().and_then(|()| stage.kill(scorers[0]));
        plant.way_to_store.set(Line::Whole);
        outcome?;
        stage.start(scorers[0])?;
        stage.recovered()?;
        let restored = stage.sum("scorer", "peakdesk_scorer_restores_total", "outcome=\"checkpoint\"")?;
        ensure!(restored > 0.0, "no partition went on from a checkpoint");
        wait_for_checkpoints(stage, "saved")?;
    }
    stage.ensure_load()
}

/// Longer than two checkpoints are apart.
const HANGS: Duration = Duration::from_secs(5);

/// Waits until there was one more of this outcome.
fn wait_for_checkpoints(stage: &mut Stage<'_>, outcome: &str) -> Result {
    let labels = format!("outcome=\"{outcome}\"");
    let before = stage.sum("scorer", "peakdesk_scorer_checkpoints_total", &labels)?;
    wait_until(&format!("a checkpoint to be {outcome}"), LONG, || {
        let now = stage.sum("scorer", "peakdesk_scorer_checkpoints_total", &labels)?;
        ensure!(now > before, "{now}");
        Ok(Some(()))
    })
}
