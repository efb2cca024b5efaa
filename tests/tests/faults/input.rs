//! Inputs that do what inputs do: repeat, come late and in disorder, burst, grow, begin again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use peakdesk_tests::support::{INPUTS, LONG, SOON, replay};
use peakdesk_tests::{Context, Message, Record, Result, Scene, ensure, wait_until};
use serde_json::Value;

use crate::judge::{same_files, same_rows, undisturbed};
use crate::owners::partitions;
use crate::recording::{Traffic, good, record, write};
use crate::stage::{PARTITIONS, Plan, Stage};
use crate::{Plant, Tally};

/// Records come twice, late, of the future and damaged: so the simulation is, and here it is made sure that it was. Refunds before their
/// orders, and orders before the chats that lead to them, are rare there, so more are written.
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
    stage.quiet(backwards)?;
    let (refunds, orders) = out_of_order(stage)?;
    println!("disorder: {refunds} refunds arrived before their orders, {orders} orders before the chats that lead to them");
    ensure!(refunds >= BACKWARDS && orders >= BACKWARDS, "{refunds} refunds, {orders} orders");
    stage.tally.injected += refunds + orders;
    stage.recovered()
}

/// Buyers whose records come in the wrong order.
const BACKWARDS: usize = 20;

/// Writes refunds, when these are folded the orders, and when these are folded the chats before; none of it is late.
fn backwards(stage: &mut Stage<'_>) -> Result {
    let mut now = 0;
    for (topic, partitions) in INPUTS.into_iter().zip(PARTITIONS) {
        for partition in 0..partitions {
            now = now.max(stage.clock(topic, partition as usize)? as i64);
        }
    }
    let late = "outcome=\"late\"";
    let before = stage.sum("scorer", "peakdesk_scorer_events_total", late)?;
    for (n, (topic, ago_ms)) in [("refunds", 10_000), ("orders", 20_000), ("chat", 30_000)].into_iter().enumerate() {
        let message = |buyer: usize| {
            // Told apart from those of another time by when they were written.
            let mut value = good(topic, "backwards", &format!("{now}-{buyer}"), now - ago_ms);
            value["event_id"] = format!("{now}-{topic}-{buyer}").into();
            let message = Message {
                partition: Some(0),
                timestamp_ms: Some(now + n as i64),
                value: Some(value.to_string().into_bytes()),
                ..Message::default()
            };
            (topic, message)
        };
        write(stage, &(0..BACKWARDS).map(message).collect::<Vec<_>>())?;
        stage.recovered()?;
    }
    let after = stage.sum("scorer", "peakdesk_scorer_events_total", late)?;
    ensure!(before == after, "{before} events were late before, {after} after that");
    Ok(())
}

/// Refunds that arrived before the first record of their order, and orders that arrived before a message which their buyer wrote to the
/// shop at most a day earlier, and before any other of that day: by the arrival times in the topics.
fn out_of_order(stage: &Stage<'_>) -> Result<(usize, usize)> {
    let mut orders: BTreeMap<String, i64> = BTreeMap::new();
    let mut created = Vec::new();
    let mut messages: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or("").to_owned();
    let buyer = |value: &Value| format!("{}\n{}", text(value, "shop_id"), text(value, "buyer_id"));
    for (value, arrival) in events(stage, "orders")? {
        let first = orders.entry(text(&value, "order_id")).or_insert(arrival);
        *first = arrival.min(*first);
        if value["status"] == "CREATED" {
            created.push((buyer(&value), value["event_time"].as_i64().unwrap_or(0), arrival));
        }
    }
    for (value, arrival) in events(stage, "chat")? {
        if value["kind"] == "BUYER_MESSAGE" {
            let of_buyer = messages.entry(buyer(&value)).or_default();
            of_buyer.push((value["event_time"].as_i64().unwrap_or(0), arrival));
        }
    }
    let refunds = events(stage, "refunds")?;
    let early = |(refund, at): &&(Value, i64)| orders.get(&text(refund, "order_id")).is_some_and(|first| at < first);
    let ahead = |(buyer, at, arrival): &&(String, i64, i64)| {
        let before = messages
            .get(buyer)
            .into_iter()
            .flatten()
            .filter(|(said, _)| (at - DAY_MS..=*at).contains(said));
        before.map(|(_, arrived)| arrived).min().is_some_and(|first| arrival < first)
    };
    Ok((refunds.iter().filter(early).count(), created.iter().filter(ahead).count()))
}

const DAY_MS: i64 = 86_400_000;

/// The JSON objects of an input topic with their arrival times (ms).
fn events(stage: &Stage<'_>, topic: &str) -> Result<Vec<(Value, i64)>> {
    let records = stage.topics.broker().read_all(&stage.topics.topic(topic))?;
    let event = |record: Record| Some((serde_json::from_slice(record.value.as_deref()?).ok()?, record.timestamp_ms));
    Ok(records.into_iter().filter_map(event).collect())
}

/// Records a second before the burst, and in it.
const CALM_RATE: usize = 200;
const BURST_RATE: usize = 10 * CALM_RATE;

/// Ten times the traffic all of a sudden: bounded memory, no member lost, and it catches up.
pub fn burst(plant: &mut Plant, scene: &Scene) -> Result<(Tally, usize)> {
    let mut stage = Stage::prepare(scene, plant)?;
    stage.topics.create(PARTITIONS, &[])?;
    let (duration, shops) = if plant.long { ("6d", 14) } else { ("1d", 5) };
    let (calm_s, burst_s) = (plant.times(5, 20), plant.times(10, 60));
    let records = record(&stage, duration, shops)?;
    let (first, rest) = records.split_at(records.len() / 10);
    write(&stage, first)?;
    stage.join(&Plan::default())?;
    stage.recovered()?;
    let before = stage.peak_memory()?;
    let (calm, rest) = rest.split_at(calm_s * CALM_RATE);
    let burst = rest.get(..burst_s * BURST_RATE).context("too little was recorded")?;
    let mut traffic = Traffic::to(&stage)?;
    let calm_rate = traffic.paced(calm, CALM_RATE)?;
    let members = group_members(&stage)?;
    let begun = Instant::now();
    let burst_rate = traffic.paced(burst, BURST_RATE)?;
    let lasted = begun.elapsed();
    println!(
        "burst: {burst_rate:.0} records a second for {:.1} s, after {calm_rate:.0}: {:.2} times as many",
        lasted.as_secs_f64(),
        burst_rate / calm_rate
    );
    ensure!(
        burst_rate >= 9.9 * calm_rate,
        "{burst_rate} a second after {calm_rate} is no tenfold burst"
    );
    ensure!(lasted >= Duration::from_secs(burst_s as u64), "it lasted for {lasted:?} only");
    stage.tally.injected = 1;
    stage.recovered()?;
    let after = stage.peak_memory()?;
    println!("peak memory of each process before and after the burst, MiB: {before:.0?} {after:.0?}");
    ensure!(after.iter().all(|mib| *mib < MEMORY_MIB_MAX), "{after:.0?} MiB");
    let restarts = stage.sum("", "peakdesk_thread_restarts_total", "")?;
    ensure!(restarts == 0.0, "{restarts} threads began again");
    let still = group_members(&stage)?;
    ensure!(members == still, "members were lost: {members:?} became {still:?}");
    println!(
        "members before and after: {:?}",
        still.iter().map(|(group, ids)| (*group, ids.len())).collect::<Vec<_>>()
    );
    Ok((stage.tally, stage.end()?))
}

/// The groups of the roles.
const GROUPS: [&str; 7] = [
    "intake-chat",
    "intake-orders",
    "intake-refunds",
    "scorer",
    "warehouse",
    "warehouse-alerts",
    "warehouse-dead-letters",
];

/// The members of each group, once everybody is in: one who was put out and came back has another id.
fn group_members(stage: &Stage<'_>) -> Result<BTreeMap<&'static str, BTreeSet<String>>> {
    let mut all = BTreeMap::new();
    for group in GROUPS {
        let ids = stage.topics.broker().group_members(&stage.topics.group(group))?;
        ensure!(ids.len() >= 2, "{group} has the members {ids:?}");
        all.insert(group, ids);
    }
    Ok(all)
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
