#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::state::tests::row;

fn acknowledgement(at_wall_ms: i64) -> Acknowledgement {
    Acknowledgement {
        by: "chief".into(),
        at_wall_ms,
        note: "n".into(),
    }
}

fn ids(book: &Book, before: Option<&Place>) -> Vec<String> {
    book.newest(before).map(|alert| alert.id.to_string()).collect()
}

#[test]
fn an_alert_follows_from_the_set_of_its_transitions() {
    let rows = [
        row("a", 0, TransitionKind::Firing, Severity::Warning, 10),
        row("a", 1, TransitionKind::Escalated, Severity::Critical, 20),
        row("a", 2, TransitionKind::Resolved, Severity::Critical, 30),
    ];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
        let mut book = Book::new(10);
        for i in order.into_iter().chain(order) {
            book.apply(&rows[i]);
        }
        let alert = book.get("a").unwrap();
        assert_eq!(
            (alert.fired_at(), alert.resolved_at(), alert.severity()),
            (10, Some(30), Severity::Critical)
        );
        let json: serde_json::Value = serde_json::from_str(&alert.to_json(None)).unwrap();
        assert_eq!(json["state"], "resolved");
        assert_eq!(json["evidence"][0]["n"], 2);
        assert_eq!(json["transitions"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn evidence_that_is_no_json_is_left_out() {
    let mut bad = row("a", 0, TransitionKind::Firing, Severity::Warning, 10);
    bad.evidence = "[{".into();
    let mut book = Book::new(10);
    book.apply(&bad);
    let json: serde_json::Value = serde_json::from_str(&book.get("a").unwrap().to_json(None)).unwrap();
    assert_eq!(json["evidence"], serde_json::json!([]));
}

#[test]
fn open_alerts_stay_and_of_resolved_ones_the_newest() {
    let mut book = Book::new(2);
    for (n, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
        book.apply(&row(id, 0, TransitionKind::Firing, Severity::Warning, n as i64));
    }
    assert_eq!(ids(&book, None), ["d", "c", "b", "a"]);
    assert_eq!(ids(&book, Some(&(2, "c".into()))), ["b", "a"]);
    let mut gone = Vec::new();
    for (n, id) in ["c", "a", "b"].into_iter().enumerate() {
        book.acknowledge(id, Some(acknowledgement(n as i64)));
        gone.extend(
            book.apply(&row(id, 1, TransitionKind::Resolved, Severity::Warning, 10 + n as i64))
                .gone,
        );
    }
    assert_eq!(gone, [Arc::from("c")]);
    assert_eq!(ids(&book, None), ["d", "b", "a"]);
    assert!(book.get("c").is_none() && book.places.len() == 3 && book.past.len() == 2);
}

#[test]
fn an_acknowledgement_waits_for_its_alert() {
    let mut book = Book::new(2);
    assert_eq!(book.acknowledge("a", Some(acknowledgement(1))), Effect::default());
    book.acknowledge("a", Some(acknowledgement(2)));
    book.acknowledge("b", Some(acknowledgement(3)));
    book.acknowledge("b", None);
    for id in ["a", "b"] {
        book.apply(&row(id, 0, TransitionKind::Firing, Severity::Warning, 0));
    }
    assert_eq!(book.get("a").unwrap().acknowledged, Some(acknowledgement(2)));
    assert_eq!(book.get("b").unwrap().acknowledged, None);
    assert_eq!(book.acknowledge("a", Some(acknowledgement(2))), Effect::default());
    assert!(book.acknowledge("a", None).changed.is_some());
    assert!(book.waiting.is_empty() && book.waiting_by_age.is_empty());
}

#[test]
fn those_that_wait_are_bounded() {
    let mut book = Book::new(2);
    for n in 0..=WAITING_MAX {
        book.acknowledge(&format!("{n}"), Some(acknowledgement(n as i64)));
    }
    assert_eq!((book.waiting.len(), book.waiting_by_age.len()), (WAITING_MAX, WAITING_MAX));
    assert!(!book.waiting.contains_key("0") && book.waiting.contains_key("1"));
}
