//! Dumps of the client library's mock cluster: every kind of odd record, and brokers and topics that are not there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::replay::dump::{Payload, open};
use peakdesk_intake::decode::frame;
use peakdesk_intake::registry::{RegistryAddress, Schemas};
use peakdesk_intake::schema::{shipped, shipped_id};
use peakdesk_model::input::{ChatRecord, OrderRecord};
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use serde_avro_fast::ser::SerializerConfig;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use tempfile::TempDir;

const WALL_MS: i64 = 1_762_000_000_000;

/// A writer's schema with fields moved, added and of other types, and enums with symbols of its own.
const OTHER_ID: u32 = 77;

fn other_schema() -> String {
    let text = |name: &str| json!({"name": name, "type": "string"});
    json!({"type": "record", "name": "TheirRefund", "fields": [
        text("refund_id"), text("order_id"), text("shop_id"), text("event_id"),
        {"name": "channel", "type": "double"},
        {"name": "buyer_id", "type": "bytes"},
        {"name": "status", "type": {"type": "enum", "name": "S", "symbols": ["FROZEN", "REQUESTED"]}},
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "amount_fen", "type": "int"},
        {"name": "reason", "type": {"type": "enum", "name": "R", "symbols": ["SIZE", "REGRET"]}},
        {"name": "phase", "type": ["null", {"type": "enum", "name": "P", "symbols": ["AFTER_RECEIPT", "NEVER"]}]}
    ]})
    .to_string()
}

/// A datum of [`other_schema`]; numbers below 64, texts of one letter.
fn other_refund(buyer: &[u8], status: u8, reason: u8, phase: u8) -> Vec<u8> {
    let mut datum: Vec<u8> = b"rose".iter().flat_map(|letter| [2, *letter]).collect();
    datum.extend(1.5_f64.to_le_bytes());
    datum.push(buyer.len() as u8 * 2);
    datum.extend(buyer);
    datum.push(status * 2);
    let mut zigzag = (WALL_MS as u64) << 1;
    while zigzag >= 0x80 {
        datum.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    datum.push(zigzag as u8);
    datum.extend([10, reason * 2, 2, phase * 2]);
    frame(OTHER_ID, &datum)
}

fn shipped_datum(topic: Topic, record: &impl serde::Serialize) -> Vec<u8> {
    let schema: serde_avro_fast::Schema = shipped(topic).parse().unwrap();
    frame(
        shipped_id(topic),
        &serde_avro_fast::to_datum_vec(record, &mut SerializerConfig::new(&schema)).unwrap(),
    )
}

/// Answers as a schema registry does; knows the shipped schemas and [`OTHER_ID`].
fn registry() -> Schemas {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                request.push(byte[0]);
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let id: u32 = request.split(['/', ' ']).find_map(|part| part.parse().ok()).unwrap_or(0);
            let (status, body) = match schema_text(id) {
                Ok(schema) => ("200 OK", json!({ "schema": schema }).to_string()),
                Err(_) => (
                    "404 Not Found",
                    json!({"error_code": 40403, "message": "Schema not found"}).to_string(),
                ),
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    Schemas::of_registry(&RegistryAddress { url, auth: None })
}

fn schema_text(id: u32) -> anyhow::Result<String> {
    match id {
        OTHER_ID => Ok(other_schema()),
        id => Ok(Topic::ALL
            .into_iter()
            .find(|t| shipped_id(*t) == id)
            .map(shipped)
            .context("unknown")?
            .to_owned()),
    }
}

fn edge(schemas: Schemas) -> Edge {
    Edge {
        buyer_key: [9; 32],
        future_skew_ms: 300_000,
        order_retention_ms: 45 * 86_400_000,
        schemas: Arc::new(schemas),
    }
}

/// A record as it is produced.
#[derive(Clone, Default)]
struct Sent {
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    headers: Vec<(&'static str, Option<&'static [u8]>)>,
    payload: Option<Vec<u8>>,
}

fn sent(payload: impl Into<Vec<u8>>) -> Sent {
    Sent {
        timestamp_ms: WALL_MS,
        payload: Some(payload.into()),
        ..Sent::default()
    }
}

fn json_records() -> Vec<Sent> {
    let good = |id: &str| {
        format!(
            r#"{{ "event_id": "{id}", "shop_id": "s",{}"buyer_id": "b", "kind": "BUYER_MESSAGE", "event_time": {WALL_MS}, "text": "发货 了\n吗" }}"#,
            "\r\n\t"
        )
    };
    let long = good("long").replace(": ", &format!(":{}", " ".repeat(1 << 18)));
    vec![
        sent(good("1")),
        Sent {
            key: Some(b"s:b".to_vec()),
            ..sent(good("2"))
        },
        Sent {
            key: Some(b"\xff\xfe".to_vec()),
            headers: vec![("h", Some(b"\x80")), ("h", Some(b"text")), ("n", None)],
            ..sent(good("3"))
        },
        Sent {
            key: Some(b"dead".to_vec()),
            headers: vec![("why", Some("店".as_bytes()))],
            timestamp_ms: WALL_MS,
            payload: None,
        },
        sent(b"{\"event_id\":".to_vec()),
        sent(b"null".to_vec()),
        sent(b"[1, 2]".to_vec()),
        sent(b"".to_vec()),
        sent(b"{\"event_id\":\"\xff\"}".to_vec()),
        sent(r#"{"event_id":"\ud800"}"#),
        sent(r#"{ "event_id": "", "extra": [1.50, "\u0041"] }"#),
        // Too large as it stands, not without its blanks.
        sent(long),
        sent(good("future").replace(&WALL_MS.to_string(), &(WALL_MS + 300_001).to_string())),
        sent(good("old").replace(&WALL_MS.to_string(), "17")),
        Sent {
            timestamp_ms: WALL_MS + 86_400_001,
            ..sent(good("ahead"))
        },
        Sent {
            timestamp_ms: WALL_MS + 86_400_000,
            ..sent(good("4"))
        },
    ]
}

fn avro_orders() -> Vec<Sent> {
    let order = OrderRecord {
        event_id: "1".into(),
        shop_id: "s".into(),
        buyer_id: "b\n".into(),
        order_id: "o".into(),
        status: "PAID".into(),
        event_time: WALL_MS,
        amount_fen: Some(5),
        item_count: Some(1),
        sku_ids: Some(vec!["a\"b".into(), "c".into()]),
        fake: Some(true),
        ..OrderRecord::default()
    };
    let good = OrderRecord {
        buyer_id: "b".into(),
        ..order.clone()
    };
    let datum = shipped_datum(Topic::Orders, &good);
    let chat = ChatRecord {
        event_id: "c".into(),
        shop_id: "s".into(),
        buyer_id: "b".into(),
        kind: "RATING".into(),
        spam: Some(false),
        assisted: Some(false),
        ..ChatRecord::default()
    };
    vec![
        sent(datum.clone()),
        sent(shipped_datum(Topic::Orders, &order)),
        sent(datum[..datum.len() - 1].to_vec()),
        sent([datum.as_slice(), &[0]].concat()),
        sent(frame(4_000_000, &datum[5..])),
        sent(b"{}".to_vec()),
        Sent {
            payload: None,
            ..sent(Vec::new())
        },
        // Of another topic: decodes, and is no order.
        sent(shipped_datum(Topic::Chat, &chat)),
    ]
}

fn avro_refunds() -> Vec<Sent> {
    vec![
        sent(other_refund(b"b", 1, 0, 0)),
        // REGRET is read as OTHER.
        sent(other_refund(b"b", 1, 1, 0)),
        sent(other_refund(b"b", 0, 0, 0)),
        sent(other_refund(b"b", 1, 0, 1)),
        sent(other_refund(b"\xff", 1, 0, 0)),
    ]
}

struct Kafka {
    cluster: MockCluster<'static, DefaultProducerContext>,
    sent: Vec<(Topic, i32, Vec<Sent>)>,
}

impl Kafka {
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.cluster.bootstrap_servers());
        client
    }

    fn new() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        for (name, partitions) in [("their-chat", 3), ("their-orders", 1), ("their-refunds", 1)] {
            cluster.create_topic(name, partitions, 1).unwrap();
        }
        let sent = vec![
            (Topic::Chat, 0, json_records()),
            (Topic::Chat, 2, json_records().split_off(10)),
            (Topic::Orders, 0, avro_orders()),
            (Topic::Refunds, 0, avro_refunds()),
        ];
        let kafka = Kafka { cluster, sent };
        let producer: BaseProducer = kafka.client().set("message.max.bytes", "10000000").create().unwrap();
        for (topic, partition, records) in &kafka.sent {
            for record in records {
                let headers = record.headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
                    all.insert(KafkaHeader { key, value: *value })
                });
                let name = format!("their-{}", topic.name());
                let mut out = BaseRecord::<[u8], [u8]>::to(&name)
                    .partition(*partition)
                    .timestamp(record.timestamp_ms);
                out.payload = record.payload.as_deref();
                out.key = record.key.as_deref();
                out.headers = (!record.headers.is_empty()).then_some(headers);
                producer.send(out).map_err(|(error, _)| error).unwrap();
            }
            producer.flush(Duration::from_secs(30)).unwrap();
        }
        kafka
    }

    fn settings(&self, output: &TempDir, form: Form) -> KafkaSettings {
        let topic = |topic: Topic, format| InputTopic {
            topic,
            name: format!("their-{}", topic.name()),
            format,
        };
        KafkaSettings {
            client: self.client(),
            topics: vec![
                topic(Topic::Chat, Format::Json),
                topic(Topic::Orders, Format::Avro),
                topic(Topic::Refunds, Format::Avro),
            ],
            edge: edge(registry()),
            schema_text: Box::new(schema_text),
            output: output.path().to_owned(),
            form,
            wall_ms: WALL_MS,
            patience: Duration::from_secs(30),
        }
    }
}

/// What comes of a value at a clock: the event, or the reason. What a message is about is not asked in a replay.
fn outcome(edge: &Edge, position: SourcePosition, payload: Payload<'_>) -> String {
    let clock = WALL_MS;
    match payload {
        Payload::Undecodable => format!("{:?}", Err::<(), _>(DeadReason::Undecodable)),
        Payload::Row(row) => format!("{:?}", edge.judge(row, position, clock).map(|decoded| decoded.event)),
        Payload::Json { text, .. } => live(edge, position, Format::JsonOfDump, Some(text)),
    }
}

fn live(edge: &Edge, position: SourcePosition, format: Format, payload: Option<&[u8]>) -> String {
    let record = SourceRecord {
        position,
        clock: WALL_MS,
        format,
        payload,
    };
    match edge.decode(&record, &mut Loose::default()) {
        Ok(decoded) => format!("{:?}", Ok::<_, DeadReason>(decoded.event)),
        Err(Reject::Dead(reason)) => format!("{:?}", Err::<(), _>(reason)),
        Err(Reject::Retry(error)) => panic!("{error}"),
    }
}

fn check(kafka: &Kafka, dir: &TempDir, settings: &KafkaSettings) {
    let mut read = 0;
    for mut reader in open(dir.path()).unwrap() {
        let (_, _, records) = kafka
            .sent
            .iter()
            .find(|(t, p, _)| (*t, *p) == (reader.topic, reader.partition))
            .unwrap();
        let format = settings.topics.iter().find(|t| t.topic == reader.topic).unwrap().format;
        for (i, expected) in records.iter().enumerate() {
            let stamp = reader.advance().unwrap().unwrap();
            let what = format!("{:?} {}", reader.topic, reader.place());
            assert_eq!(stamp.offset, i as i64, "{what}");
            let timestamp_ms = (expected.timestamp_ms <= WALL_MS + 86_400_000).then_some(expected.timestamp_ms);
            assert_eq!(stamp.timestamp_ms, timestamp_ms, "{what}");
            let record = reader.record().unwrap();
            assert_eq!(record.key.as_deref(), expected.key.as_deref(), "{what}");
            let headers: Vec<_> = record
                .headers
                .iter()
                .map(|(name, value)| (name.as_ref(), value.as_deref()))
                .collect();
            assert_eq!(headers, expected.headers, "{what}");
            let partition = SourcePartition {
                topic: reader.topic,
                partition: reader.partition,
                generation: 1,
            };
            let position = SourcePosition {
                partition,
                offset: stamp.offset,
            };
            let before = live(&settings.edge, position, format, expected.payload.as_deref());
            assert_eq!(outcome(&settings.edge, position, reader.payload(true).unwrap()), before, "{what}");
            match record.value {
                Value::Raw(bytes) => {
                    assert!(before.contains("Undecodable"), "{what}");
                    assert_eq!(Some(bytes.as_ref()), expected.payload.as_deref(), "{what}");
                }
                Value::Missing => assert_eq!(expected.payload, None, "{what}"),
                Value::Json(_) => assert!(!before.contains("Undecodable"), "{what}"),
            }
            read += 1;
        }
        assert_eq!(reader.advance().unwrap(), None);
    }
    assert_eq!(read, kafka.sent.iter().map(|(_, _, records)| records.len()).sum::<usize>());
}

#[test]
fn a_dump_gives_what_intake_would_have_read() {
    let kafka = Kafka::new();
    for form in Form::ALL {
        let output = tempfile::tempdir().unwrap();
        let report = dump(kafka.settings(&output, form), |_, _| true).unwrap();
        let counts = [("chat", 22), ("orders", 8), ("refunds", 5)];
        assert_eq!(report.records, counts.into(), "{form:?}");
        assert_eq!(report.oversized, 0);
        check(&kafka, &output, &kafka.settings(&output, form));
    }
}

#[test]
fn the_lines_are_as_promised() {
    let kafka = Kafka::new();
    let output = tempfile::tempdir().unwrap();
    dump(kafka.settings(&output, Form::Ndjson), |_, _| true).unwrap();
    let line = |topic: &str, n: usize| {
        let text = std::fs::read_to_string(output.path().join(format!("{topic}.ndjson"))).unwrap();
        text.lines().nth(n).unwrap().to_owned()
    };
    let odd = line("chat", 2);
    let beginning = format!(
        r#"{{"partition":0,"offset":2,"timestamp_ms":{WALL_MS},"key":{{"base64":"//4="}},"headers":[["h",{{"base64":"gA=="}}],["h","text"],["n",null]],"value":{{"event_id":"3","#
    );
    assert!(odd.starts_with(&beginning) && odd.ends_with(r#""text":"发货 了\n吗"}}"#), "{odd}");
    assert_eq!(
        line("chat", 3),
        format!(r#"{{"partition":0,"offset":3,"timestamp_ms":{WALL_MS},"key":"dead","headers":[["why","店"]]}}"#)
    );
    assert_eq!(
        line("chat", 5),
        format!(r#"{{"partition":0,"offset":5,"timestamp_ms":{WALL_MS},"raw":"bnVsbA=="}}"#)
    );
    assert!(
        line("chat", 14).starts_with(r#"{"partition":0,"offset":14,"value":"#),
        "{}",
        line("chat", 14)
    );
    let value: serde_json::Value = serde_json::from_str(&line("orders", 0)).unwrap();
    let expected = json!({"event_id": "1", "shop_id": "s", "buyer_id": "b", "order_id": "o", "status": "PAID", "event_time": WALL_MS,
        "amount_fen": 5, "item_count": 1, "sku_ids": ["a\"b", "c"], "fake": true});
    assert_eq!(value["value"], expected);
    let reasons: Vec<String> = (0..2)
        .map(|n| serde_json::from_str::<serde_json::Value>(&line("refunds", n)).unwrap()["value"]["reason"].to_string())
        .collect();
    assert_eq!(reasons, [r#""SIZE""#, r#""OTHER""#]);
}

fn failure(settings: KafkaSettings) -> String {
    let output = settings.output.clone();
    let error = format!("{:#}", dump(settings, |_, _| true).unwrap_err());
    assert_eq!(std::fs::read_dir(output).unwrap().count(), 0, "{error}");
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn a_broker_that_is_not_there_is_given_up() {
    let kafka = Kafka::new();
    let output = tempfile::tempdir().unwrap();
    // Nothing listens on the port of a listener that is gone.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut settings = kafka.settings(&output, Form::Parquet);
    settings.client.set("bootstrap.servers", &address);
    settings.patience = Duration::from_millis(700);
    let begun = Instant::now();
    let error = failure(settings);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(error.contains(&address), "{error}");
}

#[test]
fn a_topic_that_is_not_there_is_named() {
    let kafka = Kafka::new();
    let output = tempfile::tempdir().unwrap();
    let mut settings = kafka.settings(&output, Form::Ndjson);
    settings.topics[1].name = "no-orders".into();
    settings.patience = Duration::from_secs(5);
    let error = failure(settings);
    assert!(error.contains("no-orders"), "{error}");
}

#[test]
fn a_registry_that_is_down_is_given_up() {
    let kafka = Kafka::new();
    let output = tempfile::tempdir().unwrap();
    let mut settings = kafka.settings(&output, Form::Ndjson);
    settings.patience = Duration::from_secs(1);
    settings.edge.schemas = Arc::new(Schemas::of_registry(&RegistryAddress {
        url: "http://127.0.0.1:1".into(),
        auth: None,
    }));
    let error = failure(settings);
    assert!(error.contains("schema registry http://127.0.0.1:1"), "{error}");
}

#[test]
fn a_stop_leaves_nothing_behind() {
    let kafka = Kafka::new();
    let output = tempfile::tempdir().unwrap();
    let mut settings = kafka.settings(&output, Form::Ndjson);
    // Waiting for this registry, the dump asks whether to go on.
    settings.edge.schemas = Arc::new(Schemas::of_registry(&RegistryAddress {
        url: "http://127.0.0.1:1".into(),
        auth: None,
    }));
    let error = format!("{:#}", dump(settings, |_, _| false).unwrap_err());
    assert!(error.contains("stopped after") && error.contains("of 35 records"), "{error}");
    assert_eq!(std::fs::read_dir(output.path()).unwrap().count(), 0);
}
