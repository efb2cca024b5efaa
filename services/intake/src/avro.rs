//! Avro records in Confluent framing: a zero byte, the writer's schema id in four bytes (big-endian), the datum.
//!
//! A datum is read by its writer's schema. Nothing is allocated for lengths a datum claims: texts borrow from the payload,
//! and a datum that repeats elements of no size is stopped after [`ELEMENTS_MAX`] of them.

use crate::loose::{Field, Loose, RecordVisitor, Scalar, Values};
use crate::schema::WriterSchema;
use peakdesk_model::event::{Kind, RefundPhase, RefundReason, RobotKind};
use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_avro_fast::de::read::SliceRead;
use serde_avro_fast::de::{DeserializerConfig, DeserializerState};
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::io::BufRead;

/// Elements of lists and maps in one record. A record has at most 1 MiB, so that only elements without any bytes (nulls) can
/// be more, and those cost time for nothing.
const ELEMENTS_MAX: usize = 1 << 20;

/// Nesting of a record; what Peakdesk reads is two deep.
const DEPTH_MAX: usize = 64;

/// The payload is not one datum of its writer's schema.
#[derive(Debug)]
pub(crate) struct NotAvro;

/// Splits Confluent framing into schema id and datum.
pub(crate) fn unframe(payload: &[u8]) -> Result<(u32, &[u8]), NotAvro> {
    match payload {
        [0, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        _ => Err(NotAvro),
    }
}

/// Puts Confluent framing before a datum; the inverse of what decoding takes off.
pub fn frame(schema_id: u32, datum: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(5 + datum.len());
    payload.push(0);
    payload.extend_from_slice(&schema_id.to_be_bytes());
    payload.extend_from_slice(datum);
    payload
}

/// Reads one datum into `out`; bytes after it make it undecodable.
pub(crate) fn read<'a>(datum: &'a [u8], schema: &WriterSchema, out: &mut Loose<'a>) -> Result<(), NotAvro> {
    let mut config = DeserializerConfig::new(&schema.0);
    config.max_seq_size = ELEMENTS_MAX;
    config.allowed_depth = DEPTH_MAX;
    let mut state = DeserializerState::with_config(SliceRead::new(datum), config);
    let elements_left = Cell::new(ELEMENTS_MAX);
    let values = AvroValues {
        elements_left: &elements_left,
    };
    state
        .deserializer()
        .deserialize_map(RecordVisitor { out, values })
        .map_err(|_| NotAvro)?;
    match state.into_reader().fill_buf() {
        Ok([]) => Ok(()),
        _ => Err(NotAvro),
    }
}

#[derive(Clone, Copy)]
struct AvroValues<'c> {
    elements_left: &'c Cell<usize>,
}

impl<'de> Values<'de> for AvroValues<'_> {
    fn read<D: Deserializer<'de>>(self, field: Field, value: D) -> Result<Scalar<'de>, D::Error> {
        value.deserialize_any(ValueVisitor {
            field: Some(field),
            values: self,
        })
    }

    fn skip<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        // Not `IgnoredAny`, which would let texts without UTF-8 form pass.
        value.deserialize_any(ValueVisitor { field: None, values: self }).map(|_| ())
    }
}

impl AvroValues<'_> {
    fn count_element<E: serde::de::Error>(self) -> Result<(), E> {
        let left = self
            .elements_left
            .get()
            .checked_sub(1)
            .ok_or_else(|| E::custom("too many elements"))?;
        self.elements_left.set(left);
        Ok(())
    }
}

/// Reads any value; `field` is `None` inside lists, maps and fields nobody looks at.
#[derive(Clone, Copy)]
struct ValueVisitor<'c> {
    field: Option<Field>,
    values: AvroValues<'c>,
}

impl<'c> ValueVisitor<'c> {
    fn inner(self) -> ValueVisitor<'c> {
        ValueVisitor {
            field: None,
            values: self.values,
        }
    }
}

impl<'de> DeserializeSeed<'de> for ValueVisitor<'_> {
    type Value = Scalar<'de>;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Scalar<'de>, D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueVisitor<'_> {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Absent)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Int(value))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Str(Cow::Borrowed(text)))
    }

    /// Texts are borrowed; what comes for a moment only is a symbol out of the schema.
    fn visit_str<E>(self, symbol: &str) -> Result<Scalar<'de>, E> {
        Ok(match self.field {
            Some(_) => Scalar::Symbol(known_symbol(symbol).map_or_else(|| Cow::Owned(symbol.to_owned()), Cow::Borrowed)),
            None => Scalar::Other,
        })
    }

    /// `bytes` is promoted to `string` where it is text (Avro specification, schema resolution).
    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Scalar<'de>, E> {
        Ok(std::str::from_utf8(bytes).map_or(Scalar::Other, |text| Scalar::Str(Cow::Borrowed(text))))
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar<'de>, A::Error> {
        let mut only_texts = true;
        while let Some(element) = list.next_element_seed(self.inner())? {
            self.values.count_element::<A::Error>()?;
            only_texts &= matches!(element, Scalar::Str(_));
        }
        Ok(if only_texts && self.field == Some(Field::sku_ids) {
            Scalar::Texts
        } else {
            Scalar::Other
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar<'de>, A::Error> {
        while map.next_key_seed(self.inner())?.is_some() {
            self.values.count_element::<A::Error>()?;
            map.next_value_seed(self.inner())?;
        }
        Ok(Scalar::Other)
    }
}

/// The one copy of a symbol that Peakdesk knows, so that an enum costs no allocation.
fn known_symbol(symbol: &str) -> Option<&'static str> {
    Kind::ALL
        .into_iter()
        .map(Kind::name)
        .find(|name| *name == symbol)
        .or_else(|| RobotKind::from_name(symbol).map(RobotKind::name))
        .or_else(|| RefundReason::from_name(symbol).map(RefundReason::name))
        .or_else(|| RefundPhase::from_name(symbol).map(RefundPhase::name))
}

#[cfg(test)]
#[path = "avro_tests.rs"]
mod tests;
