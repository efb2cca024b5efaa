//! Both forms of a dump hold the same, and a replay makes the same of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::convert::{ConvertSettings, convert};
use super::record::{Record, Value};
use super::sink::Sink;
use super::{DumpReport, Form};
use crate::replay::dump::{Payload, open};
use crate::replay::run::{Settings, run};
use arrow::array::{Array, AsArray, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use peakdesk_intake::decode::Edge;
use peakdesk_intake::registry::Schemas;
use peakdesk_model::input::Topic;
use peakdesk_scoring::policy::{Constants, Policies};
use peakdesk_simulator::{SimConfig, write_dump};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Records that nobody should send, and some that look odd but are good. Partitions are mixed.
const ODD_CHAT: &str = r#"{"partition":0,"offset":3,"timestamp_ms":1762000000000,"key":"s:b","headers":[["trace","1"],["trace",{"base64":"/w=="}],["none",null]],"value":{"event_id":"1","shop_id":"s","buyer_id":"b","kind":"BUYER_MESSAGE","event_time":1762000000000,"text":"多少钱\n\"x\"","agent_id":null,"more":[1e999,{"a":null}],"rating":"not looked at"}}
{"partition":1,"offset":0,"timestamp_ms":1762000000001,"value":{"event_id":"2","shop_id":"s","buyer_id":"b","kind":"AGENT_MESSAGE","event_time":1762000000001,"agent_id":"a","assisted":true}}

{"partition":0,"offset":4,"timestamp_ms":1762000000002,"raw":"/wA="}
{"partition":0,"offset":5,"timestamp_ms":1762000000003,"key":{"base64":"/w=="}}
{"partition":0,"offset":6,"value":{"event_id":"3","shop_id":"s","buyer_id":"b","kind":"RATING","event_time":1762000000000,"agent_id":"a","rating":5}}
{"partition":0,"offset":7,"timestamp_ms":-5,"value":{}}
{"timestamp_ms":1762000000004,"value":{"rating":1,"event_id":"4","shop_id":"s","buyer_id":"b","kind":"RATING","event_time":1762000000000,"agent_id":"a","rating":5},"offset":9,"partition":0}
{"partition":0,"offset":10,"timestamp_ms":1762000000005,"value":[]}
{"partition":0,"offset":11,"timestamp_ms":1762000000005,"value":{"event_id":"","shop_id":"s","buyer_id":"b","kind":"RATING","event_time":1762000000000,"agent_id":"a","rating":5}}
{"partition":0,"offset":12,"timestamp_ms":1762000000006,"key":"k","value":{"event_id":"5","shop_id":"s","buyer_id":"b","kind":"RATING","event_time":1762000000000,"agent_id":"a","rating":6}}
{"partition":0,"offset":13,"timestamp_ms":1762000000006,"key":"k","value":{"event_id":"6","shop_id":"s","buyer_id":"b","kind":"RATING","event_time":9762000000000,"agent_id":"a","rating":5,"own":"field"}}
{"partition":0,"offset":14,"timestamp_ms":1762000000007,"key":"k","value":{"event_id":"7","shop_id":"s","buyer_id":"b","kind":"RATING","event_time":-1,"agent_id":"a","rating":5}}
{"partition":0,"offset":15,"timestamp_ms":1762000000008,"key":"k","value":{"event_id":"\ud800","shop_id":"s"}}
{"partition":2147483647,"offset":9223372036854775806,"timestamp_ms":0, "value": { "event_id" : "8", "shop_id" : "s", "buyer_id" : "b", "kind" : "TRANSFER", "event_time" : 1, "to_agent_id" : "a b" } }
"#;

const ODD_ORDERS: &str = r#"{"partition":0,"offset":0,"timestamp_ms":1762000000000,"key":"o","value":{"event_id":"1","shop_id":"s","buyer_id":"b","order_id":"o","status":"CREATED","event_time":1762000000000,"amount_fen":100,"item_count":1,"sku_ids":["a","b\u0041"],"fake":true,"source":"搜索"}}
{"partition":0,"offset":1,"timestamp_ms":1762000000001,"key":"o","value":{"event_id":"2","shop_id":"s","buyer_id":"b","order_id":"o","status":"SHIPPED","event_time":1762000000001,"sku_ids":[],"order_created_at":1762000000000,"amount_fen":-7.5}}
{"partition":0,"offset":2,"timestamp_ms":1762000000001,"key":"o","value":{"event_id":"2","shop_id":"s","buyer_id":"b","order_id":"o","status":"PAID","event_time":1762000000001,"sku_ids":["a",null],"amount_fen":1,"item_count":1}}
"#;

fn write_odd(dir: &Path) {
    fs::write(dir.join("chat.ndjson"), ODD_CHAT).unwrap();
    fs::write(dir.join("orders.ndjson"), ODD_ORDERS.trim_end()).unwrap();
}

fn write_simulated(dir: &Path) {
    let config = SimConfig {
        seed: 5,
        shops: 3,
        agents: Some(4),
        duration_ms: 4 * 3_600_000,
        late_share: 0.005,
        dead_share: 0.01,
        ..SimConfig::default()
    };
    write_dump(&config, dir, |_, _| true).unwrap();
}

fn to_form(from: &Path, form: Form) -> (TempDir, DumpReport) {
    let output = tempfile::tempdir().unwrap();
    let settings = ConvertSettings {
        from: from.to_owned(),
        output: output.path().to_owned(),
        form,
    };
    let report = convert(&settings, |_| true).unwrap();
    (output, report)
}

/// A value as JSON, with every number as it is spelt, so that blanks, escapes and the order of members do not matter.
fn meaning(bytes: &[u8]) -> Option<String> {
    fn canonical(raw: &serde_json::value::RawValue) -> String {
        match raw.get().as_bytes().first() {
            Some(b'{') => {
                let members: Vec<(String, Box<serde_json::value::RawValue>)> = members(raw.get());
                let mut members: Vec<String> = members.iter().map(|(n, v)| format!("{n:?}:{}", canonical(v))).collect();
                members.sort();
                format!("{{{}}}", members.join(","))
            }
            Some(b'[') => {
                let elements: Vec<Box<serde_json::value::RawValue>> = serde_json::from_str(raw.get()).unwrap();
                format!("[{}]", elements.iter().map(|e| canonical(e)).collect::<Vec<_>>().join(","))
            }
            Some(b'"') => serde_json::from_str::<String>(raw.get()).map_or_else(|_| raw.get().to_owned(), |text| format!("{text:?}")),
            _ => raw.get().to_owned(),
        }
    }
    fn members(text: &str) -> Vec<(String, Box<serde_json::value::RawValue>)> {
        struct All;
        impl<'de> serde::de::Visitor<'de> for All {
            type Value = Vec<(String, Box<serde_json::value::RawValue>)>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(member) = map.next_entry()? {
                    all.push(member);
                }
                Ok(all)
            }
        }
        serde::Deserializer::deserialize_map(&mut serde_json::Deserializer::from_str(text), All).unwrap()
    }
    let raw: Box<serde_json::value::RawValue> = serde_json::from_slice(bytes).ok()?;
    Some(canonical(&raw))
}

type Held = BTreeMap<(Topic, i32), Vec<String>>;

/// Everything a dump holds.
fn held(dir: &Path) -> Held {
    let mut held = Held::new();
    for mut reader in open(dir).unwrap() {
        let mut records = Vec::new();
        while reader.advance().unwrap().is_some() {
            let record: Record<'_> = reader.record().unwrap();
            let value = match &record.value {
                Value::Json(text) => meaning(text.as_bytes()).unwrap(),
                other => format!("{other:?}"),
            };
            records.push(format!(
                "{:?}",
                (
                    record.partition,
                    record.offset,
                    record.timestamp_ms,
                    &record.key,
                    &record.headers,
                    value
                )
            ));
        }
        held.insert((reader.topic, reader.partition), records);
    }
    held
}

#[test]
fn both_forms_hold_the_same() {
    for write in [write_odd, write_simulated] {
        let original = tempfile::tempdir().unwrap();
        write(original.path());
        let (parquet, report) = to_form(original.path(), Form::Parquet);
        let (ndjson, _) = to_form(parquet.path(), Form::Ndjson);
        let expected = held(original.path());
        assert!(held(parquet.path()) == expected);
        assert!(held(ndjson.path()) == expected);
        assert_eq!(report.total(), expected.values().map(|records| records.len() as u64).sum::<u64>());
        let names: Vec<PathBuf> = fs::read_dir(parquet.path()).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(
            report.bytes,
            names.iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>()
        );
        // The second time there is nothing left to change.
        let (again, _) = to_form(to_form(ndjson.path(), Form::Parquet).0.path(), Form::Ndjson);
        for topic in Topic::ALL.map(|topic| Form::Ndjson.file_name(topic)) {
            let read = |dir: &TempDir| fs::read(dir.path().join(&topic)).unwrap_or_default();
            assert!(read(&again) == read(&ndjson), "{topic}");
        }
    }
}

#[test]
fn valid_records_need_no_json() {
    let original = tempfile::tempdir().unwrap();
    write_odd(original.path());
    let (parquet, _) = to_form(original.path(), Form::Parquet);
    let mut typed = Vec::new();
    for mut reader in open(parquet.path()).unwrap() {
        while let Some(stamp) = reader.advance().unwrap() {
            if matches!(reader.payload(false).unwrap(), Payload::Row(_)) {
                typed.push((reader.topic, reader.partition, stamp.offset));
            }
        }
    }
    let chat = [(0, 3), (0, 6), (0, 13), (0, 14), (1, 0), (i32::MAX, i64::MAX - 1)].map(|(p, o)| (Topic::Chat, p, o));
    let orders = [(Topic::Orders, 0, 0), (Topic::Orders, 0, 1)];
    assert_eq!(typed, [chat.as_slice(), &orders].concat());
}

fn replay(input: &Path) -> TempDir {
    let output = tempfile::tempdir().unwrap();
    let constants = Constants::default();
    let settings = Settings {
        input: input.to_owned(),
        output: output.path().to_owned(),
        log_partitions: 3,
        workers: 2,
        edge: Edge {
            buyer_key: [3; 32],
            future_skew_ms: 300_000,
            order_retention_ms: constants.order_retention_ms,
            schemas: Arc::new(Schemas::shipped().unwrap()),
        },
        constants,
        policies: Policies::new(Default::default(), Default::default()),
        generation: 1,
    };
    run(&settings).unwrap();
    output
}

fn files_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                files.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// The letters of a file, values by their meaning.
fn letters(file: &Path) -> Vec<String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(file).unwrap())
        .unwrap()
        .build()
        .unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    let mut letters = Vec::new();
    for batch in batches {
        let value = batch.column_by_name("value").unwrap().as_binary::<i32>().clone();
        for row in 0..batch.num_rows() {
            let bytes = value.is_valid(row).then(|| value.value(row).to_vec());
            let value = bytes.as_deref().map(|b| meaning(b).unwrap_or_else(|| format!("{b:?}")));
            let others: Vec<String> = batch
                .schema()
                .fields()
                .iter()
                .zip(batch.columns())
                .filter(|(field, _)| field.name() != "value")
                .map(|(field, column)| format!("{}: {:?}", field.name(), column.slice(row, 1)))
                .collect();
            letters.push(format!("{value:?} {others:?}"));
        }
    }
    letters
}

#[test]
fn a_replay_makes_the_same_of_both_forms() {
    for write in [write_odd, write_simulated] {
        let original = tempfile::tempdir().unwrap();
        write(original.path());
        let (parquet, _) = to_form(original.path(), Form::Parquet);
        let (ndjson, _) = to_form(parquet.path(), Form::Ndjson);
        let expected_dir = replay(original.path());
        let expected = files_of(expected_dir.path());
        assert!(expected.keys().any(|path| path.starts_with("dead_letters")));
        assert!(expected.keys().any(|path| path.starts_with("reply_rounds")));
        for form in [&parquet, &ndjson] {
            let output_dir = replay(form.path());
            let output = files_of(output_dir.path());
            assert_eq!(output.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
            for (path, bytes) in output {
                if path.starts_with("dead_letters") {
                    assert_eq!(
                        letters(&output_dir.path().join(&path)),
                        letters(&expected_dir.path().join(&path)),
                        "{}",
                        path.display()
                    );
                } else {
                    assert!(bytes == expected[&path], "{}", path.display());
                }
            }
        }
    }
}

fn read_all(dir: &Path) -> anyhow::Result<u64> {
    let mut n = 0;
    for mut reader in open(dir)? {
        while reader.advance()?.is_some() {
            reader.payload(true)?;
            reader.record()?;
            n += 1;
        }
    }
    Ok(n)
}

#[test]
fn a_damaged_columnar_file_is_noticed() {
    let original = tempfile::tempdir().unwrap();
    write_odd(original.path());
    let (parquet, report) = to_form(original.path(), Form::Parquet);
    assert_eq!(read_all(parquet.path()).unwrap(), report.total());
    let path = parquet.path().join("chat.parquet");
    let good = fs::read(&path).unwrap();
    let footer = u32::from_le_bytes(good[good.len() - 8..good.len() - 4].try_into().unwrap()) as usize;
    let pages = good.len() - 8 - footer;
    for at in (4..pages).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, bytes).unwrap();
        // Behind the pages lie indexes that nobody reads.
        match read_all(parquet.path()) {
            Ok(n) => assert!(n == report.total() && at > pages / 2, "damage at {at} of {pages} was not noticed"),
            Err(error) => assert!(format!("{error:#}").contains("chat.parquet"), "{error:#}"),
        }
    }
    for at in (pages..good.len()).step_by(3) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, bytes).unwrap();
        // Whatever comes of it, it is an answer.
        let _ = read_all(parquet.path());
    }
    for len in [0, 3, 8, good.len() / 2, good.len() - 1] {
        fs::write(&path, &good[..len]).unwrap();
        let error = format!("{:#}", read_all(parquet.path()).unwrap_err());
        assert!(error.contains("chat.parquet") && error.contains("damaged"), "{error}");
    }
}

#[test]
fn what_is_no_dump_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |expected: &str| {
        let error = format!("{:#}", read_all(dir.path()).unwrap_err());
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    };
    refused("holds none of");
    for (text, expected) in [
        ("{\"partition\":0,\"offset\":1}\nnonsense\n", "chat.ndjson:2"),
        (
            "{\"partition\":0,\"offset\":1}\n\n{\"partition\":0,\"offset\":1}\n",
            "chat.ndjson:3",
        ),
        (
            "{\"partition\":0,\"offset\":1,\"timestamp_ms\":7,\"value\":{}}\n{\"partition\":0,\"offset\":2,\"timestamp_ms\":7,\"value\":{}",
            "chat.ndjson:2",
        ),
        ("{\"partition\":0,\"offset\":1,\"timestamp_ms\":7,\"value\":}\n", "chat.ndjson:1"),
        ("{\"partition\":0,\"offset\":1,\"raw\":\"?\"}\n", "not base64"),
        ("{\"partition\":0,\"offset\":\"1\"}\n", "chat.ndjson:1"),
        ("{\"partition\":0,\"offset\":01,\"value\":{}}\n", "chat.ndjson:1"),
        (
            "{\"partition\":0,\"offset\":1,\"timestamp_ms\":7,\"key\":\"a\",\"key\":\"b\",\"value\":{}}\n",
            "duplicate field",
        ),
    ] {
        fs::write(dir.path().join("chat.ndjson"), text).unwrap();
        refused(expected);
    }
    write_odd(dir.path());
    let (parquet, _) = to_form(dir.path(), Form::Parquet);
    fs::copy(parquet.path().join("chat.parquet"), dir.path().join("chat.parquet")).unwrap();
    refused("two forms of the same topic");
    fs::remove_file(dir.path().join("chat.ndjson")).unwrap();
    assert!(read_all(dir.path()).is_ok());
    fs::remove_file(dir.path().join("orders.ndjson")).unwrap();
    fs::copy(parquet.path().join("chat.parquet"), dir.path().join("orders.parquet")).unwrap();
    refused("its columns are not those of orders records");
}

#[test]
fn a_dump_goes_where_no_dump_is() {
    let dir = tempfile::tempdir().unwrap();
    write_odd(dir.path());
    let settings = ConvertSettings {
        from: dir.path().to_owned(),
        output: dir.path().to_owned(),
        form: Form::Parquet,
    };
    let error = format!("{:#}", convert(&settings, |_| true).unwrap_err());
    assert!(error.contains("already holds"), "{error}");
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    write_odd(dir.path());
    fs::write(dir.path().join("refunds.ndjson"), "{\"partition\":0,\"offset\":1,\"raw\":\"?\"}\n").unwrap();
    for form in Form::ALL {
        let output = tempfile::tempdir().unwrap();
        let settings = ConvertSettings {
            from: dir.path().to_owned(),
            output: output.path().to_owned(),
            form,
        };
        convert(&settings, |_| true).unwrap_err();
        assert_eq!(fs::read_dir(output.path()).unwrap().count(), 0, "{form:?}");
    }
}

/// Somebody else has taken the name meanwhile, so that the file cannot have it.
#[test]
fn a_name_that_was_taken_meanwhile_stays_with_its_owner() {
    let output = tempfile::tempdir().unwrap();
    let mut sink = Sink::create(output.path(), Form::Ndjson).unwrap();
    for topic in [Topic::Chat, Topic::Orders] {
        sink.begin(topic).unwrap();
    }
    let theirs = output.path().join("orders.ndjson");
    fs::create_dir(&theirs).unwrap();
    let error = format!("{:#}", sink.finish().unwrap_err());
    assert!(error.contains("cannot write") && error.contains("orders.ndjson"), "{error}");
    let left: Vec<PathBuf> = fs::read_dir(output.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(left, [theirs]);
}

#[test]
fn lines_may_be_longer_than_a_block() {
    let dir = tempfile::tempdir().unwrap();
    let line = |partition: i32, offset: i64, len: usize| {
        let text = "好".repeat(len / 3);
        format!("{{\"partition\":{partition},\"offset\":{offset},\"timestamp_ms\":{offset},\"value\":{{\"text\":\"{text}\"}}}}\n")
    };
    let lens = [10, 262_100, 300, 700_000, 5, 262_144, 262_000, 1, 524_288];
    let text: String = lens.iter().enumerate().map(|(i, len)| line(i as i32 % 2, i as i64, *len)).collect();
    fs::write(dir.path().join("chat.ndjson"), text.trim_end()).unwrap();
    let mut read = Vec::new();
    for mut reader in open(dir.path()).unwrap() {
        while let Some(stamp) = reader.advance().unwrap() {
            let Payload::Json { text, .. } = reader.payload(false).unwrap() else {
                panic!("no value")
            };
            read.push((stamp.offset as usize, text.len() - r#"{"text":""}"#.len()));
        }
    }
    read.sort_unstable();
    assert_eq!(read, lens.iter().map(|len| len / 3 * 3).enumerate().collect::<Vec<_>>());
}
