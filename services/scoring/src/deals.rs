//! Orders and refunds of a shop: reading their events, keeping their facts, and everything that follows from a change.
//!
//! An order's facts follow from its lives, its buyer's trail and its refunds; a refund's from its lives and its order. So an
//! order and the refunds that name it are always brought up to date together, by [`Shop::update_order`]: the figures of the
//! old facts are subtracted, those of the new ones added, rows written where a fact differs, and the buyer's days follow.

use crate::cohort::DayPhase;
use crate::credit::{Credit, OrderFact, RefundFact};
use crate::machine::SHOP;
use crate::money::{History, MoneyEvent, OrderLife, RefundLife, Retention};
use crate::output::{Output, Planned, Timer};
use crate::shop::{Context, Shop, at_minute};
use crate::slab::Slab;
use peakdesk_model::event::Event;
use peakdesk_model::time::Day;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::sync::Arc;

/// An order id of a shop: an order, or a place held for one that refunds name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OrderSlot {
    pub(crate) id: Arc<str>,
    pub(crate) history: History<OrderLife>,
    /// By life; `None` for one that does not exist (yet).
    pub(crate) facts: SmallVec<[Option<Box<OrderFact>>; 1]>,
    /// Refunds with a life that names this order.
    pub(crate) refunds: SmallVec<[u32; 1]>,
    /// The day under which its rows are filed.
    pub(crate) dt: Option<Day>,
    pub(crate) seal: Planned,
    pub(crate) forget: Planned,
}

/// A refund id of a shop.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RefundSlot {
    pub(crate) id: Arc<str>,
    pub(crate) history: History<RefundLife>,
    pub(crate) facts: SmallVec<[Option<Box<RefundFact>>; 1]>,
    pub(crate) dt: Option<Day>,
    pub(crate) seal: Planned,
    pub(crate) forget: Planned,
    /// Its requests that wait: `(requested_at, kept until)`, as the alert rules know them.
    pub(crate) waits: SmallVec<[(i64, i64); 1]>,
}

impl RefundSlot {
    /// Whether anything known of it names an order.
    pub(crate) fn names(&self, order: u32) -> bool {
        self.history.sealed().iter().any(|life| life.order == order) || self.history.open().iter().any(|e| e.order == order)
    }
}

/// The life of an order that a refund belongs to: the first that was not forgotten when the refund began, if it exists and was
/// created by the end of the second day after the refund's.
pub(crate) fn order_of(refund: &RefundLife, lives: &[OrderLife], keep: &Retention) -> Option<usize> {
    let i = lives.iter().position(|life| life.forgotten_at(keep) > refund.begun_at)?;
    let (created_at, dated_at) = (lives.get(i)?.created_at()?, refund.dated_at()?);
    (created_at < keep.utc.end(keep.utc.day(dated_at) + 2)).then_some(i)
}

/// From when on an event starts a refund anew (ms): it is kept as long as its order, without one for its own time.
pub(crate) fn refund_forgotten_at(refund: &RefundLife, lives: &[OrderLife], keep: &Retention) -> i64 {
    match order_of(refund, lives, keep).and_then(|i| lives.get(i)) {
        Some(order) => order.forgotten_at(keep),
        None => refund.begun_at + keep.order_ms,
    }
}

impl Shop {
    /// Reads an order or refund event; it is never dropped for lateness, but raised.
    pub(crate) fn read_money(&mut self, event: &Event<'_>, cx: &Context<'_>, out: &mut Output) {
        let floor = event.clock - cx.constants.lateness_money_ms;
        let allowed = floor.max(cx.horizon.money_sealed_until);
        let effective = event.event_time.max(allowed);
        if effective > event.event_time.max(floor) {
            out.counts.sealed += 1;
            self.late_row(event, "sealed", cx, out);
        } else if effective > event.event_time {
            out.counts.raised += 1;
            self.late_row(event, "raised", cx, out);
        }
        out.counts.accepted += 1;
        let Some(order_id) = event.order_id else { return };
        let order = self.order(order_id);
        let money = MoneyEvent::new(event, effective, allowed, order);
        match event.refund_id {
            None => self.insert_order_event(order, money, cx, out),
            Some(refund_id) => self.insert_refund_event(refund_id, money, cx, out),
        }
    }

    fn order(&mut self, id: &str) -> u32 {
        if let Some(order) = self.order_index.get(id) {
            return *order;
        }
        let id: Arc<str> = id.into();
        let order = self.orders.insert(OrderSlot {
            id: id.clone(),
            history: History::default(),
            facts: SmallVec::new(),
            refunds: SmallVec::new(),
            dt: None,
            seal: Planned::default(),
            forget: Planned::default(),
        });
        self.order_index.insert(id, order);
        order
    }

    fn insert_order_event(&mut self, order: u32, event: MoneyEvent, cx: &Context<'_>, out: &mut Output) {
        let due = at_minute(event.key.time + cx.constants.lateness_money_ms + 1);
        let Some(slot) = self.orders.get_mut(order) else { return };
        if !slot.history.insert(event) {
            return;
        }
        slot.seal.wish(due, Timer::SealOrder { order }, out);
        self.update_order(order, cx, out);
    }

    fn insert_refund_event(&mut self, refund_id: &str, event: MoneyEvent, cx: &Context<'_>, out: &mut Output) {
        let due = at_minute(event.key.time + cx.constants.lateness_money_ms + 1);
        let named = event.order;
        let refund = match self.refund_index.get(refund_id) {
            Some(refund) => *refund,
            None => {
                let id: Arc<str> = refund_id.into();
                let refund = self.refunds.insert(RefundSlot {
                    id: id.clone(),
                    history: History::default(),
                    facts: SmallVec::new(),
                    dt: None,
                    seal: Planned::default(),
                    forget: Planned::default(),
                    waits: SmallVec::new(),
                });
                self.refund_index.insert(id, refund);
                refund
            }
        };
        let Some(slot) = self.refunds.get_mut(refund) else { return };
        let mut orders: SmallVec<[u32; 2]> = slot.facts.iter().flatten().map(|f| f.life.order).collect();
        let forget = at_minute(event.key.time + cx.constants.order_retention_ms + cx.constants.lateness_money_ms + 1);
        slot.forget.wish(forget, Timer::ForgetRefund { refund }, out);
        slot.history.insert(event);
        slot.seal.wish(due, Timer::SealRefund { refund }, out);
        orders.push(named);
        orders.extend(self.refund_lives(refund, cx).iter().map(|life| life.order));
        orders.sort_unstable();
        orders.dedup();
        for order in orders {
            if let Some(slot) = self.orders.get_mut(order)
                && !slot.refunds.contains(&refund)
            {
                slot.refunds.push(refund);
            }
            self.update_order(order, cx, out);
        }
    }

    pub(crate) fn order_lives(&self, order: u32, cx: &Context<'_>) -> Vec<OrderLife> {
        let keep = cx.retention();
        self.orders.get(order).map_or(Vec::new(), |slot| {
            slot.history.lives(keep.order_ms, |life| life.forgotten_at(&keep))
        })
    }

    fn refund_lives(&self, refund: u32, cx: &Context<'_>) -> Vec<RefundLife> {
        let keep = cx.retention();
        let Some(slot) = self.refunds.get(refund) else { return Vec::new() };
        slot.history.lives(keep.order_ms, |life| {
            refund_forgotten_at(life, &self.order_lives(life.order, cx), &keep)
        })
    }

    /// Whether a change of the buyer's trail from `from` on (ms) can change an order's credit.
    pub(crate) fn order_depends_on(&self, order: u32, from: i64) -> bool {
        self.orders.get(order).is_some_and(|slot| {
            slot.facts
                .iter()
                .flatten()
                .any(|f| f.created_at >= from || f.paid_at().is_some_and(|t| t >= from))
        })
    }

    /// Brings an order and its refunds in line with what is known now.
    pub(crate) fn update_order(&mut self, order: u32, cx: &Context<'_>, out: &mut Output) {
        let keep = cx.retention();
        let rules = cx.rules();
        let lives = self.order_lives(order, cx);
        let Some(slot) = self.orders.get_mut(order) else { return };
        let old = std::mem::take(&mut slot.facts);
        let refunds = slot.refunds.clone();

        // Which refunds there are, and to which life each belongs.
        let mut claims: Vec<(u32, usize, RefundLife, Option<usize>)> = Vec::new();
        let mut paid_back: Vec<SmallVec<[(i64, i64); 1]>> = lives.iter().map(|_| SmallVec::new()).collect();
        for refund in &refunds {
            for (i, life) in self.refund_lives(*refund, cx).into_iter().enumerate() {
                if life.order != order {
                    continue;
                }
                let owner = order_of(&life, &lives, &keep);
                if let (Some(list), Some(done)) = (owner.and_then(|o| paid_back.get_mut(o)), life.succeeded) {
                    list.push((done.at, done.amount_fen.unwrap_or(0)));
                }
                claims.push((*refund, i, life, owner));
            }
        }

        let mut facts: SmallVec<[Option<Box<OrderFact>>; 1]> = SmallVec::new();
        for (i, (life, mut refunds)) in lives.iter().zip(paid_back).enumerate() {
            refunds.sort_unstable();
            let before = old.get(i).and_then(|f| f.as_deref());
            facts.push(self.order_fact(life, before, refunds, cx, out).map(Box::new));
        }

        let mut buyers: SmallVec<[u32; 2]> = SmallVec::new();
        for i in 0..old.len().max(facts.len()) {
            let (was, is) = (old.get(i).and_then(|f| f.as_deref()), facts.get(i).and_then(|f| f.as_deref()));
            if was == is {
                continue;
            }
            self.replace_order_fact(was, is, cx);
            for (fact, holds) in [(was, false), (is, true)] {
                if let Some((f, agent)) = fact.and_then(|f| Some((f, f.credit.agent()?))) {
                    self.windows.watch.credit(agent, f.paid_at().unwrap_or(f.created_at), order, holds);
                }
            }
            buyers.extend([was, is].into_iter().flatten().map(|f| f.buyer));
        }
        let agents: SmallVec<[(bool, Option<u32>); 1]> = facts
            .iter()
            .map(|f| f.as_ref().map_or((false, None), |f| (f.is_fake(&rules), f.credit.agent())))
            .collect();
        let last_was = old.iter().rev().flatten().next();
        let last_is = facts.iter().rev().flatten().next();
        let news = last_was.map(|f| f.says()) != last_is.map(|f| f.says());
        if let Some(slot) = self.orders.get_mut(order) {
            slot.facts = facts;
            if let Some(first) = lives.first() {
                let due = at_minute(first.dropped_at(&keep) + cx.constants.lateness_money_ms);
                slot.forget.wish(due, Timer::ForgetOrder { order }, out);
            }
        }
        buyers.sort_unstable();
        buyers.dedup();
        for buyer in &buyers {
            self.join(order, *buyer);
        }
        if news {
            self.publish_order(order, cx, out);
        }
        for refund in refunds {
            let claims = claims.iter().filter(|c| c.0 == refund);
            let new = claims.map(|(_, i, life, owner)| (*i, life, owner.and_then(|o| agents.get(o).copied())));
            self.update_refund(refund, order, new, cx, out);
        }
        for buyer in buyers {
            self.update_days(buyer, cx, out);
        }
    }

    /// Brings a buyer's list of orders in line with an order's lives.
    fn join(&mut self, order: u32, buyer: u32) {
        let facts = self.orders.get(order).map_or(&[][..], |slot| &slot.facts);
        let of_theirs = facts.iter().flatten().filter(|f| f.buyer == buyer);
        let last = of_theirs.map(|f| f.paid_at().unwrap_or(f.created_at).max(f.created_at)).max();
        let Some(buyer) = self.buyers.get_mut(buyer) else { return };
        buyer.orders_until = buyer.orders_until.max(last.unwrap_or(i64::MIN));
        if last.is_none() {
            buyer.orders.retain(|o| *o != order);
        } else if !buyer.orders.contains(&order) {
            buyer.orders.push(order);
        }
    }

    fn order_fact(
        &mut self,
        life: &OrderLife,
        before: Option<&OrderFact>,
        refunds: SmallVec<[(i64, i64); 1]>,
        cx: &Context<'_>,
        out: &mut Output,
    ) -> Option<OrderFact> {
        let created_at = life.created_at()?;
        // Mostly the one it was before.
        let known = before
            .map(|f| f.buyer)
            .filter(|b| self.buyers.get(*b).is_some_and(|b| b.key == life.buyer));
        let place = known.unwrap_or_else(|| self.buyer(life.buyer, cx, out));
        let rules = cx.rules();
        let window = rules.policy.on(rules.utc.day(created_at)).attribution_window_ms;
        let trail = &self.buyers.get(place)?.trail;
        let known = before.filter(|f| f.buyer == place).map(|f| &f.credit);
        let paid_at = life.paid.map(|m| m.at);
        let credit = Credit::find(known, trail, created_at, paid_at, window, cx.horizon.chat_sealed_until);
        Some(OrderFact {
            life: life.clone(),
            buyer: place,
            created_at,
            credit,
            refunds,
        })
    }

    /// Takes one fact's figures out of the windows and puts another's in.
    fn replace_order_fact(&mut self, was: Option<&OrderFact>, is: Option<&OrderFact>, cx: &Context<'_>) {
        let rules = cx.rules();
        let paying = |fact: Option<&OrderFact>| -> Option<(u32, Day, Option<u32>)> {
            let fact = fact.filter(|f| !f.is_fake(&rules))?;
            Some((fact.buyer, rules.utc.day(fact.paid_at()?), fact.credit.agent()))
        };
        let (pays_was, pays_is) = (paying(was), paying(is));
        if let Some(fact) = was {
            fact.apply(&mut self.windows, &rules, -1);
        }
        if let Some(fact) = is {
            fact.apply(&mut self.windows, &rules, 1);
        }
        if pays_was != pays_is {
            for (pays, sign) in [(pays_was, -1), (pays_is, 1)] {
                let Some((buyer, day, agent)) = pays else { continue };
                for scope in [Some(SHOP), agent].into_iter().flatten() {
                    self.count_paying(buyer, day, scope, sign, cx);
                }
            }
        }
    }

    /// Replaces the facts of a refund's lives that name `order`.
    fn update_refund<'a>(
        &mut self,
        refund: u32,
        order: u32,
        lives: impl Iterator<Item = (usize, &'a RefundLife, Option<(bool, Option<u32>)>)>,
        cx: &Context<'_>,
        out: &mut Output,
    ) {
        let rules = cx.rules();
        let total = self.refund_lives(refund, cx).len();
        let Some(slot) = self.refunds.get_mut(refund) else { return };
        let before: Option<RefundFact> = slot.facts.iter().rev().flatten().next().map(|f| (**f).clone());
        for fact in slot.facts.iter_mut() {
            // What named this order and does no more, or has moved to another place, is taken back.
            if let Some(f) = fact.take_if(|f| f.life.order == order) {
                f.apply(&mut self.windows, &rules, -1);
            }
        }
        slot.facts.resize_with(total.max(slot.facts.len()), || None);
        let mut named = false;
        for (i, life, owner) in lives {
            named = true;
            if life.dated_at().is_none() {
                continue;
            }
            let promise_end = life
                .requested
                .map(|m| m.at + rules.policy.on(rules.utc.day(m.at)).refund_promise_ms);
            let promise_is_over = promise_end.is_some_and(|end| cx.horizon.complete_until > end);
            let planned = before.as_ref().is_some_and(|b| b.life.requested == life.requested);
            if let Some(end) = promise_end.filter(|_| !promise_is_over && !planned) {
                out.plan(at_minute(end + 1), Timer::PromiseOver { refund });
            }
            let (order_is_fake, agent) = owner.unwrap_or((false, None));
            let fact = RefundFact {
                life: life.clone(),
                agent,
                order_is_fake,
                promise_is_over,
            };
            fact.apply(&mut self.windows, &rules, 1);
            if let Some(done) = life.succeeded {
                self.windows.watch.note_refund(done.at, refund);
            }
            if let Some(place) = slot.facts.get_mut(i)
                && let Some(other) = place.replace(Box::new(fact))
            {
                // Known under another order until now: an earlier event names this one.
                other.apply(&mut self.windows, &rules, -1);
            }
        }
        let after = slot.facts.iter().rev().flatten().next().map(|f| &**f);
        let news = after.is_some() && before.as_ref().map(RefundFact::says) != after.map(RefundFact::says);
        self.watch_refund(refund, cx);
        if !named {
            self.part(refund, order);
        }
        if news {
            self.publish_refund(refund, cx, out);
        }
    }

    /// Brings what the alert rules know of a refund's requests in line with its facts.
    pub(crate) fn watch_refund(&mut self, refund: u32, cx: &Context<'_>) {
        let keep = cx.retention();
        let Some(slot) = self.refunds.get(refund) else { return };
        let waits = |f: &&RefundFact| !f.order_is_fake && f.life.succeeded.is_none() && f.life.ended_at().is_none();
        let waiting = slot.facts.iter().flatten().map(|f| &**f).filter(waits).filter_map(|f| {
            let requested_at = f.life.requested?.at;
            Some((
                requested_at,
                refund_forgotten_at(&f.life, &self.order_lives(f.life.order, cx), &keep),
            ))
        });
        let waiting: SmallVec<[(i64, i64); 1]> = waiting.collect();
        if waiting == slot.waits {
            return;
        }
        let Some(slot) = self.refunds.get_mut(refund) else { return };
        for (requested_at, end) in std::mem::replace(&mut slot.waits, waiting.clone()) {
            self.windows.watch.request(refund, requested_at, end, false);
        }
        for (requested_at, end) in waiting {
            self.windows.watch.request(refund, requested_at, end, true);
        }
    }

    /// The promised time of a refund is over: figures that ask for it are brought up to date.
    pub(crate) fn promise_over(&mut self, refund: u32, cx: &Context<'_>, out: &mut Output) {
        let Some(slot) = self.refunds.get(refund) else { return };
        let mut orders: SmallVec<[u32; 2]> = slot
            .facts
            .iter()
            .flatten()
            .filter(|f| !f.promise_is_over)
            .map(|f| f.life.order)
            .collect();
        orders.dedup();
        for order in orders {
            self.update_order(order, cx, out);
        }
    }

    /// The existing orders of a buyer.
    pub(crate) fn facts_of(&self, buyer: u32) -> SmallVec<[&OrderFact; 4]> {
        let orders = self.buyers.get(buyer).map_or(&[][..], |b| &b.orders);
        facts_among(&self.orders, orders, buyer)
    }

    /// Brings the days of a buyer in line with their orders.
    pub(crate) fn update_days(&mut self, place: u32, cx: &Context<'_>, out: &mut Output) {
        let rules = cx.rules();
        let Some(buyer) = self.buyers.get_mut(place) else { return };
        let facts = facts_among(&self.orders, &buyer.orders, place);
        let mut born: SmallVec<[Day; 2]> = SmallVec::new();
        let mut changed: SmallVec<[Day; 2]> = SmallVec::new();
        for day in &mut buyer.days {
            if day.outcome.is_none() {
                born.push(day.day);
                day.find_agents(&buyer.trail, &rules);
            }
            if day.update(&facts, &mut self.windows, &rules) && !day.dirty && day.phase != DayPhase::Running {
                day.dirty = true;
                changed.push(day.day);
            }
        }
        drop(facts);
        for day in born {
            self.expect_day(day, place, cx, out);
        }
        for day in changed {
            self.changed_days.push((place, day));
            self.plan_corrections(cx, out);
        }
    }
}

/// The existing orders of a buyer among those that may be theirs.
fn facts_among<'a>(slots: &'a Slab<OrderSlot>, orders: &[u32], buyer: u32) -> SmallVec<[&'a OrderFact; 4]> {
    orders
        .iter()
        .filter_map(|o| slots.get(*o))
        .flat_map(|slot| slot.facts.iter().flatten())
        .map(|f| &**f)
        .filter(|f| f.buyer == buyer)
        .collect()
}
