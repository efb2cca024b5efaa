//! Nasty sets of events: two shops, few buyers, agents, orders and refunds, and times that cluster on every boundary a rule
//! knows: milliseconds apart, minutes, hours, days, the session gap, the cap, the attribution window, the close of day, the
//! look-back, the end of retention.

use crate::kit::{Item, Record, first_day};
use peakdesk_model::event::{Kind, RefundPhase, RefundReason, RobotKind};
use peakdesk_model::time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, UtcOffset};
use proptest::prelude::*;

/// From one event to the next (ms); what stands twice is drawn more often.
const STEPS: [i64; 40] = [
    0,
    0,
    0,
    1,
    1,
    -1,
    -SECOND_MS,
    SECOND_MS,
    SECOND_MS,
    5 * SECOND_MS,
    20 * SECOND_MS,
    30 * SECOND_MS,
    30 * SECOND_MS,
    30 * SECOND_MS + 1,
    60 * SECOND_MS,
    90 * SECOND_MS,
    -2 * MINUTE_MS,
    180 * SECOND_MS,
    180 * SECOND_MS + 1,
    300 * SECOND_MS,
    300 * SECOND_MS + 1,
    10 * MINUTE_MS - 1,
    10 * MINUTE_MS,
    10 * MINUTE_MS + 1,
    -9 * MINUTE_MS,
    25 * MINUTE_MS,
    HOUR_MS,
    HOUR_MS,
    5 * HOUR_MS,
    9 * HOUR_MS,
    -3 * HOUR_MS,
    13 * HOUR_MS,
    DAY_MS - 1,
    DAY_MS,
    72 * HOUR_MS - 1,
    72 * HOUR_MS,
    72 * HOUR_MS + 1,
    2 * DAY_MS,
    // Only in long stories:
    21 * DAY_MS,
    47 * DAY_MS,
];
/// The last of the steps that every story may take.
const SHORT_STEPS: usize = 38;

/// Where a time is put after its step.
const SNAPS: [Option<(i64, bool)>; 12] = [
    None,
    None,
    None,
    None,
    None,
    None,
    Some((MINUTE_MS, false)),
    Some((HOUR_MS, false)),
    Some((HOUR_MS, true)),
    Some((DAY_MS, false)),
    Some((DAY_MS, true)),
    Some((10 * MINUTE_MS, true)),
];

/// One event as drawn: step, snap, shift after snapping, shop, buyer, kind, and bytes for the rest.
type Draw = (usize, usize, i64, u8, u8, u8, [u8; 4]);

/// Up to `most` events in rough order of time; long stories also jump over retention.
pub fn items(most: usize, long: bool) -> impl Strategy<Value = Vec<Item>> {
    let steps = if long { STEPS.len() } else { SHORT_STEPS };
    let draw = (0..steps, 0..SNAPS.len(), -1i64..=1, 0u8..4, 0u8..3, 0u8..100, any::<[u8; 4]>());
    prop::collection::vec(draw, 1..most).prop_map(build)
}

fn build(draws: Vec<Draw>) -> Vec<Item> {
    let mut t = first_day() + 9 * HOUR_MS;
    let mut out: Vec<Item> = Vec::with_capacity(draws.len());
    for (i, (step, snap, shift, shop, buyer, kind, bytes)) in draws.into_iter().enumerate() {
        t = (t + STEPS[step]).max(first_day());
        if let Some((unit, up)) = SNAPS[snap] {
            let local = t + UtcOffset::CHINA.as_ms();
            t = local.div_euclid(unit) * unit + if up { unit } else { 0 } + shift - UtcOffset::CHINA.as_ms();
        }
        // Three in four events belong to the first shop, so that its buyers meet often.
        let shop = if shop == 3 { "s1" } else { "s0" };
        out.push(item(i, t, shop, buyer, kind, bytes));
    }
    // An order that only waits and is told to be old when it begins to exist cannot be credited any more; see the definitions on
    // how long touches are kept.
    let (first, last) = (
        out.iter().map(|i| i.t).min().unwrap_or(0),
        out.iter().map(|i| i.t).max().unwrap_or(0),
    );
    if last - first > 2 * DAY_MS {
        for item in out
            .iter_mut()
            .filter(|i| matches!(i.kind, Kind::OrderShipped | Kind::OrderCompleted | Kind::OrderClosed))
        {
            item.told_created_at = None;
        }
    }
    without_late_dates(out)
}

/// A refund's order follows from its earliest status of the most telling kind. One that becomes known long after the others could
/// give the refund another order when what depends on it is final; definitions do not say what holds then.
fn without_late_dates(items: Vec<Item>) -> Vec<Item> {
    let weight = |kind: Kind| match kind {
        Kind::RefundRequested => 3,
        Kind::RefundSucceeded => 2,
        Kind::RefundRefused | Kind::RefundClosed => 1,
        _ => 0,
    };
    let dated: Vec<Item> = items.iter().filter(|i| weight(i.kind) > 0).cloned().collect();
    let comes_late = |item: &Item| {
        let earlier = dated
            .iter()
            .filter(|o| o.shop == item.shop && o.refund == item.refund && o.t < item.t - 12 * HOUR_MS);
        earlier.map(|o| weight(o.kind)).max().is_some_and(|known| known < weight(item.kind))
    };
    items.into_iter().filter(|i| weight(i.kind) == 0 || !comes_late(i)).collect()
}

fn item(i: usize, t: i64, shop: &str, buyer: u8, kind: u8, bytes: [u8; 4]) -> Item {
    let [a, b, c, d] = bytes;
    let agent = |n: u8| Some(["Amy", "Ben", "Cleo"][usize::from(n % 3)].to_owned());
    let kind = match kind {
        0..27 => Kind::BuyerMessage,
        27..43 => Kind::AgentMessage,
        43..48 => Kind::RobotMessage,
        48..56 => Kind::Transfer,
        56..59 => Kind::Rating,
        59..67 => Kind::OrderCreated,
        67..71 => Kind::OrderDepositPaid,
        71..79 => Kind::OrderPaid,
        79..81 => Kind::OrderShipped,
        81..82 => Kind::OrderCompleted,
        82..86 => Kind::OrderClosed,
        86..91 => Kind::RefundRequested,
        91..92 => Kind::RefundAgreed,
        92..94 => Kind::RefundRefused,
        94..98 => Kind::RefundSucceeded,
        _ => Kind::RefundClosed,
    };
    let mut item = Item::new(kind, shop, format!("e{i}"), &format!("b{buyer}"), t);
    match kind {
        Kind::BuyerMessage => {
            item.agent = if a < 150 { agent(b) } else { None };
            item.spam = c < 20;
        }
        Kind::AgentMessage => {
            item.agent = agent(b);
            item.assisted = c < 40;
        }
        Kind::RobotMessage => item.robot = [RobotKind::Full, RobotKind::Welcome, RobotKind::Keyword][usize::from(a % 3)],
        Kind::Transfer => {
            item.agent = if a < 150 { agent(b) } else { None };
            item.to_agent = if c < 180 || item.agent.is_none() { agent(d) } else { None };
        }
        Kind::Rating => {
            item.agent = agent(b);
            item.rating = 1 + c % 5;
        }
        _ => money(&mut item, bytes),
    }
    item
}

fn money(item: &mut Item, [a, b, c, d]: [u8; 4]) {
    let order = a % 4;
    // Most money events of an order name its own buyer.
    if d >= 25 {
        item.buyer = format!("b{}", order % 3);
    }
    item.order = Some(format!("o{order}"));
    if item.kind.is_refund() {
        item.refund = Some(format!("r{order}{}", b % 2));
        if c < 10 {
            item.order = Some(format!("o{}", c % 4));
        }
        if matches!(item.kind, Kind::RefundRequested | Kind::RefundSucceeded) {
            item.fen = Some(i64::from(c) * 10);
        }
        if item.kind == Kind::RefundRequested || c > 240 {
            item.reason = Some(if b < 128 { RefundReason::Size } else { RefundReason::Quality });
            item.phase = Some(if b < 128 {
                RefundPhase::AfterReceipt
            } else {
                RefundPhase::BeforeShipment
            });
        }
        return;
    }
    match item.kind {
        Kind::OrderCreated | Kind::OrderPaid => {
            item.fen = Some(i64::from(c) * 9);
            item.items = Some(i64::from(b % 4));
        }
        Kind::OrderDepositPaid => item.fen = Some(i64::from(c) * 2),
        _ => {}
    }
    item.fake = b > 240;
    if c > 200 {
        item.told_created_at = Some(item.t - [0, 1, MINUTE_MS, HOUR_MS, 11 * HOUR_MS][usize::from(b % 5)]);
    }
}

/// What a delay is chosen from, round and round; `wild` delays make events late, or raise them.
pub fn delays() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 48)
}

fn delay_ms(item: &Item, choice: u8, wild: bool) -> i64 {
    let choice = usize::from(choice);
    if item.kind.is_chat() {
        let tame = [
            0,
            0,
            0,
            1,
            SECOND_MS,
            40 * SECOND_MS,
            3 * MINUTE_MS,
            14 * MINUTE_MS,
            15 * MINUTE_MS,
            -5 * MINUTE_MS,
        ];
        let late = [15 * MINUTE_MS + 1, HOUR_MS, 2 * DAY_MS];
        if wild && choice > 200 {
            late[choice % late.len()]
        } else {
            tame[choice % tame.len()]
        }
    } else {
        // With what `money` tells about creation, nothing is raised within these.
        let tame = [
            0,
            0,
            0,
            SECOND_MS,
            10 * MINUTE_MS,
            HOUR_MS,
            12 * HOUR_MS,
            13 * HOUR_MS,
            -5 * MINUTE_MS,
        ];
        let late = [DAY_MS, DAY_MS + 1, 30 * HOUR_MS, 3 * DAY_MS];
        if wild && choice > 200 {
            late[choice % late.len()]
        } else {
            tame[choice % tame.len()]
        }
    }
}

/// Puts events on their way: each kind's topic has two partitions, by buyer.
pub fn send(items: &[Item], delays: &[u8], wild: bool) -> Vec<Record> {
    items
        .iter()
        .enumerate()
        .map(|(i, item)| Record {
            partition: i32::from(item.buyer.as_str() > "b0"),
            arrival: item.t + delay_ms(item, delays.get(i % delays.len().max(1)).copied().unwrap_or(0), wild),
            item: item.clone(),
        })
        .collect()
}

/// As many cases as given, unless PROPTEST_CASES says otherwise.
pub fn cases(n: u32) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = n;
    }
    config.max_shrink_iters = 4_000;
    config
}
