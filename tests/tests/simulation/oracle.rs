//! Worlds before the batch oracle, which shares no code with the product: its tables are those that the warehouses wrote.

use crate::run::{EDGE, run};
use crate::story::{Record, Story};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use peakdesk_model::input::Topic;
use peakdesk_model::table::Table;
use peakdesk_tests::support::{compare, script, text};
use peakdesk_tests::{Result, ensure, scene};
use peakdesk_warehouse::file;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Each takes about a second.
const WORLDS: u64 = 30;

#[test]
fn the_oracle_finds_the_tables_of_disturbed_worlds() {
    for seed in (0..WORLDS).chain([1_111, 20_251_111]) {
        scene(|scene| {
            println!("seed {seed}");
            let outcome = run(seed, None, false);
            ensure!(outcome.problem.is_none(), "{:?}", outcome.problem);
            let [dump, product, expected] = ["dump", "product", "expected"].map(|name| scene.path(&format!("{name}-{seed}")));
            write_dump(&outcome.story, &dump)?;
            for (path, rows) in &outcome.files {
                let (dir, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
                file::write(&product.join(dir), &name.to_string_lossy(), rows)?;
            }
            let key: String = EDGE.buyer_key.iter().map(|byte| format!("{byte:02x}")).collect();
            script(scene, "oracle.py", &[text(&dump)?, text(&expected)?, "--buyer-key-hex", &key])?.success()?;
            let mut args: Vec<&str> = vec![text(&expected)?, text(&product)?, "--tables"];
            // Dead letters are not written by these warehouses, and alerts are not in the oracle.
            args.extend(
                Table::ALL
                    .into_iter()
                    .filter(|table| *table != Table::Alerts)
                    .map(|table| table.name()),
            );
            let said = compare(scene, &args)?;
            ensure!(!said.contains("orders: expected 0,"), "nothing was compared");
            Ok(())
        });
    }
}

fn write_dump(story: &Story, dir: &Path) -> Result {
    fs::create_dir_all(dir)?;
    for topic in Topic::ALL {
        let lines = story.records.iter().filter(|record| record.topic == topic).map(line);
        let all: String = lines.map(|line| format!("{line}\n")).collect();
        fs::write(dir.join(format!("{}.ndjson", topic.name())), all)?;
    }
    Ok(())
}

fn line(record: &Record) -> Value {
    let mut line = json!({ "partition": record.partition, "offset": record.offset, "timestamp_ms": record.arrival });
    match serde_json::from_slice::<Value>(&record.value) {
        Ok(value) => line["value"] = value,
        Err(_) => line["raw"] = STANDARD.encode(&record.value).into(),
    }
    line
}
