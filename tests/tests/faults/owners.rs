//! Partitions with two owners: on purpose, by a zombie, or for the moment of a rebalance.

use std::time::Duration;

use peakdesk_tests::support::{LONG, SOON};
use peakdesk_tests::{Result, ensure, wait_until};
use rand::Rng;

use crate::Plant;
use crate::stage::{PARTITIONS, Stage, lasts};

/// An intake, a scorer and a warehouse of other groups own everything once more, and write to the same topics and files.
pub fn two_owners(plant: &mut Plant, stage: &mut Stage<'_>) -> Result {
    for _ in 0..plant.times(1, 5) {
        let twin = [format!("kafka.group_prefix={}-twin", stage.scene.prefix())];
        let mut twins = Vec::new();
        for role in ["intake", "scorer", "warehouse"] {
            twins.push(stage.add(&format!("{role}-twin"), role, &twin)?);
            stage.tally.injected += 1;
        }
        stage.recovered()?;
        for (number, metric, labels) in [
            (twins[1], "peakdesk_scorer_events_total", "outcome=\"repeated\""),
            (twins[2], "peakdesk_warehouse_repeats_total", ""),
        ] {
            wait_until(&format!("{metric} to count what came twice"), LONG, || {
                let repeats = stage.member(number)?.metric(metric, labels)?;
                ensure!(repeats.iter().sum::<f64>() > 0.0, "{repeats:?}");
                Ok(Some(()))
            })?;
        }
        stage.ensure_load()?;
        for twin in twins.into_iter().rev() {
            stage.dismiss(twin)?;
        }
    }
    Ok(())
}

/// The metric that has a sample for every partition of a member, and how many there are in all.
fn owned(role: &str) -> (&'static str, &'static str, usize) {
    match role {
        "intake" => ("peakdesk_intake_source_partitions", "", PARTITIONS.iter().sum::<i32>() as usize),
        "scorer" => ("peakdesk_scorer_complete_until_milliseconds", "", 4),
        _ => ("peakdesk_warehouse_pending_rows", "results", 4),
    }
}

/// Partitions that a member thinks are its own.
pub fn partitions(stage: &mut Stage<'_>, number: usize) -> Result<usize> {
    let member = stage.member(number)?;
    let (metric, labels, _) = owned(member.role);
    let values = member.metric(metric, labels)?;
    // An intake has one sample for each topic, which says how many.
    Ok(if member.role == "intake" {
        values.iter().sum::<f64>() as usize
    } else {
        values.len()
    })
}

/// Of each role, the member that is disturbed and the one that takes over.
fn pairs(stage: &Stage<'_>) -> Vec<(&'static str, usize, usize)> {
    let pair = |role| match stage.members_of(role)[..] {
        [one, other] => Some((role, one, other)),
        _ => None,
    };
    ["intake", "scorer", "warehouse"].into_iter().filter_map(pair).collect()
}

/// A member of each role is stopped without its knowing until the others have taken over, and goes on where it was.
pub fn zombie(plant: &mut Plant, stage: &mut Stage<'_>) -> Result {
    for _ in 0..plant.times(1, 5) {
        let pairs = pairs(stage);
        for (role, sleeper, heir) in &pairs {
            let all = owned(role).2;
            wait_until(&format!("both members of {role} to own something"), SOON, || {
                let (a, b) = (partitions(stage, *sleeper)?, partitions(stage, *heir)?);
                ensure!(a > 0 && b > 0 && a + b >= all, "{a} and {b} of {all}");
                Ok(Some(()))
            })?;
        }
        for (_, sleeper, _) in &pairs {
            stage.member(*sleeper)?.process()?.pause()?;
            stage.tally.injected += 1;
        }
        for (role, sleeper, heir) in &pairs {
            let all = owned(role).2;
            let taken = wait_until(&format!("the other {role} to take over"), LONG, || {
                let has = partitions(stage, *heir)?;
                ensure!(has == all, "{has} of {all}");
                Ok(Some(()))
            });
            stage.member(*sleeper)?.process()?.resume()?;
            taken?;
        }
        stage.ensure_load()?;
        stage.recovered()?;
    }
    Ok(())
}

/// How often a member comes or goes.
const STORM_EVERY: Duration = Duration::from_secs(2);

/// A third member of each role comes or goes every two seconds.
pub fn storm(plant: &mut Plant, stage: &mut Stage<'_>) -> Result {
    for round in 0..plant.times(3, 30) {
        let mut guests = Vec::new();
        for role in ["intake", "scorer", "warehouse"] {
            guests.push(stage.add(&format!("{role}-guest-{round}"), role, &[])?);
            stage.tally.injected += 1;
        }
        lasts(STORM_EVERY);
        for guest in guests.into_iter().rev() {
            stage.dismiss(guest)?;
            stage.tally.injected += 1;
        }
        stage.ensure_load()?;
        lasts(STORM_EVERY);
        if round % 3 == 2 {
            stage.recovered()?;
        }
    }
    stage.recovered()
}

/// Of each role a member does not poll for longer than `max.poll.interval.ms`: the group goes on without it, and it comes back.
pub fn slow_consumer(plant: &mut Plant, stage: &mut Stage<'_>) -> Result {
    let patience = ["kafka.options.max.poll.interval.ms=3500".to_owned()];
    for _ in 0..plant.times(1, 5) {
        let pairs = pairs(stage);
        for (role, slow, _) in &pairs {
            let point = if *role == "warehouse" { "file-written" } else { "delivery-send" };
            let passes = plant.random.random_range(5..20);
            stage.kill(*slow)?;
            stage.start_with(*slow, &patience, Some(&format!("{point}:{passes}:6000")))?;
        }
        for (role, slow, _) in &pairs {
            // The client says so when the member polls again; the group has gone on without it by then.
            wait_until(&format!("the slow {role} to learn that it was too slow"), LONG, || {
                let process = stage.member(*slow)?.process()?;
                process.alive()?;
                ensure!(process.stderr()?.contains("PollExceeded"), "it was not yet");
                Ok(Some(()))
            })?;
            stage.tally.injected += 1;
        }
        stage.ensure_load()?;
        stage.recovered()?;
        for (_, slow, _) in pairs {
            stage.kill(slow)?;
            stage.start(slow)?;
        }
    }
    stage.recovered()
}
