//! Worked examples of the metric definitions: refunds (section 8).

use crate::story::{at, tell};
use peakdesk_model::table::Grain::Day;
use peakdesk_model::time::HOUR_MS;

/// Section 8: without an order a refund is kept for its own time, whatever waited for the order in vain.
#[test]
fn a_refund_outlives_statuses_that_waited_in_vain() {
    let told = tell("09-01/10:00 shipped O1 Mia\n10-10/10:00 requested R1 O1 Mia 50\n10-20/10:00 succeeded R1 O1 Mia 40");
    assert_eq!(
        (told.refund("R1").requested_fen, told.refund("R1").amount_fen),
        (Some(50), Some(40))
    );
}

/// Section 8: a refund whose events name two orders belongs to the order of the first, however late that arrives.
#[test]
fn a_refund_that_names_two_orders_counts_once() {
    for other in ["O0", "O2"] {
        let told = tell(&format!(
            "08:00 created O0 Mia 9 1\n08:00 created O1 Mia 9 1\n08:00 created O2 Mia 9 1\n10:00 succeeded R1 O1 Mia 5\n10:01 requested R1 O1 Mia 5\n09:00 requested R1 {other} Mia 5 @10:10"
        ));
        told.has(
            "shop",
            Day,
            "00:00",
            "refund_requests 1, refunds 1, refund_fen 5, refunds_within_promise 1",
        );
        assert_eq!(
            (
                &*told.refund("R1").order_id,
                told.order("O1").refunded_fen,
                told.order(other).refunded_fen
            ),
            (other, 0, 5)
        );
    }
}

/// Section 8, period and cohort: what was paid back in a period, and what is left of the sales of one.
#[test]
fn refunds_by_period_and_by_cohort() {
    let told = tell(
        "09:00 Mia > Amy\n09:01 Amy : Mia\n10:00 paid O1 Mia 20000 1\n11-13/10:00 succeeded R1 O1 Mia 5000\n11-20/10:00 succeeded R2 O1 Mia 18000",
    );
    let sales = |when: &str, refunded: i64| {
        let figures = format!(
            "gross_fen 20000, refunds 0, refunded_of_cohort_fen {refunded}, net_fen {}",
            20000 - refunded
        );
        for scope in ["Amy", "shop"] {
            told.had(scope, Day, "00:00", at(when), &figures);
        }
    };
    sales("11-13/00:00", 0);
    sales("11-15/00:00", 5000);
    sales("11-22/00:00", 20000);
    for (day, fen) in [("11-13/00:00", 5000), ("11-20/00:00", 18000)] {
        told.has("Amy", Day, day, &format!("refunds 1, refund_fen {fen}, gross_fen 0, net_fen 0"));
    }
    assert_eq!(told.order("O1").refunded_fen, 23000);
    told.had("Amy", Day, "00:00", at("11-19/00:00"), "paid_3d 1, net_paid_3d 1");
    told.has("Amy", Day, "00:00", "paid_3d 1, net_paid_3d 0");
    assert!(told.day("Mia", "11-11").ends_with("paid_3d"));
}

/// Section 8, the promise of 24 h.
#[test]
fn the_refund_promise() {
    let told = tell(
        "08:00 paid O1 Mia 9000 1\n10:00 requested R1 O1 Mia 10\n11:00 requested R2 O1 Mia 10\n12:00 requested R3 O1 Mia 10\n13:00 requested R4 O1 Mia 10\n14:00 requested R5 O1 Mia 10\n\
        14:30 ended R5 O1 Mia\n15:00 refused R3 O1 Mia\n16:00 succeeded R5 O1 Mia 10\n20:00 succeeded R1 O1 Mia 10\n23:00 requested R6 O1 Mia 10\n\
        11-12/12:00 succeeded R2 O1 Mia 10\n11-12/14:00 refused R4 O1 Mia",
    );
    let promise = |when: i64, decided: i64| {
        let figures = format!("refund_requests 5, refunds_within_promise 2, refund_promise_decided {decided}, refund_requests_ended 1");
        told.had("shop", Day, "00:00", when, &figures);
    };
    promise(at("11-12/22:00"), 4);
    promise(at("11-12/23:00") + 2 * HOUR_MS, 5);
    promise(i64::MAX, 5);
}

/// Section 8: the limits of the promise hold the promised moment.
#[test]
fn exactly_at_the_promise() {
    for (event, expected) in [
        (
            "11-12/10:00 succeeded R1 O1 Mia 10",
            "refund_requests 1, refunds_within_promise 1, refund_promise_decided 1, refund_requests_ended 0",
        ),
        (
            "11-12/10:00:00.001 succeeded R1 O1 Mia 10",
            "refund_requests 1, refunds_within_promise 0, refund_promise_decided 1, refund_requests_ended 0",
        ),
        (
            "11-12/10:00 refused R1 O1 Mia",
            "refund_requests 0, refunds_within_promise 0, refund_promise_decided 0, refund_requests_ended 1",
        ),
        (
            "11-12/10:00:00.001 refused R1 O1 Mia",
            "refund_requests 1, refunds_within_promise 0, refund_promise_decided 1, refund_requests_ended 0",
        ),
    ] {
        let told = tell(&format!("09:00 paid O1 Mia 100 1\n10:00 requested R1 O1 Mia 10\n{event}"));
        told.has("shop", Day, "00:00", expected);
    }
}

/// Section 8: which order a refund belongs to, and what its row says.
#[test]
fn a_refund_finds_its_order() {
    // The order turns up behind its refund: created before the end of the second day after it.
    for (created, agent) in [("11-13/23:59:59.999", Some("Amy")), ("11-14/00:00", None)] {
        let told = tell(&format!(
            "11:00 requested R1 O1 Mia 40\n11-12/12:00 succeeded R1 O1 Mia 30\n11-13/22:00 Mia > Amy\n11-13/22:01 Amy : Mia\n{created} paid O1 Mia 100 1"
        ));
        let refund = told.refund("R1");
        assert_eq!(refund.agent_id.as_deref(), agent, "{created}");
        assert_eq!(
            (refund.requested_fen, refund.amount_fen, refund.reason),
            (Some(40), Some(30), Some("QUALITY"))
        );
        told.has("Amy", Day, "11-12/00:00", &format!("refunds {}", i64::from(agent.is_some())));
        told.has("shop", Day, "11-12/00:00", "refunds 1, refund_fen 30");
        assert_eq!(told.order("O1").refunded_fen, if agent.is_some() { 30 } else { 0 });
    }
    // Success wins over an earlier end; an agreement alone has no row.
    let told = tell("10:00 refused R1 O1 Mia\n11:00 succeeded R1 O1 Mia 5\n12:00 agreed R2 O1 Mia");
    assert_eq!(
        (told.refund("R1").ended_at, told.refund("R1").succeeded_at),
        (Some(at("10:00")), Some(at("11:00")))
    );
    assert_eq!(told.rows.refunds.iter().filter(|r| &*r.refund_id == "R2").count(), 0);
    told.has("shop", Day, "00:00", "refunds 1, refund_fen 5, refund_requests 0");
}

/// Section 8: refunds of brushing orders count nowhere, refunds of unpaid orders not by cohort.
#[test]
fn refunds_that_do_not_count() {
    let told = tell("10:00 paid O1 Mia 100 1 fake\n11:00 succeeded R1 O1 Mia 100\n12:00 deposit O2 Kim 50\n13:00 succeeded R2 O2 Kim 50");
    told.has(
        "shop",
        Day,
        "00:00",
        "refunds 1, refund_fen 50, refunded_of_cohort_fen 0, gross_fen 0",
    );
    assert_eq!((told.order("O1").refunded_fen, told.order("O2").refunded_fen), (100, 50));
}
