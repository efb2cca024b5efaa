//! Orders and refunds as they are known: the first event of each status, and nothing of the events themselves once no other
//! event can come before them.
//!
//! Events are read in order. An event that comes after its order (or refund) was forgotten starts it anew: a *life*. A life
//! is a function of the set of its events; events that may still be preceded by others are kept beside the sealed lives.
//!
//! Source: metric definitions, "orders" and "refunds".

use crate::key::EventKey;
use peakdesk_model::event::{BuyerKey, Event, Kind, RefundPhase, RefundReason};
use serde::{Deserialize, Serialize};

/// An order or refund event, reduced to what the rules ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyEvent {
    /// Order, at the effective time.
    pub key: EventKey,
    /// As the producer gave it (ms).
    pub event_time: i64,
    /// The buyer it names.
    pub buyer: BuyerKey,
    /// The order it names: its place in the shop's list.
    pub order: u32,
    /// Amount, where the status has one (fen).
    pub amount_fen: Option<i64>,
    /// Items, where the status has them.
    pub item_count: Option<i64>,
    /// When the order was created by this event's account, not before what lateness allows (ms).
    pub order_created_at: Option<i64>,
    /// Brushing.
    pub fake: bool,
    /// Refunds.
    pub reason: Option<RefundReason>,
    /// Refunds.
    pub phase: Option<RefundPhase>,
}

impl MoneyEvent {
    /// Takes what counts from a validated event; `floor` is the earliest moment its lateness allows.
    pub fn new(event: &Event<'_>, effective_time: i64, floor: i64, order: u32) -> Self {
        MoneyEvent {
            key: EventKey::new(event, effective_time),
            event_time: event.event_time,
            buyer: event.buyer,
            order,
            amount_fen: event.amount_fen,
            item_count: event.item_count,
            order_created_at: event.order_created_at.map(|t| t.max(floor)),
            fake: event.fake,
            reason: event.reason,
            phase: event.phase,
        }
    }
}

/// The first event of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Effective time (ms).
    pub at: i64,
    /// As the producer gave it (ms).
    pub event_time: i64,
    /// Fen.
    pub amount_fen: Option<i64>,
    /// Items.
    pub item_count: Option<i64>,
}

/// How long orders are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// After creation (ms).
    pub order_ms: i64,
    /// After payment of the balance or the deposit (ms).
    pub lookback_ms: i64,
    /// Where days begin.
    pub utc: peakdesk_model::time::UtcOffset,
}

/// One life of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLife {
    /// Effective time of its first event (ms).
    pub begun_at: i64,
    /// From its first event.
    pub buyer: BuyerKey,
    /// CREATED.
    pub created: Option<Mark>,
    /// DEPOSIT_PAID.
    pub deposit: Option<Mark>,
    /// PAID.
    pub paid: Option<Mark>,
    /// CLOSED.
    pub closed: Option<Mark>,
    /// Least creation time any event gives (ms).
    pub told_created_at: Option<i64>,
    /// Effective time of the first event that says it is brushing (ms).
    pub fake_at: Option<i64>,
    /// While nothing says that the order exists: events that wait for it, in order.
    waiting: Vec<MoneyEvent>,
    begun: bool,
}

impl OrderLife {
    fn begin(event: &MoneyEvent) -> Self {
        OrderLife {
            begun_at: event.key.time,
            buyer: event.buyer,
            created: None,
            deposit: None,
            paid: None,
            closed: None,
            told_created_at: None,
            fake_at: None,
            waiting: Vec::new(),
            begun: false,
        }
    }

    /// Each event waits for the order at most `order_ms`; one that gives up waiting leaves nothing behind.
    fn read(&mut self, event: &MoneyEvent, order_ms: i64) {
        let says_it_exists = matches!(event.key.kind, Kind::OrderCreated | Kind::OrderDepositPaid | Kind::OrderPaid);
        if self.created_at().is_some() || (says_it_exists && self.waiting.is_empty()) {
            return self.take(event);
        }
        self.waiting.retain(|w| event.key.time <= w.key.time + order_ms);
        self.waiting.push(event.clone());
        if says_it_exists {
            for waiting in std::mem::take(&mut self.waiting) {
                self.take(&waiting);
            }
        } else if let Some(first) = self.waiting.first() {
            self.begun_at = first.key.time;
        }
    }

    fn take(&mut self, event: &MoneyEvent) {
        self.settle_first(event);
        let slot = match event.key.kind {
            Kind::OrderCreated => Some(&mut self.created),
            Kind::OrderDepositPaid => Some(&mut self.deposit),
            Kind::OrderPaid => Some(&mut self.paid),
            Kind::OrderClosed => Some(&mut self.closed),
            _ => None,
        };
        if let Some(slot @ None) = slot {
            *slot = Some(Mark {
                at: event.key.time,
                event_time: event.event_time,
                amount_fen: event.amount_fen,
                item_count: event.item_count,
            });
        }
        if let Some(told) = event.order_created_at {
            self.told_created_at = Some(self.told_created_at.map_or(told, |t| t.min(told)));
        }
        if event.fake && self.fake_at.is_none() {
            self.fake_at = Some(event.key.time);
        }
    }

    /// The buyer is that of the first event that has not given up waiting.
    fn settle_first(&mut self, event: &MoneyEvent) {
        if !self.begun {
            self.begun = true;
            self.begun_at = event.key.time;
            self.buyer = event.buyer;
        }
    }

    /// When it was created; `None` while only statuses are known that wait for the order (ms).
    pub fn created_at(&self) -> Option<i64> {
        let known = [self.created, self.deposit, self.paid].into_iter().flatten().map(|m| m.at).min()?;
        Some(self.told_created_at.map_or(known, |told| told.min(known)))
    }

    /// From when on an event starts it anew (ms). One that does not exist yet is never forgotten: its events give up waiting
    /// one by one.
    pub fn forgotten_at(&self, keep: &Retention) -> i64 {
        let Some(created_at) = self.created_at() else {
            return i64::MAX;
        };
        let paid = [self.deposit, self.paid].into_iter().flatten().map(|m| m.at + keep.lookback_ms);
        let last = paid.fold(created_at + keep.order_ms, i64::max);
        keep.utc.end(keep.utc.day(last) + 2)
    }

    /// From when on nothing that may come asks for it (ms).
    pub fn dropped_at(&self, keep: &Retention) -> i64 {
        match self.waiting.last() {
            Some(last) if self.created_at().is_none() => last.key.time + keep.order_ms + 1,
            _ => self.forgotten_at(keep),
        }
    }

    /// Brushing in the sense of a rule that looks until `until` (ms, exclusive).
    pub fn fake_before(&self, until: i64) -> bool {
        self.fake_at.is_some_and(|at| at < until)
    }
}

/// One life of a refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundLife {
    /// Effective time of its first event (ms).
    pub begun_at: i64,
    /// From its first event.
    pub buyer: BuyerKey,
    /// From its first event: the order's place in the shop's list.
    pub order: u32,
    /// REQUESTED.
    pub requested: Option<Mark>,
    /// SUCCEEDED.
    pub succeeded: Option<Mark>,
    /// First of REFUSED.
    pub refused: Option<Mark>,
    /// First of CLOSED.
    pub closed: Option<Mark>,
    /// AGREED: of no figure, but the event counts as known.
    pub agreed: Option<Mark>,
    /// From the first counting event that has one.
    pub reason: Option<RefundReason>,
    /// From the first counting event that has one.
    pub phase: Option<RefundPhase>,
}

impl RefundLife {
    fn begin(event: &MoneyEvent) -> Self {
        RefundLife {
            begun_at: event.key.time,
            buyer: event.buyer,
            order: event.order,
            requested: None,
            succeeded: None,
            refused: None,
            closed: None,
            agreed: None,
            reason: None,
            phase: None,
        }
    }

    fn read(&mut self, event: &MoneyEvent) {
        let slot = match event.key.kind {
            Kind::RefundRequested => &mut self.requested,
            Kind::RefundAgreed => &mut self.agreed,
            Kind::RefundRefused => &mut self.refused,
            Kind::RefundSucceeded => &mut self.succeeded,
            _ => &mut self.closed,
        };
        if slot.is_none() {
            *slot = Some(Mark {
                at: event.key.time,
                event_time: event.event_time,
                amount_fen: event.amount_fen,
                item_count: None,
            });
            self.reason = self.reason.or(event.reason);
            self.phase = self.phase.or(event.phase);
        }
    }

    /// When it was refused or closed, whichever came first (ms).
    pub fn ended_at(&self) -> Option<i64> {
        [self.refused, self.closed].into_iter().flatten().map(|m| m.at).min()
    }

    /// The time that decides its day and its order; `None` while only an agreement is known (ms).
    pub fn dated_at(&self) -> Option<i64> {
        self.requested.or(self.succeeded).map(|m| m.at).or_else(|| self.ended_at())
    }
}

/// Sealed lives and the events that may still be preceded by others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History<L> {
    sealed: Vec<L>,
    /// Ascending by key.
    open: Vec<MoneyEvent>,
}

impl<L> Default for History<L> {
    fn default() -> Self {
        History {
            sealed: Vec::new(),
            open: Vec::new(),
        }
    }
}

/// What orders and refunds have in common.
pub trait Life: Clone {
    /// A life begun by its first event.
    fn begin(event: &MoneyEvent) -> Self;
    /// Reads an event, the first one too; `order_ms` is how long an event waits for its order.
    fn read(&mut self, event: &MoneyEvent, order_ms: i64);
}

impl Life for OrderLife {
    fn begin(event: &MoneyEvent) -> Self {
        OrderLife::begin(event)
    }
    fn read(&mut self, event: &MoneyEvent, order_ms: i64) {
        OrderLife::read(self, event, order_ms);
    }
}

impl Life for RefundLife {
    fn begin(event: &MoneyEvent) -> Self {
        RefundLife::begin(event)
    }
    fn read(&mut self, event: &MoneyEvent, _order_ms: i64) {
        RefundLife::read(self, event);
    }
}

impl<L: Life> History<L> {
    /// Puts an event in its place; `false` if exactly this event is there already.
    pub fn insert(&mut self, event: MoneyEvent) -> bool {
        match self.open.binary_search_by(|e| e.key.cmp(&event.key)) {
            Ok(_) => false,
            Err(i) => {
                self.open.insert(i, event);
                true
            }
        }
    }

    /// The lives as they follow from all events; `forgotten_at` says when one is forgotten.
    pub fn lives(&self, order_ms: i64, forgotten_at: impl Fn(&L) -> i64) -> Vec<L> {
        let mut lives = self.sealed.clone();
        for event in &self.open {
            read_into(&mut lives, event, order_ms, &forgotten_at);
        }
        lives
    }

    /// Makes part of the sealed lives what lies before `until` (ms).
    pub fn seal(&mut self, until: i64, order_ms: i64, forgotten_at: impl Fn(&L) -> i64) {
        let n = self.open.partition_point(|e| e.key.time < until);
        for event in self.open.drain(..n) {
            read_into(&mut self.sealed, &event, order_ms, &forgotten_at);
        }
        if self.open.is_empty() {
            self.open = Vec::new();
        }
    }

    /// Drops the first `n` sealed lives.
    pub fn forget(&mut self, n: usize) {
        self.sealed.drain(..n.min(self.sealed.len()));
    }

    /// Number of sealed lives.
    pub fn sealed_len(&self) -> usize {
        self.sealed.len()
    }

    /// Time of the first event that is not sealed (ms).
    pub fn first_open_at(&self) -> Option<i64> {
        self.open.first().map(|e| e.key.time)
    }

    /// The events that are not sealed.
    pub fn open(&self) -> &[MoneyEvent] {
        &self.open
    }

    /// Whether nothing is known any more.
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.open.is_empty()
    }

    /// The sealed lives.
    pub fn sealed(&self) -> &[L] {
        &self.sealed
    }
}

fn read_into<L: Life>(lives: &mut Vec<L>, event: &MoneyEvent, order_ms: i64, forgotten_at: &impl Fn(&L) -> i64) {
    let begins = lives.last().is_none_or(|life| event.key.time >= forgotten_at(life));
    if begins {
        // Hardly ever is there a second one.
        lives.reserve_exact(1);
        lives.push(L::begin(event));
    }
    if let Some(life) = lives.last_mut() {
        life.read(event, order_ms);
    }
}
