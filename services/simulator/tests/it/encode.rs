//! Encoded values read back equal, in both formats.

use peakdesk_model::input::{ChatRecord, OrderRecord, RefundRecord, Topic};
use peakdesk_simulator::{Encoder, Format, Generator, SchemaIds, SimBody, SimConfig};
use serde::de::DeserializeOwned;
use serde_avro_fast::Schema;

use crate::{busy_night, plain_days};

fn datum<T: DeserializeOwned>(bytes: &[u8], id: u32, schema: &Schema) -> T {
    assert_eq!(bytes[0], 0);
    assert_eq!(bytes[1..5], id.to_be_bytes());
    serde_avro_fast::from_datum_slice(&bytes[5..], schema).unwrap()
}

/// Avro has no absent booleans.
fn chat_in_avro(chat: &ChatRecord) -> ChatRecord {
    ChatRecord {
        spam: Some(chat.spam.unwrap_or(false)),
        assisted: Some(chat.assisted.unwrap_or(false)),
        ..chat.clone()
    }
}

#[test]
fn avro_values_read_back_with_the_shipped_schemas() {
    let [chat, order, refund]: [Schema; 3] = Topic::ALL.map(|topic| topic.avro_schema().parse().unwrap());
    let ids = SchemaIds {
        chat: 0x0102_0304,
        ..SchemaIds::default()
    };
    let encoder = Encoder::new(Format::Avro, ids).unwrap();
    let mut bytes = Vec::new();
    let mut seen = [0; 4];
    let night = Generator::new(&SimConfig {
        dead_share: 0.02,
        ..busy_night(2)
    })
    .unwrap();
    let days = Generator::new(&plain_days(2, 2, 2, 12)).unwrap();
    for record in night.chain(days) {
        encoder.encode(&record.body, &mut bytes).unwrap();
        match record.body {
            SimBody::Chat(record) => {
                seen[0] += 1;
                assert_eq!(datum::<ChatRecord>(&bytes, 0x0102_0304, &chat), chat_in_avro(&record));
            }
            SimBody::Order(record) => {
                seen[1] += 1;
                let expected = OrderRecord {
                    fake: Some(record.fake.unwrap_or(false)),
                    ..record
                };
                assert_eq!(datum::<OrderRecord>(&bytes, 2, &order), expected);
            }
            SimBody::Refund(record) => {
                seen[2] += 1;
                assert_eq!(datum::<RefundRecord>(&bytes, 3, &refund), record);
            }
            SimBody::Raw(raw) => {
                seen[3] += 1;
                assert_eq!(bytes, raw);
                assert_ne!(bytes.first(), Some(&0), "must not look framed");
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
}

#[test]
fn json_values_read_back_and_leave_absent_fields_out() {
    let encoder = Encoder::new(Format::Json, SchemaIds::default()).unwrap();
    let mut bytes = Vec::new();
    for record in Generator::new(&SimConfig {
        dead_share: 0.0,
        ..busy_night(2)
    })
    .unwrap()
    {
        encoder.encode(&record.body, &mut bytes).unwrap();
        assert!(!bytes.windows(4).any(|window| window == b"null"));
        match record.body {
            SimBody::Chat(record) => assert_eq!(serde_json::from_slice::<ChatRecord>(&bytes).unwrap(), record),
            SimBody::Order(record) => assert_eq!(serde_json::from_slice::<OrderRecord>(&bytes).unwrap(), record),
            SimBody::Refund(record) => assert_eq!(serde_json::from_slice::<RefundRecord>(&bytes).unwrap(), record),
            SimBody::Raw(_) => panic!("no damage was asked for"),
        }
    }
}

#[test]
fn a_symbol_the_schema_does_not_have_is_an_error() {
    let encoder = Encoder::new(Format::Avro, SchemaIds::default()).unwrap();
    let body = SimBody::Chat(ChatRecord {
        kind: "WAVE".to_owned(),
        ..ChatRecord::default()
    });
    let error = encoder.encode(&body, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("topic chat") && error.contains("WAVE"), "{error}");
}

#[test]
fn the_shipped_schemas_explain_every_field() {
    for topic in Topic::ALL {
        let schema: serde_json::Value = serde_json::from_str(topic.avro_schema()).unwrap();
        assert_eq!(schema["namespace"], "peakdesk");
        for field in schema["fields"].as_array().unwrap() {
            assert!(field["doc"].as_str().is_some_and(|doc| doc.len() > 10), "{field}");
            let optional = field["type"].as_array().is_some_and(|types| types[0] == "null");
            let flag = field["type"] == "boolean";
            assert_eq!(field.get("default").is_some(), optional || flag, "{field}");
        }
    }
}
