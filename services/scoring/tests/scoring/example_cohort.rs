//! Worked examples of the metric definitions: inquiry, after-sale and conversion (section 6).

use crate::story::{at, tell};
use peakdesk_model::table::Grain::{Day, Hour};

/// Section 6, the table of classes: what else happened, and the class of Mia's 11 November.
#[test]
fn inquiry_or_after_sale() {
    let paid = "11-01/10:00 paid O1 Mia 1000 1\n";
    for (before, after, expected) in [
        (paid, "", "AFTERSALE+"),
        (paid, "11-12/20:00 created O2 Mia 500 1", "INQUIRY+ ordered_2d ordered_3d"),
        (paid, "11-12/23:59:59.999 created O2 Mia 500 1", "INQUIRY+ ordered_2d ordered_3d"),
        (paid, "11-13/00:00 created O2 Mia 500 1", "AFTERSALE+"),
        ("10-21/09:00 paid O1 Mia 1000 1\n", "", "AFTERSALE+"),
        ("10-21/08:59:59.999 paid O1 Mia 1000 1\n", "", "INQUIRY"),
        ("11-01/10:00 paid O1 Mia 1000 1\n08:00 closed O1 Mia\n", "", "INQUIRY"),
        ("11-01/10:00 paid O1 Mia 1000 1\n08:00 succeeded R1 O1 Mia 1000\n", "", "INQUIRY"),
        ("11-01/10:00 paid O1 Mia 1000 1\n08:00 succeeded R1 O1 Mia 999\n", "", "AFTERSALE+"),
        (
            "11-01/10:00 paid O1 Mia 1000 1\n08:00 succeeded R1 O1 Mia 600\n08:01 succeeded R2 O1 Mia 400\n",
            "",
            "INQUIRY",
        ),
        (paid, "09:00:00.001 closed O1 Mia", "AFTERSALE+"),
        ("11-10/10:00 paid O1 Mia 1000 1\n", "11-13/12:00 shipped O1 Mia fake", "INQUIRY"),
        ("11-12/10:00 created O1 Mia 9 1 @11-12/10:00\n", "", "INQUIRY ordered_2d ordered_3d"),
        ("10-01/10:00 deposit O1 Mia 50\n10-21/09:00 paid O1 Mia 1000 1\n", "", "AFTERSALE+"),
        (
            "11-01/10:00 deposit O1 Mia 50\n",
            "09:30 paid O1 Mia 1000 1",
            "INQUIRY+ ordered_1d ordered_2d ordered_3d paid_1d paid_2d paid_3d net_paid_3d",
        ),
        ("11-01/10:00 deposit O1 Mia 50\n08:00 succeeded R1 O1 Mia 50\n", "", "INQUIRY"),
    ] {
        let mut lines: Vec<String> = format!("{before}09:00 Mia > Amy\n{after}").lines().map(str::to_owned).collect();
        lines.sort_by_key(|l| at(l.split_whitespace().next().unwrap()));
        assert_eq!(tell(&lines.join("\n")).day("Mia", "11-11"), expected, "{before}{after}");
    }
}

/// Section 6: for the cohort an order is fake if it is flagged before `end(D+2)`.
#[test]
fn brushing_of_a_cohort_is_known_by_its_end() {
    let script = |flag: &str| format!("11-01/10:00 paid O1 Mia 1000 1\n09:00 Mia > Amy\n{flag} shipped O1 Mia fake");
    assert_eq!(tell(&script("11-13/23:59:59.999")).day("Mia", "11-11"), "INQUIRY");
    assert_eq!(tell(&script("11-14/00:00")).day("Mia", "11-11"), "AFTERSALE+");
}

/// Section 6, conversion over 1, 2, 3 days for two agents.
#[test]
fn conversion_of_two_agents() {
    let told = tell(
        "10:00 b1 > Amy\n10:01 Amy : b1\n10:59 b2 > Amy\n11:00 Amy : b2\n12:00 b3 > Amy\n12:01 Amy : b3\n13:00 b4 > Amy\n13:01 Amy : b4\n13:30 created O4 b4 100 1\n\
        14:00 Ben : b1\n15:00 created O1 b1 100 1\n15:10 paid O1 b1 100 1\n16:00 b5 > Ben\n16:01 Ben : b5\n11-12/09:00 created O2 b2 100 1\n11-12/09:05 paid O2 b2 100 1\n\
        11-12/10:00 created O3 b3 100 1\n11-13/23:50 paid O3 b3 100 1",
    );
    for (scope, inquiry, ordered, paid) in [
        ("shop", 5, [2, 4, 4], [1, 2, 3]),
        ("Amy", 4, [1, 3, 3], [0, 1, 2]),
        ("Ben", 2, [1, 1, 1], [1, 1, 1]),
    ] {
        told.has(scope, Day, "00:00", &format!("inquiry_buyers {inquiry}, after_sale_buyers 0"));
        told.has(
            scope,
            Day,
            "00:00",
            &format!("ordered_1d {}, ordered_2d {}, ordered_3d {}", ordered[0], ordered[1], ordered[2]),
        );
        told.has(
            scope,
            Day,
            "00:00",
            &format!(
                "paid_1d {}, paid_2d {}, paid_3d {}, net_paid_3d {}",
                paid[0], paid[1], paid[2], paid[2]
            ),
        );
    }
    // By hour of the first message, for agents too.
    told.has("Ben", Hour, "10:00", "inquiry_buyers 1, paid_1d 1");
    told.has("Amy", Hour, "10:00", "inquiry_buyers 2, paid_1d 0, paid_2d 1");
    told.has("shop", Hour, "12:00", "inquiry_buyers 1, paid_2d 0, paid_3d 1");
    let late = tell("12:00 b3 > Amy\n12:01 Amy : b3\n11-12/10:00 created O3 b3 100 1\n11-14/00:00 paid O3 b3 100 1");
    assert_eq!(late.day("b3", "11-11"), "INQUIRY ordered_2d ordered_3d");
}

/// Section 6: a buyer whom nobody touched on the day belongs to those who did on the next.
#[test]
fn whose_buyer_it_is() {
    let told = tell(
        "23:58 a > Amy\n23:59 b > Amy\n23:59:30 Amy : b\n23:59:40 c > Amy\n11-12/00:01 Ben : a\n11-12/09:00 Amy : a\n11-12/09:00 Ben : b\n11-13/00:00 Ben : c",
    );
    told.has("Amy", Day, "00:00", "inquiry_buyers 2");
    told.has("Ben", Day, "00:00", "inquiry_buyers 1");
    told.has("shop", Day, "00:00", "inquiry_buyers 3");
    // A touch before the day's first message is none of that day's.
    let told = tell("11-10/12:00 d > Amy\n09:00 Amy : d\n10:00 d > Ben\n10:01 Ben : d");
    told.has("Amy", Day, "00:00", "inquiry_buyers 0, received_buyers 1");
    told.has("Ben", Day, "00:00", "inquiry_buyers 1");
}

/// Section 6: an agent's deposits and unpaid orders need rule `before_order`.
#[test]
fn what_needs_a_touch_before_the_order() {
    let told = tell(
        "09:00 Mia > Amy\n09:10 deposit O1 Mia 50\n09:20 Amy : Mia\n09:30 created O2 Mia 70 1\n09:40 Kim > Amy\n09:41 created O3 Kim 10 1\n09:42 Amy : Kim\n09:43 paid O3 Kim 10 1",
    );
    told.has(
        "shop",
        Day,
        "00:00",
        "inquiry_buyers 2, ordered_1d 2, deposit_1d 1, paid_1d 1, orders_created 3, deposits_paid 1, deposit_fen 50",
    );
    told.has(
        "Amy",
        Day,
        "00:00",
        "inquiry_buyers 2, ordered_1d 2, deposit_1d 0, paid_1d 1, orders_created 1, deposits_paid 0, orders_paid 1",
    );
}
