//! Publication: when rows are written, and which.
//!
//! | row | published |
//! | --- | --- |
//! | minute | final once its chat is sealed and no open wait has a clock in it; open if that takes longer than the cap |
//! | hour | open when the cap has passed, final with its cohort |
//! | day | hourly while it runs, open after the close of day, final with its cohort |
//! | buyer's day | open when its money is sealed, final with its cohort |
//! | changes of what was published | every [`CORRECTION_STEP_MS`] of log time |
//! | rounds | when sealed; orders and refunds: when they change |
//!
//! Source: metric definitions, "published tables".

use crate::cohort::DayPhase;
use crate::machine::{Agent, Round, SHOP};
use crate::output::{Output, Timer, text};
use crate::shop::{Context, Shop, at_minute};
use crate::window::{Phase, WindowId};
use peakdesk_model::event::BuyerKey;
use peakdesk_model::table::{BuyerDayRow, Grain, OrderRow, RefundRow, RoundRow, WindowRow};
use peakdesk_model::time::{DAY_MS, Day, HOUR_MS, MINUTE_MS};
use std::sync::Arc;

/// Several changes of a published window or buyer's day within this much log time become one row.
pub const CORRECTION_STEP_MS: i64 = 10 * MINUTE_MS;

impl Shop {
    fn end_of(grain: Grain, start: i64) -> i64 {
        start
            + match grain {
                Grain::Minute => MINUTE_MS,
                Grain::Hour => HOUR_MS,
                Grain::Day => DAY_MS,
            }
    }

    /// When cohorts and money of a day are final (ms).
    fn cohort_final_at(day: Day, cx: &Context<'_>) -> i64 {
        cx.constants.utc_offset.end(day + 2) + cx.constants.lateness_money_ms
    }

    /// Plans the publication of windows that have come into being.
    pub(crate) fn plan_windows(&mut self, cx: &Context<'_>, out: &mut Output) {
        for (grain, start) in std::mem::take(&mut self.windows.born) {
            let end = Self::end_of(grain, start);
            let day = cx.constants.utc_offset.day(start);
            let knobs = cx.policy.on(day);
            let lateness = cx.constants.lateness_chat_ms;
            match grain {
                Grain::Minute => out.plan(at_minute(end + lateness), Timer::Final { grain, start }),
                Grain::Hour => {
                    out.plan(at_minute(end + knobs.latency_cap_ms + lateness), Timer::Open { grain, start });
                    out.plan(at_minute(Self::cohort_final_at(day, cx)), Timer::Final { grain, start });
                }
                Grain::Day => {
                    out.plan(start + HOUR_MS, Timer::RunningDay { start });
                    out.plan(at_minute(end + knobs.close_of_day_ms + lateness), Timer::Open { grain, start });
                    out.plan(at_minute(Self::cohort_final_at(day, cx)), Timer::Final { grain, start });
                }
            }
        }
        if !self.windows.changed.is_empty() {
            self.plan_corrections(cx, out);
        }
    }

    pub(crate) fn plan_corrections(&mut self, cx: &Context<'_>, out: &mut Output) {
        if !self.corrections_planned {
            self.corrections_planned = true;
            let next = (cx.horizon.complete_until.max(0).div_euclid(CORRECTION_STEP_MS) + 1) * CORRECTION_STEP_MS;
            out.plan(next, Timer::Corrections);
        }
    }

    /// Expects the rows of a buyer's day.
    pub(crate) fn expect_day(&mut self, day: Day, place: u32, cx: &Context<'_>, out: &mut Output) {
        let buyers = self.day_buyers.entry(day).or_default();
        if buyers.is_empty() {
            out.plan(
                at_minute(cx.constants.utc_offset.end(day) + cx.constants.lateness_money_ms),
                Timer::BuyersOpen { day },
            );
            out.plan(at_minute(Self::cohort_final_at(day, cx)), Timer::BuyersFinal { day });
        }
        buyers.push(place);
    }

    /// Does what a timer says.
    pub(crate) fn handle(&mut self, timer: Timer, cx: &Context<'_>, out: &mut Output) {
        match timer {
            Timer::SealChat { buyer } => self.seal_chat(buyer, cx, out),
            Timer::Deadline { buyer } => self.deadline(buyer, cx, out),
            Timer::SealOrder { order } => self.seal_order(order, cx, out),
            Timer::SealRefund { refund } => self.seal_refund(refund, cx, out),
            Timer::PromiseOver { refund } => self.promise_over(refund, cx, out),
            Timer::BuyersOpen { day } => self.publish_buyers(day, DayPhase::Open, cx, out),
            Timer::BuyersFinal { day } => self.publish_buyers(day, DayPhase::Final, cx, out),
            Timer::RunningDay { start } => self.running_day(start, cx, out),
            Timer::Open { grain, start } => self.publish_block(grain, start, Phase::Open, cx, out),
            Timer::Final { grain, start } => self.finish_block(grain, start, cx, out),
            Timer::Corrections => self.corrections(cx, out),
            Timer::ForgetOrder { order } => self.forget_order(order, cx, out),
            Timer::ForgetRefund { refund } => self.forget_refund(refund, cx, out),
            Timer::ForgetBuyer { buyer } => self.forget_buyer(buyer, cx, out),
            Timer::ForgetWindows { grain, start } => {
                self.windows.blocks(grain).remove(&start);
            }
        }
        self.plan_windows(cx, out);
    }

    /// Once an hour while a day runs: what has changed of it so far.
    fn running_day(&mut self, start: i64, cx: &Context<'_>, out: &mut Output) {
        let mut next = start + HOUR_MS;
        while next <= cx.horizon.complete_until {
            next += HOUR_MS;
        }
        if next <= start + DAY_MS {
            out.plan(next, Timer::RunningDay { start });
        }
        let id = self.id.clone();
        let Some(block) = self
            .windows
            .blocks(Grain::Day)
            .get_mut(&start)
            .filter(|b| b.phase == Phase::Running)
        else {
            return;
        };
        for (scope, window) in block.iter_mut().filter(|(_, w)| w.dirty) {
            if let Some(values) = window.publish(Grain::Day, scope == SHOP, false, cx.horizon.chat_sealed_until) {
                push_window(
                    &id,
                    &self.agents,
                    WindowId {
                        grain: Grain::Day,
                        start,
                        scope,
                    },
                    values,
                    false,
                    cx,
                    out,
                );
            }
        }
    }

    fn publish_block(&mut self, grain: Grain, start: i64, phase: Phase, cx: &Context<'_>, out: &mut Output) {
        let id = self.id.clone();
        let Some(block) = self.windows.blocks(grain).get_mut(&start).filter(|b| b.phase < phase) else {
            return;
        };
        block.phase = phase;
        let is_final = phase == Phase::Final;
        for (scope, window) in block.iter_mut() {
            if let Some(values) = window.publish(grain, scope == SHOP, is_final, cx.horizon.chat_sealed_until) {
                push_window(&id, &self.agents, WindowId { grain, start, scope }, values, is_final, cx, out);
            }
        }
        // A minute is let go of at once.
        if is_final && grain != Grain::Minute {
            block.compact();
        }
    }

    /// Publishes final rows, or, for a minute that an open wait holds back, plans the open ones.
    fn finish_block(&mut self, grain: Grain, start: i64, cx: &Context<'_>, out: &mut Output) {
        let end = Self::end_of(grain, start);
        let held = self.waiting_minutes.range(start..end).next().is_some();
        if held && grain == Grain::Minute {
            let cap = cx.policy.on(cx.constants.utc_offset.day(start)).latency_cap_ms;
            self.held_minutes.insert(start);
            let due = at_minute(end + cap + cx.constants.lateness_chat_ms).max(cx.horizon.complete_until + MINUTE_MS);
            return out.plan(due, Timer::Open { grain, start });
        }
        if held {
            return out.plan(cx.horizon.complete_until + MINUTE_MS, Timer::Final { grain, start });
        }
        self.publish_block(grain, start, Phase::Final, cx, out);
        match grain {
            Grain::Minute => {
                self.windows.blocks(grain).remove(&start);
            }
            _ => {
                // Longer than any order that its figures count is kept.
                let keep = cx.constants.order_retention_ms + 6 * DAY_MS + cx.constants.lateness_money_ms;
                out.plan(at_minute(end + keep), Timer::ForgetWindows { grain, start });
            }
        }
    }

    /// Publishes what has changed since it was published.
    fn corrections(&mut self, cx: &Context<'_>, out: &mut Output) {
        self.corrections_planned = false;
        let id = self.id.clone();
        let mut changed = std::mem::take(&mut self.windows.changed);
        changed.sort_unstable();
        for window_id in changed {
            let WindowId { grain, start, scope } = window_id;
            let Some(block) = self.windows.blocks(grain).get_mut(&start) else {
                continue;
            };
            let is_final = block.phase == Phase::Final;
            let Some(window) = block.get_mut(scope).filter(|w| w.dirty) else {
                continue;
            };
            if let Some(values) = window.publish(grain, scope == SHOP, false, cx.horizon.chat_sealed_until) {
                push_window(&id, &self.agents, window_id, values, is_final, cx, out);
            }
        }
        for (place, day) in std::mem::take(&mut self.changed_days) {
            self.publish_buyer_day(place, day, None, cx, out);
        }
    }

    fn publish_buyers(&mut self, day: Day, phase: DayPhase, cx: &Context<'_>, out: &mut Output) {
        let buyers = match phase {
            DayPhase::Final => self.day_buyers.remove(&day).unwrap_or_default(),
            _ => self.day_buyers.get(&day).cloned().unwrap_or_default(),
        };
        for place in buyers {
            self.publish_buyer_day(place, day, Some(phase), cx, out);
            if phase == DayPhase::Final {
                self.let_go_of_day(place, day, cx);
            }
        }
    }

    /// Publishes a buyer's day that enters a phase, or one that has changed within it.
    fn publish_buyer_day(&mut self, place: u32, day: Day, phase: Option<DayPhase>, cx: &Context<'_>, out: &mut Output) {
        let Some(buyer) = self.buyers.get_mut(place) else { return };
        let Some(entry) = buyer.days.iter_mut().find(|d| d.day == day) else {
            return;
        };
        match phase {
            Some(phase) if entry.phase < phase => entry.phase = phase,
            Some(_) => return,
            None if !entry.dirty => return,
            None => {}
        }
        entry.dirty = false;
        let Some(outcome) = &entry.outcome else { return };
        let row = BuyerDayRow {
            stamp: out.stamp(cx.policy.label(day), entry.phase == DayPhase::Final, day),
            shop_id: self.id.clone(),
            buyer: buyer.key,
            day,
            first_at: outcome.first_at,
            open_after_sale: outcome.open_after_sale,
            is_inquiry: outcome.is_inquiry,
            flags: outcome.flags(),
        };
        out.rows.buyer_days.push(row);
    }

    /// Publishes rounds that can change no more.
    pub(crate) fn publish_rounds(&mut self, buyer: BuyerKey, rounds: &[Round], cx: &Context<'_>, out: &mut Output) {
        let utc = cx.constants.utc_offset;
        for round in rounds {
            let day = utc.day(round.t0);
            let (from, to) = cx.policy.on(day).assessed_hours_ms;
            let latencies = round.latencies();
            let row = RoundRow {
                stamp: out.stamp(cx.policy.label(day), true, day),
                shop_id: self.id.clone(),
                buyer,
                t0: round.t0,
                seq: round.seq,
                agent_id: text(&self.agents, round.agent),
                a0: round.a0,
                ended_at: round.ended_at,
                outcome: round.outcome,
                buyer_messages: i64::from(round.n),
                latency_customer_ms: latencies.map(|l| l.0),
                latency_agent_ms: latencies.map(|l| l.1),
                first_in_session: round.first,
                assessed: (from..to).contains(&utc.time_of_day_ms(round.a0)),
                day,
            };
            out.rows.reply_rounds.push(row);
        }
    }

    /// Publishes the newest life of an order.
    pub(crate) fn publish_order(&mut self, order: u32, cx: &Context<'_>, out: &mut Output) {
        let utc = cx.constants.utc_offset;
        let Some(slot) = self.orders.get_mut(order) else { return };
        let Some(fact) = slot.facts.iter().rev().flatten().next() else {
            return;
        };
        let Some(buyer) = self.buyers.get(fact.buyer) else { return };
        let day = utc.day(fact.created_at);
        let dt = *slot.dt.get_or_insert(day);
        let (first_touch, touching_agents) = fact.credit.before();
        let row = OrderRow {
            stamp: out.stamp(cx.policy.label(day), true, dt),
            shop_id: self.id.clone(),
            order_id: slot.id.clone(),
            buyer: buyer.key,
            created_at: fact.created_at,
            deposit_at: fact.deposit_at(),
            deposit_fen: fact.life.deposit.and_then(|m| m.amount_fen),
            paid_at: fact.paid_at(),
            closed_at: fact.life.closed.map(|m| m.at),
            amount_fen: fact.amount_fen(),
            item_count: fact.item_count(),
            fake: fact.life.fake_at.is_some(),
            rule: fact.credit.rule(),
            agent_id: text(&self.agents, fact.credit.agent()),
            first_touch_agent: text(&self.agents, first_touch),
            touching_agents: i64::from(touching_agents),
            last_touch_at: fact.credit.touch().map(|t| t.t),
            lag_ms: fact.credit.lag_ms(),
            refunded_fen: fact.refunded_fen(),
            created_event_time: fact.life.created.map(|m| m.event_time),
            paid_event_time: fact.life.paid.map(|m| m.event_time),
            closed_event_time: fact.life.closed.map(|m| m.event_time),
        };
        out.rows.orders.push(row);
    }

    /// Publishes the newest life of a refund.
    pub(crate) fn publish_refund(&mut self, refund: u32, cx: &Context<'_>, out: &mut Output) {
        let utc = cx.constants.utc_offset;
        let Some(slot) = self.refunds.get_mut(refund) else { return };
        let Some(fact) = slot.facts.iter().rev().flatten().next() else {
            return;
        };
        let (life, Some(dated_at)) = (&fact.life, fact.life.dated_at()) else {
            return;
        };
        let Some(order) = self.orders.get(life.order) else { return };
        let day = utc.day(dated_at);
        let dt = *slot.dt.get_or_insert(day);
        let row = RefundRow {
            stamp: out.stamp(cx.policy.label(day), true, dt),
            shop_id: self.id.clone(),
            refund_id: slot.id.clone(),
            order_id: order.id.clone(),
            buyer: life.buyer,
            agent_id: text(&self.agents, fact.agent),
            requested_at: life.requested.map(|m| m.at),
            succeeded_at: life.succeeded.map(|m| m.at),
            ended_at: life.ended_at(),
            requested_fen: life.requested.and_then(|m| m.amount_fen),
            amount_fen: life.succeeded.and_then(|m| m.amount_fen),
            reason: life.reason.map(|r| r.name()),
            phase: life.phase.map(|p| p.name()),
            requested_event_time: life.requested.map(|m| m.event_time),
            succeeded_event_time: life.succeeded.map(|m| m.event_time),
        };
        out.rows.refunds.push(row);
    }
}

fn push_window(
    shop_id: &Arc<str>,
    agents: &[Arc<str>],
    id: WindowId,
    values: Box<[i64; peakdesk_model::table::FIGURES.len()]>,
    is_final: bool,
    cx: &Context<'_>,
    out: &mut Output,
) {
    let day = cx.constants.utc_offset.day(id.start);
    let agent: Option<Agent> = (id.scope != SHOP).then_some(id.scope);
    let row = WindowRow {
        stamp: out.stamp(cx.policy.label(day), is_final, day),
        shop_id: shop_id.clone(),
        agent_id: text(agents, agent),
        grain: id.grain,
        window_start: id.start,
        values,
    };
    if agent.is_some() {
        out.rows.agent_windows.push(row)
    } else {
        out.rows.shop_windows.push(row)
    }
}
