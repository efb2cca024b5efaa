//! JSON records: one object per Kafka value.
//!
//! Stricter than a JSON parser in one point: text must have a UTF-8 form, so a lone surrogate (`"\ud800"`) anywhere in the
//! record, in a key or in a field nobody looks at, makes it undecodable. As in JSON itself there is no limit on the nesting of
//! values nobody looks at; they are passed over without recursion.

use crate::loose::{Field, Loose, RecordVisitor, Scalar, Values};
use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The payload is not one JSON object of text with a UTF-8 form.
#[derive(Debug)]
pub(crate) struct NotJson;

/// Reads one object into `out`.
pub(crate) fn read<'a>(payload: &'a [u8], out: &mut Loose<'a>) -> Result<(), NotJson> {
    let text = std::str::from_utf8(payload).map_err(|_| NotJson)?;
    if has_lone_surrogate(text) {
        return Err(NotJson);
    }
    let mut json = serde_json::Deserializer::from_str(text);
    (&mut json)
        .deserialize_map(RecordVisitor { out, values: JsonValues })
        .and_then(|()| json.end())
        .map_err(|_| NotJson)
}

/// The length of a JSON text without the blanks between its tokens: what "1 MiB" means for a record in a dump.
pub fn compact_len(text: &[u8]) -> usize {
    let (mut len, mut in_text, mut escaped) = (0, false, false);
    for &byte in text {
        if in_text || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            len += 1;
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            _ => {}
        }
    }
    len
}

#[derive(Clone, Copy)]
struct JsonValues;

impl<'de> Values<'de> for JsonValues {
    fn read<D: Deserializer<'de>>(self, field: Field, value: D) -> Result<Scalar<'de>, D::Error> {
        // The raw text, not a parsed value: a number beyond every float (1e999) is a wrong type here, not a broken record.
        let raw = <&RawValue>::deserialize(value)?.get();
        Ok(match raw.as_bytes() {
            [b'n', ..] => Scalar::Absent,
            [b't', ..] => Scalar::Bool(true),
            [b'f', ..] => Scalar::Bool(false),
            [b'"', ..] => Scalar::Str(text_of(raw).map_err(D::Error::custom)?),
            [b'[', ..] if field == Field::sku_ids && serde_json::from_str::<OnlyTexts>(raw).is_ok() => Scalar::Texts,
            [b'-' | b'0'..=b'9', ..] => integer_of(raw),
            _ => Scalar::Other,
        })
    }

    fn skip<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        IgnoredAny::deserialize(value).map(|_| ())
    }
}

fn text_of(raw: &str) -> serde_json::Result<Cow<'_, str>> {
    match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => serde_json::from_str(raw).map(Cow::Owned),
    }
}

/// An integer is a number without fraction and exponent, in `i64`; `-0` is one.
fn integer_of(raw: &str) -> Scalar<'_> {
    raw.parse().map_or(Scalar::Other, Scalar::Int)
}

/// Whether some `\uD800`–`\uDFFF` escape is not half of a pair. `text` need not be valid JSON.
fn has_lone_surrogate(text: &str) -> bool {
    let mut rest = text;
    let mut high = false;
    while let Some(at) = rest.find('\\') {
        if high && at > 0 {
            return true;
        }
        let escape = &rest.as_bytes()[at..];
        let unit = escape.get(1..6).and_then(code_unit);
        match unit {
            Some(0xd800..=0xdbff) if !high => high = true,
            Some(0xdc00..=0xdfff) if high => high = false,
            Some(0xd800..=0xdfff) => return true,
            _ if high => return true,
            _ => {}
        }
        let len = if unit.is_some() { 6 } else { 2 };
        // `None` is an escaped character of several bytes, or the end: not JSON, which the parser finds out.
        rest = rest.get(at + len..).unwrap_or("");
    }
    high
}

/// The code unit of `uXXXX`.
fn code_unit(escape: &[u8]) -> Option<u16> {
    let digits = escape.strip_prefix(b"u")?;
    digits.iter().try_fold(0_u16, |unit, &digit| {
        let value = char::from(digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(value).ok()?)
    })
}

/// A list whose elements are all texts.
struct OnlyTexts;

struct OneText;

impl<'de> Deserialize<'de> for OnlyTexts {
    fn deserialize<D: Deserializer<'de>>(list: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = OnlyTexts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of texts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OnlyTexts, A::Error> {
                while list.next_element::<OneText>()?.is_some() {}
                Ok(OnlyTexts)
            }
        }
        list.deserialize_seq(List)
    }
}

impl<'de> Deserialize<'de> for OneText {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = OneText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, _: &str) -> Result<OneText, E> {
                Ok(OneText)
            }
        }
        text.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn loose(text: &str) -> Option<Loose<'_>> {
        let mut out = Loose::default();
        read(text.as_bytes(), &mut out).ok().map(|()| out)
    }

    #[test]
    fn values_are_told_apart() {
        let cases = [
            ("null", Scalar::Absent),
            ("0", Scalar::Int(0)),
            ("-0", Scalar::Int(0)),
            ("9223372036854775807", Scalar::Int(i64::MAX)),
            ("-9223372036854775808", Scalar::Int(i64::MIN)),
            ("9223372036854775808", Scalar::Other),
            ("1.0", Scalar::Other),
            ("1e3", Scalar::Other),
            ("1E3", Scalar::Other),
            ("1e999", Scalar::Other),
            ("123456789012345678901234567890", Scalar::Other),
            ("true", Scalar::Bool(true)),
            ("false", Scalar::Bool(false)),
            (r#""17""#, Scalar::Str("17".into())),
            (r#""a\u0001\n\ud83d\uDE00""#, Scalar::Str("a\u{1}\n😀".into())),
            (r#""""#, Scalar::Str("".into())),
            ("[]", Scalar::Other),
            ("{}", Scalar::Other),
        ];
        for (text, expected) in cases {
            let record = format!(r#"{{"event_time":{text}}}"#);
            assert_eq!(loose(&record).expect("decodes").event_time, expected, "{text}");
        }
    }

    #[test]
    fn a_list_of_texts_is_one_only_where_every_element_is_a_text() {
        for (list, expected) in [
            (r"[]", Scalar::Texts),
            (r#"["a","b\n"]"#, Scalar::Texts),
            (r#"["a",1]"#, Scalar::Other),
            (r"[null]", Scalar::Other),
            (r#"[["a"]]"#, Scalar::Other),
        ] {
            let text = format!(r#"{{"sku_ids":{list},"shop_id":"s"}}"#);
            let out = loose(&text).expect("decodes");
            assert_eq!((out.sku_ids, out.shop_id), (expected, Scalar::Str("s".into())), "{list}");
        }
    }

    #[test]
    fn plain_texts_borrow_from_the_payload() {
        let out = loose(r#" { "shop_id" : "店1", "buyer_id":"b\t" , "x": {"y":[1,"]"]} } "#).expect("decodes");
        assert!(matches!(out.shop_id, Scalar::Str(Cow::Borrowed("店1"))));
        assert!(matches!(out.buyer_id, Scalar::Str(Cow::Owned(ref text)) if text == "b\t"));
    }

    #[test]
    fn of_a_repeated_key_the_last_value_counts() {
        assert_eq!(loose(r#"{"rating":1,"rating":5}"#).unwrap().rating, Scalar::Int(5));
        assert_eq!(loose(r#"{"rating":1,"\u0072ating":null}"#).unwrap().rating, Scalar::Absent);
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        let cases: [&[u8]; 18] = [
            b"",
            b"null",
            b"[]",
            b"\"text\"",
            b"7",
            b"{",
            b"{}x",
            b"{} {}",
            b"{\"a\":1,}",
            b"{\"a\":01}",
            b"{\"a\":NaN}",
            b"{'a':1}",
            b"{\"a\":\"\n\"}",
            b"{\"a\":\"\\x\"}",
            b"{\"a\":\"\xff\"}",
            b"{\"text\":\"\xed\xa0\x80\"}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\\u12g4\"}",
        ];
        for payload in cases {
            assert!(
                read(payload, &mut Loose::default()).is_err(),
                "{}",
                String::from_utf8_lossy(payload)
            );
        }
    }

    #[test]
    fn lone_surrogates_are_refused_wherever_they_are() {
        for text in [
            r#"{"text":"\ud800"}"#,
            r#"{"text":"\udc00"}"#,
            r#"{"text":"\ud800x\udc00"}"#,
            r#"{"text":"\ud800\n\udc00"}"#,
            r#"{"text":"\ud800\ud800\udc00"}"#,
            r#"{"unknown":{"deep":["\uDFFF"]}}"#,
            r#"{"\uD800":1}"#,
            r#"{"text":"\\\ud800"}"#,
        ] {
            assert!(loose(text).is_none(), "{text}");
        }
        for text in [
            r#"{"text":"\\ud800"}"#,
            r#"{"text":"\ud83d\ude00\uD83D\uDE00"}"#,
            r#"{"unknown":"\ud7ff\ue000\u0000"}"#,
        ] {
            assert!(loose(text).is_some(), "{text}");
        }
    }

    #[test]
    fn deep_nesting_of_what_nobody_looks_at_is_passed_over() {
        let deep = 100_000;
        let text = format!(r#"{{"x":{}{},"shop_id":"s"}}"#, "[".repeat(deep), "]".repeat(deep));
        assert_eq!(loose(&text).expect("decodes").shop_id, Scalar::Str("s".into()));
        let text = format!(r#"{{"shop_id":{}{}}}"#, "[".repeat(deep), "]".repeat(deep));
        assert_eq!(loose(&text).expect("decodes").shop_id, Scalar::Other);
    }

    #[test]
    fn compact_length_leaves_out_blanks_between_tokens_only() {
        for text in [r#"{"a b":[1,"\" \\",{}]}"#, r#"{"a":"\\"}"#] {
            assert_eq!(compact_len(text.as_bytes()), text.len());
        }
        assert_eq!(
            compact_len(br#" { "a b" : [ 1 , "\" \\" ] , "c":"\\" } "#),
            br#"{"a b":[1,"\" \\"],"c":"\\"}"#.len()
        );
    }
}
