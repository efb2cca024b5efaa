//! What happens in a simulated world: the records of the three input topics, as they arrive, drawn from a seed.
//!
//! Few shops, few buyers and few agents live through a day and a half, so that everybody meets everybody: talks with hand-overs,
//! orders, refunds known before their orders, copies, disorder, chat that is late and money that is raised, records that cannot
//! be used. Arrival times are those of a broker's append, so they never fall within a partition.
//!
//! Not here: ages within a minute of the allowed lateness. Every source partition begins with a record that cannot be used: an
//! intake waits for partitions that hold records when it starts.

use peakdesk_model::event::DeadReason;
use peakdesk_model::input::{ChatRecord, OrderRecord, RefundRecord, Topic};
use peakdesk_model::time::{HOUR_MS, MINUTE_MS, SECOND_MS, UtcOffset, parse_date};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;

/// What a record says.
#[derive(Debug, Clone)]
pub enum What {
    Chat(ChatRecord),
    Order(OrderRecord),
    Refund(RefundRecord),
    Bad(Topic, &'static str, DeadReason),
}

/// A record as it lies in its topic.
#[derive(Debug, Clone)]
pub struct Record {
    pub topic: Topic,
    pub partition: i32,
    pub offset: i64,
    pub arrival: i64,
    pub value: Vec<u8>,
    pub what: What,
}

/// All records, in the order of their arrival.
#[derive(Debug)]
pub struct Story {
    pub begins: i64,
    pub ends: i64,
    pub records: Vec<Record>,
}

/// Ages of chat when it arrives; all but the last two are accepted.
const CHAT_AGES: [i64; 10] = [
    0,
    200,
    SECOND_MS,
    SECOND_MS,
    20 * SECOND_MS,
    20 * SECOND_MS,
    5 * MINUTE_MS,
    13 * MINUTE_MS,
    25 * MINUTE_MS,
    3 * HOUR_MS,
];
/// Ages of orders and refunds; the last two are raised.
const MONEY_AGES: [i64; 10] = [
    0,
    SECOND_MS,
    SECOND_MS,
    MINUTE_MS,
    MINUTE_MS,
    20 * MINUTE_MS,
    3 * HOUR_MS,
    11 * HOUR_MS,
    26 * HOUR_MS,
    30 * HOUR_MS,
];
const TAME: usize = 8;

/// Records that cannot be used, and why.
const BAD: [(Topic, &str, DeadReason); 4] = [
    (Topic::Chat, "{", DeadReason::Undecodable),
    (Topic::Chat, r#"{"event_id":""}"#, DeadReason::BadId),
    (Topic::Orders, "[]", DeadReason::Undecodable),
    (Topic::Refunds, r#"{"event_id":"r","shop_id":"s","buyer_id":""}"#, DeadReason::BadId),
];

struct Teller {
    rng: SmallRng,
    /// By the time at which it happened.
    said: Vec<(i64, What)>,
    ids: u32,
}

/// Tells the story of a seed, for topics of so many partitions each.
pub fn tell(seed: u64, partitions: [i32; 3]) -> Story {
    let begins = UtcOffset::CHINA.start(parse_date("2025-11-10").unwrap()) + 18 * HOUR_MS;
    let mut teller = Teller {
        rng: SmallRng::seed_from_u64(seed),
        said: Vec::new(),
        ids: 0,
    };
    for _ in 0..teller.rng.random_range(6..16) {
        let at = begins + HOUR_MS + teller.rng.random_range(0..30 * HOUR_MS);
        teller.meeting(at);
    }
    let mut arrivals = Vec::new();
    for (topic, count) in Topic::ALL.into_iter().zip(partitions) {
        for partition in 0..count {
            arrivals.push((begins, partition, What::Bad(topic, "?", DeadReason::Undecodable)));
        }
    }
    for (t, what) in std::mem::take(&mut teller.said) {
        let partition = teller.rng.random_range(0..partitions[what.topic() as usize]);
        arrivals.push((t + teller.age(&what, 0.05), partition, what.clone()));
        if teller.rng.random_bool(0.05) {
            let partition = teller.rng.random_range(0..partitions[what.topic() as usize]);
            arrivals.push((t + teller.age(&what, 0.3), partition, what));
        }
    }
    for _ in 0..teller.rng.random_range(0..4) {
        let (topic, text, reason) = BAD[teller.rng.random_range(0..BAD.len())];
        let at = begins + teller.rng.random_range(0..30 * HOUR_MS);
        arrivals.push((at, 0, What::Bad(topic, text, reason)));
    }
    arrivals.sort_by_key(|(arrival, ..)| *arrival);
    let mut ends = BTreeMap::new();
    let records: Vec<Record> = arrivals
        .into_iter()
        .map(|(arrival, partition, what)| {
            let next: &mut i64 = ends.entry((what.topic(), partition)).or_default();
            *next += 1;
            Record {
                topic: what.topic(),
                partition,
                offset: *next - 1,
                arrival,
                value: what.value(),
                what,
            }
        })
        .collect();
    Story {
        begins,
        ends: records.last().map_or(begins, |r| r.arrival),
        records,
    }
}

impl What {
    fn topic(&self) -> Topic {
        match self {
            What::Chat(_) => Topic::Chat,
            What::Order(_) => Topic::Orders,
            What::Refund(_) => Topic::Refunds,
            What::Bad(topic, ..) => *topic,
        }
    }

    fn value(&self) -> Vec<u8> {
        match self {
            What::Chat(record) => serde_json::to_vec(record).unwrap(),
            What::Order(record) => serde_json::to_vec(record).unwrap(),
            What::Refund(record) => serde_json::to_vec(record).unwrap(),
            What::Bad(_, text, _) => text.as_bytes().to_vec(),
        }
    }
}

impl Teller {
    fn age(&mut self, what: &What, wild: f64) -> i64 {
        let ages = if matches!(what, What::Chat(_)) { CHAT_AGES } else { MONEY_AGES };
        let among = if self.rng.random_bool(wild) { &ages[TAME..] } else { &ages[..TAME] };
        *among.choose(&mut self.rng).unwrap()
    }

    fn one_of<'a>(&mut self, among: &[&'a str]) -> &'a str {
        among.choose(&mut self.rng).unwrap()
    }

    fn id(&mut self, prefix: &str) -> String {
        self.ids += 1;
        format!("{prefix}{}", self.ids)
    }

    /// A buyer writes, perhaps is answered, perhaps buys, perhaps wants the money back.
    fn meeting(&mut self, at: i64) {
        let shop = self.one_of(&["nuts", "tea", "silk"]);
        let buyer = self.one_of(&["Li", "Wang", "Zhao"]);
        let mut t = at;
        if self.rng.random_bool(0.85) {
            t = self.talk(shop, buyer, t);
        }
        if self.rng.random_bool(0.6) {
            self.purchase(shop, buyer, t);
        }
    }

    fn chat(&mut self, shop: &str, buyer: &str, t: i64, kind: &str, fill: impl FnOnce(&mut ChatRecord)) {
        let mut record = ChatRecord {
            event_id: self.id("c"),
            shop_id: shop.to_owned(),
            buyer_id: buyer.to_owned(),
            kind: kind.to_owned(),
            event_time: t,
            ..ChatRecord::default()
        };
        fill(&mut record);
        self.said.push((t, What::Chat(record)));
    }

    fn talk(&mut self, shop: &str, buyer: &str, at: i64) -> i64 {
        let (mut t, mut agent) = (at, self.one_of(&["Amy", "Ben"]));
        for turn in 0..self.rng.random_range(1..4) {
            let (addressed, spam) = (self.rng.random_bool(0.6).then(|| agent.to_owned()), self.rng.random_bool(0.05));
            self.chat(shop, buyer, t, "BUYER_MESSAGE", |r| {
                r.agent_id = addressed;
                r.spam = spam.then_some(true);
                r.text = Some("when will it be sent?".to_owned());
            });
            if turn == 0 && self.rng.random_bool(0.4) {
                self.chat(shop, buyer, t + SECOND_MS, "ROBOT_MESSAGE", |_| {});
            }
            if self.rng.random_bool(0.25) {
                let to = self.one_of(&["Amy", "Ben"]);
                t += self.rng.random_range(1_000..90_000);
                let from = agent.to_owned();
                self.chat(shop, buyer, t, "TRANSFER", |r| {
                    r.agent_id = Some(from);
                    r.to_agent_id = Some(to.to_owned());
                });
                agent = to;
            }
            if self.rng.random_bool(0.8) {
                t += self.rng.random_range(1_000..400_000);
                let (name, assisted) = (agent.to_owned(), self.rng.random_bool(0.1));
                self.chat(shop, buyer, t, "AGENT_MESSAGE", |r| {
                    r.agent_id = Some(name);
                    r.assisted = assisted.then_some(true);
                });
            }
            t += self.rng.random_range(1_000..900_000);
        }
        if self.rng.random_bool(0.3) {
            let (name, stars) = (agent.to_owned(), self.rng.random_range(1..=5));
            self.chat(shop, buyer, t, "RATING", |r| {
                r.agent_id = Some(name);
                r.rating = Some(stars);
            });
        }
        t
    }

    fn purchase(&mut self, shop: &str, buyer: &str, at: i64) {
        let order = self.id("o");
        let total = self.rng.random_range(100..100_000);
        let fake = self.rng.random_bool(0.1);
        let mut t = at;
        let mut statuses = vec!["CREATED"];
        statuses.extend(self.rng.random_bool(0.2).then_some("DEPOSIT_PAID"));
        let paid = self.rng.random_bool(0.8);
        statuses.extend(paid.then_some("PAID"));
        statuses.extend(self.rng.random_bool(0.4).then_some("SHIPPED"));
        statuses.extend(self.rng.random_bool(0.2).then_some(if paid { "COMPLETED" } else { "CLOSED" }));
        for status in statuses {
            let amounts = matches!(status, "CREATED" | "PAID");
            let record = OrderRecord {
                event_id: self.id("e"),
                shop_id: shop.to_owned(),
                buyer_id: buyer.to_owned(),
                order_id: order.clone(),
                status: status.to_owned(),
                event_time: t,
                amount_fen: if status == "DEPOSIT_PAID" {
                    Some(total / 10)
                } else {
                    amounts.then_some(total)
                },
                item_count: amounts.then_some(total % 4 + 1),
                fake: fake.then_some(true),
                ..OrderRecord::default()
            };
            self.said.push((t, What::Order(record)));
            t += self.rng.random_range(SECOND_MS..40 * MINUTE_MS);
        }
        if paid && self.rng.random_bool(0.45) {
            self.refund(shop, buyer, &order, t, total);
        }
    }

    fn refund(&mut self, shop: &str, buyer: &str, order: &str, at: i64, total: i64) {
        let (refund, fen) = (self.id("r"), self.rng.random_range(1..=total));
        let end = self.one_of(&["SUCCEEDED", "SUCCEEDED", "REFUSED", "CLOSED", "AGREED"]);
        let mut t = at;
        for status in ["REQUESTED", end] {
            let first = status == "REQUESTED";
            let record = RefundRecord {
                event_id: self.id("e"),
                shop_id: shop.to_owned(),
                buyer_id: buyer.to_owned(),
                order_id: order.to_owned(),
                refund_id: refund.clone(),
                status: status.to_owned(),
                event_time: t,
                amount_fen: (first || status == "SUCCEEDED").then_some(fen),
                reason: first.then(|| "SIZE".to_owned()),
                phase: first.then(|| "AFTER_RECEIPT".to_owned()),
            };
            self.said.push((t, What::Refund(record)));
            t += self.rng.random_range(MINUTE_MS..6 * HOUR_MS);
        }
    }
}
