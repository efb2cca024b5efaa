//! A shop floor for tests of the page: live figures and alerts as a scorer would write them, made up, but always moving.
//!
//! What the page shows must be what the topics say, whatever that is; so these figures only have to be possible, not right. Agents
//! answer and let wait at random; the first ones let a buyer wait for good, so that alerts are open however long a test takes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use peakdesk_model::alert::{AlertRow, Rule, Severity, TransitionKind};
use peakdesk_model::live::{
    AgentDetail, AgentLive, CreditedOrder, Curve, CurvePoint, Figures, HourFigures, LiveKey, MissedRound, ShopLive, Waiting,
};
use peakdesk_model::position::LogPosition;
use peakdesk_model::results::{self, Span};
use peakdesk_model::table::{Rows, Stamp};
use peakdesk_model::time::format_date;
use peakdesk_tests::{Context, Kafka, Result};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const MINUTE_MS: i64 = 60_000;
const OFFSET_MINUTES: i32 = 480;

/// Agents who let a buyer wait for good.
const DROWNING: usize = 4;

/// Buyers an agent lets wait at most.
const WAITS_MAX: usize = 12;

/// For the broker to take what is written.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);

/// Wall clock (ms); it is the log's time here.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// A linear congruential generator: the same figures for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }
}

fn add(figures: &mut Figures, name: &str, n: i64) {
    if n != 0 {
        *figures.entry(name.to_owned()).or_default() += n;
    }
}

/// What additive figures of hours make over a day; percentiles are left to whoever knows them.
fn total(hours: &[HourFigures]) -> Figures {
    let mut sum = Figures::new();
    for (name, value) in hours.iter().flat_map(|hour| &hour.figures) {
        if !name.starts_with("latency_p") {
            add(&mut sum, name, *value);
        }
    }
    sum
}

/// An hour in which `rounds` were had.
fn hour(chance: &mut Chance, start: i64, rounds: u64) -> HourFigures {
    let mut figures = Figures::new();
    let part = |chance: &mut Chance, whole: u64, from: u64| whole * (from + chance.below(101 - from)) / 100;
    let replied = part(chance, rounds, 85);
    let quick = part(chance, replied, 70);
    let inquiry = part(chance, rounds, 50);
    let paid = part(chance, inquiry, 5) / 3;
    let signed = |n: u64| i64::try_from(n).unwrap();
    for (name, value) in [
        ("rounds", rounds),
        ("replied", replied),
        ("replied_within_180s", quick),
        ("unanswered", rounds - replied),
        ("latency_sum_ms", replied * (20_000 + chance.below(60_000))),
        ("received_buyers", replied),
        ("consulting_buyers", rounds),
        ("inquiry_buyers", inquiry),
        ("paid_1d", paid),
        ("orders_paid", paid),
        ("gross_fen", paid * (5_000 + chance.below(40_000))),
        ("refunds", chance.below(3) / 2),
        ("refund_fen", 9_900 * (chance.below(3) / 2)),
    ] {
        add(&mut figures, name, signed(value));
    }
    add(&mut figures, "latency_p95_ms", 60_000 + signed(chance.below(200_000)));
    HourFigures { start, figures }
}

struct Agent {
    id: String,
    waits: Vec<i64>,
    hours: Vec<HourFigures>,
    /// Open alerts by rule: worst severity, onset, transitions so far.
    alerts: BTreeMap<Rule, (Severity, i64, u32)>,
}

/// A key that looks like one.
fn buyer(n: i64) -> String {
    let spread = |n: i64| n.wrapping_add(1).wrapping_mul(-0x61C8_8646_80B5_83EB);
    format!("{:016x}{:016x}", spread(n), spread(spread(n)))
}

/// The floor of a shop, and the topics it is written to.
pub struct Floor {
    shop: String,
    live: String,
    alerts: String,
    /// Kept, because making one takes longer than a step.
    producer: BaseProducer,
    chance: Chance,
    agents: Vec<Agent>,
    hours: Vec<HourFigures>,
    yesterday: Vec<HourFigures>,
    day_start: i64,
    curve: BTreeMap<i64, Curve>,
    /// End of the spans written so far.
    at: i64,
    steps: u64,
}

impl Floor {
    /// A floor with agents `售前-1`, `售后-2`, `夜班-3`, `售前-4` and so on; topics are to be there, each with one partition.
    pub fn new(shop: &str, agents: usize, live: String, alerts: String, seed: u64) -> Result<Floor> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", Kafka::shared()?.bootstrap())
            .set("linger.ms", "0")
            .create()?;
        let mut chance = Chance(seed);
        let offset = i64::from(OFFSET_MINUTES) * MINUTE_MS;
        let now = now_ms();
        let day_start = (now + offset).div_euclid(DAY_MS) * DAY_MS - offset;
        let passed = (now - day_start) / HOUR_MS;
        let hours = |chance: &mut Chance, from: i64, count: i64, rounds: u64| -> Vec<HourFigures> {
            let all = (0..count).map(|n| from + n * HOUR_MS);
            all.map(|start| {
                let rounds = rounds / 2 + chance.below(rounds);
                hour(chance, start, rounds)
            })
            .collect()
        };
        let make = |n: usize, chance: &mut Chance| Agent {
            id: format!("{}-{n}", ["夜班", "售前", "售后"][n % 3]),
            waits: if n <= DROWNING {
                vec![now - 500_000 + i64::try_from(n).unwrap() * 90_000]
            } else {
                Vec::new()
            },
            hours: hours(chance, day_start, passed + 1, 12),
            alerts: BTreeMap::new(),
        };
        let crowd = u64::try_from(agents).unwrap() * 10;
        let mut floor = Floor {
            shop: shop.to_owned(),
            live,
            alerts,
            producer,
            agents: (1..=agents).map(|n| make(n, &mut chance)).collect(),
            hours: hours(&mut chance, day_start, passed + 1, crowd),
            yesterday: hours(&mut chance, day_start - DAY_MS, 24, crowd),
            chance,
            day_start,
            curve: BTreeMap::new(),
            at: 0,
            steps: 0,
        };
        for minute in 1..180 {
            floor.minute(now - minute * MINUTE_MS);
        }
        Ok(floor)
    }

    /// Goes on by a quarter of a second and writes what has changed.
    pub fn step(&mut self) -> Result {
        let now = now_ms();
        let mut messages = Vec::new();
        let mut rows = Rows::default();
        for n in 0..self.agents.len() {
            // Everybody about once a second; all of them at first.
            if self.steps == 0 || self.chance.percent(25) {
                self.change(n, now, &mut rows);
                messages.push(message(&self.key(n), serde_json::to_vec(&self.agent_live(n, now))));
            }
            if self.steps.is_multiple_of(12) {
                let key = LiveKey::Detail {
                    shop: self.shop.clone(),
                    agent: self.agents[n].id.clone(),
                };
                messages.push(message(&key, serde_json::to_vec(&self.detail(n, now))));
            }
        }
        if self.steps.is_multiple_of(4) {
            let curve = self.minute(now).clone();
            let earlier: Vec<Curve> = self
                .curve
                .values()
                .filter(|other| self.steps == 0 && other.hour != curve.hour)
                .cloned()
                .collect();
            for curve in earlier.into_iter().chain([curve]) {
                let key = LiveKey::Curve {
                    shop: self.shop.clone(),
                    hour: curve.hour,
                };
                messages.push(message(&key, serde_json::to_vec(&curve)));
            }
            messages.push(message(
                &LiveKey::Shop { shop: self.shop.clone() },
                serde_json::to_vec(&self.shop_live(now)),
            ));
        }
        // Every second, with rows or without.
        if self.steps.is_multiple_of(4) || !rows.is_empty() {
            let span = self.span(&mut rows, now);
            self.producer
                .send(BaseRecord::<(), _>::to(&self.alerts).payload(&span))
                .map_err(|(e, _)| e)?;
        }
        for (key, json) in &messages {
            self.producer
                .send(BaseRecord::to(&self.live).key(key).payload(json))
                .map_err(|(e, _)| e)?;
        }
        self.steps += 1;
        self.producer.flush(FLUSH_LIMIT).context("writing live figures")
    }

    fn key(&self, n: usize) -> LiveKey {
        LiveKey::Agent {
            shop: self.shop.clone(),
            agent: self.agents[n].id.clone(),
        }
    }

    fn change(&mut self, n: usize, now: i64, rows: &mut Rows) {
        let Floor { agents, hours, chance, .. } = self;
        let agent = &mut agents[n];
        let keep = usize::from(n < DROWNING);
        if chance.percent(12) && agent.waits.len() < WAITS_MAX {
            agent.waits.push(now - i64::try_from(chance.below(5_000)).unwrap());
        }
        for _ in 0..agent.waits.len() {
            let last = agent.waits.len();
            if last > keep && chance.percent(4) {
                let gone = keep + usize::try_from(chance.below(u64::try_from(last - keep).unwrap())).unwrap();
                agent.waits.remove(gone);
            }
        }
        if chance.percent(40)
            && let (Some(own), Some(all)) = (agent.hours.last_mut(), hours.last_mut())
        {
            let sells = chance.percent(25);
            let latency = i64::try_from(chance.below(80_000)).unwrap();
            for figures in [&mut own.figures, &mut all.figures] {
                for name in [
                    "rounds",
                    "replied",
                    "replied_within_180s",
                    "received_buyers",
                    "consulting_buyers",
                    "inquiry_buyers",
                ] {
                    add(figures, name, 1);
                }
                add(figures, "latency_sum_ms", latency);
                if sells {
                    add(figures, "orders_paid", 1);
                    add(figures, "paid_1d", 1);
                    add(figures, "gross_fen", 12_345);
                }
            }
        }
        self.judge(n, now, rows);
    }

    /// The rule about waiting buyers, roughly.
    fn judge(&mut self, n: usize, now: i64, rows: &mut Rows) {
        let shop: Arc<str> = self.shop.as_str().into();
        let agent = &mut self.agents[n];
        let age = agent.waits.iter().min().map_or(0, |since| now - since);
        let level = [
            (300_000, Severity::Critical),
            (180_000, Severity::Major),
            (100_000, Severity::Warning),
        ];
        let level = level.into_iter().find(|(from, _)| age >= *from).map(|(_, severity)| severity);
        let rule = Rule::BuyerWaiting;
        let (kind, severity, onset, transition) = match (agent.alerts.get(&rule).copied(), level) {
            (None, Some(level)) => (TransitionKind::Firing, level, now, 0),
            (Some((worst, onset, count)), Some(level)) if level > worst => (TransitionKind::Escalated, level, onset, count),
            (Some((worst, onset, count)), _) if age < 60_000 => (TransitionKind::Resolved, worst, onset, count),
            _ => return,
        };
        if kind == TransitionKind::Resolved {
            agent.alerts.remove(&rule);
        } else {
            agent.alerts.insert(rule, (severity, onset, transition + 1));
        }
        let evidence: Vec<serde_json::Value> = agent
            .waits
            .iter()
            .take(5)
            .map(|since| serde_json::json!({"buyer_key": buyer(*since), "since": since, "age_ms": now - since}))
            .collect();
        let offset = i64::from(OFFSET_MINUTES) * MINUTE_MS;
        rows.alerts.push(AlertRow {
            stamp: Stamp {
                policy: "default".into(),
                is_final: true,
                published_at: now,
                dt: i32::try_from((onset + offset).div_euclid(DAY_MS)).unwrap(),
                position: LogPosition::start_of(0),
            },
            alert_id: AlertRow::id_of(rule, &shop, Some(&agent.id), onset).into(),
            transition,
            kind,
            rule,
            shop_id: shop,
            agent_id: Some(agent.id.as_str().into()),
            severity,
            value_num: age,
            value_den: 1,
            onset,
            at: now,
            evidence: serde_json::Value::from(evidence).to_string().into(),
        });
    }

    /// A message of the topic of alerts with these rows, behind the ones before it.
    fn span(&mut self, rows: &mut Rows, now: i64) -> Vec<u8> {
        for (index, row) in (0..).zip(&mut rows.alerts) {
            row.stamp.position = LogPosition { offset: self.at, index };
        }
        let span = Span {
            log_partition: 0,
            from: LogPosition::start_of(self.at),
            to: LogPosition::start_of(self.at + 1),
            log_time_ms: now,
            complete_until_ms: Some(now),
            caught_up: true,
        };
        self.at += 1;
        results::encode(&span, &rows.to_batches(0).unwrap()).unwrap()
    }

    fn waiting(waits: &[i64], now: i64) -> Waiting {
        let count = |n: usize| u32::try_from(n).unwrap();
        Waiting {
            buyers: count(waits.len()),
            over_180s: count(waits.iter().filter(|since| now - **since >= 180_000).count()),
            oldest_since: waits.iter().min().copied(),
        }
    }

    fn day(&self) -> String {
        // The start of the local day is the evening before in UTC; its date is that of noon.
        format_date(i32::try_from((self.day_start + 12 * HOUR_MS).div_euclid(DAY_MS)).unwrap())
    }

    fn agent_live(&self, n: usize, now: i64) -> AgentLive {
        let agent = &self.agents[n];
        let mut figures = total(&agent.hours);
        add(&mut figures, "latency_p95_ms", 95_000);
        AgentLive {
            shop_id: self.shop.clone(),
            agent_id: agent.id.clone(),
            at: now,
            sent_wall_ms: now_ms(),
            day: self.day(),
            waiting: Self::waiting(&agent.waits, now),
            figures,
        }
    }

    fn shop_live(&self, now: i64) -> ShopLive {
        let waits: Vec<i64> = self.agents.iter().flat_map(|agent| agent.waits.iter().copied()).collect();
        let mut figures = total(&self.hours);
        add(&mut figures, "latency_p95_ms", 88_000);
        ShopLive {
            shop_id: self.shop.clone(),
            at: now,
            complete_until: Some(now),
            caught_up: true,
            sent_wall_ms: now_ms(),
            day: self.day(),
            day_start: self.day_start,
            utc_offset_minutes: OFFSET_MINUTES,
            waiting: Self::waiting(&waits, now),
            figures,
            hours: self.hours.clone(),
            yesterday: self.yesterday.clone(),
        }
    }

    fn detail(&self, n: usize, now: i64) -> AgentDetail {
        let agent = &self.agents[n];
        let missed = (0..8i64).map(|i| MissedRound {
            buyer_key: buyer(i),
            t0: self.day_start + i * MINUTE_MS,
            a0: self.day_start + i * MINUTE_MS + 5_000,
            ended_at: (i > 0).then_some(self.day_start + i * MINUTE_MS + 300_000),
            outcome: ["unanswered", "replied", "transferred"][usize::try_from(i % 3).unwrap()].to_owned(),
        });
        let orders = (0..9i64).map(|i| {
            let created = now - i * 400_000 - 90_000;
            let before = i % 4 != 3;
            CreditedOrder {
                order_id: format!("o{}", 9_000 - i),
                buyer_key: buyer(i + 77),
                created_at: created,
                paid_at: (i % 5 != 2).then_some(created + 60_000),
                amount_fen: Some(8_900 + i * 4_321),
                refunded_fen: if i == 5 { 8_900 } else { 0 },
                rule: if before { "before_order" } else { "before_payment" }.to_owned(),
                last_touch_at: Some(if before { created - 754_000 } else { created + 20_000 }),
                lag_ms: before.then_some(754_000),
                first_touch_agent: before.then(|| if i % 2 == 0 { agent.id.clone() } else { "售后-2".to_owned() }),
                touching_agents: if before { 1 + i % 3 } else { 0 },
                fake: i == 7,
            }
        });
        AgentDetail {
            shop_id: self.shop.clone(),
            agent_id: agent.id.clone(),
            at: now,
            day: self.day(),
            hours: agent.hours.clone(),
            missed: missed.rev().collect(),
            orders: orders.collect(),
        }
    }

    /// Counts something into the minute of `at`.
    fn minute(&mut self, at: i64) -> &Curve {
        let start = at.div_euclid(HOUR_MS) * HOUR_MS;
        let minute = u8::try_from((at - start) / MINUTE_MS).unwrap();
        let Floor { curve, chance, shop, .. } = self;
        let curve = curve.entry(start).or_insert_with(|| Curve {
            shop_id: shop.clone(),
            hour: start,
            ..Curve::default()
        });
        let mut n = |most: u64| i64::try_from(chance.below(most)).unwrap();
        // A minute begins with most of what it will hold, so that the curve goes on as it came.
        let most = if curve.minutes.iter().any(|old| old.minute == minute) {
            2
        } else {
            40
        };
        let point = CurvePoint {
            minute,
            consulting_buyers: n(most),
            buyer_messages: n(most),
            orders_paid: n(most) / 3,
            gross_fen: n(most) * 9_900,
        };
        match curve.minutes.iter_mut().find(|old| old.minute == minute) {
            Some(old) => {
                old.consulting_buyers += point.consulting_buyers;
                old.buyer_messages += point.buyer_messages;
                old.orders_paid += point.orders_paid;
                old.gross_fen += point.gross_fen;
            }
            None => curve.minutes.push(point),
        }
        curve.minutes.sort_by_key(|point| point.minute);
        curve.at = now_ms();
        curve
    }
}

fn message(key: &LiveKey, json: serde_json::Result<Vec<u8>>) -> (String, Vec<u8>) {
    (key.encode(), json.unwrap())
}
