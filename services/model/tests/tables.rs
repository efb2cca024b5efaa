//! The published description of the tables and their schemas say the same: every column, its type, whether it may be null.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow::datatypes::DataType;
use peakdesk_model::table::{Table, schema};
use std::collections::BTreeMap;

/// `column -> (type, may be null)` of a section of the description.
fn described(text: &str, section: &str) -> BTreeMap<String, (String, bool)> {
    let begin = format!("## {section}");
    let lines = text
        .lines()
        .skip_while(|l| l.trim_end() != begin)
        .skip(1)
        .take_while(|l| !l.starts_with("## "));
    let mut columns = BTreeMap::new();
    for line in lines.filter(|l| l.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [names, kind, null, ..] = cells[..] else { continue };
        for name in names.split(',').map(|n| n.trim().trim_matches('`')).filter(|n| !n.is_empty()) {
            if name != "column" && !name.starts_with("--") {
                columns.insert(name.to_owned(), (kind.to_owned(), null != "no"));
            }
        }
    }
    columns
}

fn name_of(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Utf8 => "STRING",
        DataType::Int64 => "INT64",
        DataType::Int32 => "INT32",
        DataType::UInt32 => "UINT32",
        DataType::Boolean => "BOOLEAN",
        DataType::Date32 => "DATE",
        DataType::Timestamp(..) => "TIMESTAMP",
        other => panic!("no name for {other}"),
    }
}

#[test]
fn the_description_names_every_column_with_its_type() {
    let text = include_str!("../../../schemas/tables.md");
    let every_row = described(text, "Columns that every row carries");
    assert!(every_row.len() >= 6, "{every_row:?}");
    for table in Table::ALL {
        let mut expected = described(text, table.name());
        assert!(expected.len() > 5, "{}: not described", table.name());
        expected.extend(every_row.clone());
        let found: BTreeMap<String, (String, bool)> = schema(table)
            .fields()
            .iter()
            // The directory, not a column.
            .filter(|f| f.name() != "dt")
            .map(|f| (f.name().clone(), (name_of(f.data_type()).to_owned(), f.is_nullable())))
            .collect();
        let names = |m: &BTreeMap<String, (String, bool)>| m.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "{}", table.name());
        for (name, (kind, _)) in &found {
            assert!(
                expected[name].0.starts_with(kind.as_str()),
                "{}.{name}: {kind}, described as {}",
                table.name(),
                expected[name].0
            );
        }
    }
}
