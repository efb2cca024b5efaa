#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! Whole records through the edge.

use super::*;
use peakdesk_model::event::{RefundPhase, RefundReason, RobotKind};
use peakdesk_model::input::{ChatRecord, OrderRecord, RefundRecord, Topic};
use peakdesk_model::position::SourcePartition;
use proptest::option;
use proptest::prelude::*;
use serde_avro_fast::ser::SerializerConfig;

const CLOCK: i64 = 1_762_000_000_000;
const KEY: [u8; 32] = [7; 32];

fn edge() -> Edge {
    Edge {
        buyer_key: KEY,
        future_skew_ms: 300_000,
        order_retention_ms: 45 * 86_400_000,
        schemas: Arc::new(Schemas::shipped().unwrap()),
    }
}

fn at(topic: Topic) -> SourcePosition {
    SourcePosition {
        partition: SourcePartition {
            topic,
            partition: 3,
            generation: 1,
        },
        offset: 42,
    }
}

fn reason(topic: Topic, format: Format, payload: Option<&[u8]>) -> Option<DeadReason> {
    let record = SourceRecord {
        position: at(topic),
        clock: CLOCK,
        format,
        payload,
    };
    match edge().decode(&record, &mut Loose::default()) {
        Ok(_) => None,
        Err(Reject::Dead(reason)) => Some(reason),
        Err(Reject::Retry(error)) => panic!("{error}"),
    }
}

fn message(event_time: i64) -> String {
    format!(r#"{{"event_id":"e","shop_id":"s","buyer_id":"b","kind":"BUYER_MESSAGE","event_time":{event_time},"text":"多少钱"}}"#)
}

#[test]
fn an_event_carries_what_the_record_says() {
    let text = message(CLOCK - 5);
    let mut loose = Loose::default();
    let record = SourceRecord {
        position: at(Topic::Chat),
        clock: CLOCK,
        format: Format::Json,
        payload: Some(text.as_bytes()),
    };
    let decoded = edge().decode(&record, &mut loose).unwrap();
    let buyer = BuyerKey::new(&KEY, "s", "b");
    assert_eq!(
        decoded.event,
        Event::new(at(Topic::Chat), CLOCK, CLOCK - 5, Kind::BuyerMessage, "s", "e", buyer)
    );
    assert_eq!(decoded.question(), Some(Question::Price));
}

#[test]
fn an_event_must_not_be_ahead_or_too_old() {
    let retention = 45 * 86_400_000;
    for (event_time, expected) in [
        (CLOCK + 300_000, None),
        (CLOCK + 300_001, Some(DeadReason::Future)),
        (i64::MAX, Some(DeadReason::Future)),
        (CLOCK - retention, None),
        (CLOCK - retention - 1, Some(DeadReason::TooOld)),
        (i64::MIN, Some(DeadReason::TooOld)),
    ] {
        assert_eq!(
            reason(Topic::Chat, Format::Json, Some(message(event_time).as_bytes())),
            expected,
            "{event_time}"
        );
    }
}

#[test]
fn clocks_at_the_ends_of_time_do_not_overflow() {
    for clock in [0, i64::MAX] {
        let text = message(clock);
        let record = SourceRecord {
            position: at(Topic::Chat),
            clock,
            format: Format::Json,
            payload: Some(text.as_bytes()),
        };
        assert!(edge().decode(&record, &mut Loose::default()).is_ok());
    }
}

#[test]
fn what_cannot_be_decoded() {
    let undecodable = Some(DeadReason::Undecodable);
    assert_eq!(reason(Topic::Chat, Format::Json, None), undecodable);
    assert_eq!(reason(Topic::Chat, Format::Json, Some(b"[]")), undecodable);
    for payload in [
        message(CLOCK).as_bytes(),
        b"",
        &[0, 0, 0, 0, 99, 2],
        &[0, 0, 0, 0, 1],
        &[1, 0, 0, 0, 1],
    ] {
        assert_eq!(reason(Topic::Chat, Format::Avro, Some(payload)), undecodable);
    }
}

#[test]
fn a_record_may_have_one_mebibyte() {
    let text = message(CLOCK);
    let padded = |len: usize| {
        let padding = " ".repeat(len - text.len());
        text.replacen(':', &format!(":{padding}"), 1)
    };
    let (fits, too_large) = (padded(1 << 20), padded((1 << 20) + 1));
    assert_eq!(reason(Topic::Chat, Format::Json, Some(fits.as_bytes())), None);
    assert_eq!(
        reason(Topic::Chat, Format::Json, Some(too_large.as_bytes())),
        Some(DeadReason::Undecodable)
    );
    assert_eq!(reason(Topic::Chat, Format::JsonOfDump, Some(too_large.as_bytes())), None);
    let compact = too_large.replace(' ', "").replacen("多少钱", &"x".repeat(1 << 20), 1);
    assert_eq!(
        reason(Topic::Chat, Format::JsonOfDump, Some(compact.as_bytes())),
        Some(DeadReason::Undecodable)
    );
}

#[test]
fn a_registry_that_is_down_kills_nothing() {
    let address = crate::registry::RegistryAddress {
        url: "http://127.0.0.1:1".into(),
        auth: None,
    };
    let edge = Edge {
        schemas: Arc::new(Schemas::of_registry(&address)),
        ..edge()
    };
    let record = SourceRecord {
        position: at(Topic::Chat),
        clock: CLOCK,
        format: Format::Avro,
        payload: Some(&[0, 0, 0, 0, 1, 2]),
    };
    assert!(matches!(edge.decode(&record, &mut Loose::default()), Err(Reject::Retry(_))));
}

#[test]
fn only_a_buyers_message_asks_something() {
    let text = message(CLOCK).replace("BUYER_MESSAGE", "ROBOT_MESSAGE");
    let record = SourceRecord {
        position: at(Topic::Chat),
        clock: CLOCK,
        format: Format::Json,
        payload: Some(text.as_bytes()),
    };
    assert_eq!(edge().decode(&record, &mut Loose::default()).unwrap().question(), None);
}

#[test]
fn the_buyer_key_is_not_printed() {
    assert!(!format!("{:?}", edge()).contains('7'));
}

fn id() -> impl Strategy<Value = String> {
    "[ -~\u{a0}-\u{10ffff}]{1,20}"
}

prop_compose! {
    fn chat()(event_id in id(), shop_id in id(), buyer_id in id(), agent in id(), to_agent in option::of(id()), kind in 0..5_usize,
        ago in 0..1_000_000_i64, text in option::of(any::<String>()), flag in any::<bool>(), rating in 1..=5, robot in 0..3_u8) -> ChatRecord {
        let kind = Kind::ALL[kind];
        ChatRecord {
            event_id, shop_id, buyer_id, kind: kind.name().into(), event_time: CLOCK - ago, agent_id: Some(agent), to_agent_id: to_agent, text,
            sku_id: None, spam: Some(flag), source: None, rating: (kind == Kind::Rating).then_some(rating), assisted: Some(flag),
            robot_kind: Some(RobotKind::from_code(robot).unwrap().name().into()),
        }
    }
}

prop_compose! {
    fn order()(ids in (id(), id(), id(), id()), status in 5..11_usize, ago in 0..1_000_000_i64, amount in 0..=1_000_000_000_000_i64,
        items in 0..=1_000_000_i64, created in option::of(any::<i64>()), skus in proptest::collection::vec(any::<String>(), 0..3),
        fake in any::<bool>(), source in option::of(any::<String>())) -> OrderRecord {
        OrderRecord {
            event_id: ids.0, shop_id: ids.1, buyer_id: ids.2, order_id: ids.3, status: Kind::ALL[status].name().into(), event_time: CLOCK - ago,
            amount_fen: Some(amount), item_count: Some(items), order_created_at: created, sku_ids: Some(skus), fake: Some(fake), source,
        }
    }
}

prop_compose! {
    fn refund()(ids in (id(), id(), id(), id(), id()), status in 11..16_usize, ago in 0..1_000_000_i64, amount in 0..=1_000_000_000_000_i64,
        reason in 0..6_u8, phase in 0..3_u8) -> RefundRecord {
        RefundRecord {
            event_id: ids.0, shop_id: ids.1, buyer_id: ids.2, order_id: ids.3, refund_id: ids.4, status: Kind::ALL[status].name().into(),
            event_time: CLOCK - ago, amount_fen: Some(amount), reason: Some(RefundReason::from_code(reason).unwrap().name().into()),
            phase: Some(RefundPhase::from_code(phase).unwrap().name().into()),
        }
    }
}

/// Decodes the record from JSON and from Avro by the shipped schema; both must give the same. The caller checks what.
fn both_ways(topic: Topic, record: &impl serde::Serialize, check: impl Fn(&Event<'_>)) {
    let json = serde_json::to_vec(record).unwrap();
    let schema: serde_avro_fast::Schema = crate::schema::shipped(topic).parse().unwrap();
    let datum = serde_avro_fast::to_datum_vec(record, &mut SerializerConfig::new(&schema)).unwrap();
    let avro = frame(crate::schema::shipped_id(topic), &datum);
    for (format, payload) in [(Format::Json, &json), (Format::Avro, &avro)] {
        let mut loose = Loose::default();
        let record = SourceRecord {
            position: at(topic),
            clock: CLOCK,
            format,
            payload: Some(payload),
        };
        check(&edge().decode(&record, &mut loose).unwrap().event);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_chat_record_comes_back(record in chat()) {
        both_ways(Topic::Chat, &record, |event| {
            let kind = event.kind;
            let buyer = BuyerKey::new(&KEY, &record.shop_id, &record.buyer_id);
            let mut expected =
                Event::new(at(Topic::Chat), CLOCK, record.event_time, kind, &record.shop_id, &record.event_id, buyer);
            match kind {
                Kind::BuyerMessage => expected.spam = record.spam.unwrap(),
                Kind::RobotMessage => expected.robot_kind = RobotKind::from_name(record.robot_kind.as_deref().unwrap()).unwrap(),
                Kind::AgentMessage => expected.assisted = record.assisted.unwrap(),
                Kind::Transfer => expected.to_agent_id = record.to_agent_id.as_deref(),
                _ => expected.rating = record.rating.unwrap() as u8,
            }
            expected.agent_id = record.agent_id.as_deref().filter(|_| kind != Kind::RobotMessage);
            assert_eq!(kind.name(), record.kind);
            assert_eq!(*event, expected);
        });
    }

    #[test]
    fn an_order_record_comes_back(record in order()) {
        both_ways(Topic::Orders, &record, |event| {
            let kind = event.kind;
            let buyer = BuyerKey::new(&KEY, &record.shop_id, &record.buyer_id);
            let priced = matches!(kind, Kind::OrderCreated | Kind::OrderDepositPaid | Kind::OrderPaid);
            let counted = matches!(kind, Kind::OrderCreated | Kind::OrderPaid);
            let expected = Event {
                order_id: Some(&record.order_id),
                amount_fen: record.amount_fen.filter(|_| priced),
                item_count: record.item_count.filter(|_| counted),
                order_created_at: record.order_created_at,
                fake: record.fake.unwrap(),
                ..Event::new(at(Topic::Orders), CLOCK, record.event_time, kind, &record.shop_id, &record.event_id, buyer)
            };
            assert_eq!(kind.name(), record.status);
            assert_eq!(*event, expected);
        });
    }

    #[test]
    fn a_refund_record_comes_back(record in refund()) {
        both_ways(Topic::Refunds, &record, |event| {
            let kind = event.kind;
            let buyer = BuyerKey::new(&KEY, &record.shop_id, &record.buyer_id);
            let expected = Event {
                order_id: Some(&record.order_id),
                refund_id: Some(&record.refund_id),
                amount_fen: record.amount_fen.filter(|_| matches!(kind, Kind::RefundRequested | Kind::RefundSucceeded)),
                reason: RefundReason::from_name(record.reason.as_deref().unwrap()),
                phase: RefundPhase::from_name(record.phase.as_deref().unwrap()),
                ..Event::new(at(Topic::Refunds), CLOCK, record.event_time, kind, &record.shop_id, &record.event_id, buyer)
            };
            assert_eq!(kind.name(), record.status);
            assert_eq!(*event, expected);
        });
    }

    #[test]
    fn any_bytes_are_an_event_or_a_dead_letter(bytes in proptest::collection::vec(any::<u8>(), 0..300), topic in 0..3_usize, avro in any::<bool>()) {
        let format = if avro { Format::Avro } else { Format::Json };
        let mut payload = if avro { vec![0, 0, 0, 0, topic as u8 + 1] } else { Vec::new() };
        payload.extend(bytes);
        reason(Topic::ALL[topic], format, Some(&payload));
    }

    #[test]
    fn any_nearly_json_text_is_an_event_or_a_dead_letter(text in r#"\{("(event_id|shop_id|kind|text|x)":("(\\u[dD][89a-fA-F]00|\\n|a|界|\\)*"|-?[0-9]{1,20}|\[|null),?){0,6}\}?"#) {
        let parsed = serde_json::from_str::<serde_json::Value>(&text);
        let ours = reason(Topic::Chat, Format::Json, Some(text.as_bytes()));
        // A parser that reads every value into owned texts refuses the same records.
        prop_assert_eq!(ours == Some(DeadReason::Undecodable), !parsed.is_ok_and(|value| value.is_object()), "{}", text);
    }
}
