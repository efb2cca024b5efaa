//! What all tests need: owned events, the source log they arrive in, frames, a reader that folds them, and the tables that result.
//!
//! ```text
//! Item ─(partition, arrival)─► Record ─receive─► Logged (offset, clock) ─frames─► Delivery ─Reader─► Rows ─tables─► Tables
//! ```
//!
//! Every step is a pure function, so that a law can vary one of them and keep the others.

use peakdesk_model::event::{BuyerKey, Event, Kind, RefundPhase, RefundReason, RobotKind};
use peakdesk_model::frame::{FrameHead, SourceRange};
use peakdesk_model::input::Topic;
use peakdesk_model::position::{SourcePartition, SourcePosition};
use peakdesk_model::table::{FIGURES, NULL, Rows, WindowRow};
use peakdesk_model::time::{DAY_MS, MINUTE_MS, UtcOffset, parse_date};
use peakdesk_scoring::fold::Fold;
use peakdesk_scoring::output::Output;
use peakdesk_scoring::policy::{Constants, Policies, Policy};
use std::collections::BTreeMap;

/// The first day of all generated stories, 2025-11-10.
pub fn first_day() -> i64 {
    UtcOffset::CHINA.start(parse_date("2025-11-10").unwrap())
}

/// An event that owns its texts and has not arrived yet.
#[derive(Clone, PartialEq)]
pub struct Item {
    pub kind: Kind,
    pub shop: String,
    pub id: String,
    pub buyer: String,
    pub t: i64,
    pub agent: Option<String>,
    pub to_agent: Option<String>,
    pub spam: bool,
    pub assisted: bool,
    pub rating: u8,
    pub robot: RobotKind,
    pub order: Option<String>,
    pub refund: Option<String>,
    pub fen: Option<i64>,
    pub items: Option<i64>,
    pub told_created_at: Option<i64>,
    pub fake: bool,
    pub reason: Option<RefundReason>,
    pub phase: Option<RefundPhase>,
}

impl Item {
    pub fn new(kind: Kind, shop: &str, id: String, buyer: &str, t: i64) -> Self {
        Item {
            kind,
            shop: shop.into(),
            id,
            buyer: buyer.into(),
            t,
            agent: None,
            to_agent: None,
            spam: false,
            assisted: false,
            rating: 0,
            robot: RobotKind::Full,
            order: None,
            refund: None,
            fen: None,
            items: None,
            told_created_at: None,
            fake: false,
            reason: None,
            phase: None,
        }
    }

    pub fn topic(&self) -> Topic {
        if self.kind.is_chat() {
            Topic::Chat
        } else if self.kind.is_order() {
            Topic::Orders
        } else {
            Topic::Refunds
        }
    }
}

/// Only what is set, so that a failing set of events can be read.
impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {} {} {} {}",
            crate::story::clock(self.t),
            self.shop,
            self.buyer,
            self.kind.name(),
            self.id
        )?;
        let texts = [
            ("agent", &self.agent),
            ("to", &self.to_agent),
            ("order", &self.order),
            ("refund", &self.refund),
        ];
        texts
            .into_iter()
            .filter_map(|(name, text)| Some((name, text.as_ref()?)))
            .try_for_each(|(name, text)| write!(f, " {name}={text}"))?;
        let numbers = [
            ("fen", self.fen),
            ("items", self.items),
            ("stars", (self.rating > 0).then_some(i64::from(self.rating))),
        ];
        numbers
            .into_iter()
            .filter_map(|(name, n)| Some((name, n?)))
            .try_for_each(|(name, n)| write!(f, " {name}={n}"))?;
        if let Some(told) = self.told_created_at {
            write!(f, " told={}", crate::story::clock(told))?;
        }
        let flags = [("spam", self.spam), ("assisted", self.assisted), ("fake", self.fake)];
        flags
            .into_iter()
            .filter(|(_, on)| *on)
            .try_for_each(|(name, _)| write!(f, " {name}"))?;
        if self.kind == Kind::RobotMessage {
            write!(f, " {:?}", self.robot)
        } else {
            Ok(())
        }
    }
}

pub fn buyer_key(buyer: &str) -> BuyerKey {
    let mut key = [0; 16];
    for (to, from) in key.iter_mut().zip(buyer.bytes()) {
        *to = from;
    }
    BuyerKey(key)
}

/// The name that `buyer_key` was made of.
pub fn buyer_name(key: BuyerKey) -> String {
    key.0.iter().take_while(|b| **b != 0).map(|b| *b as char).collect()
}

/// An event on its way: where and when it arrives.
#[derive(Debug, Clone)]
pub struct Record {
    pub partition: i32,
    pub arrival: i64,
    pub item: Item,
}

/// An event as it lies in the source topic.
#[derive(Debug, Clone)]
pub struct Logged {
    pub source: SourcePosition,
    pub arrival: i64,
    pub clock: i64,
    pub item: Item,
}

impl Logged {
    pub fn event(&self) -> Event<'_> {
        let i = &self.item;
        Event {
            agent_id: i.agent.as_deref(),
            to_agent_id: i.to_agent.as_deref(),
            spam: i.spam,
            assisted: i.assisted,
            rating: i.rating,
            robot_kind: i.robot,
            order_id: i.order.as_deref(),
            refund_id: i.refund.as_deref(),
            amount_fen: i.fen,
            item_count: i.items,
            order_created_at: i.told_created_at,
            fake: i.fake,
            reason: i.reason,
            phase: i.phase,
            ..Event::new(self.source, self.clock, i.t, i.kind, &i.shop, &i.id, buyer_key(&i.buyer))
        }
    }
}

/// Appends records to their source partitions in the given order: offsets count up, clocks are running maxima.
pub fn receive(records: &[Record]) -> Vec<Logged> {
    let mut ends: BTreeMap<SourcePartition, (i64, i64)> = BTreeMap::new();
    records
        .iter()
        .map(|r| {
            let partition = SourcePartition {
                topic: r.item.topic(),
                partition: r.partition,
                generation: 1,
            };
            let (offset, clock) = ends.entry(partition).or_insert((0, r.arrival));
            *clock = r.arrival.max(*clock);
            let logged = Logged {
                source: SourcePosition {
                    partition,
                    offset: *offset,
                },
                arrival: r.arrival,
                clock: *clock,
                item: r.item.clone(),
            };
            *offset += 1;
            logged
        })
        .collect()
}

/// As [`receive`], in the order of arrival: every record's clock is its arrival.
pub fn in_step(records: &[Record]) -> Vec<Logged> {
    let mut sorted = records.to_vec();
    sorted.sort_by_key(|r| r.arrival);
    receive(&sorted)
}

/// A frame on its way to the fold.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub head: FrameHead,
    pub events: Vec<Logged>,
}

/// How a list of events is cut into frames.
#[derive(Debug, Clone, Default)]
pub struct Cutting {
    /// Events per frame, round and round; 0 is a tick. Empty: one frame holds all.
    pub sizes: Vec<usize>,
    /// Every partition has a clock of this moment before the first event, as if it had had a record then.
    pub opening: Option<i64>,
    /// Reading is in step: every partition that had a record is known as far as the newest arrival read.
    pub stand: bool,
}

/// Cuts events into frames. Every frame speaks for every source partition there is.
pub fn frames(logged: &[Logged], cutting: &Cutting) -> Vec<Delivery> {
    let mut ends: BTreeMap<SourcePartition, (i64, Option<i64>)> = BTreeMap::new();
    for l in logged {
        ends.insert(l.source.partition, (0, cutting.opening));
    }
    let mut out = Vec::new();
    if cutting.opening.is_some() {
        out.push(next_frame(&[], &mut ends, None));
    }
    let (mut rest, mut stand) = (logged, i64::MIN);
    for round in 0.. {
        if rest.is_empty() {
            return out;
        }
        let all_ticks = cutting.sizes.iter().all(|s| *s == 0);
        let size = if all_ticks {
            rest.len()
        } else {
            cutting.sizes[round % cutting.sizes.len()].min(rest.len())
        };
        let (now, later) = rest.split_at(size);
        stand = now.iter().map(|l| l.arrival).fold(stand, i64::max);
        out.push(next_frame(now, &mut ends, cutting.stand.then_some(stand)));
        rest = later;
    }
    out
}

fn next_frame(events: &[Logged], ends: &mut BTreeMap<SourcePartition, (i64, Option<i64>)>, stand: Option<i64>) -> Delivery {
    let ranges = ends
        .iter_mut()
        .map(|(partition, (end, clock))| {
            let from = *end;
            for l in events.iter().filter(|l| l.source.partition == *partition) {
                *end = l.source.offset + 1;
                *clock = Some(clock.map_or(l.clock, |c| c.max(l.clock)));
            }
            let clock = clock.map(|c| stand.map_or(c, |s| s.max(c)));
            SourceRange {
                partition: *partition,
                origin: 0,
                from,
                to: *end,
                clock,
            }
        })
        .collect();
    Delivery {
        head: FrameHead {
            ranges,
            ..FrameHead::default()
        },
        events: events.to_vec(),
    }
}

/// A fold that reads deliveries; log offsets go up by ten, so that others can be put in between.
#[derive(Debug)]
pub struct Reader {
    pub fold: Fold,
    pub policies: Policies,
    pub out: Output,
    pub offset: i64,
    ends: BTreeMap<SourcePartition, SourceRange>,
}

impl Reader {
    pub fn new(policies: Policies) -> Self {
        Reader::with_constants(policies, Constants::default())
    }

    pub fn with_constants(policies: Policies, constants: Constants) -> Self {
        Reader {
            fold: Fold::new(constants),
            policies,
            out: Output::default(),
            offset: 0,
            ends: BTreeMap::new(),
        }
    }

    /// A reader that goes on where another stands, with a state of its own and no rows yet.
    pub fn resume(&self, fold: Fold) -> Self {
        Reader {
            fold,
            policies: self.policies.clone(),
            out: Output::default(),
            offset: self.offset,
            ends: self.ends.clone(),
        }
    }

    pub fn read(&mut self, delivery: &Delivery) {
        self.offset += 10;
        self.read_at(self.offset, delivery);
    }

    pub fn read_at(&mut self, offset: i64, delivery: &Delivery) {
        for range in &delivery.head.ranges {
            let end = self.ends.entry(range.partition).or_insert(*range);
            *end = SourceRange {
                from: range.to.max(end.to),
                to: range.to.max(end.to),
                clock: range.clock.max(end.clock),
                ..*range
            };
        }
        self.fold.apply(
            offset,
            &delivery.head,
            delivery.events.iter().map(Logged::event),
            &self.policies,
            &mut self.out,
        );
    }

    pub fn read_all(&mut self, deliveries: &[Delivery]) {
        deliveries.iter().for_each(|d| self.read(d));
    }

    /// One tick at `at` (ms).
    pub fn tick(&mut self, at: i64) {
        self.tick_with(at, FrameHead::default());
    }

    /// One tick at `at` (ms): all source partitions stand there. The rest of its head is given.
    pub fn tick_with(&mut self, at: i64, head: FrameHead) {
        let ranges = self
            .ends
            .values()
            .map(|r| SourceRange {
                clock: r.clock.map(|c| c.max(at)),
                ..*r
            })
            .collect();
        self.read(&Delivery {
            head: FrameHead { ranges, ..head },
            events: Vec::new(),
        });
    }

    /// Ticks up to `until` (ms), a minute at a time, with every scope to be looked at in each. Frames in step only: a tick
    /// says that all partitions stand there.
    pub fn look_at_all_until(&mut self, until: i64) {
        let mut at = self.fold.now();
        while !self.ends.is_empty() && at < until {
            at = ((at.div_euclid(MINUTE_MS) + 1) * MINUTE_MS).min(until);
            self.fold.look_at_all();
            let head = FrameHead {
                in_step: true,
                ..FrameHead::default()
            };
            self.tick_with(at, head);
        }
    }

    /// Lets time run on, at least `step_ms` at a time, until nothing can change any more. Nothing is left in the end then.
    pub fn run_on(&mut self, step_ms: i64) {
        let (mut at, begun) = (self.fold.now(), self.fold.now());
        while let Some(due) = self.fold.next_timer_at() {
            let (more, said) = (self.fold.may_say_more(), self.out.rows.len());
            at = due.max(at + step_ms);
            assert!(at < begun + 400 * DAY_MS, "timers without end: {:?}", self.fold.size());
            self.tick(at);
            assert!(more || said == self.out.rows.len(), "rows after everything was said");
        }
        assert!(!self.fold.may_say_more());
        // Of a shop that was set aside nothing is handled any more.
        let size = self.fold.size();
        let kept = size.buyers + size.orders + size.refunds + size.windows;
        assert!(kept == 0 || self.fold.shops_set_aside() > 0, "kept for ever: {size:?}");
    }
}

/// Reads everything, lets time run on in big steps and returns the reader.
pub fn run(deliveries: &[Delivery], policies: &Policies) -> Reader {
    let mut reader = Reader::new(policies.clone());
    reader.read_all(deliveries);
    reader.run_on(100 * DAY_MS);
    reader
}

/// One profile for all, another with a change on the third day for the second shop.
pub fn two_policies() -> Policies {
    let text = "profile = \"peak\"\n[[version]]\nsession_gap = \"5m\"\n[[version]]\nfrom = 2025-11-12\nsession_gap = \"20m\"\nlatency_cap = \"180s\"\n\
        close_of_day = \"5m\"\nassessed_hours = \"00:00-24:00\"\nattribution_window = \"24h\"\nafter_sale_lookback = \"2d\"\nrefund_promise = \"1h\"";
    let peak = Policy::parse(text, &Constants::default()).unwrap();
    Policies::new(Policy::default(), BTreeMap::from([("s1".to_owned(), peak)]))
}

/// The current row of every key as text, without its place and time of publication. Windows that are all zeros have no row.
pub type Tables = BTreeMap<String, String>;

pub fn tables(rows: &Rows) -> Tables {
    let mut out = Tables::new();
    for r in &rows.reply_rounds {
        let key = format!("round|{}|{}|{}|{}", r.shop_id, buyer_name(r.buyer), r.t0, r.seq);
        out.insert(
            key,
            format!(
                "{} {:?} {} {:?} {:?} {} {:?} {:?} {} {} {}",
                r.stamp.policy,
                r.agent_id,
                r.a0,
                r.ended_at,
                r.outcome,
                r.buyer_messages,
                r.latency_customer_ms,
                r.latency_agent_ms,
                r.first_in_session,
                r.assessed,
                r.day
            ),
        );
    }
    for r in &rows.orders {
        let mut r = r.clone();
        r.stamp = stampless(&r.stamp);
        out.insert(format!("order|{}|{}", r.shop_id, r.order_id), format!("{r:?}"));
    }
    for r in &rows.refunds {
        let mut r = r.clone();
        r.stamp = stampless(&r.stamp);
        out.insert(format!("refund|{}|{}", r.shop_id, r.refund_id), format!("{r:?}"));
    }
    for r in &rows.buyer_days {
        let key = format!("buyer_day|{}|{}|{}", r.shop_id, buyer_name(r.buyer), r.day);
        let value = format!(
            "{} final={} {} {} {} {:?}",
            r.stamp.policy, r.stamp.is_final, r.first_at, r.open_after_sale, r.is_inquiry, r.flags
        );
        out.insert(key, value);
    }
    for r in rows.agent_windows.iter().chain(&rows.shop_windows) {
        let key = window_key(r);
        let figures = nonzero(r);
        if figures.is_empty() {
            out.remove(&key);
        } else {
            out.insert(key, format!("{} final={} {:?}", r.stamp.policy, r.stamp.is_final, figures));
        }
    }
    for r in &rows.late_events {
        let key = format!("late|{}|{}|{}|{}", r.topic, r.partition, r.generation, r.offset);
        let value = format!(
            "{} {} {} {} {} {} {}",
            r.stamp.policy, r.reason, r.shop_id, r.event_id, r.kind, r.event_time, r.clock
        );
        assert_eq!(out.insert(key, value), None, "a late event twice");
    }
    out
}

/// Tables without the late events, whose keys are source positions.
pub fn figures_only(rows: &Rows) -> Tables {
    let mut tables = tables(rows);
    tables.retain(|key, _| !key.starts_with("late|"));
    tables
}

/// The filing day of an order follows from what was known when it was first published, and is compared elsewhere.
fn stampless(stamp: &peakdesk_model::table::Stamp) -> peakdesk_model::table::Stamp {
    peakdesk_model::table::Stamp {
        published_at: 0,
        dt: 0,
        position: peakdesk_model::position::LogPosition { offset: 0, index: 0 },
        ..stamp.clone()
    }
}

pub fn window_key(r: &WindowRow) -> String {
    format!(
        "window|{}|{}|{}|{}",
        r.shop_id,
        r.agent_id.as_deref().unwrap_or("-"),
        r.grain.name(),
        r.window_start
    )
}

/// The figures of a window that are neither zero nor null.
pub fn nonzero(r: &WindowRow) -> BTreeMap<&'static str, i64> {
    FIGURES
        .iter()
        .zip(r.values.iter())
        .filter(|(_, v)| **v != 0 && **v != NULL)
        .map(|((name, _), v)| (*name, *v))
        .collect()
}

/// Fails with the rows in which two sets of tables differ.
pub fn same(left: &Tables, right: &Tables) -> Result<(), String> {
    let keys: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let differing: Vec<String> = keys
        .into_iter()
        .filter(|k| left.get(*k) != right.get(*k))
        .map(|k| format!("{k}\n   left  {}\n   right {}", text(left.get(k)), text(right.get(k))))
        .collect();
    if differing.is_empty() {
        Ok(())
    } else {
        Err(format!("{} rows differ:\n{}", differing.len(), differing.join("\n")))
    }
}

fn text(row: Option<&String>) -> &str {
    row.map_or("(no row)", |r| r.as_str())
}
