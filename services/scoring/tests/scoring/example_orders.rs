//! Worked examples of the metric definitions: orders and attribution (section 7).

use crate::story::{at, policy, tell, tell_under};
use peakdesk_model::table::Grain::{Day, Hour};

/// Section 7: who earned the order. W = 72 h, each order created on 11 November 10:00.
#[test]
fn credit() {
    for (what, script, expected) in [
        (
            "the latest touch before the order",
            "11-08/11:59 Mia > Amy\n11-08/12:00 Amy : Mia\n11-10/11:59 Mia > Ben\n11-10/12:00 Ben : Mia\n10:00 created O1 Mia 100 1",
            "before_order Ben 11-10/12:00:00 79200s",
        ),
        (
            "urged to pay",
            "10:00 created O1 Mia 100 1\n10:05 Mia > Cleo\n10:06 Cleo : Mia\n10:20 paid O1 Mia 100 1",
            "before_payment Cleo 10:06:00 -",
        ),
        (
            "urged, but not paid",
            "10:00 created O1 Mia 100 1\n10:05 Mia > Cleo\n10:06 Cleo : Mia",
            "none - - -",
        ),
        (
            "a robot's full answer, paid",
            "09:29 Mia >\n09:30 robot FULL Mia\n10:00 created O1 Mia 100 1\n10:01 paid O1 Mia 100 1",
            "robot_only - - -",
        ),
        (
            "a robot's full answer, unpaid, at the very start",
            "11-08/10:00 robot FULL Mia\n10:00 created O1 Mia 100 1",
            "robot_only - - -",
        ),
        (
            "before the start",
            "11-08/09:59:59.999 robot FULL Mia\n10:00 created O1 Mia 100 1",
            "none - - -",
        ),
        (
            "a welcome is no answer",
            "09:30 robot WELCOME Mia\n10:00 created O1 Mia 100 1",
            "none - - -",
        ),
        (
            "no talk, paid",
            "10:00 created O1 Mia 100 1\n10:01 paid O1 Mia 100 1",
            "silent - - -",
        ),
        ("no talk, unpaid", "10:00 created O1 Mia 100 1", "none - - -"),
        (
            "a touch 72 h before",
            "11-08/09:59 Mia > Amy\n11-08/10:00 Amy : Mia\n10:00 created O1 Mia 100 1",
            "before_order Amy 11-08/10:00:00 259200s",
        ),
        (
            "a millisecond more",
            "11-08/09:59 Mia > Amy\n11-08/09:59:59.999 Amy : Mia\n10:00 created O1 Mia 100 1",
            "none - - -",
        ),
        (
            "a mailing is no touch",
            "11-06/09:00 Mia >\n11-10/12:00 Amy : Mia\n10:00 created O1 Mia 100 1\n10:01 paid O1 Mia 100 1",
            "silent - - -",
        ),
        (
            "at the moment of creation",
            "09:59 Mia > Amy\n10:00 Amy : Mia\n10:00 created O1 Mia 100 1",
            "before_order Amy 10:00:00 0s",
        ),
        (
            "payment looks back W only, and not to the order itself",
            "10:00 created O1 Mia 100 1\n10:05 Mia > Cleo\n10:06 Cleo : Mia\n11-14/10:06 paid O1 Mia 100 1",
            "silent - - -",
        ),
        (
            "a millisecond less",
            "10:00 created O1 Mia 100 1\n10:05 Mia > Cleo\n10:06 Cleo : Mia\n11-14/10:05:59.999 paid O1 Mia 100 1",
            "before_payment Cleo 10:06:00 -",
        ),
        (
            "a reply that arrives after the order was read",
            "09:58 Mia > Amy\n10:00 created O1 Mia 100 1\n09:59 Amy : Mia @10:10",
            "before_order Amy 09:59:00 60s",
        ),
        (
            "created earlier by another event's account: the touch comes too late",
            "09:58 Mia > Amy\n09:59 Amy : Mia\n10:00 created O1 Mia 100 1\n10:01 shipped O1 Mia told=09:58:59",
            "none - - -",
        ),
    ] {
        assert_eq!(tell(script).credit("O1"), expected, "{what}");
    }
    let told =
        tell("11-08/11:59 Mia > Amy\n11-08/12:00 Amy : Mia\n11-10/11:59 Mia > Ben\n11-10/12:00 Ben : Mia\n10:00 created O1 Mia 100 1");
    let order = told.order("O1");
    assert_eq!((order.first_touch_agent.as_deref(), order.touching_agents), (Some("Amy"), 2));
}

/// Section 7: W is that of the day of `created_at`, of a touch that of its own day.
#[test]
fn the_attribution_window_of_a_day() {
    let versions = "[[version]]\nattribution_window = \"24h\"\n[[version]]\nfrom = 2025-11-11\nattribution_window = \"48h\"";
    let script = "11-09/11:00 Mia > Amy\n11-10/09:00 Kim > Amy\n11-10/09:30 Amy : Kim\n11-10/10:00 Amy : Mia\n11-10/20:00 created O1 Kim 9 1\n11:00 created O2 Kim 9 1\n11:00 created O3 Mia 9 1";
    let told = tell_under(script, policy(versions));
    assert_eq!(told.credit("O1"), "before_order Amy 11-10/09:30:00 37800s");
    assert_eq!(told.credit("O2"), "before_order Amy 11-10/09:30:00 91800s");
    assert_eq!(told.credit("O3"), "before_order Amy 11-10/10:00:00 90000s");
    let script = "11-09/09:59 Mia > Amy\n11-10/10:00 Amy : Mia\n11:00 created O3 Mia 9 1";
    assert_eq!(tell_under(script, policy(versions)).credit("O3"), "none - - -");
}

/// Section 7: the balance of a presale is the total, the deposit stands by itself.
#[test]
fn presale() {
    let told = tell("11-01/09:00 Mia > Amy\n11-01/09:01 Amy : Mia\n11-01/10:00 deposit O1 Mia 5000\n10:00 paid O1 Mia 20000 2");
    let order = told.order("O1");
    assert_eq!(
        (order.created_at, order.deposit_at, order.deposit_fen),
        (at("11-01/10:00"), Some(at("11-01/10:00")), Some(5000))
    );
    assert_eq!(
        (order.paid_at, order.amount_fen, order.item_count),
        (Some(at("10:00")), Some(20000), Some(2))
    );
    for scope in ["shop", "Amy"] {
        told.has(
            scope,
            Day,
            "11-01/00:00",
            "deposits_paid 1, deposit_fen 5000, orders_created 1, gross_fen 0",
        );
        told.has(
            scope,
            Hour,
            "10:00",
            "orders_paid 1, items_paid 2, gross_fen 20000, paying_buyers -, net_fen -",
        );
        told.has(
            scope,
            Day,
            "00:00",
            "orders_paid 1, gross_fen 20000, paying_buyers 1, net_fen 20000",
        );
    }
}

/// Section 7: paying buyers are distinct, silent and robot-only orders the shop's.
#[test]
fn sales_figures() {
    let told = tell(
        "09:00 Mia > Amy\n09:01 Amy : Mia\n09:10 paid O1 Mia 100 1\n09:20 paid O2 Mia 200 3\n09:30 paid O3 Kim 50 1\n09:40 robot FULL Zoe\n09:50 paid O4 Zoe 70 1\n10:00 paid O5 Liv 999 1 fake",
    );
    told.has(
        "shop",
        Day,
        "00:00",
        "orders_paid 4, items_paid 6, gross_fen 420, paying_buyers 3, silent_orders 1, silent_fen 50, robot_only_orders 1",
    );
    told.has(
        "Amy",
        Day,
        "00:00",
        "orders_paid 2, items_paid 4, gross_fen 300, paying_buyers 1, silent_orders -, robot_only_orders -",
    );
}

/// Section 7: flags up to `end(day(created_at) + 2)` take an order out of the figures, later ones only mark it.
#[test]
fn brushing_is_known_in_time_or_not_at_all() {
    for (flag, paid) in [("11-13/23:59:59.999", 0), ("11-14/00:00", 1)] {
        let told = tell(&format!("10:00 paid O1 Mia 100 1\n{flag} completed O1 Mia fake"));
        told.has("shop", Day, "00:00", &format!("orders_paid {paid}, paying_buyers {paid}"));
        assert!(told.order("O1").fake);
    }
}

/// Section 7: other statuses wait for an order, at most its retention; the buyer is that of the first event.
#[test]
fn statuses_wait_for_their_order() {
    let told = tell("11-01/10:00 closed O1 Kim\n11-11/10:00 created O1 Mia 100 1");
    assert_eq!(
        (told.order("O1").closed_at, told.order("O1").created_at),
        (Some(at("11-01/10:00")), at("10:00"))
    );
    assert_eq!(crate::kit::buyer_name(told.order("O1").buyer), "Kim");
    let told = tell("09-27/10:00 closed O1 Kim\n11-11/10:00 created O1 Mia 100 1");
    assert_eq!(told.order("O1").closed_at, Some(at("09-27/10:00")), "45 days are not too long");
    let told = tell("09-27/09:59:59.999 closed O1 Kim\n11-11/10:00 created O1 Mia 100 1");
    assert_eq!(
        (told.order("O1").closed_at, crate::kit::buyer_name(told.order("O1").buyer)),
        (None, "Mia".into())
    );
    assert_eq!(tell("10:00 closed O1 Kim").rows.orders, []);
}

/// Section 7: an event at `end(day(created_at + 45 d) + 2)` starts the order anew; figures keep both.
#[test]
fn an_order_begun_anew() {
    // 45 days after 1 October are 15 November; two days later ends on the 18th, 00:00.
    let kept = tell("10-01/10:00 created O1 Mia 100 1\n11-17/23:59:59.999 paid O1 Mia 100 1");
    assert_eq!(
        (kept.order("O1").created_at, kept.order("O1").paid_at),
        (at("10-01/10:00"), Some(at("11-17/23:59:59.999")))
    );
    let anew = tell("10-01/10:00 created O1 Mia 100 1\n11-18/00:00 paid O1 Mia 100 1");
    assert_eq!(
        (anew.order("O1").created_at, anew.order("O1").paid_at),
        (at("11-18/00:00"), Some(at("11-18/00:00")))
    );
    anew.has("shop", Day, "10-01/00:00", "orders_created 1");
    anew.has("shop", Day, "11-18/00:00", "orders_created 1, orders_paid 1");
}

/// Section 7: an event that comes late may show that an order was never forgotten; its buyer's days know it still.
#[test]
fn two_beginnings_that_turn_out_to_be_one() {
    let told = tell(
        "10-01/10:00 created O1 Mia 100 1\n11-18/00:00 paid O1 Mia 100 1\n11-17/12:00 deposit O1 Mia 10 @11-18/00:10\n11-20/09:00 Mia > Amy",
    );
    assert_eq!(
        (told.order("O1").created_at, told.order("O1").paid_at),
        (at("10-01/10:00"), Some(at("11-18/00:00")))
    );
    told.has("shop", Day, "11-18/00:00", "orders_created 0, orders_paid 1");
    assert_eq!(told.day("Mia", "11-20"), "AFTERSALE+");
}

/// Sections 7 and 8: what changes no column is not published again.
#[test]
fn rows_are_published_when_one_of_their_columns_changes() {
    let told = tell(
        "10:00 created O1 Mia 9 1\n10:01 shipped O1 Mia told=10:00\n10:02 completed O1 Mia\n11:00 requested R1 O1 Mia 5\n11:01 agreed R1 O1 Mia\n11:02 requested R1 O1 Mia 7",
    );
    assert_eq!((told.rows.orders.len(), told.rows.refunds.len()), (1, 1));
}
