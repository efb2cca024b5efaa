//! Scorers come and go while there is traffic: state moves with its partitions, and the tables are those of a replay.

use peakdesk_tests::{Result, Scene, ensure, scene, wait_until};

use crate::checkpoint_support::{PARTITIONS, Stage, count};
use crate::support::{LONG, Role, Topics};

/// Waits until the scorers have so many partitions each, all of them folded.
fn wait_for_shares(scorers: &mut [&mut Role], shares: &[usize]) -> Result {
    wait_until(&format!("the scorers to fold {shares:?} partitions"), LONG, || {
        let mut found = Vec::new();
        for scorer in scorers.iter_mut() {
            found.push(scorer.metric("peakdesk_scorer_now_milliseconds", "")?.len());
        }
        ensure!(found == shares, "{found:?}");
        Ok(Some(()))
    })
}

/// One, four, one.
fn rescale(scene: &Scene, protocol: &str) -> Result {
    let topics = Topics::new(scene, "json")?.with(format!("kafka.group_protocol={protocol}"));
    let mut stage = Stage::begin(scene, topics, "500")?;
    let mut first = stage.scorer("first", "10m")?;
    wait_for_shares(&mut [&mut first], &[PARTITIONS])?;
    let mut others = Vec::new();
    for name in ["second", "third", "fourth"] {
        others.push(stage.scorer(name, "1s")?);
    }
    let mut all: Vec<&mut Role> = std::iter::once(&mut first).chain(&mut others).collect();
    wait_for_shares(&mut all, &[1; PARTITIONS])?;
    wait_until("checkpoints of those that joined", LONG, || {
        for scorer in &mut others {
            let saved = count(scorer, "checkpoints_total", "outcome=\"saved\"")?;
            ensure!(saved > 0.0, "{saved} of {}", scorer.url);
        }
        Ok(Some(()))
    })?;
    // One leaves in good order, one dies, one leaves again.
    others[0].terminate()?;
    others[1].process.kill()?;
    others[2].terminate()?;
    wait_for_shares(&mut [&mut first], &[PARTITIONS])?;
    let kept = count(&mut first, "restores_total", "outcome=\"memory\"")?;
    ensure!(kept == 3.0, "{kept} partitions came back to their state in memory");
    stage.still_runs()?;

    // Whoever comes next goes on from what the others have stored.
    first.process.kill()?;
    let mut last = stage.scorer("last", "1s")?;
    wait_for_shares(&mut [&mut last], &[PARTITIONS])?;
    let restored = count(&mut last, "restores_total", "outcome=\"checkpoint\"")?;
    ensure!(restored == 3.0, "{restored} partitions went on from a checkpoint");
    stage.still_runs()?;
    stage.end_load()?;
    stage.tables_are_those_of_a_replay(&mut [last])
}

#[test]
fn one_four_one_scorers_under_load() {
    scene(|scene| rescale(scene, "classic"));
}

#[test]
fn one_four_one_scorers_under_load_where_the_broker_assigns() {
    scene(|scene| rescale(scene, "consumer"));
}
