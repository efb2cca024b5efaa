//! Inputs that do what inputs do: repeat, come late and in disorder, burst, grow, begin again.

use std::fs;
use std::time::{Duration, Instant};

use peakdesk_tests::support::{LONG, SOON, replay};
use peakdesk_tests::{Message, Result, Scene, ensure, wait_until};
use serde_json::Value;

use crate::judge::{same_files, same_rows, undisturbed};
use crate::owners::partitions;
use crate::recording::{record, write};
use crate::stage::{PARTITIONS, Plan, Stage, lasts};
use crate::{Plant, Tally};

/// Records come twice, late, of the future and damaged, refunds before their orders and orders before their chats: so the
/// simulation is, and the topics are read at their own pace. Here it is made sure that it was.
pub fn disorder(_: &mut Plant, stage: &mut Stage<'_>) -> Result {
    for outcome in ["duplicate", "late"] {
        let labels = format!("outcome=\"{outcome}\"");
        wait_until(&format!("events that are {outcome}"), LONG, || {
            let count = stage.sum("scorer", "peakdesk_scorer_events_total", &labels)?;
            ensure!(count > 0.0, "none");
            stage.tally.injected += count as usize;
            Ok(Some(()))
        })?;
    }
    wait_until("records of the future to be refused", LONG, || {
        let letters = stage.topics.broker().read_all(&stage.topics.topic("dead-letters"))?;
        let future = ("peakdesk-reason".to_owned(), Some(b"future".to_vec()));
        let count = letters.iter().filter(|letter| letter.headers.contains(&future)).count();
        ensure!(count > 0, "none of {}", letters.len());
        stage.tally.injected += count;
        Ok(Some(()))
    })?;
    stage.recovered()
}

/// Ten times the traffic all of a sudden: bounded memory, no member lost, and it catches up.
pub fn burst(plant: &mut Plant, scene: &Scene) -> Result<(Tally, usize)> {
    let mut stage = Stage::prepare(scene, plant)?;
    stage.topics.create(PARTITIONS, &[])?;
    let (duration, shops) = if plant.long { ("12d", 28) } else { ("1d", 3) };
    let records = record(&stage, duration, shops)?;
    let (first, rest) = records.split_at(records.len() / 10);
    write(&stage, first)?;
    stage.join(&Plan::default())?;
    stage.recovered()?;
    let before = stage.peak_memory()?;
    // 500 records a second, then 5 000: in the long form for a minute.
    let (calm, burst) = rest.split_at(plant.times(2_500, 10_000));
    let burst = burst.get(..MINUTE_RECORDS).unwrap_or(burst);
    let begun = Instant::now();
    for (second, records) in calm.chunks(500).enumerate() {
        paced(begun, second);
        write(&stage, records)?;
    }
    let begun = Instant::now();
    for (second, records) in burst.chunks(5_000).enumerate() {
        paced(begun, second);
        write(&stage, records)?;
    }
    println!("burst: {} records in {:.1} s", burst.len(), begun.elapsed().as_secs_f64());
    stage.tally.injected = 1;
    stage.recovered()?;
    let after = stage.peak_memory()?;
    println!("peak memory of each process before and after the burst, MiB: {before:.0?} {after:.0?}");
    ensure!(after.iter().all(|mib| *mib < MEMORY_MIB_MAX), "{after:.0?} MiB");
    let restarts = stage.sum("", "peakdesk_thread_restarts_total", "")?;
    ensure!(restarts == 0.0, "{restarts} threads began again");
    Ok((stage.tally, stage.end()?))
}

/// What a minute of the burst has.
const MINUTE_RECORDS: usize = 300_000;

/// Waits for a second of the traffic to begin.
fn paced(begun: Instant, second: usize) {
    lasts(Duration::from_secs(second as u64).saturating_sub(begun.elapsed()));
}

/// What a process may have at most; what it fetches ahead is 64 MiB of it.
const MEMORY_MIB_MAX: f64 = 256.0;

/// Partitions are added to an input topic while it is read.
pub fn partitions_added(plant: &mut Plant, scene: &Scene) -> Result<(Tally, usize)> {
    let mut stage = Stage::prepare(scene, plant)?;
    stage.topics.create(PARTITIONS, &[])?;
    let mut records = record(&stage, "1d", 3)?;
    let second = records.split_off(records.len() / 2);
    write(&stage, &records)?;
    stage.join(&Plan::default())?;
    stage.recovered()?;
    let (topic, all) = (stage.topics.topic("chat"), PARTITIONS.iter().sum::<i32>() as usize);
    plant.kafka.add_partitions(&topic, 6)?;
    stage.tally.injected = 1;
    // Simulated time runs thousands of times as fast as the clients look for new partitions.
    wait_until("the intakes to read the new partitions", SOON, || {
        let mut owned = 0;
        for intake in stage.members_of("intake") {
            owned += partitions(&mut stage, intake)?;
        }
        ensure!(owned == all + 2, "{owned} of {}", all + 2);
        Ok(Some(()))
    })?;
    let moved: Vec<_> = second
        .into_iter()
        .enumerate()
        .map(|(n, (topic, message))| {
            let partition = message
                .partition
                .map(|p| if topic == "chat" && p < 2 && n % 2 == 0 { p + 4 } else { p });
            (topic, Message { partition, ..message })
        })
        .collect();
    write(&stage, &moved)?;
    stage.recovered()?;
    Ok((stage.tally, stage.end()?))
}

/// An input topic is deleted and made again; its generation is counted up, its offsets begin again.
pub fn recreated(plant: &mut Plant, scene: &Scene) -> Result<(Tally, usize)> {
    let mut stage = Stage::prepare(scene, plant)?;
    stage.topics.create(PARTITIONS, &[])?;
    let mut records = record(&stage, "1d", 3)?;
    let second = records.split_off(records.len() / 2);
    write(&stage, &records)?;
    stage.join(&Plan::default())?;
    stage.recovered()?;
    let first = scene.path("first");
    stage.topics.dump(&first)?;
    for intake in stage.members_of("intake").into_iter().rev() {
        stage.dismiss(intake)?;
    }
    let chat = stage.topics.topic("chat");
    plant.kafka.delete_topic(&chat)?;
    plant.kafka.create_topic(&chat, PARTITIONS[0], &[])?;
    stage.tally.injected = 1;
    write(&stage, &second)?;
    stage.topics = stage.topics.clone().with("topics.chat.generation=2".to_owned());
    for n in 0..2 {
        stage.add(&format!("intake-again-{n}"), "intake", &[])?;
    }
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
    Ok((stage.tally, same_rows(scene, &stage.output, &again, &tables)?))
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
