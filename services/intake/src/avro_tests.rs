#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! Decoding by writers' schemas that differ from ours, and by data that does not fit its schema.

use super::*;
use crate::validate::validate;
use peakdesk_model::event::DeadReason;
use peakdesk_model::input::Topic;
use proptest::prelude::*;
use serde::Serialize;
use serde_avro_fast::ser::SerializerConfig;
use serde_json::{Value, json};

fn record_schema(fields: Value) -> WriterSchema {
    WriterSchema::parse(&json!({"type": "record", "name": "Writer", "namespace": "w", "fields": fields}).to_string()).unwrap()
}

fn encode(schema: &WriterSchema, value: &impl Serialize) -> Vec<u8> {
    serde_avro_fast::to_datum_vec(value, &mut SerializerConfig::new(&schema.0)).unwrap()
}

fn string_fields(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"name": name, "type": "string"})).collect()
}

/// Zigzag varint, as Avro writes ints and longs.
fn long(value: i64) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    loop {
        let low = (rest & 0x7f) as u8;
        rest >>= 7;
        if rest == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[test]
fn framing() {
    assert_eq!(frame(0x0102_0304, b"xy"), [0, 1, 2, 3, 4, b'x', b'y']);
    assert_eq!(unframe(&[0, 1, 2, 3, 4, 9]).unwrap(), (0x0102_0304, [9].as_slice()));
    assert_eq!(unframe(&[0, 0, 0, 0, 1]).unwrap(), (1, [].as_slice()));
    for bad in [b"".as_slice(), &[0, 0, 0, 1], &[1, 0, 0, 0, 1, 5], b"{\"a\":1}"] {
        assert!(unframe(bad).is_err());
    }
}

#[test]
fn a_writer_may_add_remove_and_move_fields_and_narrow_integers() {
    let mut fields = string_fields(&["buyer_id", "shop_id"]);
    fields.extend([
        json!({"name": "channel", "type": {"type": "record", "name": "Channel", "fields": [{"name": "id", "type": {"type": "map", "values": "int"}}]}}),
        json!({"name": "event_time", "type": "int"}),
        json!({"name": "rating", "type": ["int", "null"]}),
        json!({"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 60, "scale": 2}}),
        json!({"name": "weight", "type": "float"}),
    ]);
    fields.extend(string_fields(&["event_id"]));
    fields.push(json!({"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["RATING", "BUYER_MESSAGE", "NEW"]}}));
    fields.extend(string_fields(&["agent_id"]));
    let schema = record_schema(Value::Array(fields));
    let mut datum = Vec::new();
    for text in ["b", "s"] {
        datum.extend(long(text.len() as i64));
        datum.extend(text.as_bytes());
    }
    datum.extend([long(1), long(1), b"x".to_vec(), long(5), long(0)].concat());
    datum.extend([long(1000), long(0), long(4)].concat());
    datum.extend([long(25), vec![0xff; 25]].concat());
    datum.extend(1.5_f32.to_le_bytes());
    datum.extend([long(1), b"e".to_vec(), long(0), long(1), b"a".to_vec()].concat());
    let mut loose = Loose::default();
    read(&datum, &schema, &mut loose).unwrap();
    assert!(matches!(loose.shop_id, Scalar::Str(Cow::Borrowed("s"))));
    assert!(matches!(loose.kind, Scalar::Symbol(Cow::Borrowed("RATING"))));
    let checked = validate(&loose, Topic::Chat).unwrap();
    assert_eq!(
        (checked.kind, checked.event_time, checked.rating, checked.agent_id),
        (Kind::Rating, 1000, 4, Some("a"))
    );
}

#[test]
fn an_enum_symbol_we_do_not_know_becomes_our_default_where_we_have_one() {
    let enum_type =
        |name: &str, symbol: &str| json!(["null", {"type": "enum", "name": name, "symbols": [symbol, "ZZZ"], "default": "ZZZ"}]);
    let outcome = |topic: Topic, name: &str, changed: Value| {
        let mut fields = string_fields(&["event_id", "shop_id", "buyer_id", "order_id", "refund_id"]);
        fields.push(json!({"name": "event_time", "type": "long"}));
        fields.push(json!({"name": if topic == Topic::Chat { "kind" } else { "status" }, "type": "string"}));
        fields.push(json!({"name": name, "type": changed}));
        let schema = record_schema(Value::Array(fields));
        let mut datum: Vec<u8> = (0..5).flat_map(|_| [2, b'i']).collect();
        datum.extend(long(1000));
        let kind = if topic == Topic::Chat {
            Kind::RobotMessage
        } else {
            Kind::RefundAgreed
        };
        datum.extend([long(kind.name().len() as i64), kind.name().as_bytes().to_vec(), long(1)].concat());
        match changed_is_text(&schema) {
            true => datum.extend([long(3), b"NEW".to_vec()].concat()),
            false => datum.extend(long(0)),
        }
        let mut loose = Loose::default();
        read(&datum, &schema, &mut loose).unwrap();
        validate(&loose, topic).map(|checked| (checked.robot_kind, checked.reason))
    };
    let full = Ok((RobotKind::Full, None));
    assert_eq!(outcome(Topic::Chat, "robot_kind", enum_type("R", "NEW")), full);
    assert_eq!(
        outcome(Topic::Chat, "robot_kind", enum_type("R", "WELCOME")),
        Ok((RobotKind::Welcome, None))
    );
    assert_eq!(
        outcome(Topic::Refunds, "reason", enum_type("R", "NEW")),
        Ok((RobotKind::Full, Some(RefundReason::Other)))
    );
    assert_eq!(outcome(Topic::Refunds, "phase", enum_type("P", "NEW")), Err(DeadReason::BadValue));
    // A text is not an enum: no default holds for it.
    assert_eq!(
        outcome(Topic::Chat, "robot_kind", json!(["null", "string"])),
        Err(DeadReason::BadValue)
    );
    assert_eq!(
        outcome(Topic::Refunds, "reason", json!(["null", "string"])),
        Err(DeadReason::BadValue)
    );
}

fn changed_is_text(schema: &WriterSchema) -> bool {
    schema.0.json().contains(r#"["null","string"]"#)
}

#[test]
fn types_are_told_apart() {
    let cases = [
        (json!("null"), vec![], Scalar::Absent),
        (json!("boolean"), vec![1], Scalar::Bool(true)),
        (json!("int"), long(-3), Scalar::Int(-3)),
        (json!("long"), long(i64::MAX), Scalar::Int(i64::MAX)),
        (json!({"type": "long", "logicalType": "timestamp-millis"}), long(7), Scalar::Int(7)),
        (json!("double"), 1.0_f64.to_le_bytes().to_vec(), Scalar::Other),
        (json!("bytes"), vec![2, b'x'], Scalar::Str("x".into())),
        (json!("bytes"), vec![2, 0xff], Scalar::Other),
        (json!({"type": "array", "items": "string"}), vec![2, 2, b'x', 0], Scalar::Texts),
        (json!({"type": "array", "items": ["null", "string"]}), vec![2, 0, 0], Scalar::Other),
        (json!({"type": "array", "items": "int"}), vec![2, 2, 0], Scalar::Other),
        (json!({"type": "array", "items": "string"}), vec![0], Scalar::Texts),
        (
            json!({"type": "map", "values": "string"}),
            vec![2, 2, b'k', 2, b'v', 0],
            Scalar::Other,
        ),
    ];
    for (kind, datum, expected) in cases {
        let schema = record_schema(json!([{"name": "sku_ids", "type": kind}]));
        let mut loose = Loose::default();
        read(&datum, &schema, &mut loose).unwrap();
        assert_eq!(loose.sku_ids, expected, "{kind}");
    }
}

#[test]
fn data_that_does_not_fit_its_schema_is_refused() {
    let text = || record_schema(json!([{"name": "x", "type": "string"}]));
    let cases = [
        (text(), vec![]),
        (text(), vec![4, b'x']),
        (text(), vec![2, b'x', 0]),
        (text(), vec![2, 0xff]),
        (text(), long(-1)),
        (text(), long(i64::MAX)),
        (text(), vec![0xff; 12]),
        (record_schema(json!([{"name": "x", "type": "boolean"}])), vec![2]),
        (record_schema(json!([{"name": "x", "type": ["null", "int"]}])), long(2)),
        (
            record_schema(json!([{"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["A"]}}])),
            long(1),
        ),
        (
            record_schema(json!([{"name": "x", "type": {"type": "array", "items": "string"}}])),
            [long(1), vec![2, 0xff], long(0)].concat(),
        ),
        (
            record_schema(json!([{"name": "x", "type": {"type": "map", "values": "int"}}])),
            [long(1), vec![2, 0xff], long(0), long(0)].concat(),
        ),
    ];
    for (schema, datum) in cases {
        assert!(read(&datum, &schema, &mut Loose::default()).is_err(), "{schema:?} {datum:?}");
    }
}

#[test]
fn elements_without_bytes_are_stopped() {
    let schema = record_schema(json!([{"name": "x", "type": {"type": "array", "items": {"type": "array", "items": "null"}}}]));
    let million = long(1_000_000);
    let datum = [
        long(3),
        million.clone(),
        long(0),
        million.clone(),
        long(0),
        million,
        long(0),
        long(0),
    ]
    .concat();
    assert!(read(&datum, &schema, &mut Loose::default()).is_err());
    let huge = [long(1), long(i64::MAX), long(0)].concat();
    assert!(read(&huge, &schema, &mut Loose::default()).is_err());
    let fine = [long(2), long(1000), long(0), long(1000), long(0), long(0)].concat();
    assert!(read(&fine, &schema, &mut Loose::default()).is_ok());
}

#[test]
fn a_schema_that_nests_itself_is_stopped_by_depth() {
    let schema = WriterSchema::parse(r#"{"type":"record","name":"R","fields":[{"name":"x","type":["null","R"]}]}"#).unwrap();
    assert!(read(&[[2; 20].as_slice(), &[0]].concat(), &schema, &mut Loose::default()).is_ok());
    assert!(read(&[2; 100_000], &schema, &mut Loose::default()).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(datum in proptest::collection::vec(any::<u8>(), 0..200), topic in 0..3_usize) {
        let schema = WriterSchema::parse(crate::schema::shipped(Topic::ALL[topic])).unwrap();
        let mut loose = Loose::default();
        if read(&datum, &schema, &mut loose).is_ok() {
            let _ = validate(&loose, Topic::ALL[topic]);
        }
    }

    #[test]
    fn texts_and_numbers_come_back(text in any::<String>(), number in any::<i64>(), flag in any::<bool>()) {
        let schema = record_schema(json!([
            {"name": "fake", "type": "boolean"}, {"name": "shop_id", "type": "string"}, {"name": "event_time", "type": "long"},
        ]));
        #[derive(Serialize)]
        struct Row<'a> { fake: bool, shop_id: &'a str, event_time: i64 }
        let datum = encode(&schema, &Row { fake: flag, shop_id: &text, event_time: number });
        let mut loose = Loose::default();
        read(&datum, &schema, &mut loose).unwrap();
        prop_assert_eq!(&loose.shop_id, &Scalar::Str(text.as_str().into()));
        prop_assert_eq!((&loose.event_time, &loose.fake), (&Scalar::Int(number), &Scalar::Bool(flag)));
    }
}
