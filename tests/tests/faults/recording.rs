//! A simulation that is written down first, so that a test can give it to Kafka in parts: two simulations would have the same ids.

use std::fs;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use peakdesk_tests::support::{INPUTS, LONG};
use peakdesk_tests::{Context, Message, Result, Writer, bail};
use serde_json::{Value, json};

use crate::stage::{Stage, lasts};

/// Records with their topics, in the order of their arrival.
pub type Records = Vec<(&'static str, Message)>;

/// Simulates the night and the days of a sale in so many shops.
pub fn record(stage: &Stage<'_>, duration: &str, shops: usize) -> Result<Records> {
    let dir = stage.scene.path("recording");
    let flags = ["--agents", "4", "--buyers-per-agent", "60", "--dead-share", "0.01"];
    let launch = stage.topics.launch("recording", "simulator")?.args(flags);
    let launch = launch.args(["--shops", &shops.to_string()]);
    let launch = launch
        .args(["--start", "2025-11-10T20:00", "--duration", duration, "--dump"])
        .arg(&dir);
    launch.run(LONG)?.success()?;
    let mut records = Records::new();
    for topic in INPUTS {
        for line in fs::read_to_string(dir.join(format!("{topic}.ndjson")))?.lines() {
            records.push((topic, message(&serde_json::from_str(line)?)?));
        }
    }
    // Stable: what arrives in one millisecond stays in order.
    records.sort_by_key(|(_, message)| message.timestamp_ms);
    Ok(records)
}

/// A line of a dump as a message.
fn message(line: &Value) -> Result<Message> {
    let value = match &line["raw"] {
        Value::String(raw) => STANDARD.decode(raw)?,
        _ => line["value"].to_string().into_bytes(),
    };
    Ok(Message {
        partition: Some(i32::try_from(line["partition"].as_i64().context("no partition")?)?),
        timestamp_ms: line["timestamp_ms"].as_i64(),
        key: line["key"].as_str().map(|key| key.as_bytes().to_vec()),
        value: Some(value),
        headers: Vec::new(),
    })
}

/// Writes records to their topics; returns when they are acknowledged.
pub fn write(stage: &Stage<'_>, records: &[(&'static str, Message)]) -> Result {
    Traffic::to(stage)?.write(records)
}

/// A way to the input topics that is kept open, for records at a pace.
pub struct Traffic {
    writers: Vec<(&'static str, String, Writer)>,
}

impl Traffic {
    /// To the inputs of a stage.
    pub fn to(stage: &Stage<'_>) -> Result<Traffic> {
        let writer = |topic| Ok((topic, stage.topics.topic(topic), stage.topics.broker().writer()?));
        Ok(Traffic {
            writers: INPUTS.into_iter().map(writer).collect::<Result<_>>()?,
        })
    }

    fn write(&mut self, records: &[(&'static str, Message)]) -> Result {
        std::thread::scope(|scope| {
            let write = |(topic, name, writer): &'_ mut (&'static str, String, Writer)| {
                let own = records.iter().filter(|(t, _)| t == topic).map(|(_, message)| message.clone());
                writer.write(name, &own.collect::<Vec<_>>()).map(drop)
            };
            let threads: Vec<_> = self.writers.iter_mut().map(|to| scope.spawn(move || write(to))).collect();
            let ends = threads.into_iter().map(|t| t.join().unwrap_or_else(|_| bail!("a thread panicked")));
            ends.collect()
        })
    }

    /// Writes so many records each second; how many a second were acknowledged in fact.
    pub fn paced(&mut self, records: &[(&'static str, Message)], per_second: usize) -> Result<f64> {
        const PARTS: usize = 4;
        let begun = Instant::now();
        let until = |part: usize| lasts((Duration::from_secs(part as u64) / PARTS as u32).saturating_sub(begun.elapsed()));
        let parts = records.chunks(per_second / PARTS);
        let count = parts.len();
        for (part, records) in parts.enumerate() {
            until(part);
            self.write(records)?;
        }
        until(count);
        Ok(records.len() as f64 / begun.elapsed().as_secs_f64())
    }
}

/// The value of a good record of an input topic, of a buyer of its own.
pub fn good(topic: &str, shop: &str, id: &str, at_ms: i64) -> Value {
    let mut value = json!({"event_id": id, "shop_id": shop, "buyer_id": format!("b{id}"), "event_time": at_ms});
    let more = match topic {
        "chat" => json!({"kind": "BUYER_MESSAGE", "text": "在吗"}),
        "orders" => json!({"order_id": id, "status": "CREATED", "amount_fen": 100, "item_count": 1}),
        _ => json!({"refund_id": id, "order_id": id, "status": "REQUESTED", "amount_fen": 1, "reason": "SIZE", "phase": "AFTER_RECEIPT"}),
    };
    if let (Value::Object(all), Value::Object(more)) = (&mut value, more) {
        all.extend(more);
    }
    value
}
