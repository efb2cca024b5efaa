//! Sealing and forgetting of orders and refunds, and of the days that count them.
//!
//! Sealed is what no event can precede any more; it is folded into lives. Forgotten is what no rule can ask for any more: figures
//! keep what it contributed, and a day that counts a forgotten order remembers what it meant.

use crate::cohort::{BuyerDay, DayPhase};
use crate::credit::OrderFact;
use crate::deals::{order_of, refund_forgotten_at};
use crate::machine::SHOP;
use crate::money::RefundLife;
use crate::output::{Output, Timer};
use crate::shop::{Context, Shop, at_minute};
use peakdesk_model::time::Day;
use smallvec::SmallVec;

impl Shop {
    /// Takes a refund off an order's list, unless it still names the order; an order of which nothing is known goes with it.
    pub(crate) fn part(&mut self, refund: u32, order: u32) {
        if self.refunds.get(refund).is_some_and(|slot| slot.names(order)) {
            return;
        }
        let Some(slot) = self.orders.get_mut(order) else { return };
        slot.refunds.retain(|r| *r != refund);
        if slot.history.is_empty() && slot.refunds.is_empty() {
            let id = slot.id.clone();
            self.orders.remove(order);
            self.order_index.remove(&id);
        }
    }

    /// Seals an order's events up to the horizon.
    pub(crate) fn seal_order(&mut self, order: u32, cx: &Context<'_>, out: &mut Output) {
        let keep = cx.retention();
        let Some(slot) = self.orders.get_mut(order) else { return };
        if !slot.seal.fires(cx.horizon.complete_until) {
            return;
        }
        slot.history
            .seal(cx.horizon.money_sealed_until, keep.order_ms, |life| life.forgotten_at(&keep));
        if let Some(t) = slot.history.first_open_at() {
            slot.seal
                .wish(at_minute(t + cx.constants.lateness_money_ms + 1), Timer::SealOrder { order }, out);
        }
    }

    /// Seals a refund's events up to the horizon.
    pub(crate) fn seal_refund(&mut self, refund: u32, cx: &Context<'_>, out: &mut Output) {
        let keep = cx.retention();
        let Some(mut slot) = self.refunds.get(refund).cloned() else {
            return;
        };
        if !slot.seal.fires(cx.horizon.complete_until) {
            return;
        }
        let named: SmallVec<[u32; 2]> = slot.history.open().iter().map(|e| e.order).collect();
        let forgotten_at = |life: &RefundLife| refund_forgotten_at(life, &self.order_lives(life.order, cx), &keep);
        slot.history.seal(cx.horizon.money_sealed_until, keep.order_ms, forgotten_at);
        if let Some(t) = slot.history.first_open_at() {
            slot.seal
                .wish(at_minute(t + cx.constants.lateness_money_ms + 1), Timer::SealRefund { refund }, out);
        }
        if let Some(place) = self.refunds.get_mut(refund) {
            *place = slot;
        }
        for order in named {
            self.part(refund, order);
        }
    }

    /// Forgets the lives of an order, and of its refunds, that nothing can ask for any more.
    pub(crate) fn forget_order(&mut self, order: u32, cx: &Context<'_>, out: &mut Output) {
        let keep = cx.retention();
        let until = cx.horizon.money_sealed_until;
        let lives = self.order_lives(order, cx);
        let Some(slot) = self.orders.get_mut(order) else { return };
        slot.forget.fires(cx.horizon.complete_until);
        let n = lives
            .iter()
            .take(slot.history.sealed_len())
            .take_while(|life| life.dropped_at(&keep) <= until)
            .count();
        if n > 0 {
            slot.history.forget(n);
            let gone: SmallVec<[Option<Box<OrderFact>>; 1]> = slot.facts.drain(..n.min(slot.facts.len())).collect();
            let refunds = slot.refunds.clone();
            for fact in gone.into_iter().flatten() {
                self.forget_fact(order, &fact, cx);
            }
            for refund in refunds {
                // One without an order is kept for its own time, whatever waited for the order in vain.
                let over = |life: &RefundLife| life.order == order && order_of(life, &lives, &keep).is_some_and(|i| i < n);
                self.forget_refund_lives(refund, over, cx);
            }
        }
        let Some(slot) = self.orders.get_mut(order) else { return };
        if slot.history.is_empty() && slot.refunds.is_empty() {
            let id = slot.id.clone();
            self.orders.remove(order);
            self.order_index.remove(&id);
        } else if let Some(next) = lives.get(n) {
            let due = next.dropped_at(&keep) + cx.constants.lateness_money_ms;
            slot.forget
                .wish(at_minute(due.max(cx.horizon.complete_until + 1)), Timer::ForgetOrder { order }, out);
        }
    }

    /// Days whose figures count an order remember what it meant; those that no kept order can change are let go.
    fn forget_fact(&mut self, order: u32, fact: &OrderFact, cx: &Context<'_>) {
        let rules = cx.rules();
        let remains = self
            .orders
            .get(order)
            .is_some_and(|s| s.facts.iter().flatten().any(|f| f.buyer == fact.buyer));
        let Some(mut days) = self.buyers.get_mut(fact.buyer).map(|b| std::mem::take(&mut b.days)) else {
            return;
        };
        for day in days.iter_mut().filter(|d| d.includes(fact, &rules) && !fact.is_refunded(None)) {
            day.forgotten.push(fact.credit.agent().unwrap_or(SHOP));
        }
        if let Some(buyer) = self.buyers.get_mut(fact.buyer)
            && !remains
        {
            buyer.orders.retain(|o| *o != order);
        }
        let kept = self.facts_of(fact.buyer);
        days.retain(|d| d.phase != DayPhase::Final || kept.iter().any(|f| d.includes(f, &rules)));
        drop(kept);
        if let Some(buyer) = self.buyers.get_mut(fact.buyer) {
            buyer.days = days;
        }
    }

    /// Forgets the lives of a refund that nothing can ask for any more: those without an order go here, the others with theirs.
    pub(crate) fn forget_refund(&mut self, refund: u32, cx: &Context<'_>, out: &mut Output) {
        let keep = cx.retention();
        let Some(slot) = self.refunds.get_mut(refund) else { return };
        if !slot.forget.fires(cx.horizon.complete_until) {
            return;
        }
        let (sealed, open_at) = (slot.history.sealed().first().cloned(), slot.history.first_open_at());
        let over = sealed
            .as_ref()
            .map(|life| refund_forgotten_at(life, &self.order_lives(life.order, cx), &keep));
        if let (Some(life), Some(over)) = (&sealed, over)
            && over <= cx.horizon.money_sealed_until
        {
            self.forget_refund_lives(refund, |l| l.begun_at == life.begun_at, cx);
            self.forget_order(life.order, cx, out);
        }
        let Some(slot) = self.refunds.get_mut(refund) else { return };
        let next = over.or(open_at.map(|t| t + keep.order_ms)).unwrap_or(cx.horizon.money_sealed_until) + cx.constants.lateness_money_ms;
        slot.forget.wish(
            at_minute(next.max(cx.horizon.complete_until + 1)),
            Timer::ForgetRefund { refund },
            out,
        );
    }

    fn forget_refund_lives(&mut self, refund: u32, over: impl Fn(&RefundLife) -> bool, cx: &Context<'_>) {
        let Some(slot) = self.refunds.get_mut(refund) else { return };
        let n = slot.history.sealed().iter().take_while(|life| over(life)).count();
        let named: SmallVec<[u32; 1]> = slot.history.sealed().iter().take(n).map(|life| life.order).collect();
        slot.history.forget(n);
        slot.facts.drain(..n.min(slot.facts.len()));
        self.watch_refund(refund, cx);
        let Some(slot) = self.refunds.get_mut(refund) else { return };
        if slot.history.is_empty() {
            let id = slot.id.clone();
            self.refunds.remove(refund);
            self.refund_index.remove(&id);
        }
        for order in named {
            self.part(refund, order);
        }
    }

    /// Lets go of a final day that no kept order can change.
    pub(crate) fn let_go_of_day(&mut self, place: u32, day: Day, cx: &Context<'_>) {
        let rules = cx.rules();
        let facts = self.facts_of(place);
        let keep = |d: &BuyerDay| d.day != day || d.phase != DayPhase::Final || facts.iter().any(|f| d.includes(f, &rules));
        let kept: SmallVec<[bool; 4]> = self
            .buyers
            .get(place)
            .map_or(SmallVec::new(), |b| b.days.iter().map(keep).collect());
        drop(facts);
        if let Some(buyer) = self.buyers.get_mut(place) {
            let mut i = 0;
            buyer.days.retain(|_| {
                i += 1;
                kept.get(i - 1).copied().unwrap_or(true)
            });
        }
    }
}
