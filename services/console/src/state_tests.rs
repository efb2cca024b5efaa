#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use peakdesk_model::alert::{Rule, TransitionKind};
use peakdesk_model::position::LogPosition;
use peakdesk_model::table::Stamp;
use peakdesk_model::time::{HOUR_MS, format_date};
use proptest::prelude::*;
use serde_json::Value;

/// A transition of an alert of agent `ag` in shop `s1`.
pub fn row(id: &str, transition: u32, kind: TransitionKind, severity: Severity, at: i64) -> AlertRow {
    AlertRow {
        stamp: Stamp {
            policy: "default".into(),
            is_final: true,
            published_at: at,
            dt: 20_000,
            position: LogPosition { offset: at, index: 0 },
        },
        alert_id: id.into(),
        transition,
        kind,
        rule: Rule::BuyerWaiting,
        shop_id: "s1".into(),
        agent_id: Some("ag".into()),
        severity,
        value_num: 100_000 + at,
        value_den: 1,
        onset: at - i64::from(transition),
        at,
        evidence: format!("[{{\"n\":{transition}}}]").into(),
    }
}

fn state() -> State {
    State::new("e".into(), 1_000, Policies::default(), UtcOffset::CHINA)
}

fn day(at: i64) -> String {
    format_date(20_000 + (at / DAY_MS) as i32)
}

/// Key and value of a message about shop `s{shop}`.
fn message(shop: u8, what: u8, at: i64) -> (String, String) {
    let shop = format!("s{shop}");
    let figures = [("orders_paid".to_owned(), at)].into();
    match what {
        0 => {
            let live = ShopLive {
                shop_id: shop.clone(),
                at,
                sent_wall_ms: at,
                day: day(at),
                figures,
                ..ShopLive::default()
            };
            (LiveKey::Shop { shop }.encode(), json(&live))
        }
        1 | 2 => {
            let agent = format!("a{what}");
            let live = AgentLive {
                shop_id: shop.clone(),
                agent_id: agent.clone(),
                at,
                day: day(at),
                figures,
                ..AgentLive::default()
            };
            (LiveKey::Agent { shop, agent }.encode(), json(&live))
        }
        3 => {
            let detail = AgentDetail {
                shop_id: shop.clone(),
                agent_id: "a1".into(),
                at,
                day: day(at),
                ..AgentDetail::default()
            };
            let agent = "a1".into();
            (LiveKey::Detail { shop, agent }.encode(), json(&detail))
        }
        _ => {
            let hour = at - at.rem_euclid(HOUR_MS);
            let curve = Curve {
                shop_id: shop.clone(),
                hour,
                at,
                ..Curve::default()
            };
            (LiveKey::Curve { shop, hour }.encode(), json(&curve))
        }
    }
}

fn live(state: &mut State, shop: u8, what: u8, at: i64) -> Applied {
    let (key, value) = message(shop, what, at);
    state.apply_live(key.as_bytes(), Some(value.as_bytes()), at)
}

fn parsed(event: &Arc<Event>) -> Value {
    serde_json::from_str(event.json()).unwrap()
}

#[test]
fn the_newest_value_is_kept_and_counts_of_alerts_stand_beside_it() {
    let mut state = state();
    assert_eq!(live(&mut state, 1, 0, 5), Applied::New);
    assert_eq!(live(&mut state, 1, 0, 4), Applied::Stale);
    let agent = AgentLive {
        shop_id: "s1".into(),
        agent_id: "ag".into(),
        at: 5,
        day: day(5),
        ..AgentLive::default()
    };
    let key = "agent\u{1f}s1\u{1f}ag";
    state.apply_live(key.as_bytes(), Some(json(&agent).as_bytes()), 0);
    let open = |state: &State| {
        let shop = parsed(state.shop("s1").unwrap());
        let agent = parsed(state.agent("s1", "ag").unwrap().0);
        assert_eq!((shop["at"].as_i64(), agent["at"].as_i64()), (Some(5), Some(5)));
        assert_eq!(shop["open_alerts"], agent["open_alerts"]);
        ["warning", "major", "critical"].map(|s| shop["open_alerts"][s].as_u64().unwrap())
    };
    assert_eq!(open(&state), [0, 0, 0]);
    state.apply_alert(&row("x", 0, TransitionKind::Firing, Severity::Warning, 1), 0);
    state.apply_alert(&row("y", 0, TransitionKind::Firing, Severity::Critical, 1), 0);
    assert_eq!(open(&state), [1, 0, 1]);
    state.apply_alert(&row("x", 1, TransitionKind::Escalated, Severity::Major, 2), 0);
    assert_eq!(open(&state), [0, 1, 1]);
    state.apply_alert(&row("x", 2, TransitionKind::Resolved, Severity::Major, 3), 0);
    state.apply_alert(&row("x", 2, TransitionKind::Resolved, Severity::Major, 3), 0);
    assert_eq!(open(&state), [0, 0, 1]);
    // A newer value has them too.
    live(&mut state, 1, 0, 6);
    assert_eq!(parsed(state.shop("s1").unwrap())["open_alerts"]["critical"], 1);
}

#[test]
fn an_alert_has_the_thresholds_of_its_day() {
    let mut state = state();
    state.apply_alert(&row("x", 0, TransitionKind::Firing, Severity::Warning, 1), 0);
    let alert = parsed(state.alert("x").unwrap());
    assert_eq!(alert["threshold"]["warning"], 100_000);
    assert_eq!(alert["threshold"]["resolve"], 60_000);
    assert_eq!(alert["evidence"], serde_json::json!([{"n": 0}]));
}

#[test]
fn what_is_not_what_its_key_says_changes_nothing() {
    let mut state = state();
    let (key, value) = message(1, 1, 5);
    let (other, _) = message(2, 1, 5);
    for (key, value) in [
        (other.as_str(), value.as_str()),
        (&key, "{}"),
        (&key, "no json"),
        (&key, "[]"),
        ("agent", &value),
        ("curve\u{1f}s1\u{1f}x", &value),
        ("shop\u{1f}s1", &value),
        ("", &value),
    ] {
        assert_eq!(
            state.apply_live(key.as_bytes(), Some(value.as_bytes()), 0),
            Applied::Unreadable,
            "{key} {value}"
        );
    }
    assert_eq!(state.apply_live(&[0xff], Some(b"{}"), 0), Applied::Unreadable);
    assert_eq!(state.apply_acknowledgement(b"x", Some(b"{}"), 0), Applied::Unreadable);
    assert_eq!(state.contents().len(), 0);
}

#[test]
fn agents_of_another_day_and_old_curves_are_dropped() {
    let mut state = state();
    for hour in 0..24 {
        live(&mut state, 1, 4, hour * HOUR_MS);
    }
    live(&mut state, 1, 1, 10 * HOUR_MS);
    live(&mut state, 1, 3, 10 * HOUR_MS);
    live(&mut state, 1, 0, 10 * HOUR_MS);
    assert!(state.agent("s1", "a1").unwrap().1.is_some());
    live(&mut state, 1, 2, 25 * HOUR_MS);
    live(&mut state, 1, 0, 25 * HOUR_MS);
    assert!(state.agent("s1", "a1").is_none() && state.agent("s1", "a2").is_some());
    assert_eq!(live(&mut state, 1, 1, 11 * HOUR_MS), Applied::Stale);
    assert_eq!(state.curves("s1", 48).unwrap().len(), 24);
    live(&mut state, 1, 0, 60 * HOUR_MS);
    assert_eq!(state.curves("s1", 48).unwrap().len(), 12);
    assert_eq!(live(&mut state, 1, 4, 11 * HOUR_MS), Applied::Stale);
    assert_eq!(state.curves("s1", 40).unwrap().len(), 4);
}

#[test]
fn a_key_without_a_value_is_gone() {
    let mut state = state();
    for what in 0..5 {
        live(&mut state, 1, what, 5);
    }
    state.flush();
    let at = state.feed(Some("s1")).unwrap().published();
    for what in 0..5 {
        let (key, _) = message(1, what, 5);
        assert_eq!(state.apply_live(key.as_bytes(), None, 0), Applied::New);
        assert_eq!(state.apply_live(key.as_bytes(), None, 0), Applied::Stale);
    }
    assert!(state.contents().is_empty());
    assert!(state.feed(Some("s1")).unwrap().can_resume(at) && !state.feed(Some("s1")).unwrap().can_resume(1));
}

#[test]
fn alerts_that_are_no_longer_kept_make_older_places_void() {
    let mut state = State::new("e".into(), 1, Policies::default(), UtcOffset::CHINA);
    state.apply_alert(&row("x", 0, TransitionKind::Firing, Severity::Warning, 1), 0);
    state.flush();
    let before = state.feed(None).unwrap().published();
    state.apply_alert(&row("x", 1, TransitionKind::Resolved, Severity::Warning, 2), 0);
    state.flush();
    assert!(state.feed(Some("s1")).unwrap().can_resume(before));
    for id in ["y", "z"] {
        state.apply_alert(&row(id, 0, TransitionKind::Firing, Severity::Warning, 3), 0);
        state.apply_alert(&row(id, 1, TransitionKind::Resolved, Severity::Warning, 4), 0);
    }
    state.flush();
    assert!(state.alert("x").is_none() && state.alert("y").is_none() && state.alert("z").is_some());
    for shop in [None, Some("s1")] {
        let feed = state.feed(shop).unwrap();
        assert!(!feed.can_resume(before) && feed.can_resume(feed.published()));
    }
}

/// What comes from outside.
#[derive(Debug, Clone)]
enum Input {
    Live(u8, u8, i64),
    Alert(u8, u32),
}

fn apply(state: &mut State, input: &Input) {
    match input {
        Input::Live(shop, what, at) => {
            live(state, *shop, *what, *at);
        }
        Input::Alert(id, transition) => {
            let (kind, severity) = match transition {
                0 => (TransitionKind::Firing, Severity::Warning),
                1 => (TransitionKind::Escalated, Severity::Critical),
                _ => (TransitionKind::Resolved, Severity::Critical),
            };
            let at = i64::from(*id) * 10 + i64::from(*transition);
            let mut row = row(&format!("alert{id}"), *transition, kind, severity, at);
            row.onset = i64::from(*id);
            row.agent_id = Some("a1".into());
            state.apply_alert(&row, 0);
        }
    }
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let live = (1..3_u8, 0..5_u8, 0..72_i64).prop_map(|(shop, what, hours)| Input::Live(shop, what, hours * HOUR_MS));
    let alert = (0..6_u8, 0..3_u32).prop_map(|(id, transition)| Input::Alert(id, transition));
    prop::collection::vec(prop_oneof![3 => live, 1 => alert], 1..60)
}

/// What a page holds of an event: one value per key.
fn key_of(event: &Value) -> String {
    let part = |name: &str| event.get(name).map(Value::to_string).unwrap_or_default();
    let kind = if event.get("missed").is_some() { "detail" } else { "" };
    ["shop_id", "agent_id", "hour", "alert_id"].map(part).concat() + kind
}

proptest! {
    #[test]
    fn order_and_repeats_do_not_matter(
        (one, other) in inputs().prop_flat_map(|all| {
            let twice: Vec<Input> = all.iter().chain(&all).cloned().collect();
            (Just(all), Just(twice).prop_shuffle())
        })
    ) {
        let (mut a, mut b) = (state(), state());
        one.iter().for_each(|input| apply(&mut a, input));
        other.iter().for_each(|input| apply(&mut b, input));
        prop_assert_eq!(a.contents(), b.contents());
    }

    /// A page that fetches the state and then follows the events from there shows what the state holds, wherever it begins, however
    /// often it is away.
    #[test]
    fn who_follows_shows_what_there_is(all in inputs(), begin in 0..60_usize, looks in prop::collection::vec(any::<bool>(), 60)) {
        let mut state = state();
        let mut page: Option<(u64, BTreeMap<String, Value>)> = None;
        for (n, input) in all.iter().enumerate() {
            apply(&mut state, input);
            state.flush();
            if n == begin {
                let fetched = state.contents();
                let values = fetched.iter().map(|text| serde_json::from_str::<Value>(text).unwrap());
                page = Some((state.feed(None).unwrap().published(), values.map(|v| (key_of(&v), v)).collect()));
            } else if let Some((at, shown)) = &mut page && (looks[n] || n + 1 == all.len()) {
                let mut end = *at;
                for shop in ["s1", "s2"] {
                    let Some(feed) = state.feed(Some(shop)) else { continue };
                    let pull = feed.pull(*at, |_| true);
                    let text = String::from_utf8(pull.frames.to_vec()).unwrap();
                    for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
                        let value: Value = serde_json::from_str(data).unwrap();
                        shown.insert(key_of(&value), value);
                    }
                    end = end.max(pull.to);
                }
                *at = end;
            }
        }
        if let Some((_, shown)) = page {
            for text in state.contents() {
                let value: Value = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(shown.get(&key_of(&value)), Some(&value));
            }
        }
    }
}
