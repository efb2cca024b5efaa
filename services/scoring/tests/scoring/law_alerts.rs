//! Alerts follow from the log and from nothing else: not from how it is cut, not from when somebody looks. And each has one
//! beginning and at most one end.

use crate::generate::{cases, delays, items, send};
use crate::kit::{Cutting, Delivery, Item, Reader, frames, in_step};
use crate::story::{at, play};
use peakdesk_model::alert::{AlertRow, Rule, TransitionKind};
use peakdesk_model::time::{DAY_MS, MINUTE_MS};
use peakdesk_scoring::policy::{Constants, Policies, Policy};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A policy under which little is enough: with few events every rule has something to say.
fn touchy(extra: &str) -> Policies {
    let text = format!(
        "profile = \"touchy\"\n[[version]]\nalert_hours = \"00:00-24:00\"\nmany_waiting.warning = \"0\"\nmany_waiting.critical = \"1\"\nmany_waiting.resolve = \"0\"\n\
         shop_waiting.major = \"0\"\nshop_waiting.critical = \"2\"\nshop_waiting.resolve = \"0\"\nreply_rate_3min_low.min_rounds = \"1\"\n\
         reply_rate_5min_low.min_chains = \"1\"\nreplies_slow.min_replies = \"1\"\nreplies_slow.for = \"1m\"\nconversion_low.min_buyers = \"1\"\n\
         refund_spike.min_refunds = \"1\"\nrefund_spike.orders_per_refund = \"1000\"\nrefund_spike.resolve_refunds = \"1\"\n{extra}"
    );
    Policies::new(Policy::parse(&text, &Constants::default()).unwrap(), BTreeMap::new())
}

/// Rules of a shop that hears of long waits only.
const TOUCHY_FEW: &str = "profile = \"few\"\n[[version]]\nalert_hours = \"00:00-24:00\"\nbuyer_waiting.warning = \"5m\"\nbuyer_waiting.major = \"6m\"\nbuyer_waiting.critical = \"7m\"\n";

fn coarse() -> Constants {
    // Every moment of some days can be looked at.
    Constants {
        alert_step_ms: MINUTE_MS,
        ..Constants::default()
    }
}

/// In the order of clocks over all source partitions, as a dump is read.
fn stepwise(items: &[Item], delays: &[u8], sizes: &[usize]) -> Vec<Delivery> {
    let cutting = Cutting {
        sizes: sizes.to_vec(),
        ..Cutting::default()
    };
    let mut deliveries = frames(&in_step(&send(items, delays, false)), &cutting);
    deliveries.iter_mut().for_each(|d| d.head.in_step = true);
    deliveries
}

/// What was said, without where in the log and with which evidence.
fn said(rows: &[AlertRow]) -> Vec<AlertRow> {
    let plain = |r: &AlertRow| {
        let mut r = r.clone();
        r.stamp.position = peakdesk_model::position::LogPosition::start_of(0);
        r.stamp.published_at = 0;
        r.evidence = "".into();
        r
    };
    rows.iter().map(plain).collect()
}

fn read(deliveries: &[Delivery], policies: &Policies, constants: Constants) -> Reader {
    let mut reader = Reader::with_constants(policies.clone(), constants);
    reader.read_all(deliveries);
    reader.run_on(DAY_MS);
    reader
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn any_cut_into_frames_gives_the_same_alerts(
        items in items(60, false), delays in delays(), sizes in prop::collection::vec(0usize..6, 1..8),
    ) {
        let policies = touchy("");
        let whole = read(&stepwise(&items, &delays, &[]), &policies, Constants::default());
        let cut = read(&stepwise(&items, &delays, &sizes), &policies, Constants::default());
        prop_assert_eq!(said(&whole.out.rows.alerts), said(&cut.out.rows.alerts));
    }

    #[test]
    fn an_alert_has_one_beginning_and_at_most_one_end(
        items in items(60, false), delays in delays(), hours in prop::sample::select(vec!["", "alert_hours = \"09:30-21:00\"", "[[version]]\nfrom = \"2025-11-11\"\nbuyer_waiting.enabled = \"false\"\nreplies_slow.enabled = \"false\""]),
    ) {
        let policies = if hours.starts_with("alert_hours") {
            let text = "profile = \"day\"\n[[version]]\nreplies_slow.min_replies = \"1\"\n".to_owned() + hours;
            Policies::new(Policy::parse(&text, &Constants::default()).unwrap(), BTreeMap::new())
        } else {
            touchy(hours)
        };
        let reader = read(&stepwise(&items, &delays, &[3]), &policies, Constants::default());
        let mut open: BTreeMap<String, AlertRow> = BTreeMap::new();
        let mut ended: BTreeMap<String, i64> = BTreeMap::new();
        for row in &reader.out.rows.alerts {
            let scope = format!("{} {} {:?}", row.rule.name(), row.shop_id, row.agent_id);
            let id = AlertRow::id_of(row.rule, &row.shop_id, row.agent_id.as_deref(), row.onset);
            prop_assert_eq!(&*row.alert_id, id.as_str());
            match (row.kind, open.remove(&scope)) {
                (TransitionKind::Firing, None) => {
                    prop_assert!(ended.get(&scope).is_none_or(|at| row.onset > *at), "begins before the last one ended: {row:?}");
                    prop_assert_eq!(row.transition, 0);
                    open.insert(scope, row.clone());
                }
                (TransitionKind::Escalated, Some(before)) => {
                    prop_assert!(row.severity > before.severity && row.transition == before.transition + 1 && row.onset == before.onset);
                    open.insert(scope, row.clone());
                }
                (TransitionKind::Resolved, Some(before)) => {
                    prop_assert!(row.severity == before.severity && row.transition == before.transition + 1 && row.onset == before.onset);
                    prop_assert!(row.at > before.at);
                    ended.insert(scope, row.at);
                }
                (kind, before) => prop_assert!(false, "{kind:?} after {before:?}"),
            }
        }
        prop_assert!(open.is_empty(), "never resolved: {:?}", open);
    }
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn looking_at_every_scope_at_every_moment_says_no_more(items in items(40, false), delays in delays()) {
        for policies in [touchy(""), touchy("[[version]]\nfrom = \"2025-11-11\"\nalert_hours = \"09:00-22:00\"\nrefund_promise = \"12h\"")] {
            let deliveries = stepwise(&items, &delays, &[1]);
            let incremental = read(&deliveries, &policies, coarse());
            let mut plain = Reader::with_constants(policies.clone(), coarse());
            for delivery in &deliveries {
                // As far as this event's clock, a moment at a time: everybody is looked at in each.
                let clock = delivery.events.first().map_or(0, |e| e.clock);
                plain.look_at_all_until(clock);
                plain.read(delivery);
            }
            let last = incremental.out.rows.alerts.last().map_or(0, |a| a.at);
            plain.look_at_all_until(last.min(plain.fold.now() + 4 * DAY_MS));
            plain.run_on(DAY_MS);
            prop_assert_eq!(said(&incremental.out.rows.alerts), said(&plain.out.rows.alerts));
        }
    }
}

#[test]
fn every_rule_fires_under_the_touchy_policy() {
    let mut fired: BTreeMap<&str, usize> = BTreeMap::new();
    for deliveries in samples(60) {
        let reader = read(&deliveries, &touchy(""), Constants::default());
        for row in &reader.out.rows.alerts {
            *fired.entry(row.rule.name()).or_default() += 1;
        }
    }
    assert_eq!(fired.len(), 9, "the laws above say nothing about rules that never fire: {fired:?}");
}

/// Events as the property tests draw them, the same at every run.
fn samples(n: usize) -> Vec<Vec<Delivery>> {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut sample = || {
        let items = items(60, false).new_tree(&mut runner).unwrap().current();
        let delays = delays().new_tree(&mut runner).unwrap().current();
        stepwise(&items, &delays, &[])
    };
    (0..n).map(|_| sample()).collect()
}

#[test]
fn every_rule_can_be_switched_off_and_the_others_say_the_same() {
    for rule in Rule::ALL {
        let off = touchy(&format!("{}.enabled = \"false\"", rule.name()));
        let mut silenced = 0;
        for deliveries in samples(20) {
            let all = read(&deliveries, &touchy(""), Constants::default());
            let most = read(&deliveries, &off, Constants::default());
            let (of_it, others): (Vec<_>, Vec<_>) = said(&all.out.rows.alerts).into_iter().partition(|r| r.rule == rule);
            silenced += of_it.len();
            assert_eq!(others, said(&most.out.rows.alerts), "without {}", rule.name());
        }
        assert!(silenced > 0, "{} never fired", rule.name());
    }
}

#[test]
fn a_shop_has_its_own_thresholds() {
    let (mut own_rows, mut other_rows) = (0, 0);
    for deliveries in samples(20) {
        let touchy_everywhere = touchy("");
        let shops: std::collections::BTreeSet<String> = deliveries
            .iter()
            .flat_map(|d| d.events.iter().map(|e| e.event().shop_id.to_owned()))
            .collect();
        let Some(own) = shops.first().filter(|_| shops.len() > 1) else {
            continue;
        };
        let of_own = Policy::parse(TOUCHY_FEW, &Constants::default()).unwrap();
        let mixed = Policies::new(
            (**touchy_everywhere.of("any other")).clone(),
            BTreeMap::from([(own.clone(), of_own.clone())]),
        );
        let few_everywhere = Policies::new(of_own, BTreeMap::new());
        let [mixed, few, touchy] =
            [mixed, few_everywhere, touchy_everywhere].map(|p| said(&read(&deliveries, &p, Constants::default()).out.rows.alerts));
        let of =
            |rows: &[AlertRow], mine: bool| -> Vec<AlertRow> { rows.iter().filter(|r| (*r.shop_id == **own) == mine).cloned().collect() };
        assert_eq!(of(&mixed, true), of(&few, true));
        assert_eq!(of(&mixed, false), of(&touchy, false));
        own_rows += of(&few, true).len();
        other_rows += of(&touchy, false).len();
        assert_ne!(of(&touchy, true), of(&mixed, true), "its own thresholds make no difference");
    }
    assert!(own_rows > 0 && other_rows > 0, "{own_rows} and {other_rows} rows");
}

/// How often rules are evaluated until 13:00 for a shop in which all agents but one have been at rest since 10:01, and how often in
/// the hour after that.
fn evaluations(agents: usize, with_a_wait: bool) -> (u64, u64) {
    let mut script = String::new();
    for n in 0..agents {
        writeln!(script, "10:00 B{n} > A{n}").unwrap();
    }
    for n in 0..agents {
        writeln!(script, "10:00:20 A{n} : B{n}").unwrap();
    }
    if with_a_wait {
        script.push_str("12:30 Bob > A0\n12:41 A0 : Bob\n");
    }
    let mut reader = play(&script, Policy::default());
    let mut until = |time: &str| {
        while reader.fold.now() < at(time) {
            let minute = reader.fold.now().div_euclid(MINUTE_MS) + 1;
            reader.tick(minute * MINUTE_MS);
        }
        reader.fold.alert_evaluations()
    };
    let begun = until("13:00");
    (begun, until("14:00") - begun)
}

#[test]
fn who_is_at_rest_costs_nothing() {
    let cost = |agents| {
        let ((plain, idle), (with, _)) = (evaluations(agents, false), evaluations(agents, true));
        (with - plain, idle)
    };
    let (few, many) = (cost(2), cost(300));
    assert!(few.0 > 0, "a wait was never evaluated");
    assert_eq!(few.0, many.0, "a wait costs more where many are at rest");
    assert_eq!((few.1, many.1), (0, 0), "evaluations while all were at rest");
}
