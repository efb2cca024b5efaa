//! A JSON record taken apart into the columns of its topic, and put together again.
//!
//! Only what a column can hold exactly goes there; any other member (a null, a field Peakdesk does not know, a field of a
//! wrong type that the kind does not use) stays as JSON beside the columns, so that nothing is lost.

use super::columns::{Column, ColumnType};
use super::record::compact;
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// What a column holds of one record.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Cell<'a> {
    /// The member is not there.
    #[default]
    Absent,
    /// Of a text column.
    Text(Cow<'a, str>),
    /// Of an integer column.
    Int(i64),
    /// Of a boolean column.
    Bool(bool),
    /// Of a column of lists.
    Texts(Vec<String>),
}

/// A record in columns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Typed<'a> {
    /// By column of the topic.
    pub cells: Vec<Cell<'a>>,
    /// The members without column: `"name":value,…`, without the braces around them.
    pub other: Option<String>,
}

/// Takes an object apart; `None` if it is none, or names a member twice.
pub fn split<'a>(text: &'a str, columns: &[Column]) -> Option<Typed<'a>> {
    let mut json = serde_json::Deserializer::from_str(text);
    let members = json.deserialize_map(Members).ok()?;
    json.end().ok()?;
    let mut typed = Typed {
        cells: vec![Cell::Absent; columns.len()],
        other: None,
    };
    let mut others: Vec<&str> = Vec::new();
    for (name, value) in &members {
        let place = columns.iter().position(|column| column.name == name.as_str());
        let cell = place.and_then(|i| cell_of(value.get(), columns.get(i)?.kind));
        match (place.and_then(|i| typed.cells.get_mut(i)), cell) {
            (Some(slot), Some(cell)) if *slot == Cell::Absent && !others.contains(&name.as_str()) => *slot = cell,
            (Some(slot), _) if *slot != Cell::Absent => return None,
            _ if others.contains(&name.as_str()) => return None,
            _ => {
                others.push(name);
                let rest = typed.other.get_or_insert_default();
                member(rest, name, &compact(value.get()));
            }
        }
    }
    Some(typed)
}

/// Puts an object together again.
pub fn join(typed: &Typed<'_>, columns: &[Column]) -> String {
    let mut out = String::with_capacity(256);
    for (column, cell) in columns.iter().zip(&typed.cells) {
        match cell {
            Cell::Absent => {}
            Cell::Text(text) => member(&mut out, column.name, &quoted(text)),
            Cell::Int(value) => member(&mut out, column.name, &value.to_string()),
            Cell::Bool(value) => member(&mut out, column.name, if *value { "true" } else { "false" }),
            Cell::Texts(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                member(&mut out, column.name, &format!("[{}]", texts.join(",")));
            }
        }
    }
    if let Some(other) = &typed.other {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(other);
    }
    format!("{{{out}}}")
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn member(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    out.push_str(&quoted(name));
    out.push(':');
    out.push_str(value);
}

/// The cell of a member, if it comes back from the column exactly as it went in.
fn cell_of(raw: &str, kind: ColumnType) -> Option<Cell<'_>> {
    match (kind, raw.as_bytes().first()?) {
        (ColumnType::Text, b'"') => match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(plain) if !plain.contains('\\') => Some(Cell::Text(Cow::Borrowed(plain))),
            _ => serde_json::from_str(raw).ok().map(|text: String| Cell::Text(Cow::Owned(text))),
        },
        (ColumnType::Int, _) => raw.parse().ok().filter(|value: &i64| value.to_string() == raw).map(Cell::Int),
        (ColumnType::Bool, b't') => Some(Cell::Bool(true)),
        (ColumnType::Bool, b'f') => Some(Cell::Bool(false)),
        (ColumnType::Texts, b'[') => serde_json::from_str(raw).ok().map(Cell::Texts),
        _ => None,
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(16);
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::columns::columns_of;
    use super::*;
    use peakdesk_model::input::Topic;
    use serde_json::Value as Json;

    #[test]
    fn every_member_comes_back() {
        for text in [
            r#"{"event_id":"e","shop_id":"店\n","event_time":-5,"spam":true,"rating":5}"#,
            r#"{"event_id":"e","agent_id":null,"rating":1.0,"spam":"x","event_time":"7","more":{"a":[1e999,-0]},"order_id":"o"}"#,
            r#"{"event_id":"e","rating":-0,"event_time":9223372036854775808}"#,
            r#"{"te\u0078t":"\ud83d\ude00","\u0000":1}"#,
            r#"{}"#,
        ] {
            let columns = columns_of(Topic::Chat);
            let typed = split(text, columns).unwrap();
            let joined = join(&typed, columns);
            if text.contains("1e999") {
                assert!(joined.contains("1e999"), "{joined}");
                continue;
            }
            assert_eq!(
                serde_json::from_str::<Json>(&joined).unwrap(),
                serde_json::from_str::<Json>(text).unwrap(),
                "{joined}"
            );
        }
        let columns = columns_of(Topic::Orders);
        let text = r#"{"status":"PAID","amount_fen":1,"sku_ids":["a","\"b"],"fake":false,"x":1}"#;
        let typed = split(text, columns).unwrap();
        assert_eq!(typed.other.as_deref(), Some(r#""x":1"#));
        assert_eq!(
            serde_json::from_str::<Json>(&join(&typed, columns)).unwrap(),
            serde_json::from_str::<Json>(text).unwrap()
        );
        assert_eq!(
            split(r#"{"sku_ids":["a",1]}"#, columns).unwrap().other.as_deref(),
            Some(r#""sku_ids":["a",1]"#)
        );
    }

    #[test]
    fn what_columns_cannot_hold_is_left_alone() {
        for text in [
            r#"{"rating":1,"rating":5}"#,
            r#"{"rating":null,"rating":5}"#,
            r#"{"rating":5,"rating":null}"#,
            r#"{"x":1,"x":1}"#,
            "[]",
            "7",
        ] {
            assert_eq!(split(text, columns_of(Topic::Chat)), None, "{text}");
        }
    }
}
