//! A shop that is left out from a frame on: nothing of it is said any more, and the others say what they would have said.

use crate::generate::{cases, delays, items, send};
use crate::kit::{Cutting, Reader, Tables, figures_only, frames, in_step, same, two_policies};
use peakdesk_model::table::Rows;
use peakdesk_model::time::HOUR_MS;
use proptest::prelude::*;

const SHOP: &str = "s1";

/// Figures of the other shops.
fn of_others(rows: &Rows) -> Tables {
    let own = format!("|{SHOP}|");
    let mut tables = figures_only(rows);
    tables.retain(|key, _| !format!("{key}|").contains(&own));
    tables
}

/// Where in the log the shop has said something.
fn offsets_of_shop(rows: &Rows) -> Vec<i64> {
    let windows = rows.agent_windows.iter().chain(&rows.shop_windows);
    let windows = windows.map(|r| (&r.shop_id, &r.stamp));
    let rounds = rows.reply_rounds.iter().map(|r| (&r.shop_id, &r.stamp));
    let orders = rows.orders.iter().map(|r| (&r.shop_id, &r.stamp));
    let refunds = rows.refunds.iter().map(|r| (&r.shop_id, &r.stamp));
    let days = rows.buyer_days.iter().map(|r| (&r.shop_id, &r.stamp));
    let late = rows.late_events.iter().map(|r| (&r.shop_id, &r.stamp));
    let alerts = rows.alerts.iter().map(|r| (&r.shop_id, &r.stamp));
    let all = windows
        .chain(rounds)
        .chain(orders)
        .chain(refunds)
        .chain(days)
        .chain(late)
        .chain(alerts);
    all.filter(|(shop, _)| shop.as_ref() == SHOP)
        .map(|(_, stamp)| stamp.position.offset)
        .collect()
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn the_others_go_on_as_if_nothing_were(
        items in items(50, false), delays in delays(), at in any::<prop::sample::Index>(),
    ) {
        let deliveries = frames(&in_step(&send(&items, &delays, true)), &Cutting { sizes: vec![2, 1, 4], ..Cutting::default() });
        let mut whole = Reader::new(two_policies());
        let mut without = Reader::new(two_policies());
        let at = at.index(deliveries.len() + 1);
        whole.read_all(&deliveries[..at]);
        let since = whole.offset + 1;
        without.fold.set_aside(SHOP, since);
        without.read_all(&deliveries[..at]);
        prop_assert_eq!(&whole.out.rows, &without.out.rows);
        whole.read_all(&deliveries[at..]);
        without.read_all(&deliveries[at..]);
        whole.run_on(HOUR_MS);
        without.run_on(HOUR_MS);
        same(&of_others(&whole.out.rows), &of_others(&without.out.rows)).map_err(TestCaseError::fail)?;
        prop_assert!(offsets_of_shop(&without.out.rows).iter().all(|offset| *offset < since));
        without.tick(without.fold.now());
        let mut told = Vec::new();
        without.fold.tell(true, |value| told.push(value.key().encode()));
        prop_assert!(!told.iter().any(|key| key.contains(SHOP)), "{:?}", told);
    }
}
