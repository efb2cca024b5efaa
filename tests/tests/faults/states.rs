//! Checkpoints that are damaged or missing, while the log is whole: the newest good one is gone on from, else the beginning.

use std::fs::{self, File};
use std::path::PathBuf;

use peakdesk_tests::object_store::{damage, stored};
use peakdesk_tests::support::LONG;
use peakdesk_tests::{Result, ensure, wait_until};
use rand::Rng;

use crate::Plant;
use crate::stage::Stage;
use crate::store::BUCKET;

/// Partitions of the shop log.
pub const PARTITIONS: usize = 4;

/// What happens to the newest checkpoint of every partition.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Harm {
    Flipped,
    Truncated,
    Deleted,
    /// And to all before it.
    AllDeleted,
}

impl Harm {
    fn work(self, plant: &mut Plant, files: &[(i64, PathBuf)]) -> Result {
        let Some((_, newest)) = files.first() else { return Ok(()) };
        match self {
            Harm::Flipped => damage(newest, plant.random.random_range(1..=fs::metadata(newest)?.len() as usize)),
            Harm::Truncated => {
                let len = fs::metadata(newest)?.len();
                Ok(File::options()
                    .write(true)
                    .open(newest)?
                    .set_len(plant.random.random_range(0..len))?)
            }
            Harm::Deleted => Ok(fs::remove_file(newest)?),
            Harm::AllDeleted => files.iter().try_for_each(|(_, file)| Ok(fs::remove_file(file)?)),
        }
    }
}

/// The scorers are killed, checkpoints are harmed, and one scorer takes over every partition; then the others come back.
pub fn harmed(plant: &mut Plant, stage: &mut Stage<'_>) -> Result {
    let root = plant.store.files(BUCKET).join(stage.scene.prefix());
    let scorers = stage.members_of("scorer");
    // Up to where checkpoints of each partition were harmed: what lies behind that is good.
    let mut harmed = [0; PARTITIONS];
    for _ in 0..plant.times(1, 5) {
        for harm in [Harm::Flipped, Harm::Truncated, Harm::Deleted, Harm::AllDeleted] {
            wait_until("two good checkpoints of every partition", LONG, || {
                for (partition, harmed) in harmed.iter().enumerate() {
                    let good = stored(&root, partition)?.iter().filter(|(offset, _)| offset > harmed).count();
                    ensure!(good >= 2, "partition {partition} has {good}");
                }
                Ok(Some(()))
            })?;
            stage.ensure_load()?;
            for scorer in &scorers {
                stage.kill(*scorer)?;
            }
            // Where each partition is to begin.
            let mut begin = Vec::new();
            for (partition, harmed) in harmed.iter_mut().enumerate() {
                let files = stored(&root, partition)?;
                harm.work(plant, &files)?;
                *harmed = files.first().map_or(0, |(offset, _)| *offset);
                stage.tally.injected += 1;
                begin.push(match files.get(1) {
                    Some((offset, _)) if harm != Harm::AllDeleted => *offset,
                    _ => 0,
                });
            }
            stage.start(scorers[0])?;
            restored(stage, scorers[0], harm, &begin)?;
            for scorer in &scorers[1..] {
                stage.start(*scorer)?;
            }
            stage.recovered()?;
        }
    }
    stage.ensure_load()
}

/// Waits until a scorer has all partitions and holds what it says of them against what was done.
fn restored(stage: &mut Stage<'_>, scorer: usize, harm: Harm, begin: &[i64]) -> Result {
    let wanted = if harm == Harm::AllDeleted { "beginning" } else { "checkpoint" };
    wait_until(&format!("all partitions to be begun from the {wanted}"), LONG, || {
        let labels = format!("outcome=\"{wanted}\"");
        let count: f64 = stage
            .member(scorer)?
            .metric("peakdesk_scorer_restores_total", &labels)?
            .iter()
            .sum();
        let all = stage.member(scorer)?.metric("peakdesk_scorer_restores_total", "")?;
        ensure!(count == PARTITIONS as f64, "{count}; with others {all:?}");
        Ok(Some(()))
    })?;
    let labels = "outcome=\"unusable\"";
    let unusable = stage.member(scorer)?.metric("peakdesk_scorer_checkpoints_total", labels)?;
    let unusable = unusable.iter().sum::<f64>() as usize;
    let seen = matches!(harm, Harm::Flipped | Harm::Truncated);
    let expected = if seen { PARTITIONS } else { 0 };
    ensure!(unusable == expected, "{harm:?}: {unusable} were found unusable, not {expected}");
    let said = stage.member(scorer)?.process()?.stderr()?;
    for (partition, offset) in begin.iter().enumerate() {
        let words = format!("partition={partition} from=\"{wanted}\" offset={offset} ");
        ensure!(
            said.lines().any(|line| line.contains("state restored") && line.contains(&words)),
            "{harm:?}: no partition {partition} that begins at {offset}: {said}"
        );
    }
    println!("{harm:?}: begun at {begin:?}, {unusable} found unusable");
    Ok(())
}
