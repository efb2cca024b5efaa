//! Worked examples of the metric definitions: what is accepted (section 2), and when rows appear (10).

use crate::story::{DAY, at, tell};
use peakdesk_model::table::Grain::{Day, Hour};
use peakdesk_model::time::{HOUR_MS, MINUTE_MS};

/// Section 2: exactly the allowed lateness is not late.
#[test]
fn late_chat_is_left_out() {
    let told = tell("12:05:00.000 a > Amy @12:20:00.000 id=old\n12:04:59.999 b > Amy @12:20:00.000 id=late");
    assert_eq!(told.late(), ["late late BUYER_MESSAGE"]);
    told.has("shop", Day, "00:00", "buyer_messages 1");
}

/// Section 2: the clock is the partition's own, and never runs backwards.
#[test]
fn lateness_looks_at_the_own_partition_only() {
    let told =
        tell("12:30 a > Amy p=0\n12:16 b > Amy p=1\n12:01 c > Amy @12:14 p=1 id=fresh\n12:14:59.999 d > Amy @12:14:59.999 p=0 id=late");
    assert_eq!(told.late(), ["late late BUYER_MESSAGE"]);
    told.has("shop", Day, "00:00", "buyer_messages 3");
}

/// Section 2: of the copies that are not late the one with the lowest clock counts.
#[test]
fn duplicates_count_once() {
    let told =
        tell("11:45:00 Mia > Amy @12:00:00.001 id=m7 p=0\n11:45:00 Mia > Amy @11:59:00 id=m7 p=1\n11:45:00 Mia > Amy @11:59:30 id=m7 p=2");
    assert_eq!(told.late(), ["m7 late BUYER_MESSAGE"]);
    told.has("shop", Day, "00:00", "buyer_messages 1, consulting_buyers 1");
    // Copies that differ show which one was taken, in whatever order they are read.
    for script in [
        "11:45 Mia > Amy @11:59 id=m p=0\n11:45 Mia > Ben @11:58 id=m p=1",
        "11:45 Mia > Ben @11:58 id=m p=1\n11:45 Mia > Amy @11:59 id=m p=0",
    ] {
        assert_eq!(
            tell(script).rounds(),
            ["11:45:00 0 Ben 11:45:00 - unanswered 1 - - first"],
            "{script}"
        );
    }
    for script in [
        "11:45 Mia > Amy @11:59 id=m p=1\n11:45 Mia > Ben @11:59 id=m p=0",
        "11:45 Mia > Ben @11:59 id=m p=0\n11:45 Mia > Amy @11:59 id=m p=1",
    ] {
        assert_eq!(
            tell(script).rounds(),
            ["11:45:00 0 Ben 11:45:00 - unanswered 1 - - first"],
            "{script}"
        );
    }
}

/// Section 2: an order event beyond its lateness acts where lateness ends.
#[test]
fn late_orders_are_raised() {
    let told = tell(
        "11:00 paid O1 Mia 100 1 @11-12/12:00\n12:00 paid O2 Mia 100 1 @11-12/12:00 id=in_time\n11-10/23:00 paid O3 Mia 100 1 @11-12/12:00",
    );
    assert_eq!(told.late(), ["e0 raised PAID", "e2 raised PAID"]);
    for (order, event_time) in [("O1", "11:00"), ("O2", "12:00"), ("O3", "11-10/23:00")] {
        assert_eq!(
            (told.order(order).paid_at, told.order(order).paid_event_time),
            (Some(at("12:00")), Some(at(event_time))),
            "{order}"
        );
    }
    told.has("shop", Hour, "12:00", "orders_paid 3");
    told.has_not("shop", Day, "11-10/00:00");
}

/// Section 2: the first event of a status counts, brushing and creation from any.
#[test]
fn repeated_order_events_have_no_effect() {
    let told =
        tell("10:05 paid O1 Mia 200 2\n10:01 paid O1 Mia 100 1\n10:00 created O1 Mia 300 3\n10:07 paid O1 Mia 900 9 told=09:59 fake");
    let order = told.order("O1");
    assert_eq!(
        (order.paid_at, order.amount_fen, order.item_count),
        (Some(at("10:01")), Some(100), Some(1))
    );
    assert_eq!(
        (order.created_at, order.created_event_time, order.fake),
        (at("09:59"), Some(at("10:00")), true)
    );
    told.has("shop", Day, "00:00", "orders_paid 0, orders_created 0, gross_fen 0");
}

/// Section 10, the example: when Amy's rows appear, and when they are final.
#[test]
fn when_rows_appear() {
    let told = tell("10:00:00 Mia > Amy\n10:00:30 Amy : Mia\n12:00 paid O1 Mia 20000 1\n11-20/10:00 succeeded R1 O1 Mia 5000");
    let day: Vec<_> = told
        .rows
        .agent_windows
        .iter()
        .filter(|r| r.grain == Day && r.window_start == at("00:00"))
        .collect();
    let first_final = day.iter().position(|r| r.stamp.is_final).unwrap();
    let finals: Vec<i64> = day.iter().filter(|r| r.stamp.is_final).map(|r| r.stamp.published_at).collect();
    assert!(
        day[..first_final]
            .iter()
            .all(|r| !r.stamp.is_final && r.stamp.published_at < at("11-15/00:00"))
    );
    assert!(day[0].stamp.published_at <= at("12:00"), "no running day");
    assert!((at("11-15/00:00")..at("11-15/00:00") + HOUR_MS).contains(&finals[0]));
    assert_eq!(finals.len(), 2);
    assert!((at("11-20/10:00")..at("11-20/10:00") + DAY).contains(&finals[1]));
    let minute = told
        .rows
        .agent_windows
        .iter()
        .find(|r| r.window_start == at("10:00") && r.grain == peakdesk_model::table::Grain::Minute)
        .unwrap();
    assert!(minute.stamp.is_final && minute.stamp.published_at >= at("10:16"));
    // A wait that stays open holds its minute back: open after the cap, final behind the deadline.
    let told = tell("10:00:00 Mia > Amy\n10:30 Kim > Ben\n10:31 Ben : Kim");
    let minutes: Vec<_> = told
        .rows
        .shop_windows
        .iter()
        .filter(|r| r.window_start == at("10:00") && r.grain == peakdesk_model::table::Grain::Minute)
        .collect();
    assert_eq!(minutes.iter().map(|r| r.stamp.is_final).collect::<Vec<_>>(), [false, true]);
    assert!(minutes[0].stamp.published_at >= at("10:26") && minutes[0].stamp.published_at < at("10:26") + HOUR_MS);
    assert!(minutes[1].stamp.published_at > at("11-12/01:15") - MINUTE_MS);
}
