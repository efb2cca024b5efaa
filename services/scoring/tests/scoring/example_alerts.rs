//! Worked examples of the metric definitions: alerts (section 11).

use crate::kit::{Delivery, Item, Reader, Record, in_step};
use crate::story::{Told, at, play, policy, tell, tell_under};
use peakdesk_model::event::Kind;
use peakdesk_model::frame::{FrameHead, SourceRange};
use peakdesk_model::input::Topic;
use peakdesk_model::position::SourcePartition;
use peakdesk_model::time::SECOND_MS;
use peakdesk_scoring::policy::Policies;
use std::fmt::Write;

/// Section 11, Bob: an alert fires in silence, grows no older than the alert hours, and a wait before them begins with them.
#[test]
fn a_wait_grows_old_within_the_hours() {
    assert_eq!(
        tell("22:58:10 Bob > Amy").alerts("buyer_waiting"),
        [
            "Amy firing warning 100000/1 onset 22:59:50 at 22:59:50",
            "Amy resolved warning 110000/1 onset 22:59:50 at 23:00:00",
        ]
    );
    assert_eq!(
        tell("07:30 Bob > Amy\n08:02 Amy : Bob").alerts("buyer_waiting"),
        [
            "Amy firing warning 100000/1 onset 08:01:40 at 08:01:40",
            "Amy resolved warning 0/1 onset 08:01:40 at 08:02:00",
        ]
    );
}

/// Hours that meet at midnight are one stretch: who wrote before it waits on.
#[test]
fn hours_that_meet_at_midnight_are_one_stretch() {
    let around_the_clock = policy("[[version]]\nalert_hours = \"00:00-24:00\"");
    assert_eq!(
        tell_under("11-10/23:59 Bob > Amy\n00:04:30 Amy : Bob", around_the_clock).alerts("buyer_waiting"),
        [
            "Amy firing warning 100000/1 onset 00:00:40 at 00:00:40",
            "Amy escalated major 180000/1 onset 00:00:40 at 00:02:00",
            "Amy escalated critical 300000/1 onset 00:00:40 at 00:04:00",
            "Amy resolved critical 0/1 onset 00:00:40 at 00:04:30",
        ]
    );
}

/// What no knob lets resolve stays open, and time still comes to an end.
#[test]
fn an_alert_that_nothing_resolves_does_not_keep_time_running() {
    let never = policy("[[version]]\nalert_hours = \"00:00-24:00\"\nbuyer_waiting.resolve = \"0s\"");
    assert_eq!(
        tell_under("10:00 Bob > Amy", never).alerts("buyer_waiting"),
        [
            "Amy firing warning 100000/1 onset 10:01:40 at 10:01:40",
            "Amy escalated major 180000/1 onset 10:01:40 at 10:03:00",
            "Amy escalated critical 300000/1 onset 10:01:40 at 10:05:00",
        ]
    );
    // A later version may let it.
    let later = policy(
        "[[version]]\nalert_hours = \"00:00-24:00\"\nbuyer_waiting.resolve = \"0s\"\n[[version]]\nfrom = 2025-11-14\nbuyer_waiting.resolve = \"1s\"",
    );
    assert_eq!(
        tell_under("10:00 Bob > Amy", later)
            .alerts("buyer_waiting")
            .last()
            .map(String::as_str),
        Some("Amy resolved critical 0/1 onset 10:01:40 at 11-14/00:00:00")
    );
}

/// A state that was stored under one policy goes on under another: when to look next is not what the old one said.
#[test]
fn a_policy_that_changed_over_a_restart_is_heeded() {
    let versions = "[[version]]\nalert_hours = \"00:00-24:00\"\nbuyer_waiting.resolve = \"0s\"\n";
    let mut reader = play("10:00 Bob > Amy", policy(versions));
    reader.tick(at("11-12/12:00"));
    let changed = policy(&format!(
        "{versions}[[version]]\nfrom = 2025-11-13\nalert_hours = \"08:00-23:00\"\n"
    ));
    reader.policies = Policies::new(changed, Default::default());
    reader.fold.look_at_all();
    reader.run_on(3_600_000);
    let told = Told { rows: reader.out.rows };
    assert_eq!(
        told.alerts("buyer_waiting").last().map(String::as_str),
        Some("Amy resolved critical 0/1 onset 10:01:40 at 11-13/00:00:00")
    );
}

/// A question in the queue is the shop's, until somebody or a robot answers it.
#[test]
fn a_question_in_the_queue_is_the_shops() {
    assert_eq!(
        tell("10:00 Mia >\n10:04 robot FULL Mia").alerts("buyer_waiting"),
        [
            "shop firing warning 100000/1 onset 10:01:40 at 10:01:40",
            "shop escalated major 180000/1 onset 10:01:40 at 10:03:00",
            "shop resolved major 0/1 onset 10:01:40 at 10:04:00",
        ]
    );
}

/// Section 11, Carl: a rate must be low for two minutes, over at least 30 rounds, and recovers above the level it fell below.
#[test]
fn a_reply_rate_falls_and_recovers() {
    let mut script = String::new();
    for n in 0..40 {
        // The first nine are answered after four minutes, the others after one.
        let wait = if n < 9 { 4 } else { 1 };
        let replied = n + wait;
        writeln!(script, "14:{n:02} B{n} > Carl @14:{n:02}").unwrap();
        writeln!(script, "14:{replied:02}:30 Carl : B{n} @14:{replied:02}:30").unwrap();
    }
    let mut lines: Vec<&str> = script.lines().collect();
    lines.sort_by_key(|line| at(line.split(' ').next().unwrap()));
    assert_eq!(
        tell(&lines.join("\n")).alerts("reply_rate_3min_low"),
        [
            // 14:33: 21 of 30; two minutes later 23 of 32.
            "Carl firing warning 23/32 onset 14:33:00 at 14:35:00",
            // 31 of 40, then the late ones leave the hour one by one.
            "Carl resolved warning 31/36 onset 14:33:00 at 15:07:00",
        ]
    );
}

/// More than five buyers who have waited for half a minute are many, until three are left.
#[test]
fn many_wait() {
    let mut script: String = (0..6).map(|n| format!("10:00 B{n} > Amy\n")).collect();
    (0..3).for_each(|n| writeln!(script, "10:01 Amy : B{n}").unwrap());
    assert_eq!(
        tell(&script).alerts("many_waiting"),
        [
            "Amy firing warning 6/1 onset 10:00:30 at 10:00:30",
            "Amy resolved warning 3/1 onset 10:00:30 at 10:01:00",
        ]
    );
}

/// The shop's waits count wherever they lie, those in the queue too.
#[test]
fn a_shop_waits() {
    let few = policy("[[version]]\nshop_waiting.major = \"1\"\nshop_waiting.critical = \"2\"\nshop_waiting.resolve = \"0\"");
    let script = "10:00 B0 > Amy\n10:00 B1 > Ben\n10:00:30 B2 >\n10:04 Amy : B0\n10:04 Ben : B1\n10:05 Amy : B2";
    assert_eq!(
        tell_under(script, few).alerts("shop_waiting"),
        [
            "shop firing major 2/1 onset 10:03:00 at 10:03:00",
            "shop escalated critical 3/1 onset 10:03:00 at 10:03:30",
            "shop resolved critical 0/1 onset 10:03:00 at 10:05:00",
        ]
    );
}

/// A chain counts from five minutes after its beginning until twenty.
#[test]
fn a_shops_reply_rate_falls() {
    let few = policy("[[version]]\nreply_rate_5min_low.min_chains = \"2\"");
    assert_eq!(
        tell_under("10:00 B0 > Amy\n10:00 B1 > Amy\n10:01 Amy : B0", few).alerts("reply_rate_5min_low"),
        [
            "shop firing warning 1/2 onset 10:06:00 at 10:08:00",
            "shop resolved warning 0/0 onset 10:06:00 at 10:21:00",
        ]
    );
}

/// Replies of the last five minutes, slow for five minutes.
#[test]
fn replies_are_slow() {
    let few = policy("[[version]]\nreplies_slow.min_replies = \"1\"");
    assert_eq!(
        tell_under("10:00 B0 > Amy\n10:01 Amy : B0\n10:04 B1 > Amy\n10:05 Amy : B1", few).alerts("replies_slow"),
        [
            "Amy firing warning 60000/1 onset 10:02:00 at 10:07:00",
            "Amy resolved warning 0/0 onset 10:02:00 at 10:11:00",
        ]
    );
}

/// Buyers count an hour after their first message; who pays later on the day still counts.
#[test]
fn a_conversion_is_low() {
    let few = policy("[[version]]\nconversion_low.min_buyers = \"2\"");
    let script = "10:00 B0 > Amy\n10:00 B1 > Amy\n10:00:20 Amy : B0\n10:00:20 Amy : B1\n11:29 created O1 B0 100 1\n11:30 paid O1 B0 100 1";
    assert_eq!(
        tell_under(script, few).alerts("conversion_low"),
        [
            "Amy firing warning 0/2 onset 11:01:00 at 11:11:00",
            "Amy resolved warning 1/2 onset 11:01:00 at 11:30:00",
        ]
    );
}

/// Refunds of the last hour against those of the day before it.
#[test]
fn refunds_spike() {
    let few = policy("[[version]]\nrefund_spike.min_refunds = \"1\"");
    let script = "10:00 created O1 B0 100 1\n10:00 paid O1 B0 100 1\n12:00:20 requested R1 O1 B0 100\n12:00:30 succeeded R1 O1 B0 100";
    assert_eq!(
        tell_under(script, few).alerts("refund_spike"),
        [
            "shop firing warning 1/0 onset 12:01:00 at 12:01:00",
            "shop resolved warning 0/1 onset 12:01:00 at 13:01:00",
        ]
    );
}

/// A refund is at risk four hours before its promise is broken, and worse once it is.
#[test]
fn a_promise_is_at_risk() {
    let soon = policy("[[version]]\nrefund_promise = \"6h\"");
    let script = "09:00 created O1 B0 100 1\n09:00 paid O1 B0 100 1\n10:00 requested R1 O1 B0 100\n16:30 succeeded R1 O1 B0 100";
    assert_eq!(
        tell_under(script, soon).alerts("refund_promise_at_risk"),
        [
            "shop firing warning 1/0 onset 12:00:00.200 at 12:00:00.200",
            "shop escalated major 1/1 onset 12:00:00.200 at 16:00:00.200",
            "shop resolved major 0/0 onset 12:00:00.200 at 16:30:00",
        ]
    );
}

/// A rule that is switched off says nothing, and what fires ends where it is switched off.
#[test]
fn a_rule_can_be_switched_off_from_a_day_on() {
    let script = "11-11/23:59 Bob > Amy";
    let on = "[[version]]\nalert_hours = \"00:00-24:00\"\nclose_of_day = \"60m\"";
    let off = format!("{on}\n[[version]]\nfrom = \"2025-11-12\"\nbuyer_waiting.enabled = \"false\"");
    assert_eq!(tell_under(script, policy(on)).alerts("buyer_waiting").len(), 4);
    assert_eq!(tell_under(script, policy(&off)).alerts("buyer_waiting"), [""; 0]);
    let fired = tell_under("11-11/23:58 Bob > Amy", policy(&off)).alerts("buyer_waiting");
    assert_eq!(
        fired.last().unwrap(),
        "Amy resolved warning 120000/1 onset 23:59:40 at 11-12/00:00:00"
    );
}

/// A source partition whose clock stands still holds alerts back for `stall_patience` of wall time, and no longer; what is
/// final it holds back for as long as it stands.
#[test]
fn a_partition_that_stands_holds_alerts_back_for_a_while_only() {
    let begin = at("10:00");
    let mut reader = Reader::new(Policies::default());
    let partition = |partition| SourcePartition {
        topic: Topic::Chat,
        partition,
        generation: 1,
    };
    let record = Record {
        partition: 0,
        arrival: begin,
        item: Item {
            agent: Some("Amy".into()),
            ..Item::new(Kind::BuyerMessage, "shop", "e1".into(), "Bob", begin)
        },
    };
    let events = in_step(&[record]);
    let mut head = |seconds: i64, moves: bool, to: i64| {
        let clock = begin + seconds * SECOND_MS;
        let range = |number, clock, to| SourceRange {
            partition: partition(number),
            origin: 0,
            from: 0,
            to,
            clock: Some(clock),
        };
        let delivery = Delivery {
            head: FrameHead {
                wall_ms: 1_000_000 + seconds * SECOND_MS,
                ranges: vec![range(0, clock, to), range(1, if moves { clock } else { begin }, 0)],
                ..FrameHead::default()
            },
            events: if to > 0 && seconds == 0 { events.clone() } else { Vec::new() },
        };
        reader.read(&delivery);
        (reader.out.rows.alerts.len(), reader.fold.complete_until())
    };
    head(0, true, 1);
    for second in 1..=30 {
        assert_eq!(head(second, false, 1), (0, Some(begin)));
    }
    let fired: Vec<i64> = (31..=120).filter(|s| head(*s, false, 1).0 > 0).collect();
    // A moment is evaluated when the clock has passed it.
    assert_eq!(fired.first(), Some(&101));
    assert_eq!(head(121, false, 1).1, Some(begin));
}
