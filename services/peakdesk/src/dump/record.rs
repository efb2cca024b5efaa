//! A record of a dump as both forms hold it, and the JSON of the parts that any bytes may be in: keys and headers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use std::borrow::Cow;

/// Name and value of a header.
pub type Header<'a> = (Cow<'a, str>, Option<Cow<'a, [u8]>>);

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Kafka partition.
    pub partition: i32,
    /// Kafka offset.
    pub offset: i64,
    /// Kafka record timestamp (ms); `None` if it had none that counts.
    pub timestamp_ms: Option<i64>,
    /// Key.
    pub key: Option<Cow<'a, [u8]>>,
    /// Headers, in order.
    pub headers: Vec<Header<'a>>,
    /// Value.
    pub value: Value<'a>,
}

/// The value of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// One JSON value without line breaks.
    Json(Cow<'a, str>),
    /// Bytes that did not decode.
    Raw(Cow<'a, [u8]>),
    /// None: a Kafka tombstone.
    Missing,
}

impl Value<'_> {
    /// The bytes that a dead letter keeps.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            Value::Json(text) => Some(text.into_owned().into_bytes()),
            Value::Raw(bytes) => Some(bytes.into_owned()),
            Value::Missing => None,
        }
    }
}

/// The only member of an object that stands for bytes without UTF-8 form.
const BASE64: &str = "base64";

/// Bytes as JSON: a text if they are one, else `{"base64":"…"}`.
pub fn json_of_bytes(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => Json::String(text.to_owned()),
        Err(_) => json!({ BASE64: STANDARD.encode(bytes) }),
    }
}

/// What a JSON value says by itself: null, a text, or the inverse of [`json_of_bytes`].
fn told(value: &Json) -> Option<Option<Vec<u8>>> {
    match value {
        Json::Null => Some(None),
        Json::String(text) => Some(Some(text.clone().into_bytes())),
        Json::Object(members) if members.len() == 1 => members.get(BASE64)?.as_str().and_then(|text| STANDARD.decode(text).ok()).map(Some),
        _ => None,
    }
}

/// The key of a line; a value of any other shape stands for its own text.
pub fn key_of(raw: Option<&RawValue>) -> Option<Vec<u8>> {
    let raw = raw?;
    let value = serde_json::from_str::<Json>(raw.get()).ok();
    value.as_ref().and_then(told).unwrap_or_else(|| Some(raw.get().as_bytes().to_vec()))
}

fn header_bytes(value: &Json) -> Option<Vec<u8>> {
    told(value).unwrap_or_else(|| Some(value.to_string().into_bytes()))
}

/// The headers of a line: an object of texts, or a list of `[name, text]`.
pub fn headers_of(raw: Option<&RawValue>) -> Vec<Header<'static>> {
    let Some(value) = raw.and_then(|r| serde_json::from_str::<Json>(r.get()).ok()) else {
        return Vec::new();
    };
    let header = |name: String, value: Option<&Json>| (Cow::Owned(name), value.and_then(header_bytes).map(Cow::Owned));
    match value {
        Json::Object(map) => map.iter().map(|(name, value)| header(name.clone(), Some(value))).collect(),
        Json::Array(list) => list
            .iter()
            .filter_map(|pair| Some(header(pair.get(0)?.as_str()?.to_owned(), pair.get(1))))
            .collect(),
        _ => Vec::new(),
    }
}

/// The headers as a list of `[name, value]`: names may be there twice, and their order may mean something.
pub fn json_of_headers(headers: &[Header<'_>]) -> Json {
    let pair = |(name, value): &Header<'_>| json!([name, value.as_deref().map(json_of_bytes)]);
    Json::Array(headers.iter().map(pair).collect())
}

/// A JSON text without the blanks between its tokens, so that it fits into a line.
pub fn compact(text: &str) -> Cow<'_, str> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    if !text.as_bytes().iter().any(is_blank) {
        return Cow::Borrowed(text);
    }
    let (mut out, mut in_text, mut escaped) = (String::with_capacity(text.len()), false, false);
    for c in text.chars() {
        if in_text || !matches!(c, ' ' | '\t' | '\n' | '\r') {
            out.push(c);
        }
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = in_text,
            '"' => in_text = !in_text,
            _ => {}
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn any_bytes_come_back() {
        for bytes in [
            b"".as_slice(),
            b"shop:buyer",
            "店".as_bytes(),
            b"\xff\x00",
            b"{\"base64\":\"eA==\"}",
            b"null",
            b"7",
        ] {
            let text = json_of_bytes(bytes).to_string();
            assert_eq!(key_of(Some(&raw(&text))).as_deref(), Some(bytes), "{text}");
            let headers = [(Cow::Borrowed("a"), Some(Cow::Borrowed(bytes))), (Cow::Borrowed("a"), None)];
            let text = json_of_headers(&headers).to_string();
            assert_eq!(headers_of(Some(&raw(&text))), headers, "{text}");
        }
    }

    #[test]
    fn keys_of_other_shapes_stand_for_their_text() {
        for (text, expected) in [
            ("null", None),
            ("7.50", Some("7.50")),
            (r#"{ "base64": "not base64!" }"#, Some(r#"{ "base64": "not base64!" }"#)),
            (r#"{ "base64": "eA==" }"#, Some("x")),
            (r#"{"a": 1}"#, Some(r#"{"a": 1}"#)),
        ] {
            assert_eq!(key_of(Some(&raw(text))).as_deref(), expected.map(str::as_bytes), "{text}");
        }
        let object = headers_of(Some(&raw(r#"{"b":"1","a":2,"c":null}"#)));
        let expected = [("a", Some("2")), ("b", Some("1")), ("c", None)];
        let expected: Vec<Header<'_>> = expected.map(|(n, v)| (n.into(), v.map(|v| v.as_bytes().into()))).into();
        assert_eq!(object, expected);
    }

    #[test]
    fn blanks_between_tokens_go_and_texts_stay() {
        assert_eq!(
            compact("{ \"a b\" :\n[1,\t\"\\\" x\\\\\" , \"店 1\"] }\r"),
            r#"{"a b":[1,"\" x\\","店 1"]}"#
        );
        assert!(matches!(compact(r#"{"a":1}"#), Cow::Borrowed(_)));
    }
}
