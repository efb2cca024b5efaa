//! A simulation that is written down first, so that a test can give it to Kafka in parts: two simulations would have the same ids.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use peakdesk_tests::support::{INPUTS, LONG};
use peakdesk_tests::{Context, Message, Result};
use serde_json::Value;

use crate::stage::Stage;

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
    for topic in INPUTS {
        let own: Vec<Message> = records
            .iter()
            .filter(|(t, _)| *t == topic)
            .map(|(_, message)| message.clone())
            .collect();
        stage.topics.broker().produce(&stage.topics.topic(topic), &own)?;
    }
    Ok(())
}
