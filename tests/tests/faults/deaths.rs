//! Processes that end: killed at any instant, dead at the worst instants, asked to end.

use peakdesk_tests::{Result, Scene};
use rand::Rng;

use crate::stage::{Plan, Stage};
use crate::{Plant, Tally};

/// `kill -9` of any member at any instant; it is started again at once.
pub fn at_random_instants(plant: &mut Plant, scene: &Scene) -> Result<Tally> {
    let kills = plant.times(6, 100);
    let plan = Plan {
        seconds: if plant.long { 360 } else { 20 },
        members: [2, 2, 2],
        ..Plan::default()
    };
    let mut stage = Stage::begin(scene, plant, &plan)?;
    for _ in 0..kills {
        let victim = plant.random.random_range(0..stage.members());
        stage.after_records(&mut plant.random, 1..200)?;
        stage.ensure_load()?;
        stage.kill(victim)?;
        stage.tally.injected += 1;
        stage.start(victim, None)?;
    }
    stage.tally.injected -= 1;
    stage.recovered()?;
    stage.end()
}

/// Where a death is worst: what is done is not yet noted.
const POINTS: [(&str, &str); 3] = [
    ("intake", "intake-produced"),
    ("warehouse", "file-written"),
    ("warehouse", "file-renamed"),
];

/// Each marked point is reached a few times, and once more, which is the end.
pub fn at_marked_points(plant: &mut Plant, scene: &Scene) -> Result<Tally> {
    let rounds = plant.times(1, 10);
    let plan = Plan {
        seconds: if plant.long { 240 } else { 20 },
        members: [2, 2, 1],
        ..Plan::default()
    };
    let mut stage = Stage::begin(scene, plant, &plan)?;
    for _ in 0..rounds {
        for (role, point) in POINTS {
            let members = stage.members_of(role);
            let victim = members[plant.random.random_range(0..members.len())];
            stage.terminate(victim)?;
            let passes = plant.random.random_range(1..20);
            stage.start(victim, Some(&format!("{point}:{passes}")))?;
            stage.wait_for_death(victim)?;
            stage.ensure_load()?;
            stage.start(victim, None)?;
            stage.recovered()?;
        }
    }
    stage.end()
}

/// SIGTERM of any member: it ends in good order, and nothing is lost or done twice.
pub fn terminated_under_load(plant: &mut Plant, scene: &Scene) -> Result<Tally> {
    let rounds = plant.times(6, 40);
    let plan = Plan {
        seconds: if plant.long { 200 } else { 20 },
        members: [2, 2, 2],
        ..Plan::default()
    };
    let mut stage = Stage::begin(scene, plant, &plan)?;
    for round in 0..rounds {
        let victim = round % stage.members();
        stage.after_records(&mut plant.random, 1..200)?;
        stage.ensure_load()?;
        stage.terminate(victim)?;
        stage.tally.injected += 1;
        stage.start(victim, None)?;
    }
    stage.tally.injected -= 1;
    stage.recovered()?;
    stage.end()
}
