//! Worked examples of live figures: what a supervisor sees at a moment, against what the tables say of it in the end.

use crate::kit::Reader;
use crate::story::{at, clock, play, policy};
use peakdesk_model::live::{AgentDetail, AgentLive, Curve, ShopLive};
use peakdesk_scoring::live::LiveValue;
use peakdesk_scoring::policy::Policy;
use std::fmt::Write as _;

/// What is told of a script when it has been read.
#[derive(Default)]
struct Shown {
    shop: ShopLive,
    agents: Vec<AgentLive>,
    details: Vec<AgentDetail>,
    curves: Vec<Curve>,
}

impl Shown {
    fn of(reader: &mut Reader) -> Self {
        let mut shown = Shown::default();
        reader.fold.tell(true, |value| match value {
            LiveValue::Shop(shop) => shown.shop = shop,
            LiveValue::Agent(agent) => shown.agents.push(agent),
            LiveValue::Detail(detail) => shown.details.push(detail),
            LiveValue::Curve(curve) => shown.curves.push(curve),
        });
        shown
    }

    fn agent(&self, name: &str) -> &AgentLive {
        self.agents.iter().find(|a| a.agent_id == name).unwrap()
    }

    fn detail(&self, name: &str) -> &AgentDetail {
        self.details.iter().find(|d| d.agent_id == name).unwrap()
    }
}

fn missed(detail: &AgentDetail) -> Vec<String> {
    let line = |m: &peakdesk_model::live::MissedRound| {
        let end = m.ended_at.map_or("-".into(), clock);
        format!("{} {end} {}", clock(m.a0), m.outcome)
    };
    detail.missed.iter().map(line).collect()
}

/// Who waits, since when, and the figures so far: of the moment, before anything is final.
#[test]
fn waits_and_figures_of_the_moment() {
    let mut reader = play(
        "10:00 Mia > Amy\n10:00:40 Amy : Mia\n10:05 Mia > Amy\n10:06 Ned > Amy\n10:09:30 Ora >",
        Policy::default(),
    );
    let shown = Shown::of(&mut reader);
    let amy = shown.agent("Amy");
    assert_eq!((amy.waiting.buyers, amy.waiting.over_180s), (2, 2));
    assert_eq!(amy.waiting.oldest_since, Some(at("10:05")));
    assert_eq!(amy.figures["replied_within_180s"], 1);
    assert_eq!(amy.figures["received_buyers"], 1);
    assert_eq!((shown.shop.waiting.buyers, shown.shop.waiting.over_180s), (3, 2));
    assert_eq!(shown.shop.figures["consulting_buyers"], 3);
    assert_eq!(shown.shop.day_start, at("00:00"));
    // Told once; then only what has changed.
    let again = Shown::of(&mut reader);
    assert!(again.agents.is_empty() && again.details.is_empty() && again.curves.is_empty());
}

/// The rounds of the day that were not answered within three minutes, newest first, however many were merely slow.
#[test]
fn missed_rounds_are_not_crowded_out_by_slow_ones() {
    let mut script = String::from("08:00 Mia > Amy\n08:04 Amy : Mia\n");
    for n in 0..300 {
        let (minute, hour) = (n % 60, 9 + n / 60);
        writeln!(script, "{hour:02}:{minute:02} B{n} > Amy\n{hour:02}:{minute:02}:50 Amy : B{n}").unwrap();
    }
    writeln!(script, "15:00 Ned > Amy\n15:01 transfer Ned Amy Ben\n15:07 Ben : Ned").unwrap();
    let shown = Shown::of(&mut play(&script, Policy::default()));
    assert_eq!(
        missed(shown.detail("Amy")),
        ["15:00:00 15:01:00 transferred", "08:00:00 08:04:00 replied"]
    );
    assert_eq!(missed(shown.detail("Ben")), ["15:01:00 15:07:00 replied"]);
}

/// A credited order with its evidence: which touch, how long before, who else; and it is gone when the credit is.
#[test]
fn credited_orders_with_their_evidence() {
    let script = "10:00 Mia > Amy\n10:00:30 Amy : Mia\n10:10 transfer Mia Amy Ben\n10:11 Ben : Mia\n10:20 created O1 Mia 20000 2\n10:21 paid O1 Mia 20000 2";
    let mut reader = play(script, Policy::default());
    let shown = Shown::of(&mut reader);
    let [order] = shown.detail("Ben").orders.as_slice() else {
        panic!("{:?}", shown.detail("Ben"))
    };
    assert_eq!(
        (order.order_id.as_str(), order.amount_fen, order.refunded_fen),
        ("O1", Some(20_000), 0)
    );
    assert_eq!((order.created_at, order.paid_at), (at("10:20"), Some(at("10:21"))));
    assert_eq!((order.last_touch_at, order.lag_ms), (Some(at("10:11")), Some(9 * 60_000)));
    assert_eq!((order.first_touch_agent.as_deref(), order.touching_agents), (Some("Amy"), 2));
    assert!(shown.detail("Amy").orders.is_empty());
    // The table says the same in the end.
    reader.run_on(3_600_000);
    let row = reader.out.rows.orders.last().unwrap();
    assert_eq!(
        (row.agent_id.as_deref(), row.rule.name(), row.lag_ms),
        (Some("Ben"), order.rule.as_str(), order.lag_ms)
    );
    assert_eq!(
        (row.last_touch_at, row.touching_agents),
        (order.last_touch_at, order.touching_agents)
    );
}

/// Minutes of the shop for the curves, hours of yesterday for the comparison.
#[test]
fn curves_and_yesterday() {
    let script = "11-10/09:15 Mia > Amy\n11-10/09:16 Amy : Mia\n10:00 Ned > Amy\n10:00:10 Amy : Ned\n10:02 created O1 Ned 300 1\n10:03 paid O1 Ned 300 1";
    let shown = Shown::of(&mut play(script, policy("[[version]]\nsession_gap = \"10m\"")));
    let hour = shown.curves.iter().find(|c| c.hour == at("10:00")).unwrap();
    let points: Vec<_> = hour
        .minutes
        .iter()
        .map(|p| (p.minute, p.consulting_buyers, p.buyer_messages, p.orders_paid, p.gross_fen))
        .collect();
    assert_eq!(points, [(0, 1, 1, 0, 0), (3, 0, 0, 1, 300)]);
    let [yesterday] = shown.shop.yesterday.as_slice() else {
        panic!("{:?}", shown.shop.yesterday)
    };
    assert_eq!((yesterday.start, yesterday.figures["replied_within_180s"]), (at("11-10/09:00"), 1));
    assert_eq!(shown.shop.figures["gross_fen"], 300);
}
