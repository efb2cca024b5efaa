//! Processes that end: killed at any instant, dead at the worst instants, asked to end.

use peakdesk_tests::Result;
use rand::Rng;

use crate::Plant;
use crate::stage::Stage;

/// `kill -9` of any member at any instant; it is started again at once. The next comes now when all is well again, now before that.
pub fn at_random_instants(plant: &mut Plant, stage: &mut Stage<'_>) -> Result {
    for round in 0..plant.times(6, 100) {
        let victim = plant.random.random_range(0..stage.members());
        stage.after_records(&mut plant.random, 1..200)?;
        stage.ensure_load()?;
        stage.kill(victim)?;
        stage.tally.injected += 1;
        stage.start(victim)?;
        if round % 2 == 0 {
            stage.recovered()?;
        }
    }
    stage.recovered()
}

/// Where a death is worst: what is done is not yet noted.
const POINTS: [(&str, &str); 5] = [
    ("intake", "intake-produced"),
    ("scorer", "checkpoint-encoded"),
    ("scorer", "checkpoint-written"),
    ("warehouse", "file-written"),
    ("warehouse", "file-renamed"),
];

/// Each marked point is passed a few times, and once more, which is the end.
pub fn at_marked_points(plant: &mut Plant, stage: &mut Stage<'_>) -> Result {
    for _ in 0..plant.times(1, 10) {
        for (role, point) in POINTS {
            let members = stage.members_of(role);
            let victim = members[plant.random.random_range(0..members.len())];
            stage.terminate(victim)?;
            let passes = plant.random.random_range(1..10);
            stage.start_with(victim, &[], Some(&format!("{point}:{passes}")))?;
            stage.wait_for_death(victim)?;
            stage.tally.injected += 1;
            stage.ensure_load()?;
            stage.start(victim)?;
            stage.recovered()?;
        }
    }
    Ok(())
}

/// SIGTERM of any member: it ends in good order, and nothing is lost or done twice.
pub fn terminated_under_load(plant: &mut Plant, stage: &mut Stage<'_>) -> Result {
    for round in 0..plant.times(6, 40) {
        let victim = round % stage.members();
        stage.after_records(&mut plant.random, 1..200)?;
        stage.ensure_load()?;
        stage.terminate(victim)?;
        stage.tally.injected += 1;
        stage.start(victim)?;
        // By chance and not every second time: the members take turns.
        if plant.random.random() {
            stage.recovered()?;
        }
    }
    stage.recovered()
}
