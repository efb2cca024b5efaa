//! Writers' Avro schemas, prepared for decoding, and the schemas Peakdesk ships.
//!
//! A record is decoded by the schema its *writer* used, and fields are matched by name. That gives every change within
//! BACKWARD compatibility for free: a field added, removed or moved, an `int` where there was a `long`, a symbol added to an
//! enum. Logical types are set aside, as Avro's own rules for resolution do: they change the meaning of a value, not its type.

use peakdesk_model::input::Topic;
use serde_avro_fast::Schema;
use serde_avro_fast::schema::{RegularType, SchemaMut};

/// A writer's schema, ready to decode with.
pub struct WriterSchema(pub(crate) Schema);

impl std::fmt::Debug for WriterSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WriterSchema").field(&self.0.json()).finish()
    }
}

/// The schema text cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadSchema {
    /// Not an Avro schema, or one that refers to other schemas.
    #[error("it is not a self-contained avro schema: {0}")]
    Unparsable(String),
    /// An Avro schema of something else.
    #[error("it does not describe a record")]
    NotARecord,
}

impl WriterSchema {
    /// Its JSON text, without logical types.
    pub fn text(&self) -> &str {
        self.0.json()
    }

    /// Prepares the JSON text of a schema.
    pub fn parse(json: &str) -> Result<Self, BadSchema> {
        let unparsable = |error: serde_avro_fast::schema::SchemaError| BadSchema::Unparsable(error.to_string());
        let mut schema: SchemaMut = json.parse().map_err(unparsable)?;
        let mut describes_record = false;
        for (index, node) in schema.nodes_mut().iter_mut().enumerate() {
            node.logical_type = None;
            if index == 0 {
                describes_record = matches!(node.type_, RegularType::Record(_));
            }
        }
        if !describes_record {
            return Err(BadSchema::NotARecord);
        }
        schema.freeze().map(WriterSchema).map_err(unparsable)
    }
}

/// The id under which a topic's shipped schema is known where there is no registry.
pub fn shipped_id(topic: Topic) -> u32 {
    match topic {
        Topic::Chat => 1,
        Topic::Orders => 2,
        Topic::Refunds => 3,
    }
}

/// The JSON text of the schema Peakdesk ships for a topic's values.
pub fn shipped(topic: Topic) -> &'static str {
    match topic {
        Topic::Chat => include_str!("../../../schemas/avro/chat.avsc"),
        Topic::Orders => include_str!("../../../schemas/avro/order.avsc"),
        Topic::Refunds => include_str!("../../../schemas/avro/refund.avsc"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_shipped_schemas_parse() {
        for topic in Topic::ALL {
            WriterSchema::parse(shipped(topic)).unwrap_or_else(|error| panic!("{}: {error}", topic.name()));
        }
    }

    #[test]
    fn what_is_not_a_record_schema_is_refused() {
        assert!(matches!(WriterSchema::parse("\"long\""), Err(BadSchema::NotARecord)));
        for text in ["", "{}", "\"com.example.Elsewhere\"", r#"{"type":"record","name":"R"}"#, "[1]"] {
            assert!(matches!(WriterSchema::parse(text), Err(BadSchema::Unparsable(_))), "{text}");
        }
    }

    #[test]
    fn a_record_that_must_contain_itself_is_refused() {
        let text = r#"{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]}"#;
        assert!(matches!(WriterSchema::parse(text), Err(BadSchema::Unparsable(_))));
    }
}
