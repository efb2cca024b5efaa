#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! Each reason, and the order of the tests, on records that differ from a good one in one or two fields.

use super::*;
use crate::loose::Loose;
use serde_json::{Value, json};

/// A good record of each kind, with every field the kind uses.
fn good(kind: Kind) -> (Topic, Value) {
    let ids = json!({"event_id": "e1", "shop_id": "店", "buyer_id": "b 1", "event_time": 1000});
    let (topic, fields) = match kind {
        Kind::BuyerMessage => (
            Topic::Chat,
            json!({"agent_id": "a1", "text": "hi", "sku_id": "k", "spam": true, "source": "search"}),
        ),
        Kind::RobotMessage => (Topic::Chat, json!({"robot_kind": "WELCOME"})),
        Kind::AgentMessage => (Topic::Chat, json!({"agent_id": "a1", "assisted": true})),
        Kind::Transfer => (Topic::Chat, json!({"agent_id": "a1", "to_agent_id": "a2"})),
        Kind::Rating => (Topic::Chat, json!({"agent_id": "a1", "rating": 5})),
        kind if kind.is_order() => (
            Topic::Orders,
            json!({"order_id": "o1", "amount_fen": 100, "item_count": 2, "order_created_at": 900, "fake": true, "sku_ids": ["k"], "source": "x"}),
        ),
        _ => (
            Topic::Refunds,
            json!({"order_id": "o1", "refund_id": "r1", "amount_fen": 100, "reason": "SIZE", "phase": "AFTER_RECEIPT"}),
        ),
    };
    let mut record = ids;
    merge(&mut record, &fields);
    let name = if topic == Topic::Chat { "kind" } else { "status" };
    record[name] = json!(kind.name());
    (topic, record)
}

/// Sets the fields of `changes`; a null removes one.
fn merge(record: &mut Value, changes: &Value) {
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            record.as_object_mut().unwrap().remove(name);
        } else {
            record[name] = value.clone();
        }
    }
}

fn outcome(kind: Kind, changes: &Value) -> Result<Kind, DeadReason> {
    let (topic, mut record) = good(kind);
    merge(&mut record, changes);
    let text = record.to_string();
    let mut loose = Loose::default();
    crate::json::read(text.as_bytes(), &mut loose).unwrap();
    validate(&loose, topic).map(|checked| checked.kind)
}

fn check(kind: Kind, changes: Value, expected: Result<(), DeadReason>) {
    assert_eq!(outcome(kind, &changes), expected.map(|()| kind), "{} {changes}", kind.name());
}

#[test]
fn a_good_record_of_every_kind_passes() {
    for kind in Kind::ALL {
        check(kind, json!({}), Ok(()));
    }
}

#[test]
fn required_ids() {
    let bad = Err(DeadReason::BadId);
    let long = "界".repeat(85) + "x";
    assert_eq!(long.len(), 256);
    for kind in Kind::ALL {
        let mut ids = vec!["event_id", "shop_id", "buyer_id"];
        if kind.is_order() || kind.is_refund() {
            ids.push("order_id");
        }
        if kind.is_refund() {
            ids.push("refund_id");
        }
        if matches!(kind, Kind::AgentMessage | Kind::Rating) {
            ids.push("agent_id");
        }
        for id in ids {
            for value in [
                json!(null),
                json!(""),
                json!("a\u{1f}b"),
                json!("\u{0}"),
                json!("\n"),
                json!(format!("{long}x")),
            ] {
                check(kind, json!({id: value}), bad);
            }
            for value in [json!(" "), json!("\u{7f}"), json!("界"), json!(long)] {
                check(kind, json!({id: value}), Ok(()));
            }
            check(kind, json!({id: 7}), Err(DeadReason::BadValue));
        }
    }
}

#[test]
fn agent_ids_are_tested_wherever_they_are() {
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_chat()) {
        for id in ["agent_id", "to_agent_id"] {
            for value in ["", "\u{1}", "z".repeat(257).as_str()] {
                check(kind, json!({id: value}), Err(DeadReason::BadId));
            }
            check(kind, json!({id: false}), Err(DeadReason::BadValue));
        }
    }
    check(Kind::OrderPaid, json!({"agent_id": "", "to_agent_id": 7}), Ok(()));
}

#[test]
fn a_transfer_needs_one_agent() {
    check(Kind::Transfer, json!({"agent_id": null}), Ok(()));
    check(Kind::Transfer, json!({"to_agent_id": null}), Ok(()));
    check(
        Kind::Transfer,
        json!({"agent_id": null, "to_agent_id": null}),
        Err(DeadReason::BadId),
    );
    check(
        Kind::Transfer,
        json!({"agent_id": 7, "to_agent_id": null}),
        Err(DeadReason::BadValue),
    );
    check(Kind::BuyerMessage, json!({"agent_id": null}), Ok(()));
    check(Kind::RobotMessage, json!({"agent_id": null}), Ok(()));
}

#[test]
fn required_fields() {
    for kind in Kind::ALL {
        let mut fields = vec!["event_time", if kind.is_chat() { "kind" } else { "status" }];
        fields.extend_from_slice(match kind {
            Kind::Rating => &["rating"],
            Kind::OrderCreated | Kind::OrderPaid => &["amount_fen", "item_count"],
            Kind::OrderDepositPaid | Kind::RefundSucceeded => &["amount_fen"],
            Kind::RefundRequested => &["amount_fen", "reason", "phase"],
            _ => &[],
        });
        let all = [
            "event_time",
            "kind",
            "status",
            "rating",
            "amount_fen",
            "item_count",
            "reason",
            "phase",
        ];
        for field in all {
            let expected = if fields.contains(&field) {
                Err(DeadReason::MissingField)
            } else {
                Ok(())
            };
            check(kind, json!({field: null}), expected);
        }
    }
}

#[test]
fn values_that_are_used_and_bad() {
    let cases = [
        (Kind::BuyerMessage, json!({"kind": "NO_SUCH_KIND"})),
        (Kind::BuyerMessage, json!({"kind": "PAID"})),
        (Kind::BuyerMessage, json!({"kind": "buyer_message"})),
        (Kind::BuyerMessage, json!({"kind": ""})),
        (Kind::BuyerMessage, json!({"kind": 1})),
        (Kind::OrderClosed, json!({"status": "SUCCEEDED"})),
        (Kind::RefundClosed, json!({"status": "SHIPPED"})),
        (Kind::BuyerMessage, json!({"event_time": "1000"})),
        (Kind::BuyerMessage, json!({"event_time": 1000.0})),
        (Kind::BuyerMessage, json!({"event_time": u64::MAX})),
        (Kind::BuyerMessage, json!({"spam": "yes"})),
        (Kind::BuyerMessage, json!({"spam": 0})),
        (Kind::AgentMessage, json!({"assisted": 1})),
        (Kind::RobotMessage, json!({"robot_kind": "LOUD"})),
        (Kind::RobotMessage, json!({"robot_kind": ""})),
        (Kind::RobotMessage, json!({"robot_kind": 2})),
        (Kind::Rating, json!({"rating": 0})),
        (Kind::Rating, json!({"rating": 6})),
        (Kind::Rating, json!({"rating": 261})),
        (Kind::Rating, json!({"rating": "5"})),
        (Kind::OrderCreated, json!({"amount_fen": -1})),
        (Kind::OrderPaid, json!({"amount_fen": 1_000_000_000_001_i64})),
        (Kind::OrderDepositPaid, json!({"amount_fen": 1.5})),
        (Kind::OrderPaid, json!({"item_count": -1})),
        (Kind::OrderCreated, json!({"item_count": 1_000_001})),
        (Kind::OrderShipped, json!({"order_created_at": "900"})),
        (Kind::OrderShipped, json!({"fake": "no"})),
        (Kind::OrderShipped, json!({"source": 1})),
        (Kind::OrderShipped, json!({"sku_ids": "k"})),
        (Kind::OrderShipped, json!({"sku_ids": ["k", 1]})),
        (Kind::RefundRequested, json!({"amount_fen": -1})),
        (Kind::RefundSucceeded, json!({"amount_fen": 1_000_000_000_001_i64})),
        (Kind::RefundRequested, json!({"reason": "BORED"})),
        (Kind::RefundAgreed, json!({"reason": "BORED"})),
        (Kind::RefundAgreed, json!({"phase": "LATER"})),
        (Kind::RefundAgreed, json!({"phase": 1})),
    ];
    for (kind, changes) in cases {
        check(kind, changes, Err(DeadReason::BadValue));
    }
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_chat()) {
        for field in ["text", "sku_id", "source"] {
            check(kind, json!({field: 5}), Err(DeadReason::BadValue));
        }
    }
}

#[test]
fn values_at_the_ends_of_their_range() {
    for (kind, changes) in [
        (Kind::Rating, json!({"rating": 1})),
        (Kind::OrderCreated, json!({"amount_fen": 0, "item_count": 0})),
        (
            Kind::OrderPaid,
            json!({"amount_fen": 1_000_000_000_000_i64, "item_count": 1_000_000}),
        ),
        (Kind::RefundSucceeded, json!({"amount_fen": 1_000_000_000_000_i64})),
        (Kind::OrderShipped, json!({"order_created_at": i64::MIN, "sku_ids": []})),
        (Kind::BuyerMessage, json!({"event_time": i64::MAX, "text": "", "source": ""})),
    ] {
        check(kind, changes, Ok(()));
    }
}

#[test]
fn what_a_kind_does_not_use_is_not_looked_at() {
    for kind in Kind::ALL {
        let chat_only = json!({"rating": "x", "spam": 1, "assisted": 1, "robot_kind": "LOUD", "text": 1, "sku_id": 1});
        let money_only = json!({"order_id": "", "refund_id": 1, "amount_fen": "x", "item_count": -1, "order_created_at": "x", "sku_ids": 1,
            "fake": 1, "reason": 1, "phase": 1});
        let mut changes = if kind.is_chat() { money_only } else { chat_only };
        match kind {
            Kind::BuyerMessage => merge(&mut changes, &json!({"rating": 9, "assisted": 1, "robot_kind": 1})),
            Kind::RobotMessage => merge(&mut changes, &json!({"rating": 9, "assisted": 1, "spam": 1})),
            Kind::AgentMessage => merge(&mut changes, &json!({"rating": 9, "spam": 1, "robot_kind": 1})),
            Kind::Transfer => merge(&mut changes, &json!({"rating": 9, "assisted": 1, "spam": 1, "robot_kind": 1})),
            Kind::Rating => merge(&mut changes, &json!({"assisted": 1, "spam": 1, "robot_kind": 1})),
            Kind::OrderDepositPaid => merge(&mut changes, &json!({"item_count": "x"})),
            Kind::OrderShipped | Kind::OrderCompleted | Kind::OrderClosed => {
                merge(&mut changes, &json!({"amount_fen": "x", "item_count": -1}));
            }
            Kind::RefundAgreed | Kind::RefundRefused | Kind::RefundClosed => {
                merge(&mut changes, &json!({"amount_fen": -1, "source": 1, "fake": 1}));
            }
            _ => {}
        }
        check(kind, changes, Ok(()));
    }
}

#[test]
fn a_step_is_finished_before_the_next_begins() {
    let both = [
        (
            Kind::BuyerMessage,
            json!({"shop_id": "", "event_time": null, "kind": "X"}),
            DeadReason::BadId,
        ),
        (Kind::Rating, json!({"agent_id": null, "rating": null}), DeadReason::BadId),
        (
            Kind::BuyerMessage,
            json!({"kind": null, "to_agent_id": "", "spam": 1}),
            DeadReason::BadId,
        ),
        (Kind::Rating, json!({"rating": null, "event_time": "x"}), DeadReason::MissingField),
        (
            Kind::BuyerMessage,
            json!({"shop_id": 1, "event_time": null}),
            DeadReason::MissingField,
        ),
        (
            Kind::BuyerMessage,
            json!({"kind": "X", "event_time": null}),
            DeadReason::MissingField,
        ),
        (
            Kind::AgentMessage,
            json!({"kind": null, "agent_id": null}),
            DeadReason::MissingField,
        ),
        (Kind::AgentMessage, json!({"kind": "X", "agent_id": null}), DeadReason::BadValue),
        (
            Kind::RefundRequested,
            json!({"reason": null, "phase": "LATER"}),
            DeadReason::MissingField,
        ),
    ];
    for (kind, changes, reason) in both {
        check(kind, changes, Err(reason));
    }
}

#[test]
fn only_the_fields_of_the_kind_are_kept() {
    let (topic, mut record) = good(Kind::RobotMessage);
    merge(
        &mut record,
        &json!({"agent_id": "a", "to_agent_id": "b", "rating": 3, "spam": true, "assisted": true, "robot_kind": null}),
    );
    let text = record.to_string();
    let mut loose = Loose::default();
    crate::json::read(text.as_bytes(), &mut loose).unwrap();
    let checked = validate(&loose, topic).unwrap();
    assert_eq!((checked.agent_id, checked.to_agent_id), (None, None));
    assert_eq!(
        (checked.rating, checked.spam, checked.assisted, checked.robot_kind),
        (0, false, false, RobotKind::Full)
    );
}
