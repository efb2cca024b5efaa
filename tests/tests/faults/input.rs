//! Inputs that do what inputs do: repeat, come late and in disorder, burst, grow, begin again.

use std::fs;

use peakdesk_tests::support::{SOON, replay};
use peakdesk_tests::{Result, Scene, ensure, wait_until};
use serde_json::Value;

use crate::judge::{same_files, same_rows, undisturbed};
use crate::owners::partitions;
use crate::stage::{PARTITIONS, Plan, Stage};
use crate::{Plant, Tally};

/// Records twice, late, of the future, damaged; refunds before their orders and orders before their chats: the topics are read
/// at their own pace, and the disorder is ten times that of life.
pub fn disorder(plant: &mut Plant, scene: &Scene) -> Result<Tally> {
    let plan = Plan {
        seconds: plant.times(12, 60) as u32,
        simulator: &["--disorder", "10", "--duplicates", "0.1", "--late-share", "0.03"],
        ..Plan::default()
    };
    let mut stage = Stage::begin(scene, plant, &plan)?;
    stage.drain()?;
    let duplicates = stage.sum("scorer", "peakdesk_scorer_events_total", "outcome=\"duplicate\"")?;
    let late = stage.sum("scorer", "peakdesk_scorer_events_total", "outcome=\"late\"")?;
    ensure!(
        duplicates > 100.0 && late > 10.0,
        "only {duplicates} duplicates and {late} late events"
    );
    stage.tally.injected = (duplicates + late) as usize;
    stage.end()
}

/// Ten times the traffic all of a sudden: bounded memory, no member lost, and it catches up.
pub fn burst(plant: &mut Plant, scene: &Scene) -> Result<Tally> {
    // The burst is as many records as the calm before, in a tenth of the time; in the long form a minute of it.
    let calm = Plan {
        seconds: plant.times(60, 600) as u32,
        ..Plan::default()
    };
    let burst = Plan {
        seconds: calm.seconds / 10,
        ..Plan::default()
    };
    let mut stage = Stage::prepare(scene, plant)?;
    stage.topics.create(PARTITIONS, &[])?;
    stage.simulate("calm", "2025-11-10T20:00", "4h", &calm)?;
    stage.join(&calm)?;
    stage.drain()?;
    let before = stage.peak_memory()?;
    stage.simulate("burst", "2025-11-11T00:00", "1d", &burst)?;
    stage.drain()?;
    stage.recovered()?;
    let after = stage.peak_memory()?;
    println!("peak memory of each process before and after the burst, MiB: {before:?} {after:?}");
    ensure!(after.iter().all(|mib| *mib < 400.0), "{after:?} MiB");
    let restarts = stage.sum("", "peakdesk_thread_restarts_total", "")?;
    ensure!(restarts == 0.0, "{restarts} threads began again");
    stage.end()
}

/// Partitions are added to an input topic while it is read.
pub fn partitions_added(plant: &mut Plant, scene: &Scene) -> Result<Tally> {
    let plan = Plan::default();
    let mut stage = Stage::prepare(scene, plant)?;
    stage.topics.create(PARTITIONS, &[])?;
    stage.simulate("before", "2025-11-10T20:00", "12h", &plan)?;
    stage.join(&plan)?;
    stage.drain()?;
    let (topic, all) = (stage.topics.topic("chat"), PARTITIONS.iter().sum::<i32>() as usize);
    plant.kafka.add_partitions(&topic, 6)?;
    // Simulated time runs thousands of times as fast as the clients look for new partitions.
    wait_until("the intakes to read the new partitions", SOON, || {
        let mut owned = 0;
        for intake in stage.members_of("intake") {
            owned += partitions(&mut stage, intake)?;
        }
        ensure!(owned == all + 2, "{owned} of {}", all + 2);
        Ok(Some(()))
    })?;
    stage.simulate("after", "2025-11-11T08:00", "12h", &plan)?;
    stage.drain()?;
    stage.recovered()?;
    stage.end()
}

/// An input topic is deleted and made again; its generation is counted up, its offsets begin again.
pub fn recreated(plant: &mut Plant, scene: &Scene) -> Result<Tally> {
    let plan = Plan::default();
    let mut stage = Stage::prepare(scene, plant)?;
    stage.topics.create(PARTITIONS, &[])?;
    stage.simulate("before", "2025-11-10T20:00", "12h", &plan)?;
    stage.join(&plan)?;
    stage.drain()?;
    let first = scene.path("first");
    stage.topics.dump(&first)?;
    for intake in stage.members_of("intake").into_iter().rev() {
        stage.dismiss(intake)?;
    }
    let chat = stage.topics.topic("chat");
    plant.kafka.delete_topic(&chat)?;
    plant.kafka.create_topic(&chat, PARTITIONS[0], &[])?;
    stage.simulate("after", "2025-11-11T08:00", "12h", &plan)?;
    stage.topics = stage.topics.clone().with("topics.chat.generation=2".to_owned());
    for n in 0..2 {
        stage.add(&format!("intake-again-{n}"), "intake", &[])?;
    }
    stage.drain()?;
    stage.recovered()?;
    stage.finish()?;

    let reference = undisturbed(&stage)?;
    ensure!(same_files(&stage.output, &reference)? > 0, "no file was written");
    // A dump knows one generation: here the second goes on with the offsets of the first.
    let (both, again) = (scene.path("both"), scene.path("replayed"));
    stage.topics.dump(&both)?;
    let mut chat = fs::read_to_string(first.join("chat.ndjson"))?;
    let ends = ends(&chat)?;
    for line in fs::read_to_string(both.join("chat.ndjson"))?.lines() {
        let mut record: Value = serde_json::from_str(line)?;
        let partition = record["partition"].as_i64().unwrap_or(0);
        let offset = record["offset"].as_i64().unwrap_or(0) + ends.get(partition as usize).copied().unwrap_or(0);
        record["offset"] = offset.into();
        chat.push_str(&format!("{record}\n"));
    }
    fs::write(both.join("chat.ndjson"), chat)?;
    replay(scene, &both, &again, &[])?;
    // Late events and dead letters name positions in their topic, which differ.
    let tables = [
        "--tables",
        "reply_rounds",
        "orders",
        "refunds",
        "buyer_days",
        "agent_windows",
        "shop_windows",
    ];
    stage.tally.rows = same_rows(scene, &stage.output, &again, &tables)?;
    Ok(stage.tally)
}

/// The offset behind the last record of each partition of a dump's topic.
fn ends(dump: &str) -> Result<Vec<i64>> {
    let mut ends = vec![0; PARTITIONS[0] as usize];
    for line in dump.lines() {
        let record: Value = serde_json::from_str(line)?;
        let (partition, offset) = (record["partition"].as_i64().unwrap_or(0), record["offset"].as_i64().unwrap_or(0));
        if let Some(end) = ends.get_mut(partition as usize) {
            *end = (*end).max(offset + 1);
        }
    }
    Ok(ends)
}
