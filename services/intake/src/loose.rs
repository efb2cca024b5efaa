//! A record as it was found: one slot per field that Peakdesk knows, before anything is required of it.
//!
//! A slot tells "missing" from "of the wrong type", which are different reasons for a dead letter. JSON and Avro fill the same
//! slots through one serde visitor; they differ only in how a single value is read ([`Values`]).
//!
//! Texts borrow from the payload. Only a JSON text with escapes, or an Avro enum symbol that Peakdesk does not know, is copied.

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// What was found in one field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Scalar<'a> {
    /// Not there, or null.
    #[default]
    Absent,
    /// A text.
    Str(Cow<'a, str>),
    /// A symbol of a field that the writer's Avro schema declares as an enum; read like a text, but a symbol unknown to
    /// Peakdesk may be resolved to the reader's default.
    Symbol(Cow<'a, str>),
    /// An integer in `i64`.
    Int(i64),
    /// A boolean.
    Bool(bool),
    /// A list of nothing but texts (the texts are not kept).
    Texts,
    /// Anything else: fractions, integers out of range, objects, other lists.
    Other,
}

/// The same, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Found<'l> {
    Absent,
    Str(&'l str),
    Symbol(&'l str),
    Int(i64),
    Bool(bool),
    Texts,
    Other,
}

impl Scalar<'_> {
    fn found(&self) -> Found<'_> {
        match self {
            Scalar::Absent => Found::Absent,
            Scalar::Str(text) => Found::Str(text),
            Scalar::Symbol(text) => Found::Symbol(text),
            Scalar::Int(value) => Found::Int(*value),
            Scalar::Bool(value) => Found::Bool(*value),
            Scalar::Texts => Found::Texts,
            Scalar::Other => Found::Other,
        }
    }
}

/// A record whose fields can be asked for, wherever they lie.
pub trait Fields<'l>: Copy {
    /// What was found in a field.
    fn get(self, field: Field) -> Found<'l>;
}

impl<'l> Fields<'l> for &'l Loose<'_> {
    fn get(self, field: Field) -> Found<'l> {
        self.at(field).found()
    }
}

macro_rules! fields {
    ($($field:ident),+ $(,)?) => {
        /// The fields of the three input records, each as it was found.
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        #[allow(missing_docs)]
        pub struct Loose<'a> {
            $(pub $field: Scalar<'a>,)+
        }

        /// The name of a known field.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(non_camel_case_types, missing_docs)]
        pub enum Field {
            $($field,)+
        }

        impl Field {
            /// All of them.
            pub const ALL: &[Field] = &[$(Field::$field,)+];

            /// The field of this name, if there is one.
            pub fn from_name(name: &str) -> Option<Field> {
                match name {
                    $(stringify!($field) => Some(Field::$field),)+
                    _ => None,
                }
            }
        }

        impl<'a> Loose<'a> {
            fn at(&self, field: Field) -> &Scalar<'a> {
                match field {
                    $(Field::$field => &self.$field,)+
                }
            }

            fn slot(&mut self, field: Field) -> &mut Scalar<'a> {
                match field {
                    $(Field::$field => &mut self.$field,)+
                }
            }
        }
    };
}

fields!(
    event_id,
    shop_id,
    buyer_id,
    kind,
    status,
    event_time,
    agent_id,
    to_agent_id,
    text,
    sku_id,
    spam,
    source,
    rating,
    assisted,
    robot_kind,
    order_id,
    refund_id,
    amount_fen,
    item_count,
    order_created_at,
    sku_ids,
    fake,
    reason,
    phase,
);

/// How a format reads one value of a record.
pub(crate) trait Values<'de>: Copy {
    /// Reads the value of a known field.
    fn read<D: Deserializer<'de>>(self, field: Field, value: D) -> Result<Scalar<'de>, D::Error>;

    /// Passes over the value of a field that nobody looks at; fails where the format itself is broken.
    fn skip<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error>;
}

/// Fills a [`Loose`] from a map, whatever the format; of a repeated key the last value counts.
pub(crate) struct RecordVisitor<'l, 'de, V> {
    pub(crate) out: &'l mut Loose<'de>,
    pub(crate) values: V,
}

impl<'de, V: Values<'de>> Visitor<'de> for RecordVisitor<'_, 'de, V> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(known) = map.next_key_seed(KeySeed)? {
            match known {
                Some(field) => {
                    *self.out.slot(field) = map.next_value_seed(ReadSeed {
                        field,
                        values: self.values,
                    })?
                }
                None => map.next_value_seed(SkipSeed {
                    values: self.values,
                    format: PhantomData,
                })?,
            }
        }
        Ok(())
    }
}

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Option<Field>;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Option<Field>, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Option<Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<Field>, E> {
        Ok(Field::from_name(name))
    }
}

struct ReadSeed<V> {
    field: Field,
    values: V,
}

impl<'de, V: Values<'de>> DeserializeSeed<'de> for ReadSeed<V> {
    type Value = Scalar<'de>;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Scalar<'de>, D::Error> {
        self.values.read(self.field, value)
    }
}

struct SkipSeed<'de, V> {
    values: V,
    format: PhantomData<&'de ()>,
}

impl<'de, V: Values<'de>> DeserializeSeed<'de> for SkipSeed<'de, V> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        self.values.skip(value)
    }
}
