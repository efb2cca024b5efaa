//! The generated traffic: reproducible, in order, of the promised shape.

use std::collections::{HashMap, HashSet};

use peakdesk_model::input::{ChatRecord, Topic};
use peakdesk_simulator::{Generator, SimBody, SimConfig, SimRecord, SimTotals};

use crate::{DAY_MS, HOUR_MS, SALE_MS, busy_night, plain_days};

fn run(config: &SimConfig) -> (Vec<SimRecord>, SimTotals) {
    let mut generator = Generator::new(config).unwrap();
    let records: Vec<SimRecord> = generator.by_ref().collect();
    (records, generator.totals().clone())
}

fn share(part: u64, of: u64) -> f64 {
    part as f64 / of as f64
}

#[track_caller]
fn assert_within(what: &str, value: f64, low: f64, high: f64) {
    assert!((low..=high).contains(&value), "{what}: {value:.4} is not in {low}..={high}");
}

/// Shop and event id, of good records.
fn identity(record: &SimRecord) -> Option<(Topic, &str, &str)> {
    match &record.body {
        SimBody::Chat(chat) => Some((record.topic, &chat.shop_id, &chat.event_id)),
        SimBody::Order(order) => Some((record.topic, &order.shop_id, &order.event_id)),
        SimBody::Refund(refund) => Some((record.topic, &refund.shop_id, &refund.event_id)),
        SimBody::Raw(_) => None,
    }
}

#[test]
fn equal_seeds_give_equal_records_and_others_do_not() {
    let (one, totals) = run(&busy_night(7));
    let (again, totals_again) = run(&busy_night(7));
    assert!(one == again && totals == totals_again);
    assert!(one.len() > 10_000, "{} records", one.len());
    let (other, _) = run(&busy_night(8));
    assert!(one != other);
}

#[test]
fn records_come_in_order_of_arrival_on_partitions_that_exist() {
    let config = busy_night(3);
    let (records, _) = run(&config);
    for pair in records.windows(2) {
        assert!(pair[0].timestamp_ms <= pair[1].timestamp_ms);
    }
    let mut partitions: HashMap<Topic, HashSet<i32>> = HashMap::new();
    for record in &records {
        partitions.entry(record.topic).or_default().insert(record.partition);
        assert!((config.start_ms..=config.end_ms()).contains(&record.timestamp_ms));
    }
    assert_eq!(partitions[&Topic::Chat], (0..config.partitions.chat).collect());
    assert_eq!(partitions[&Topic::Orders], (0..config.partitions.orders).collect());
    assert_eq!(partitions[&Topic::Refunds], (0..config.partitions.refunds).collect());
}

#[test]
fn one_shop_is_seen_on_every_chat_partition() {
    let (records, _) = run(&busy_night(4));
    let seen: HashSet<i32> = records
        .iter()
        .filter(|record| matches!(&record.body, SimBody::Chat(chat) if chat.shop_id == "s1"))
        .map(|record| record.partition)
        .collect();
    assert_eq!(seen.len(), 4);
}

#[test]
fn disorder_has_the_published_shape() {
    let config = SimConfig {
        duplicate_share: 0.0,
        ..plain_days(21, 4, 10, 3)
    };
    let config = SimConfig { disorder: 1.0, ..config };
    let (records, _) = run(&config);
    // The last day is left out: what would arrive after the end arrives at the end.
    let delays: Vec<i64> = records
        .iter()
        .filter_map(|record| record.body.event_time_ms().map(|at| (at, record.timestamp_ms - at)))
        .filter(|(at, _)| *at < config.end_ms() - DAY_MS)
        .map(|(_, delay)| delay)
        .collect();
    let n = delays.len() as u64;
    assert!(n > 50_000);
    let over = |limit_ms: i64| share(delays.iter().filter(|delay| **delay > limit_ms).count() as u64, n);
    assert!(delays.iter().all(|delay| (1..=DAY_MS).contains(delay)));
    assert_within("longer than 1 s", over(1_000), 0.018, 0.022);
    assert_within("longer than 30 s", over(30_000), 0.000_7, 0.001_3);
    assert_within("longer than 10 min", over(600_000), 0.000_02, 0.000_25);
}

#[test]
fn without_disorder_everything_arrives_when_it_happens() {
    let (records, totals) = run(&plain_days(5, 2, 2, 1));
    assert!(
        records
            .iter()
            .all(|record| record.body.event_time_ms() == Some(record.timestamp_ms))
    );
    assert_eq!(
        (totals.late_chat, totals.raised_money, totals.duplicates, totals.dead),
        (0, 0, 0, 0)
    );
}

#[test]
fn totals_add_up_to_the_records() {
    let (records, totals) = run(&busy_night(12));
    let of = |topic| records.iter().filter(|record| record.topic == topic).count() as u64;
    assert_eq!(totals.records, records.len() as u64);
    assert_eq!(totals.chat_records, of(Topic::Chat));
    assert_eq!(totals.order_records, of(Topic::Orders));
    assert_eq!(totals.refund_records, of(Topic::Refunds));
    assert_eq!(totals.records, totals.unique_events + totals.duplicates + totals.dead);
    // Damaged copies carry the id of a good event too, so distinct ids are exactly the distinct events.
    let ids: HashSet<_> = records.iter().filter_map(identity).collect();
    assert_eq!(ids.len() as u64, totals.unique_events);
    let chat_events =
        totals.buyer_messages + totals.spam_messages + totals.agent_messages + totals.robot_messages + totals.transfers + totals.ratings;
    let chat_ids = ids.iter().filter(|(topic, ..)| *topic == Topic::Chat).count() as u64;
    assert_eq!(chat_events, chat_ids);
    assert!(totals.replied_rounds_planned <= totals.agent_messages && totals.replied_rounds_planned > 0);
    assert_within("duplicates", share(totals.duplicates, totals.unique_events), 0.008, 0.012);
    assert_within("damaged", share(totals.dead, totals.unique_events), 0.003_5, 0.006_5);
    assert!(totals.late_chat > 0);
    assert!(totals.brushing_orders > 0 && totals.deposits_paid > 0);
    let json = serde_json::to_string(&totals).unwrap();
    assert_eq!(serde_json::from_str::<SimTotals>(&json).unwrap(), totals);
    assert!(totals.to_string().contains(&format!("records         {}", totals.records)));
}

#[test]
fn a_second_delivery_repeats_the_event_later_and_usually_in_its_place() {
    let config = SimConfig {
        duplicate_share: 0.05,
        late_share: 0.0,
        dead_share: 0.0,
        ..busy_night(6)
    };
    let (records, totals) = run(&config);
    let mut first: HashMap<_, &SimRecord> = HashMap::new();
    let (mut repeats, mut elsewhere, mut five_minutes) = (0, 0, 0);
    for record in &records {
        let Some(original) = first.get(&identity(record).unwrap()) else {
            first.insert(identity(record).unwrap(), record);
            continue;
        };
        assert_eq!(record.body, original.body);
        assert_eq!(record.key, original.key);
        repeats += 1;
        elsewhere += u64::from(record.partition != original.partition);
        let later_ms = record.timestamp_ms - original.timestamp_ms;
        five_minutes += u64::from((300_000..302_000).contains(&later_ms));
    }
    assert_eq!(repeats, totals.duplicates);
    assert_within("on another partition", share(elsewhere, repeats), 0.005, 0.04);
    assert_within("after five minutes", share(five_minutes, repeats), 0.8, 0.95);
}

#[test]
fn late_records_are_late_by_their_partitions_clock() {
    let config = SimConfig {
        late_share: 0.02,
        disorder: 0.0,
        duplicate_share: 0.0,
        ..plain_days(31, 2, 4, 6)
    };
    let (records, totals) = run(&config);
    let (mut chat, mut money) = (0, 0);
    let mut clocks: HashMap<(Topic, i32), i64> = HashMap::new();
    for record in &records {
        let clock = clocks.entry((record.topic, record.partition)).or_insert(i64::MIN);
        *clock = (*clock).max(record.timestamp_ms);
        let age_ms = *clock - record.body.event_time_ms().unwrap();
        match record.topic {
            Topic::Chat => chat += u64::from(age_ms > 15 * 60_000),
            _ => money += u64::from(age_ms > DAY_MS),
        }
    }
    assert_eq!((chat, money), (totals.late_chat, totals.raised_money));
    assert_within("late chat", share(chat, totals.chat_records), 0.016, 0.022);
    assert_within(
        "raised orders",
        share(money, totals.order_records + totals.refund_records),
        0.01,
        0.022,
    );
}

#[test]
fn every_kind_of_damage_is_one_that_readers_reject() {
    let config = SimConfig {
        dead_share: 0.02,
        duplicate_share: 0.0,
        late_share: 0.0,
        ..busy_night(9)
    };
    let (records, totals) = run(&config);
    let mut counts = [0u64; 5];
    for record in &records {
        let at = record.body.event_time_ms();
        let age_ms = at.map_or(0, |at| record.timestamp_ms - at);
        let (ids_empty, value_bad) = match &record.body {
            SimBody::Chat(chat) => (chat.buyer_id.is_empty(), chat.rating == Some(9)),
            SimBody::Order(order) => (order.order_id.is_empty(), order.amount_fen == Some(-1)),
            SimBody::Refund(refund) => (refund.refund_id.is_empty(), refund.amount_fen == Some(-1)),
            SimBody::Raw(_) => (false, false),
        };
        let kinds = [at.is_none(), age_ms < -300_000, age_ms > 45 * DAY_MS, ids_empty, value_bad];
        for (count, is) in counts.iter_mut().zip(kinds) {
            *count += u64::from(is);
        }
    }
    assert_eq!(counts.iter().sum::<u64>(), totals.dead);
    assert!(counts.iter().all(|count| *count > 5), "{counts:?}");
}

#[test]
fn the_sale_night_has_its_peak_and_its_shares() {
    let config = SimConfig {
        shops: 10,
        agents: Some(10),
        start_ms: SALE_MS - 2 * HOUR_MS,
        duration_ms: 26 * HOUR_MS,
        ..SimConfig::default()
    };
    let (records, totals) = run(&config);
    let created: Vec<i64> = records
        .iter()
        .filter_map(|record| match &record.body {
            SimBody::Order(order) if order.status == "CREATED" => Some(order.event_time - SALE_MS),
            _ => None,
        })
        .filter(|since_midnight| *since_midnight >= 0)
        .collect();
    let within = |ms: i64| share(created.iter().filter(|at| **at < ms).count() as u64, created.len() as u64);
    // The published shares of the day, with what those add who talked on the eve.
    assert_within("orders in 21 s", within(21_000), 0.002, 0.03);
    assert_within("orders in 125 s", within(125_000), 0.03, 0.10);
    assert_within("orders in 673 s", within(673_000), 0.13, 0.24);
    assert_within("orders in 6480 s", within(6_480_000), 0.40, 0.56);
    let chats_between = |from: i64, to: i64| {
        let chats = records.iter().filter(|record| record.topic == Topic::Chat);
        chats.filter(|record| (from..to).contains(&(record.timestamp_ms - SALE_MS))).count() as f64
    };
    let peak = chats_between(-600_000, 900_000) / 1_500_000.0;
    let mean = chats_between(0, DAY_MS) / DAY_MS as f64;
    assert_within("chat peak over the mean of the day", peak / mean, 15.0, 25.0);
    assert_within("silent orders", share(totals.silent_orders, totals.orders_created), 0.70, 0.80);
    assert_within("paid orders", share(totals.orders_paid, totals.orders_created), 0.84, 0.90);
    assert_within("brushing", share(totals.brushing_orders, totals.orders_created), 0.003, 0.007);
    assert_within("duplicates", share(totals.duplicates, totals.unique_events), 0.001_7, 0.002_3);
    assert_within(
        "conversations per buyer planned",
        totals.conversations as f64 / (100.0 * 500.0 * 1.5),
        0.9,
        1.1,
    );
}

#[test]
fn ordinary_conversations_have_the_published_shares() {
    let (records, totals) = run(&plain_days(17, 6, 10, 4));
    let ended = totals.conversations_robot_only + totals.conversations_assisted + totals.conversations_human;
    assert_within("robot only", share(totals.conversations_robot_only, ended), 0.30, 0.45);
    assert_within("assisted", share(totals.conversations_assisted, ended), 0.20, 0.28);
    assert_within("human", share(totals.conversations_human, ended), 0.33, 0.45);
    assert_within(
        "after-sale",
        share(totals.conversations_after_sale, totals.conversations),
        0.30,
        0.37,
    );
    assert_within("silent orders", share(totals.silent_orders, totals.orders_created), 0.70, 0.80);
    let attended = totals.conversations_assisted + totals.conversations_human;
    assert_within(
        "transfers from agent to agent",
        detours(&records) as f64 / attended as f64,
        0.02,
        0.08,
    );
    assert_within("ratings", share(totals.ratings, attended), 0.05, 0.09);
    let good = chats(&records).filter(|chat| chat.rating.is_some_and(|stars| stars >= 4)).count() as u64;
    assert_within("good ratings", share(good, totals.ratings), 0.78, 0.92);
    let mean_of = |with_agent: bool| {
        let sizes: Vec<u64> = conversations(&records)
            .into_iter()
            .filter(|(_, agent)| *agent == with_agent)
            .map(|(size, _)| size)
            .collect();
        sizes.iter().sum::<u64>() as f64 / sizes.len() as f64
    };
    assert_within("messages of a conversation with an agent", mean_of(true), 18.0, 22.0);
    assert_within("messages of a conversation with a robot", mean_of(false), 5.0, 6.0);
    let spam_buyers: HashSet<_> = chats(&records)
        .filter(|chat| chat.spam == Some(true))
        .map(|chat| (chat.shop_id.as_str(), chat.buyer_id.as_str()))
        .collect();
    assert_within("spam", spam_buyers.len() as f64 / totals.conversations as f64, 0.025, 0.037);
}

fn chats(records: &[SimRecord]) -> impl Iterator<Item = &ChatRecord> {
    records.iter().filter_map(|record| match &record.body {
        SimBody::Chat(chat) => Some(chat),
        _ => None,
    })
}

/// Messages of each conversation, and whether an agent spoke in it. Longer silence than any pause within a conversation ends one.
fn conversations(records: &[SimRecord]) -> Vec<(u64, bool)> {
    const SILENCE_MS: i64 = 5 * HOUR_MS / 2;
    let mut open: HashMap<(&str, &str), (i64, usize)> = HashMap::new();
    let mut found: Vec<(u64, bool)> = Vec::new();
    for chat in chats(records).filter(|chat| chat.spam.is_none() && chat.kind.ends_with("_MESSAGE")) {
        let buyer = (chat.shop_id.as_str(), chat.buyer_id.as_str());
        let index = match open.get(&buyer) {
            Some(&(last, index)) if chat.event_time - last < SILENCE_MS => index,
            _ => {
                found.push((0, false));
                found.len() - 1
            }
        };
        open.insert(buyer, (chat.event_time, index));
        found[index].0 += 1;
        found[index].1 |= chat.kind == "AGENT_MESSAGE";
    }
    found
}

/// Transfers between two agents.
fn detours(records: &[SimRecord]) -> usize {
    chats(records)
        .filter(|chat| chat.kind == "TRANSFER" && chat.agent_id.is_some() && chat.to_agent_id.is_some())
        .count()
}

#[test]
fn orders_are_refunded_as_often_as_published() {
    let (records, totals) = run(&SimConfig {
        buyers_per_agent: Some(20.0),
        ..plain_days(13, 80, 1, 40)
    });
    // Orders of the first 20 days have had the time for every refund.
    let mut paid: HashSet<(&str, &str)> = HashSet::new();
    let mut amounts: HashMap<(&str, &str), i64> = HashMap::new();
    let (mut requested, mut partial, mut early) = (0u64, 0u64, 0u64);
    for record in &records {
        match &record.body {
            SimBody::Order(order) if order.status == "PAID" && order.event_time < SALE_MS + 20 * DAY_MS => {
                paid.insert((&order.shop_id, &order.order_id));
                amounts.insert((&order.shop_id, &order.order_id), order.amount_fen.unwrap());
            }
            SimBody::Refund(refund) if refund.status == "REQUESTED" => {
                let order = (refund.shop_id.as_str(), refund.order_id.as_str());
                if paid.contains(&order) {
                    requested += 1;
                    partial += u64::from(refund.amount_fen.unwrap() < amounts[&order]);
                    early += u64::from(refund.phase.as_deref() == Some("BEFORE_SHIPMENT"));
                }
            }
            _ => {}
        }
    }
    assert_within("refunds of paid orders", share(requested, paid.len() as u64), 0.11, 0.20);
    assert_within("partial", share(partial, requested), 0.16, 0.24);
    assert_within("before shipment", share(early, requested), 0.26, 0.34);
    assert_within("succeeded", share(totals.refunds_succeeded, totals.refunds_requested), 0.80, 0.95);
}

#[test]
fn records_carry_what_their_kind_requires() {
    let (records, _) = run(&SimConfig {
        dead_share: 0.0,
        ..busy_night(15)
    });
    for record in &records {
        match &record.body {
            SimBody::Chat(chat) => match chat.kind.as_str() {
                "BUYER_MESSAGE" | "ROBOT_MESSAGE" => assert!(chat.text.is_some()),
                "AGENT_MESSAGE" => assert!(chat.agent_id.is_some()),
                "TRANSFER" => assert!(chat.agent_id.is_some() || chat.to_agent_id.is_some()),
                "RATING" => assert!(chat.agent_id.is_some() && (1..=5).contains(&chat.rating.unwrap())),
                other => panic!("unknown kind {other}"),
            },
            SimBody::Order(order) => {
                let priced = matches!(order.status.as_str(), "CREATED" | "PAID");
                assert_eq!(order.item_count.is_some(), priced);
                assert_eq!(order.amount_fen.is_some(), priced || order.status == "DEPOSIT_PAID");
                assert!(order.order_created_at.is_none_or(|at| at <= order.event_time));
            }
            SimBody::Refund(refund) => {
                let requested = refund.status == "REQUESTED";
                assert!(refund.reason.is_some() == requested && refund.phase.is_some() == requested);
                assert_eq!(refund.amount_fen.is_some(), requested || refund.status == "SUCCEEDED");
            }
            SimBody::Raw(_) => panic!("no damage was asked for"),
        }
    }
}

#[test]
fn memory_follows_open_business_not_the_length_of_the_run() {
    let most_open = |seed: u64, days: i64| {
        let mut generator = Generator::new(&plain_days(seed, 1, 2, days)).unwrap();
        let mut most = 0;
        while generator.next().is_some() {
            most = most.max(generator.open_items());
        }
        assert_eq!(generator.open_items(), 0, "seed {seed}, {days} days: left open at the end");
        most
    };
    // 3023 ends in the middle of a conversation that an order waits for.
    for seed in [23, 3_023] {
        let (month, quarter) = (most_open(seed, 30), most_open(seed, 90));
        assert!(
            quarter * 10 < month * 13,
            "seed {seed}: {month} open at most in 30 days, {quarter} in 90"
        );
    }
}
