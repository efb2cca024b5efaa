//! Dumps: whole or not there, reproducible, in the form that `replay` reads.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use peakdesk_model::input::{ChatRecord, OrderRecord, RefundRecord};
use peakdesk_simulator::{DumpWriter, Generator, SimError, write_dump};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::busy_night;

const FILES: [&str; 3] = ["chat.ndjson", "orders.ndjson", "refunds.ndjson"];

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Lines, and lines with `raw`.
fn check_file<T: DeserializeOwned>(path: &Path) -> (u64, u64) {
    let (mut lines, mut raw) = (0, 0);
    let mut next_offsets: HashMap<i64, i64> = HashMap::new();
    for line in fs::read_to_string(path).unwrap().lines() {
        let start = r#"{"partition":"#;
        assert!(line.starts_with(start), "{line}");
        let value: Value = serde_json::from_str(line).unwrap();
        let next = next_offsets.entry(value["partition"].as_i64().unwrap()).or_insert(0);
        assert_eq!(value["offset"], *next);
        *next += 1;
        assert!(value["timestamp_ms"].is_i64() && value["key"].is_string());
        lines += 1;
        match value.get("raw") {
            Some(bytes) => {
                assert!(bytes.is_string() && value.get("value").is_none());
                raw += 1;
            }
            None => drop(serde_json::from_value::<T>(value["value"].clone()).unwrap()),
        }
    }
    (lines, raw)
}

#[test]
fn a_dump_holds_every_record_in_the_form_of_a_dump() {
    let directory = tempfile::tempdir().unwrap();
    let mut reports = 0;
    let totals = write_dump(&busy_night(1), directory.path(), |_, _| {
        reports += 1;
        true
    })
    .unwrap();
    assert!(reports > 0);
    assert_eq!(names(directory.path()), FILES);
    let chat = check_file::<ChatRecord>(&directory.path().join("chat.ndjson"));
    let orders = check_file::<OrderRecord>(&directory.path().join("orders.ndjson"));
    let refunds = check_file::<RefundRecord>(&directory.path().join("refunds.ndjson"));
    assert_eq!(
        (chat.0, orders.0, refunds.0),
        (totals.chat_records, totals.order_records, totals.refund_records)
    );
    assert!(chat.1 > 0, "no damaged bytes in the chat file");
}

#[test]
fn equal_seeds_give_equal_files() {
    let [one, two] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    write_dump(&busy_night(1), one.path(), |_, _| true).unwrap();
    write_dump(&busy_night(1), two.path(), |_, _| true).unwrap();
    for file in FILES {
        assert!(
            fs::read(one.path().join(file)).unwrap() == fs::read(two.path().join(file)).unwrap(),
            "{file}"
        );
    }
}

#[test]
fn a_stopped_dump_is_a_prefix_and_an_abandoned_one_is_nothing() {
    let [whole, stopped, abandoned] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    write_dump(&busy_night(1), whole.path(), |_, _| true).unwrap();
    let totals = write_dump(&busy_night(1), stopped.path(), |_, _| false).unwrap();
    let written = fs::read(stopped.path().join("chat.ndjson")).unwrap();
    assert!(totals.records > 0 && fs::read(whole.path().join("chat.ndjson")).unwrap().starts_with(&written));
    let mut writer = DumpWriter::create(abandoned.path()).unwrap();
    for record in Generator::new(&busy_night(1)).unwrap().take(100) {
        writer.write(&record).unwrap();
    }
    drop(writer);
    assert!(names(abandoned.path()).is_empty());
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("taken");
    fs::write(&file, b"").unwrap();
    let error = write_dump(&busy_night(1), &file.join("dump"), |_, _| true).unwrap_err();
    assert!(matches!(error, SimError::Dump { .. }));
    assert!(error.to_string().contains("taken/dump"), "{error}");
}
