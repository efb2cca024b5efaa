//! What a wait costs, measured on the decision alone: in a whole run, the few slowest agents would weigh more than the rule.

use rand::SeedableRng;

use super::*;
use crate::calendar::Calendar;
use crate::config::{Profile, SimConfig};
use crate::dist::SimRng;
use crate::outbox::Outbox;
use crate::shop::open_shops;

/// Log-odds of an order after a conversation with an agent who converts half of those who need not wait.
fn order_log_odds(seed: u64, wait_ms: i64, let_wait: bool) -> f64 {
    let config = SimConfig {
        seed,
        shops: 1,
        agents: Some(1),
        profile: Profile::Ordinary,
        ..SimConfig::default()
    };
    let mut rng = SimRng::seed_from_u64(seed);
    let mut shops = open_shops(&config, &mut rng);
    let calendar = Calendar::new(&config);
    let mut outbox = Outbox::new(&config);
    let shop = shops.first_mut().expect("one shop was asked for");
    shop.agents.first_mut().expect("one agent was asked for").conversion = 0.5;
    let mut scene = Scene {
        rng: &mut rng,
        calendar: &calendar,
        outbox: &mut outbox,
        shop,
    };
    let known = Known { buyer: 1, welcomed_day: 0 };
    let now = config.start_ms + HOUR_MS;
    let mut session = Session::new(&mut scene, 0, known, Purpose::Inquiry, now);
    session.agent = Some(0);
    session.waits = 4;
    session.wait_sum_ms = 4 * wait_ms;
    session.let_wait = let_wait;
    let n = 40_000;
    let orders = (0..n).filter(|_| session.decides_to_order(&mut scene, now).is_some()).count() as f64;
    (orders / (f64::from(n) - orders)).ln()
}

#[test]
fn waiting_costs_orders_by_the_published_rule() {
    for seed in [1, 2, 3] {
        // The standard error of a log-odds near 0 is 0.01 at this size.
        let check = |what: &str, wait_s: i64, let_wait: bool, expected: f64| {
            let found = order_log_odds(seed, wait_s * 1_000, let_wait);
            assert!(
                (found - expected).abs() < 0.05,
                "seed {seed}, {what}: {found:.3} instead of {expected}"
            );
        };
        check("no wait", 0, false, 0.0);
        check("15 s", 15, false, 0.0);
        check("three doublings", 120, false, -0.45);
        check("let wait once", 15, true, -0.6);
        check("both", 120, true, -1.05);
    }
}
