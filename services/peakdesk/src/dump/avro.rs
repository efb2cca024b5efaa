//! Avro records as JSON objects with the field names of the metric definitions.
//!
//! What always holds: intake makes the same of the JSON as of the record itself. So an unknown symbol of an enum for which the
//! reader has a default becomes that default, and a value that intake takes for a wrong type (bytes without UTF-8 form, a symbol
//! where no field is, a number that is none) becomes an object, which is one too. Fields that Peakdesk does not know are left out.
//!
//! It converts records that intake was able to decode; of others it only says that it failed.

use super::columns::columns_of;
use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use peakdesk_model::event::{RefundReason, RobotKind};
use peakdesk_model::input::Topic;
use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_avro_fast::Schema;
use serde_avro_fast::de::read::SliceRead;
use serde_avro_fast::de::{DeserializerConfig, DeserializerState};
use serde_avro_fast::schema::SchemaMut;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fmt;

/// The JSON text of the schema with an id, for ids that intake was able to decode with.
pub type SchemaText = Box<dyn Fn(u32) -> anyhow::Result<String>>;

/// Converts records, keeping the schemas it has seen.
pub struct AvroToJson {
    text: SchemaText,
    known: HashMap<u32, Schema>,
}

impl AvroToJson {
    /// With schemas from `text`.
    pub fn new(text: SchemaText) -> Self {
        AvroToJson {
            text,
            known: HashMap::new(),
        }
    }

    /// The JSON of a record in Confluent framing.
    pub fn convert(&mut self, topic: Topic, payload: &[u8]) -> anyhow::Result<String> {
        let [0, a, b, c, d, datum @ ..] = payload else {
            bail!("not in the framing of a schema registry")
        };
        let id = u32::from_be_bytes([*a, *b, *c, *d]);
        if !self.known.contains_key(&id) {
            let text = (self.text)(id).with_context(|| format!("schema {id}"))?;
            self.known.insert(id, parse(&text).with_context(|| format!("schema {id}"))?);
        }
        let schema = self.known.get(&id).context("no schema")?;
        let mut config = DeserializerConfig::new(schema);
        // Intake has counted the elements before.
        config.max_seq_size = datum.len().max(1 << 20);
        let mut state = DeserializerState::with_config(SliceRead::new(datum), config);
        let object = state
            .deserializer()
            .deserialize_map(RecordVisitor(topic))
            .map_err(|e| anyhow::anyhow!("{e}"))?;
        Ok(Value::Object(object).to_string())
    }
}

/// Logical types are set aside, as intake does: a time stays a number.
fn parse(text: &str) -> anyhow::Result<Schema> {
    let mut schema: SchemaMut = text.parse().map_err(|e| anyhow::anyhow!("{e}"))?;
    for node in schema.nodes_mut() {
        node.logical_type = None;
    }
    schema.freeze().map_err(|e| anyhow::anyhow!("{e}"))
}

struct RecordVisitor(Topic);

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut out = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let known = columns_of(self.0).iter().find(|column| column.name == name);
            let value = map.next_value_seed(ValueVisitor {
                field: known.map(|column| column.name),
            })?;
            if known.is_some() && !value.is_null() {
                out.insert(name, value);
            }
        }
        Ok(out)
    }
}

/// Reads any value; `field` is `None` inside lists and maps.
#[derive(Clone, Copy)]
struct ValueVisitor {
    field: Option<&'static str>,
}

impl<'de> DeserializeSeed<'de> for ValueVisitor {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Value, D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(serde_json::Number::from_f64(value).map_or_else(|| json!({ "float": value.to_string() }), Value::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    /// What comes for a moment only is a symbol out of the schema.
    fn visit_str<E>(self, symbol: &str) -> Result<Value, E> {
        Ok(match self.field {
            Some("robot_kind") => Value::from(RobotKind::from_name(symbol).unwrap_or_default().name()),
            Some("reason") => Value::from(RefundReason::from_name(symbol).unwrap_or(RefundReason::Other).name()),
            Some(_) => Value::from(symbol),
            None => json!({ "symbol": symbol }),
        })
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Value, E> {
        Ok(std::str::from_utf8(bytes).map_or_else(|_| json!({ "base64": STANDARD.encode(bytes) }), Value::from))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(json!({ "base64": STANDARD.encode(bytes) }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(element) = list.next_element_seed(ValueVisitor { field: None })? {
            out.push(element);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            out.insert(name, map.next_value_seed(ValueVisitor { field: None })?);
        }
        Ok(Value::Object(out))
    }
}
