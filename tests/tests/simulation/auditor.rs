//! What must be in the final tables, predicted from the story by naive means.
//!
//! Nothing here is shared with the cores: sets and sums over all records, straight from the metric definitions (sections 2, 5,
//! 7 and 8). It knows no frames, no clocks of the pipeline and no state that forgets.

use crate::broker::{Broker, Topic as Out};
use crate::judge::current;
use crate::story::{Record, Story, What};
use peakdesk_model::input::Topic;
use peakdesk_model::table::{FIGURES, Grain, Rows};
use peakdesk_model::time::{HOUR_MS, MINUTE_MS, UtcOffset};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

const LATENESS_CHAT_MS: i64 = 15 * MINUTE_MS;
const LATENESS_MONEY_MS: i64 = 24 * HOUR_MS;

/// Figures by shop, start of the day and name.
type Figures = BTreeMap<(String, i64, &'static str), i64>;

/// What is known of an order, by the times at which it acts.
#[derive(Debug, Default)]
struct Order {
    created_at: Option<i64>,
    paid_at: Option<i64>,
    paid: (i64, i64),
    created: (i64, i64),
    fake: bool,
    refunded_fen: i64,
}

#[derive(Debug, Default)]
struct Prediction {
    /// Topic, partition, offset and reason.
    late: BTreeSet<(&'static str, i32, i64, &'static str)>,
    letters: BTreeSet<(Topic, i32, i64, String)>,
    orders: BTreeMap<(String, String), Order>,
    figures: Figures,
}

/// Insists that tables and dead letters are as predicted.
pub fn audit(story: &Story, rows: &Rows, broker: &Broker) -> Result<(), String> {
    let predicted = predict(story);
    let letters = broker.all(Out::Letters, 0);
    let letters: BTreeSet<_> = letters.iter().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect();
    same("dead letters", &letters, &predicted.letters)?;
    let late = rows.late_events.iter();
    let late = late.map(|r| (r.topic, r.partition, r.offset, r.reason)).collect();
    same("late events", &late, &predicted.late)?;
    orders(rows, &predicted)?;
    same("figures of days", &day_figures(rows), &predicted.figures)
}

fn predict(story: &Story) -> Prediction {
    let mut predicted = Prediction::default();
    let mut clocks: BTreeMap<(Topic, i32), i64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut paid_back = BTreeMap::new();
    for record in &story.records {
        let clock = clocks.entry((record.topic, record.partition)).or_default();
        *clock = record.arrival.max(*clock);
        predicted.take(record, *clock, &mut seen, &mut paid_back);
    }
    for ((shop, order, _), fen) in paid_back {
        if let Some(order) = predicted.orders.get_mut(&(shop, order)) {
            order.refunded_fen += fen;
        }
    }
    let orders = std::mem::take(&mut predicted.orders);
    for ((shop, _), order) in orders.iter().filter(|(_, order)| !order.fake) {
        if let Some(at) = order.paid_at {
            predicted.add(shop, at, "orders_paid", 1);
            predicted.add(shop, at, "gross_fen", order.paid.0);
            predicted.add(shop, at, "items_paid", order.paid.1);
        }
        if let Some(at) = order.created_at {
            predicted.add(shop, at, "orders_created", 1);
        }
    }
    predicted.orders = orders;
    predicted
}

impl Prediction {
    fn add(&mut self, shop: &str, at: i64, figure: &'static str, value: i64) {
        let utc = UtcOffset::CHINA;
        *self.figures.entry((shop.to_owned(), utc.start(utc.day(at)), figure)).or_default() += value;
    }

    fn take(
        &mut self,
        record: &Record,
        clock: i64,
        seen: &mut BTreeSet<(String, String)>,
        paid_back: &mut BTreeMap<(String, String, String), i64>,
    ) {
        let Record { partition, offset, .. } = *record;
        let late = |reason| (record.topic.name(), partition, offset, reason);
        match &record.what {
            What::Bad(_, _, reason) => {
                self.letters.insert((record.topic, partition, offset, reason.name().to_owned()));
            }
            What::Chat(chat) => {
                if clock - chat.event_time > LATENESS_CHAT_MS {
                    self.late.insert(late("late"));
                } else if seen.insert((chat.shop_id.clone(), chat.event_id.clone())) {
                    let figure = match chat.kind.as_str() {
                        "BUYER_MESSAGE" if chat.spam == Some(true) => "spam_messages",
                        "BUYER_MESSAGE" => "buyer_messages",
                        "AGENT_MESSAGE" => "agent_messages",
                        "ROBOT_MESSAGE" => "robot_messages",
                        _ => return,
                    };
                    self.add(&chat.shop_id, chat.event_time, figure, 1);
                }
            }
            What::Order(told) => {
                let at = self.acts_at(told.event_time, clock, late("raised"));
                let order = self.orders.entry((told.shop_id.clone(), told.order_id.clone())).or_default();
                order.fake |= told.fake == Some(true);
                let earlier = |known: Option<i64>| Some(known.map_or(at, |known| known.min(at)));
                let amounts = (told.amount_fen.unwrap_or(0), told.item_count.unwrap_or(0));
                if matches!(told.status.as_str(), "CREATED" | "DEPOSIT_PAID" | "PAID") {
                    order.created_at = earlier(order.created_at);
                }
                if told.status == "PAID" {
                    (order.paid_at, order.paid) = (earlier(order.paid_at), amounts);
                } else if told.status == "CREATED" {
                    order.created = amounts;
                }
            }
            What::Refund(told) => {
                self.acts_at(told.event_time, clock, late("raised"));
                if told.status == "SUCCEEDED" {
                    let refund = (told.shop_id.clone(), told.order_id.clone(), told.refund_id.clone());
                    paid_back.insert(refund, told.amount_fen.unwrap_or(0));
                }
            }
        }
    }

    fn acts_at(&mut self, event_time: i64, clock: i64, raised: (&'static str, i32, i64, &'static str)) -> i64 {
        if clock - event_time > LATENESS_MONEY_MS {
            self.late.insert(raised);
        }
        event_time.max(clock - LATENESS_MONEY_MS)
    }
}

fn orders(rows: &Rows, predicted: &Prediction) -> Result<(), String> {
    let found: BTreeMap<_, _> = current(&rows.orders, |r| (r.shop_id.to_string(), r.order_id.to_string()))
        .into_iter()
        .map(|(key, r)| (key, (r.created_at, r.paid_at, r.amount_fen, r.item_count, r.fake, r.refunded_fen)))
        .collect();
    let expected = predicted.orders.iter().filter_map(|(key, order)| {
        let (fen, items) = if order.paid_at.is_some() { order.paid } else { order.created };
        let row = (
            order.created_at?,
            order.paid_at,
            Some(fen),
            Some(items),
            order.fake,
            order.refunded_fen,
        );
        Some((key.clone(), row))
    });
    same("orders", &found, &expected.collect())
}

/// The figures of days that are predicted, where they are not zero.
fn day_figures(rows: &Rows) -> Figures {
    const PREDICTED: [&str; 8] = [
        "spam_messages",
        "buyer_messages",
        "agent_messages",
        "robot_messages",
        "orders_paid",
        "gross_fen",
        "items_paid",
        "orders_created",
    ];
    let mut figures = Figures::new();
    let days = current(&rows.shop_windows, |r| (r.shop_id.clone(), r.grain, r.window_start));
    for row in days.into_values().filter(|r| r.grain == Grain::Day) {
        for ((name, _), value) in FIGURES.iter().zip(row.values.iter()).filter(|(_, v)| **v != 0) {
            if PREDICTED.contains(name) {
                figures.insert((row.shop_id.to_string(), row.window_start, name), *value);
            }
        }
    }
    figures
}

fn same<T: PartialEq + Debug + IntoIterator + Clone>(what: &str, found: &T, expected: &T) -> Result<(), String>
where
    T::Item: Debug + PartialEq,
{
    if found == expected {
        return Ok(());
    }
    let only = |these: &T, others: &T| {
        let others: Vec<T::Item> = others.clone().into_iter().collect();
        let only = these.clone().into_iter().filter(|item| !others.contains(item)).take(5);
        only.map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ")
    };
    Err(format!(
        "{what} are not as predicted\n  found, not predicted: {}\n  predicted, not found: {}",
        only(found, expected),
        only(expected, found)
    ))
}
