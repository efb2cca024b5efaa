//! Every reason for which a record is refused: the record is in the dead-letter topic as it was, and in the table.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use peakdesk_tests::{Context, Kafka, Message, Record, Result, Scene, ensure, scene, wait_until};
use serde_json::{Value, json};

use crate::support::{INPUTS, SOON, Topics, compare, query, text};

/// 2025-11-11 12:00 in China, in milliseconds.
const NOON_MS: i64 = 1_762_833_600_000;
const DAY_MS: i64 = 86_400_000;
const MIB: usize = 1 << 20;

/// A record that is good in each input topic.
fn good(topic: &str) -> Value {
    let mut value = json!({"event_id": "e", "shop_id": "s", "buyer_id": "b", "event_time": NOON_MS});
    let more = match topic {
        "chat" => json!({"kind": "BUYER_MESSAGE", "text": "在吗"}),
        "orders" => json!({"order_id": "o", "status": "CREATED", "amount_fen": 100, "item_count": 1}),
        _ => json!({"refund_id": "r", "order_id": "o", "status": "REQUESTED", "amount_fen": 1, "reason": "SIZE", "phase": "AFTER_RECEIPT"}),
    };
    for (key, field) in more.as_object().into_iter().flatten() {
        value[key] = field.clone();
    }
    value
}

/// The value with one field set, or without it.
fn with(topic: &str, field: &str, to: Value) -> Option<Vec<u8>> {
    let mut value = good(topic);
    value[field] = to;
    Some(value.to_string().into_bytes())
}

fn without(topic: &str, field: &str) -> Option<Vec<u8>> {
    let mut value = good(topic);
    value.as_object_mut()?.remove(field);
    Some(value.to_string().into_bytes())
}

/// Bad values of a topic, each with its reason; the arrival time is that of all others.
fn bad(topic: &str) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let (kind, wrong, far) = match topic {
        "chat" => ("kind", with(topic, "kind", json!("SHOUT")), with(topic, "spam", json!("no"))),
        "orders" => (
            "status",
            with(topic, "amount_fen", json!(-1)),
            with(topic, "item_count", json!(1_000_001)),
        ),
        _ => (
            "status",
            with(topic, "reason", json!("WEATHER")),
            with(topic, "amount_fen", json!(1.5)),
        ),
    };
    let mut large = good(topic);
    large["sku_id"] = json!("x".repeat(MIB));
    vec![
        ("undecodable", Some(b"\xff\xfe\x00{".to_vec())),
        ("undecodable", Some(b"[1, 2".to_vec())),
        ("undecodable", Some(b"[]".to_vec())),
        ("undecodable", None),
        ("undecodable", Some(Vec::new())),
        ("undecodable", Some(large.to_string().into_bytes())),
        ("bad_id", with(topic, "event_id", json!(""))),
        ("bad_id", without(topic, "buyer_id")),
        ("bad_id", with(topic, "shop_id", json!("a\u{1}b"))),
        ("bad_id", with(topic, "shop_id", json!("x".repeat(257)))),
        ("missing_field", without(topic, kind)),
        ("missing_field", without(topic, "event_time")),
        ("bad_value", wrong),
        ("bad_value", far),
        ("future", with(topic, "event_time", json!(NOON_MS + 300_001))),
        ("too_old", with(topic, "event_time", json!(NOON_MS - 45 * DAY_MS - 1))),
    ]
}

/// Messages of a topic with the reason why each is refused; `None` is a good one.
fn messages(topic: &str, wall_ms: i64) -> Vec<(Option<&'static str>, Message)> {
    let message = |index: usize, timestamp_ms: i64, value: Option<Vec<u8>>| Message {
        partition: Some(0),
        timestamp_ms: Some(timestamp_ms),
        key: (!index.is_multiple_of(3)).then(|| vec![0xfe, index as u8, b'k']),
        value,
        headers: (0..index % 3)
            .map(|n| (format!("trace-{n}"), (n == 0).then(|| vec![index as u8, 0xff])))
            .collect(),
    };
    let fine = || Some(good(topic).to_string().into_bytes());
    let mut all = vec![(None, message(0, NOON_MS, fine()))];
    // Ahead of any wall clock, and without effect on the clock of what follows.
    all.push((Some("bad_timestamp"), message(1, wall_ms + 2 * DAY_MS, fine())));
    for (reason, value) in bad(topic) {
        all.push((Some(reason), message(all.len(), NOON_MS, value)));
    }
    all.push((None, message(all.len(), NOON_MS, fine())));
    all
}

/// A refused record by where it was.
type Refused = BTreeMap<(String, i64), (&'static str, Message)>;

fn produce(scene: &Scene) -> Result<Refused> {
    let wall_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let mut refused = Refused::new();
    for topic in INPUTS {
        let all = messages(topic, wall_ms);
        let only: Vec<Message> = all.iter().map(|(_, message)| message.clone()).collect();
        let positions = Kafka::shared()?.produce(&scene.name(topic), &only)?;
        for (position, (reason, message)) in positions.iter().zip(all) {
            if let Some(reason) = reason {
                refused.insert((topic.to_owned(), position.offset), (reason, message));
            }
        }
    }
    Ok(refused)
}

fn header<'r>(record: &'r Record, name: &str) -> Result<&'r str> {
    let found = record.headers.iter().find(|(key, _)| key == name);
    let value = found.and_then(|(_, value)| value.as_deref()).context(format!("no header {name}"))?;
    Ok(std::str::from_utf8(value)?)
}

/// Every refused record is in the topic once, as it was, with what was added.
fn check_topic(records: &[Record], refused: &Refused) -> Result {
    let mut left = refused.clone();
    for record in records {
        let key = (
            header(record, "peakdesk-topic")?.to_owned(),
            header(record, "peakdesk-offset")?.parse()?,
        );
        let (reason, message) = left.remove(&key).context(format!("{key:?} was not refused, or is there twice"))?;
        ensure!(
            header(record, "peakdesk-reason")? == reason,
            "{key:?}: {} is not {reason}",
            header(record, "peakdesk-reason")?
        );
        ensure!(header(record, "peakdesk-partition")? == "0", "{key:?}: another partition");
        let timestamp_ms: i64 = header(record, "peakdesk-timestamp")?.parse()?;
        ensure!(Some(timestamp_ms) == message.timestamp_ms, "{key:?}: timestamp {timestamp_ms}");
        ensure!(record.key == message.key, "{key:?}: key {:?}", record.key);
        ensure!(record.value == message.value, "{key:?}: another value");
        let original: Vec<_> = record
            .headers
            .iter()
            .filter(|(key, _)| !key.starts_with("peakdesk-"))
            .cloned()
            .collect();
        ensure!(original == message.headers, "{key:?}: headers {original:?}");
    }
    ensure!(left.is_empty(), "not in the topic: {:?}", left.keys().collect::<Vec<_>>());
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The same of the table.
fn check_table(scene: &Scene, dir: &str, refused: &Refused) -> Result {
    let sql = format!(
        "SELECT topic, \"offset\", reason, hex(key), hex(value), \
         array_to_string(list_transform(headers, lambda h: h.key || '=' || coalesce(hex(h.value), 'null')), ' ') \
         FROM '{dir}/dead_letters/**/*.parquet' ORDER BY ALL"
    );
    let rows = query(scene, &sql)?;
    ensure!(rows.len() == refused.len(), "{} rows of {}", rows.len(), refused.len());
    for (row, ((topic, offset), (reason, message))) in rows.iter().zip(refused) {
        let headers: Vec<String> = message
            .headers
            .iter()
            .map(|(key, value)| format!("{key}={}", value.as_ref().map_or("null".to_owned(), |value| hex(value))))
            .collect();
        let expected = [
            Some(topic.clone()),
            Some(offset.to_string()),
            Some((*reason).to_owned()),
            message.key.as_deref().map(hex),
            message.value.as_deref().map(hex),
            Some(headers.join(" ")),
        ];
        ensure!(
            row[..] == expected,
            "{topic} {offset} ({reason}): {:?} and {:?}, headers {:?}",
            row[3],
            row[2],
            row[5]
        );
    }
    Ok(())
}

#[test]
fn every_reason_ends_in_the_topic_and_in_the_table() {
    scene(|scene| {
        let topics = Topics::new(scene, "json")?;
        topics.create(
            [1, 1, 1],
            &[
                ("message.timestamp.after.max.ms", "9223372036854775807"),
                ("max.message.bytes", "16777216"),
            ],
        )?;
        let refused = produce(scene)?;
        let tables = scene.path("tables");
        let tables = text(&tables)?;
        let mut intake = topics.role("intake", "intake", &[])?;
        let mut warehouse = topics.role("warehouse", "warehouse", &[format!("warehouse.output={tables}")])?;
        let count = topics.records()?.iter().sum::<i64>() as f64;
        wait_until("the intake to read everything", SOON, || {
            let read: f64 = intake.metric("peakdesk_intake_records_total", "")?.iter().sum();
            ensure!(read >= count, "{read} of {count}");
            Ok(Some(()))
        })?;
        let dead: f64 = intake.metric("peakdesk_intake_dead_letters_total", "")?.iter().sum();
        ensure!(dead == refused.len() as f64, "{dead} dead letters of {}", refused.len());
        intake.terminate()?;
        check_topic(&Kafka::shared()?.read_all(&scene.name("dead-letters"))?, &refused)?;
        wait_until("the letters to be in files", SOON, || {
            let written: f64 = warehouse.metric("peakdesk_warehouse_dead_letters_total", "")?.iter().sum();
            ensure!(written >= refused.len() as f64, "{written} of {}", refused.len());
            Ok(Some(()))
        })?;
        warehouse.terminate()?;
        check_table(scene, tables, &refused)?;
        // A dump holds them too, and its replay refuses them again for the same reasons.
        for form in ["ndjson", "parquet"] {
            let again = topics.dump_and_replay(form)?;
            compare(scene, &["--products", tables, text(&again)?, "--tables", "dead_letters"])?;
        }
        Ok(())
    });
}
