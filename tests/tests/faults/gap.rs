//! A delivery that the client gives up while later ones arrive: the log has a gap, which is seen, not jumped over, and repaired.

use peakdesk_tests::support::{INPUTS, LONG};
use peakdesk_tests::{Message, Result, Scene, ensure, wait_until};

use crate::recording::good;
use crate::stage::{PARTITIONS, Stage};
use crate::{Plant, Tally};

/// 2025-11-10 20:00 in China, in milliseconds: where the simulation begins.
const BEGIN_MS: i64 = 1_762_776_000_000;

/// The log takes no larger message. A frame of refunds with long ids is larger, one with short ids is not.
const LIMIT: &str = "12000";
const FRAME_EVENTS: usize = 16;

/// The log refuses a frame as too large and takes the next one; the intake goes back to what it has committed, and its repeat
/// fills the gap as soon as the log takes it.
pub fn in_the_log(plant: &mut Plant, scene: &Scene) -> Result<(Tally, usize)> {
    let mut stage = Stage::prepare(scene, plant)?;
    let broker = plant.kafka.clone();
    stage.topics.create(PARTITIONS, &[])?;
    let log = stage.topics.topic("shop-log");
    broker.create_topic(&log, 4, &[("max.message.bytes", LIMIT)])?;
    for (topic, count) in INPUTS.iter().zip(PARTITIONS) {
        let first: Vec<Message> = (0..count)
            .map(|partition| record(topic, partition, "first", partition as usize))
            .collect();
        broker.produce(&stage.topics.topic(topic), &first)?;
    }
    let long = "x".repeat(240);
    let mut refunds: Vec<Message> = (0..FRAME_EVENTS).map(|n| record("refunds", 0, &long, n)).collect();
    refunds.extend((0..FRAME_EVENTS * 4).map(|n| record("refunds", 0, "short", n)));
    broker.produce(&stage.topics.topic("refunds"), &refunds)?;
    let scorer = stage.add("scorer-0", "scorer", &[])?;
    stage.add("warehouse-0", "warehouse", &[])?;
    // Each frame is a request of its own, and while the thread looks away the client learns of the first one's refusal and sends
    // the second again: the only way in which a later frame can arrive.
    let settings = [
        format!("intake.max_frame_events={FRAME_EVENTS}"),
        "intake.tick=2s".to_owned(),
        "kafka.options.batch.num.messages=1".to_owned(),
        "kafka.options.compression.type=none".to_owned(),
    ];
    let intake = stage.add_at("intake-refused", "intake", &settings, Some("delivery-send:3:1500"))?;
    wait_until("the gap to be seen", LONG, || {
        stage.member(intake)?.process()?.alive()?;
        let gaps = stage.member(scorer)?.metric("peakdesk_scorer_events_total", "outcome=\"gap\"")?;
        ensure!(gaps.iter().sum::<f64>() > 0.0, "{gaps:?}");
        Ok(Some(()))
    })?;
    wait_until("the intake to go back", LONG, || {
        let restarts = stage.member(intake)?.metric("peakdesk_thread_restarts_total", "")?;
        ensure!(restarts.iter().sum::<f64>() > 0.0, "{restarts:?}");
        Ok(Some(()))
    })?;
    // This sets the limit back to the broker's.
    broker.alter_topic(&log, "retention.ms", "-1")?;
    stage.simulate("simulator", "2025-11-10T20:00", "12h", 10_000)?;
    stage.tally.injected = 1;
    stage.recovered()?;
    stage.dismiss(intake)?;
    stage.add("intake-0", "intake", &[])?;
    Ok((stage.tally, stage.end()?))
}

/// A good record of an input topic.
fn record(topic: &str, partition: i32, id: &str, n: usize) -> Message {
    let value = good(topic, "gap", &format!("{id}-{topic}-{n}"), BEGIN_MS);
    Message {
        partition: Some(partition),
        timestamp_ms: Some(BEGIN_MS),
        value: Some(value.to_string().into_bytes()),
        ..Message::default()
    }
}
