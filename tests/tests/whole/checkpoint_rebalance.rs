//! Scorers and intakes come and go while there is traffic: state moves with its partitions, and the tables are those of a replay.

use peakdesk_tests::{Result, Scene, ensure, scene, wait_until};

use crate::checkpoint_support::{PARTITIONS, Stage, count};
use crate::support::{INPUTS, LONG, Role, Topics};

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

/// Partitions of each input where intakes come and go: one for each of four.
const SOURCES_EACH: usize = 4;

/// Waits until the intakes read so many partitions of every input, and each has read on from there.
fn wait_for_sources(intakes: &mut [&mut Role], shares: &[usize]) -> Result {
    for topic in INPUTS {
        let labels = format!("topic=\"{topic}\"");
        let mut read_before: Option<Vec<f64>> = None;
        wait_until(&format!("the intakes to read {shares:?} partitions of {topic}"), LONG, || {
            let mut sums = |what: &str| -> Result<Vec<f64>> {
                let sum = |intake: &mut &mut Role| Ok(intake.metric(what, &labels)?.iter().sum());
                intakes.iter_mut().map(sum).collect()
            };
            let found = sums("peakdesk_intake_source_partitions")?;
            ensure!(found.iter().zip(shares).all(|(found, share)| *found == *share as f64), "{found:?}");
            let read = sums("peakdesk_intake_records_total")?;
            let before = read_before.get_or_insert_with(|| read.clone());
            ensure!(
                before.iter().zip(&read).all(|(before, now)| before < now),
                "{read:?} records after {before:?}"
            );
            Ok(Some(()))
        })?;
    }
    Ok(())
}

/// One, four, one; each process has a thread for every input.
fn rescale_intakes(scene: &Scene, protocol: &str) -> Result {
    let topics = Topics::new(scene, "json")?.with(format!("kafka.group_protocol={protocol}"));
    let mut stage = Stage::begin_over(scene, topics, "500", [SOURCES_EACH as i32; 3])?;
    let scorer = stage.scorer("scorer", "10m")?;
    wait_for_sources(&mut [&mut stage.intake], &[SOURCES_EACH])?;
    let mut others = Vec::new();
    for name in ["second", "third", "fourth"] {
        others.push(stage.topics.role(name, "intake", &[])?);
    }
    let mut all: Vec<&mut Role> = std::iter::once(&mut stage.intake).chain(&mut others).collect();
    wait_for_sources(&mut all, &[1; SOURCES_EACH])?;
    // The one that was there first leaves in good order, one dies, one leaves again.
    stage.intake.terminate()?;
    others[0].process.kill()?;
    others[1].terminate()?;
    stage.intake = others.remove(2);
    wait_for_sources(&mut [&mut stage.intake], &[SOURCES_EACH])?;
    stage.still_runs()?;
    stage.end_load()?;
    stage.tables_are_those_of_a_replay(&mut [scorer])
}

#[test]
fn one_four_one_intakes_under_load() {
    scene(|scene| rescale_intakes(scene, "classic"));
}

#[test]
fn one_four_one_intakes_under_load_where_the_broker_assigns() {
    scene(|scene| rescale_intakes(scene, "consumer"));
}
