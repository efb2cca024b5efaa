#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! A registry of a few lines stands in for a real one: it answers a scripted list of responses and keeps what it was asked.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

const RECORD: &str = r#"{"type":"record","name":"R","fields":[]}"#;

struct Scripted {
    schemas: Schemas,
    server: JoinHandle<Vec<String>>,
}

impl Scripted {
    /// One connection per response: each tells the client to close.
    fn new(responses: Vec<(u16, String)>, auth: Option<(String, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/base/", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let mut requests = Vec::new();
            for (status, body) in responses {
                let (mut stream, _) = listener.accept().unwrap();
                requests.push(read_request(&mut BufReader::new(stream.try_clone().unwrap())));
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(body.as_bytes()).unwrap();
            }
            requests
        });
        Scripted {
            schemas: Schemas::of_registry(&RegistryAddress { url, auth }),
            server,
        }
    }

    fn requests(self) -> Vec<String> {
        self.server.join().unwrap()
    }
}

fn read_request(stream: &mut impl BufRead) -> String {
    let mut head = String::new();
    let mut body_len = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        if let Some(len) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            body_len = len.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; body_len];
    stream.read_exact(&mut body).unwrap();
    head + &String::from_utf8(body).unwrap()
}

fn schema_body(schema: &str) -> String {
    serde_json::json!({ "schema": schema }).to_string()
}

#[test]
fn without_a_registry_ids_are_the_shipped_ones() {
    let schemas = Schemas::shipped().unwrap();
    for topic in Topic::ALL {
        let id = schemas.register_shipped(topic, "any").unwrap();
        assert_eq!(id, schema::shipped_id(topic));
        assert!(schemas.get(id).is_ok());
    }
    assert_eq!(schemas.get(4).unwrap_err(), SchemaError::Unknown { id: 4 });
    assert!(!SchemaError::Unknown { id: 4 }.is_retriable());
}

#[test]
fn a_schema_is_fetched_once() {
    let auth = Some(("user".to_owned(), "pass".to_owned()));
    let scripted = Scripted::new(vec![(200, schema_body(RECORD))], auth);
    for _ in 0..3 {
        assert!(scripted.schemas.get(77).is_ok());
    }
    let requests = scripted.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].starts_with("GET /base/schemas/ids/77 HTTP/1.1"), "{}", requests[0]);
    assert!(
        requests[0].to_lowercase().contains("authorization: basic dxnlcjpwyxnz"),
        "{}",
        requests[0]
    );
}

#[test]
fn an_unknown_id_is_refused_and_not_asked_for_again_at_once() {
    let scripted = Scripted::new(vec![(404, r#"{"error_code":40403,"message":"Schema not found"}"#.into())], None);
    for _ in 0..3 {
        assert_eq!(scripted.schemas.get(7).unwrap_err(), SchemaError::Unknown { id: 7 });
    }
    assert_eq!(scripted.requests().len(), 1);
}

#[test]
fn a_schema_that_is_no_avro_record_is_unusable() {
    let bodies = [
        serde_json::json!({"schema": "{}", "schemaType": "JSON"}).to_string(),
        schema_body("\"string\""),
        schema_body(r#"{"type":"record","name":"R","fields":[{"name":"x","type":"Elsewhere"}]}"#),
    ];
    for body in bodies {
        let scripted = Scripted::new(vec![(200, body.clone())], None);
        let error = scripted.schemas.get(7).unwrap_err();
        assert!(matches!(error, SchemaError::Unusable { id: 7, .. }), "{body}: {error}");
        assert!(!error.is_retriable());
    }
}

#[test]
fn failures_are_retried_and_then_forgotten() {
    let failures = [
        (500, "{}"),
        (503, r#"{"error_code":50301,"message":"no leader"}"#),
        (401, r#"{"error_code":401,"message":"who are you"}"#),
        (429, ""),
        (404, "default backend - 404"),
        (404, "{}"),
        (200, "<html>"),
    ];
    let mut responses: Vec<_> = failures.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
    responses.push((200, schema_body(RECORD)));
    let scripted = Scripted::new(responses, None);
    for (status, body) in failures {
        let error = scripted.schemas.get(7).unwrap_err();
        assert!(error.is_retriable(), "{status} {body}: {error}");
    }
    assert!(scripted.schemas.get(7).is_ok());
    assert_eq!(scripted.requests().len(), failures.len() + 1);
}

#[test]
fn a_registry_that_is_not_there_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Schemas::of_registry(&RegistryAddress {
        url: url.clone(),
        auth: None,
    })
    .get(1)
    .unwrap_err();
    assert!(error.is_retriable());
    assert!(error.to_string().contains(&url), "{error}");
}

#[test]
fn our_schemas_are_registered_under_the_topics_subject() {
    let refusal = r#"{"error_code":409,"message":"incompatible with version 3"}"#;
    let responses = vec![(200, r#"{"id":41}"#.to_owned()), (409, refusal.to_owned()), (500, String::new())];
    let scripted = Scripted::new(responses, None);
    assert_eq!(scripted.schemas.register_shipped(Topic::Orders, "shop.orders").unwrap(), 41);
    let rejected = scripted.schemas.register_shipped(Topic::Orders, "shop.orders").unwrap_err();
    assert!(
        matches!(rejected, SchemaError::Rejected { .. }) && rejected.to_string().contains("version 3"),
        "{rejected}"
    );
    assert!(
        scripted
            .schemas
            .register_shipped(Topic::Orders, "shop.orders")
            .unwrap_err()
            .is_retriable()
    );
    let requests = scripted.requests();
    let (head, body) = requests[0].split_once('{').unwrap();
    assert!(
        head.starts_with("POST /base/subjects/shop.orders-value/versions HTTP/1.1"),
        "{head}"
    );
    let body: serde_json::Value = serde_json::from_str(&format!("{{{body}")).unwrap();
    assert_eq!(body["schema"], schema::shipped(Topic::Orders));
}

#[test]
fn a_flood_of_unknown_ids_is_bounded() {
    let schemas = Schemas::of_registry(&RegistryAddress {
        url: "http://127.0.0.1:1".into(),
        auth: None,
    });
    schemas.remember(0, &Ok(Arc::new(WriterSchema::parse(RECORD).unwrap())));
    for id in 1..=2 * REFUSALS_MAX as u32 + 5 {
        schemas.remember(id, &Err(SchemaError::Unknown { id }));
    }
    assert!(schemas.known.read().unwrap().len() <= REFUSALS_MAX + 1);
    assert!(schemas.get(0).is_ok());
}

#[test]
fn secrets_are_not_printed() {
    let address = RegistryAddress {
        url: "http://r".into(),
        auth: Some(("user".into(), "hunter2".into())),
    };
    assert!(!format!("{address:?}").contains("hunter2"));
}
