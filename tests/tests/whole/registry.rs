//! Avro through a real schema registry: writers whose schemas change while the intake runs, and a registry that does not answer.

use std::fs;
use std::path::Path;

use peakdesk_tests::{Kafka, Message, Registry, Result, Scene, ensure, scene, wait_until};
use serde_json::{Value, json};

use crate::support::{Role, SOON, Topics, compare, query, text};

/// 2025-11-11 12:00 in China, in milliseconds.
pub const NOON_MS: i64 = 1_762_833_600_000;

/// A record in Avro's binary form, written field by field as a schema of this test says; in Confluent's framing.
pub struct Avro(pub Vec<u8>);

impl Avro {
    pub fn new(schema_id: u32) -> Avro {
        Avro([&[0], schema_id.to_be_bytes().as_slice()].concat())
    }

    /// An int, a long, the index of an enum's symbol or of a union's branch, a length: all the same in Avro.
    pub fn long(mut self, value: i64) -> Avro {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
        self
    }

    pub fn string(self, value: &str) -> Avro {
        let mut avro = self.long(value.len() as i64);
        avro.0.extend_from_slice(value.as_bytes());
        avro
    }

    pub fn strings(self, values: &[&str]) -> Avro {
        values.iter().fold(self, |avro, value| avro.string(value))
    }

    pub fn bool(mut self, value: bool) -> Avro {
        self.0.push(u8::from(value));
        self
    }

    /// `n` fields of a union with null, which are null.
    pub fn nulls(self, n: usize) -> Avro {
        (0..n).fold(self, |avro, _| avro.long(0))
    }

    /// The value of a union with null.
    pub fn some(self) -> Avro {
        self.long(1)
    }

    fn message(self, at: i64) -> Message {
        Message {
            partition: Some(0),
            timestamp_ms: Some(at),
            value: Some(self.0),
            ..Message::default()
        }
    }
}

fn shipped(name: &str) -> Result<String> {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/avro");
    Ok(fs::read_to_string(schemas.join(format!("{name}.avsc")))?)
}

fn number(n: i64) -> String {
    format!("{n:03}")
}

/// A chat message in the shipped schema.
pub fn chat(id: u32, n: i64) -> Message {
    let (name, at) = (number(n), NOON_MS + n * 1_000);
    let avro = Avro::new(id).strings(&[&format!("c{name}"), "shop", "buyer"]).long(0).long(at);
    avro.nulls(4).bool(false).nulls(2).bool(false).nulls(1).message(at)
}

/// An order's creation in the shipped schema; it pays `n` fen.
pub fn order(id: u32, n: i64) -> Message {
    let (name, at) = (number(n), NOON_MS + n * 1_000);
    let avro = Avro::new(id)
        .strings(&[&format!("o{name}"), "shop", "buyer", &name])
        .long(0)
        .long(at);
    let avro = avro
        .some()
        .long(n)
        .some()
        .long(1)
        .nulls(1)
        .some()
        .long(2)
        .strings(&["sku-1", "sku-2"])
        .long(0);
    avro.bool(false).nulls(1).message(at)
}

/// A request for a refund in the shipped schema, of `n` fen for an order of that name.
fn refund(id: u32, n: i64) -> Message {
    let (name, at) = (number(n), NOON_MS + n * 1_000);
    let avro = Avro::new(id)
        .strings(&[&format!("r{name}"), "shop", "buyer", &name, &name])
        .long(0)
        .long(at);
    avro.some().long(n).some().long(3).some().long(2).message(at)
}

fn field(name: &str, kind: Value) -> Value {
    json!({"name": name, "type": kind})
}

fn record(name: &str, fields: Vec<Value>) -> String {
    json!({"type": "record", "name": name, "namespace": "peakdesk", "fields": fields}).to_string()
}

/// A later writer of orders: other order of fields, `sku_ids`, `source` and `fake` are gone, `channel` is new, amounts and
/// counts are ints.
fn changed_orders() -> String {
    let status = json!({"type": "enum", "name": "OrderStatus", "symbols": ["CLOSED", "PAID", "CREATED"]});
    record(
        "Order",
        vec![
            field("event_time", json!({"type": "long", "logicalType": "timestamp-millis"})),
            field("status", status),
            json!({"name": "channel", "type": "string", "default": ""}),
            field("amount_fen", json!(["null", "int"])),
            field("item_count", json!("int")),
            field("order_id", json!("string")),
            field("event_id", json!("string")),
            field("buyer_id", json!("string")),
            field("shop_id", json!("string")),
        ],
    )
}

fn changed_order(id: u32, n: i64) -> Message {
    let (name, at) = (number(n), NOON_MS + n * 1_000);
    let avro = Avro::new(id).long(at).long(2).string("live stream").some().long(n).long(1);
    avro.strings(&[&name, &format!("o{name}"), "buyer", "shop"]).message(at)
}

/// A later writer of refunds: a reason more, which is OTHER for who does not know it.
fn changed_refunds() -> String {
    let reasons = [
        "QUALITY",
        "ALLERGY",
        "NOT_AS_DESCRIBED",
        "OUT_OF_STOCK",
        "SIZE",
        "NO_REASON",
        "OTHER",
    ];
    let reason = json!({"type": "enum", "name": "RefundReason", "symbols": reasons, "default": "OTHER"});
    let phase = json!({"type": "enum", "name": "RefundPhase", "symbols": ["BEFORE_SHIPMENT", "AFTER_SHIPMENT", "AFTER_RECEIPT"]});
    let status = json!({"type": "enum", "name": "RefundStatus", "symbols": ["REQUESTED", "AGREED", "REFUSED", "SUCCEEDED", "CLOSED"]});
    let mut fields: Vec<Value> = ["event_id", "shop_id", "buyer_id", "order_id", "refund_id"]
        .iter()
        .map(|name| field(name, json!("string")))
        .collect();
    fields.extend([
        field("status", status),
        field("event_time", json!("long")),
        field("amount_fen", json!(["null", "int"])),
        field("reason", json!(["null", reason])),
        field("phase", json!(["null", phase])),
    ]);
    record("Refund", fields)
}

/// Its requests: reason 1 is the new one, 4 is SIZE.
fn changed_refund(id: u32, n: i64, reason: i64) -> Message {
    let (name, at) = (number(n), NOON_MS + n * 1_000);
    let avro = Avro::new(id)
        .strings(&[&format!("r{name}"), "shop", "buyer", &name, &name])
        .long(0)
        .long(at);
    avro.some().long(n).some().long(reason).some().long(0).message(at)
}

/// A schema that differs from the shipped one in its documentation only, so that its id is not known yet.
fn documented(name: &str) -> Result<String> {
    let mut schema: Value = serde_json::from_str(&shipped(name)?)?;
    schema["doc"] = json!("As before.");
    Ok(schema.to_string())
}

fn produce(scene: &Scene, topic: &str, messages: &[Message]) -> Result {
    Kafka::shared()?.produce(&scene.name(topic), messages).map(drop)
}

fn total(intake: &mut Role, metric: &str, labels: &str) -> Result<f64> {
    Ok(intake.metric(metric, labels)?.iter().sum())
}

fn no_dead_letters(intake: &mut Role) -> Result {
    let dead = total(intake, "peakdesk_intake_dead_letters_total", "")?;
    ensure!(dead == 0.0, "{dead} records were refused");
    Ok(())
}

/// While the registry does not answer, records in a schema not seen yet wait, other topics go on; afterwards all go through.
fn wait_out_a_pause(scene: &Scene, topics: &Topics<'_>, registry: &mut Registry, intake: &mut [Role; 1], chat_id: u32) -> Result {
    let id = registry.register(&format!("{}-value", scene.name("orders")), &documented("order")?)?;
    let before = total(&mut intake[0], "peakdesk_intake_records_total", "topic=\"orders\"")?;
    registry.process().pause()?;
    produce(scene, "orders", &[order(id, 20), order(id, 21)])?;
    produce(scene, "chat", &[chat(chat_id, 22)])?;
    let chats = topics.records()?[0] as f64;
    // Twice: it was tried, and tried again.
    wait_until("the intake to miss the registry while it reads chats", SOON, || {
        let retries = total(&mut intake[0], "peakdesk_intake_schema_retries_total", "")?;
        let read = total(&mut intake[0], "peakdesk_intake_records_total", "topic=\"chat\"")?;
        ensure!(retries >= 2.0 && read >= chats, "{retries} retries, {read} of {chats} chats");
        Ok(Some(()))
    })?;
    no_dead_letters(&mut intake[0])?;
    let now = total(&mut intake[0], "peakdesk_intake_records_total", "topic=\"orders\"")?;
    ensure!(now == before, "{now} orders were read, {before} before the registry stopped");
    registry.process().resume()?;
    topics.wait_until_read(intake)?;
    no_dead_letters(&mut intake[0])
}

#[test]
fn writers_change_and_the_registry_pauses() {
    scene(|scene| {
        let mut registry = Registry::start()?;
        let topics = Topics::new(scene, "avro")?.with(format!("schema_registry.url={}", registry.url()));
        topics.create([1, 1, 1], &[])?;
        let subject = |topic: &str| format!("{}-value", scene.name(topic));
        let first = [
            registry.register(&subject("chat"), &shipped("chat")?)?,
            registry.register(&subject("orders"), &shipped("order")?)?,
            registry.register(&subject("refunds"), &shipped("refund")?)?,
        ];
        produce(scene, "chat", &[chat(first[0], 1)])?;
        produce(scene, "orders", &[order(first[1], 1), order(first[1], 2)])?;
        produce(scene, "refunds", &[refund(first[2], 1)])?;
        let tables = scene.path("tables");
        let tables = text(&tables)?;
        let mut intake = [topics.role("intake", "intake", &[])?];
        let mut scorers = [topics.role("scorer", "scorer", &[])?];
        let mut warehouse = topics.role("warehouse", "warehouse", &[format!("warehouse.output={tables}")])?;
        topics.wait_until_read(&mut intake)?;
        no_dead_letters(&mut intake[0])?;

        let orders = registry.register(&subject("orders"), &changed_orders())?;
        let refunds = registry.register(&subject("refunds"), &changed_refunds())?;
        ensure!(
            orders != first[1] && refunds != first[2],
            "the registry took the changed schemas for the old ones"
        );
        // The old writer is still there.
        produce(
            scene,
            "orders",
            &[changed_order(orders, 10), order(first[1], 11), changed_order(orders, 12)],
        )?;
        produce(scene, "refunds", &[changed_refund(refunds, 10, 1), changed_refund(refunds, 11, 4)])?;
        topics.wait_until_read(&mut intake)?;
        no_dead_letters(&mut intake[0])?;

        wait_out_a_pause(scene, &topics, &mut registry, &mut intake, first[0])?;
        topics.finish(intake.into(), &mut scorers, &mut warehouse)?;
        check_tables(scene, tables)?;
        for form in ["ndjson", "parquet"] {
            let again = topics.dump_and_replay(form)?;
            compare(scene, &["--products", tables, text(&again)?, "--ignore-position"])?;
        }
        Ok(())
    });
}

fn check_tables(scene: &Scene, tables: &str) -> Result {
    let rows = |sql: &str| -> Result<Vec<String>> {
        let rows = query(scene, sql)?;
        Ok(rows
            .iter()
            .map(|row| row.iter().flatten().cloned().collect::<Vec<_>>().join(" "))
            .collect())
    };
    let orders = rows(&format!(
        "SELECT DISTINCT order_id, amount_fen, item_count FROM '{tables}/orders/**/*.parquet' ORDER BY ALL"
    ))?;
    let expected: Vec<String> = [1, 2, 10, 11, 12, 20, 21].map(|n| format!("{} {n} 1", number(n))).into();
    ensure!(orders == expected, "orders {orders:?}");
    let refunds = rows(&format!(
        "SELECT DISTINCT refund_id, requested_fen, reason FROM '{tables}/refunds/**/*.parquet' ORDER BY ALL"
    ))?;
    ensure!(refunds == ["001 1 SIZE", "010 10 OTHER", "011 11 SIZE"], "refunds {refunds:?}");
    let rounds = rows(&format!("SELECT sum(buyer_messages) FROM '{tables}/reply_rounds/**/*.parquet'"))?;
    ensure!(rounds == ["2"], "{rounds:?} buyer messages in rounds");
    Ok(())
}
