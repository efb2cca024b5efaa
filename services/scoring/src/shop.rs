//! One shop: its buyers, orders, refunds and windows, and what an accepted event changes in them.
//!
//! The parts of a shop's work lie in modules of their own: `buyer` (chat), `deals` (orders, refunds, cohorts), `publish` (rows).

use crate::alerts::Watched;
use crate::buyer::{Buyer, ChatChange, OpenEvent, Paying};
use crate::deals::{OrderSlot, RefundSlot};
use crate::key::EventKey;
use crate::machine::{Agent, ChatStep, Rules};
use crate::money::Retention;
use crate::output::{Horizon, Output, Timer};
use crate::policy::{Constants, Policy};
use crate::slab::Slab;
use crate::window::Windows;
use hashbrown::HashMap;
use peakdesk_model::event::{BuyerKey, Event};
use peakdesk_model::table::LateRow;
use peakdesk_model::time::{DAY_MS, Day, MINUTE_MS};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rounds a moment up to a full minute: timers are handled at minutes, so that their number stays small.
pub(crate) fn at_minute(t: i64) -> i64 {
    t.div_euclid(MINUTE_MS) * MINUTE_MS + if t.rem_euclid(MINUTE_MS) == 0 { 0 } else { MINUTE_MS }
}

/// What is known of a shop. Maps are only ever looked up by key, never walked: nothing depends on their order. Those that follow
/// from the rest are not part of what is stored; [`Shop::index`] makes them again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shop {
    pub(crate) id: Arc<str>,
    pub(crate) agents: Vec<Arc<str>>,
    #[serde(skip)]
    agent_index: HashMap<Arc<str>, Agent>,
    pub(crate) buyers: Slab<Buyer>,
    #[serde(skip)]
    buyer_index: HashMap<BuyerKey, u32>,
    /// Buyers of the accepted chat events that are not sealed, by the identity of the event.
    #[serde(skip)]
    identities: HashMap<u128, u32>,
    pub(crate) orders: Slab<OrderSlot>,
    #[serde(skip)]
    pub(crate) order_index: HashMap<Arc<str>, u32>,
    pub(crate) refunds: Slab<RefundSlot>,
    #[serde(skip)]
    pub(crate) refund_index: HashMap<Arc<str>, u32>,
    pub(crate) windows: Windows,
    /// How many open waits and questions have a clock in a minute (by its start), as far as sealed.
    pub(crate) waiting_minutes: BTreeMap<i64, u32>,
    /// Minutes that would be final but for them.
    pub(crate) held_minutes: BTreeSet<i64>,
    /// Buyers with a valid message on a day whose rows are not final.
    pub(crate) day_buyers: BTreeMap<Day, Vec<u32>>,
    /// Buyer's days that were published and have changed since.
    pub(crate) changed_days: Vec<(u32, Day)>,
    pub(crate) corrections_planned: bool,
    /// Nothing of it is folded any more.
    #[serde(skip)]
    pub(crate) set_aside: bool,
}

/// What the shop's rules depend on, together.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub constants: &'a Constants,
    pub policy: &'a Policy,
    pub horizon: Horizon,
}

impl<'a> Context<'a> {
    pub(crate) fn rules(&self) -> Rules<'a> {
        Rules {
            utc: self.constants.utc_offset,
            policy: self.policy,
            chat_sealed_until: self.horizon.chat_sealed_until,
        }
    }

    /// How long what a buyer's chat left is kept (ms), so that no order and no day finds it gone. An order may be created by an event
    /// as late as can be, whose own account of its creation is as early again; a day asks who served its buyers until the next
    /// one is sealed.
    pub(crate) fn trail_kept_ms(&self) -> i64 {
        let constants = self.constants;
        let of_orders = constants.touch_retention_ms + constants.lateness_money_ms;
        of_orders.max(2 * DAY_MS + constants.lateness_chat_ms)
    }

    pub(crate) fn retention(&self) -> Retention {
        Retention {
            order_ms: self.constants.order_retention_ms,
            lookback_ms: self.policy.longest_lookback_ms(),
            utc: self.constants.utc_offset,
        }
    }
}

impl Shop {
    pub(crate) fn new(id: &str) -> Self {
        Shop {
            id: id.into(),
            agents: Vec::new(),
            agent_index: HashMap::new(),
            buyers: Slab::default(),
            buyer_index: HashMap::new(),
            identities: HashMap::new(),
            orders: Slab::default(),
            order_index: HashMap::new(),
            refunds: Slab::default(),
            refund_index: HashMap::new(),
            windows: Windows::default(),
            waiting_minutes: BTreeMap::new(),
            held_minutes: BTreeSet::new(),
            day_buyers: BTreeMap::new(),
            changed_days: Vec::new(),
            corrections_planned: false,
            set_aside: false,
        }
    }

    /// The same shop without the maps that follow from the rest, sharing with it what is large.
    pub(crate) fn snapshot(&self) -> Self {
        Shop {
            id: self.id.clone(),
            agents: self.agents.clone(),
            agent_index: HashMap::new(),
            buyers: self.buyers.clone(),
            buyer_index: HashMap::new(),
            identities: HashMap::new(),
            orders: self.orders.clone(),
            order_index: HashMap::new(),
            refunds: self.refunds.clone(),
            refund_index: HashMap::new(),
            windows: self.windows.clone(),
            waiting_minutes: self.waiting_minutes.clone(),
            held_minutes: self.held_minutes.clone(),
            day_buyers: self.day_buyers.clone(),
            changed_days: self.changed_days.clone(),
            corrections_planned: self.corrections_planned,
            set_aside: self.set_aside,
        }
    }

    /// Makes the maps that follow from the rest.
    pub(crate) fn index(&mut self) {
        self.agent_index = self.agents.iter().cloned().zip(0..).collect();
        self.buyer_index = self.buyers.iter().map(|(place, buyer)| (buyer.key, place)).collect();
        let identities = |(place, buyer): (u32, &Buyer)| buyer.open_identities().map(move |id| (id, place)).collect::<Vec<_>>();
        self.identities = self.buyers.iter().flat_map(identities).collect();
        self.order_index = self.orders.iter().map(|(place, slot)| (slot.id.clone(), place)).collect();
        self.refund_index = self.refunds.iter().map(|(place, slot)| (slot.id.clone(), place)).collect();
    }

    /// Whether two shops find the same by their maps.
    pub(crate) fn finds_the_same(&self, other: &Shop) -> bool {
        (&self.agent_index, &self.buyer_index, &self.identities) == (&other.agent_index, &other.buyer_index, &other.identities)
            && (&self.order_index, &self.refund_index) == (&other.order_index, &other.refund_index)
    }

    /// Decides about an event and takes it in.
    pub(crate) fn read(&mut self, event: &Event<'_>, cx: &Context<'_>, out: &mut Output) {
        if event.kind.is_chat() {
            self.read_chat(event, cx, out);
        } else {
            self.read_money(event, cx, out);
        }
        self.plan_windows(cx, out);
    }

    fn read_chat(&mut self, event: &Event<'_>, cx: &Context<'_>, out: &mut Output) {
        if event.clock - event.event_time > cx.constants.lateness_chat_ms {
            out.counts.late += 1;
            return self.late_row(event, "late", cx, out);
        }
        if event.event_time < cx.horizon.chat_sealed_until {
            out.counts.sealed += 1;
            return self.late_row(event, "sealed", cx, out);
        }
        let key = EventKey::new(event, event.event_time);
        let rules = cx.rules();
        if let Some(&holder) = self.identities.get(&key.identity()) {
            out.counts.duplicates += 1;
            let Some(buyer) = self.buyers.get_mut(holder) else { return };
            let Some(known) = buyer.find(key.identity()) else { return };
            if known.key.precedence(known.clock) <= key.precedence(event.clock) {
                return;
            }
            self.windows.watch.about(holder);
            let change = buyer.remove(key.identity(), &mut self.windows, &rules);
            self.watch_buyer(holder, cx);
            self.chat_changed(holder, &change, cx, out);
        } else {
            out.counts.accepted += 1;
        }
        let step = ChatStep {
            t: event.event_time,
            kind: event.kind,
            agent: event.agent_id.map(|a| self.agent(a)),
            to_agent: event.to_agent_id.map(|a| self.agent(a)),
            spam: event.spam,
            assisted: event.assisted,
            rating: event.rating,
            robot_kind: event.robot_kind,
        };
        let place = self.buyer(event.buyer, cx, out);
        self.identities.insert(key.identity(), place);
        let Some(buyer) = self.buyers.get_mut(place) else { return };
        self.windows.watch.about(place);
        let change = buyer.insert(
            OpenEvent {
                key,
                clock: event.clock,
                step,
            },
            &mut self.windows,
            &rules,
        );
        buyer.seal.wish(
            at_minute(event.event_time + cx.constants.lateness_chat_ms + 1),
            Timer::SealChat { buyer: place },
            out,
        );
        self.watch_buyer(place, cx);
        self.chat_changed(place, &change, cx, out);
    }

    /// Brings what the alert rules know of a buyer's wait in line with their chat.
    fn watch_buyer(&mut self, place: u32, cx: &Context<'_>) {
        let rules = cx.rules();
        let Some(buyer) = self.buyers.get_mut(place) else { return };
        let (was, open) = (buyer.watched, buyer.head().open());
        if was.map(|w| (w.t0, w.a0, w.owner)) == open {
            return;
        }
        buyer.watched = open.map(|(t0, a0, owner)| Watched {
            t0,
            a0,
            owner,
            deadline: rules.deadline(t0, a0),
            over: false,
        });
        let is = buyer.watched;
        self.windows.watch.replace_wait(&rules, place, was, is);
    }

    /// Brings what depends on a buyer's chat in line with it: credits of orders, then days.
    fn chat_changed(&mut self, place: u32, change: &ChatChange, cx: &Context<'_>, out: &mut Output) {
        let Some(from) = change.trail_from else { return };
        let Some(buyer) = self.buyers.get(place) else { return };
        let first_day = cx.rules().utc.day(from) - 1;
        let new_days = buyer.days.iter().any(|d| d.outcome.is_none());
        let orders = buyer.orders.iter().copied().filter(|_| from <= buyer.orders_until);
        let orders: SmallVec<[u32; 4]> = orders.filter(|o| self.order_depends_on(*o, from)).collect();
        for order in &orders {
            self.update_order(*order, cx, out);
        }
        let rules = cx.rules();
        let Some(buyer) = self.buyers.get_mut(place) else { return };
        let mut changed = new_days || !orders.is_empty();
        for day in buyer.days.iter_mut().filter(|d| d.day >= first_day) {
            // One touch more by somebody who served them already leaves them the same.
            if change.touched.is_none_or(|agent| !day.agents.contains(&agent)) {
                changed |= day.find_agents(&buyer.trail, &rules);
            }
            changed |= day.outcome.as_ref().is_some_and(|o| o.first_at != day.first_at);
        }
        if changed {
            self.update_days(place, cx, out);
        }
    }

    pub(crate) fn agent(&mut self, name: &str) -> Agent {
        if let Some(agent) = self.agent_index.get(name) {
            return *agent;
        }
        let (agent, name): (Agent, Arc<str>) = (self.agents.len() as Agent, name.into());
        self.agents.push(name.clone());
        self.agent_index.insert(name, agent);
        agent
    }

    pub(crate) fn buyer(&mut self, key: BuyerKey, cx: &Context<'_>, out: &mut Output) -> u32 {
        if let Some(place) = self.buyer_index.get(&key) {
            return *place;
        }
        let place = self.buyers.insert(Buyer::new(key));
        self.buyer_index.insert(key, place);
        self.plan_forget_buyer(place, cx.horizon.complete_until.max(0) + cx.trail_kept_ms(), out);
        place
    }

    pub(crate) fn late_row(&mut self, event: &Event<'_>, reason: &'static str, cx: &Context<'_>, out: &mut Output) {
        let day = cx.rules().utc.day(event.event_time);
        let row = LateRow {
            stamp: out.stamp(cx.policy.label(day), true, day),
            topic: event.source.partition.topic.name(),
            partition: event.source.partition.partition,
            generation: event.source.partition.generation,
            offset: event.source.offset,
            reason,
            shop_id: self.id.clone(),
            event_id: event.event_id.into(),
            kind: event.kind.name(),
            event_time: event.event_time,
            clock: event.clock,
        };
        out.rows.late_events.push(row);
    }

    /// Seals the chat of a buyer up to the horizon.
    pub(crate) fn seal_chat(&mut self, place: u32, cx: &Context<'_>, out: &mut Output) {
        let rules = cx.rules();
        let Some(buyer) = self.buyers.get_mut(place) else { return };
        if !buyer.seal.fires(cx.horizon.complete_until) {
            return;
        }
        let before = buyer.sealed().open_times();
        let mut closed = Vec::new();
        let identities = &mut self.identities;
        buyer.seal_until(
            &rules,
            |identity| {
                identities.remove(&identity);
            },
            &mut closed,
        );
        if let Some(first) = buyer.first_open_at() {
            buyer.seal.wish(
                at_minute(first + cx.constants.lateness_chat_ms + 1),
                Timer::SealChat { buyer: place },
                out,
            );
        } else if let Some(deadline) = buyer.sealed().deadline(&rules) {
            out.plan(
                at_minute(deadline + cx.constants.lateness_chat_ms + 1),
                Timer::Deadline { buyer: place },
            );
        }
        if let Some(first) = buyer.trail.first_at() {
            let due = at_minute(first + cx.trail_kept_ms() + 1);
            buyer.forget.wish(due, Timer::ForgetBuyer { buyer: place }, out);
        }
        let (after, key) = (buyer.sealed().open_times(), buyer.key);
        self.move_waiting(before, after, cx, out);
        self.publish_rounds(key, &closed, cx, out);
    }

    /// Gives up a question that nobody has answered by its deadline.
    pub(crate) fn deadline(&mut self, place: u32, cx: &Context<'_>, out: &mut Output) {
        let Some(buyer) = self.buyers.get_mut(place) else { return };
        let before = buyer.sealed().open_times();
        let mut closed = Vec::new();
        self.windows.watch.about(place);
        buyer.close_if_past(&mut self.windows, &cx.rules(), &mut closed);
        let (after, key) = (buyer.sealed().open_times(), buyer.key);
        self.watch_buyer(place, cx);
        self.move_waiting(before, after, cx, out);
        self.publish_rounds(key, &closed, cx, out);
    }

    /// Keeps count of the minutes that an open wait or question holds back.
    fn move_waiting(&mut self, before: Option<(i64, i64)>, after: Option<(i64, i64)>, cx: &Context<'_>, out: &mut Output) {
        if before == after {
            return;
        }
        let utc = cx.constants.utc_offset;
        for t in after.iter().flat_map(|(t0, a0)| [*t0, *a0]) {
            *self.waiting_minutes.entry(utc.minute_start(t)).or_default() += 1;
        }
        for minute in before.iter().flat_map(|(t0, a0)| [utc.minute_start(*t0), utc.minute_start(*a0)]) {
            let Some(count) = self.waiting_minutes.get_mut(&minute) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                self.waiting_minutes.remove(&minute);
                if self.held_minutes.remove(&minute) {
                    let grain = peakdesk_model::table::Grain::Minute;
                    out.plan(cx.horizon.complete_until, Timer::Final { grain, start: minute });
                }
            }
        }
    }

    /// Forgets what no rule can ask of a buyer any more, and the buyer when nothing is left.
    pub(crate) fn forget_buyer(&mut self, place: u32, cx: &Context<'_>, out: &mut Output) {
        let keep = cx.trail_kept_ms();
        let until = cx.horizon.complete_until - keep;
        let Some(buyer) = self.buyers.get_mut(place) else { return };
        if !buyer.forget.fires(cx.horizon.complete_until) {
            return;
        }
        buyer.trail.forget(until);
        if buyer.is_idle() && buyer.heard_at < until {
            let key = buyer.key;
            self.buyers.remove(place);
            self.buyer_index.remove(&key);
            return;
        }
        // Nothing of the buyer can go before the oldest touch, or their last order, does; touches that come are planned for
        // when they are sealed.
        let orders = buyer.orders.iter().filter_map(|order| self.orders.get(*order)?.forget.at());
        let next = match buyer.trail.first_at() {
            Some(first) => first + keep + 1,
            None => orders.max().unwrap_or(buyer.heard_at + keep + 1),
        };
        let soonest = cx.horizon.complete_until + DAY_MS;
        self.plan_forget_buyer(place, next.max(soonest), out);
    }

    fn plan_forget_buyer(&mut self, place: u32, due: i64, out: &mut Output) {
        if let Some(buyer) = self.buyers.get_mut(place) {
            buyer.forget.wish(at_minute(due), Timer::ForgetBuyer { buyer: place }, out);
        }
    }

    /// Counts an order in or out of what makes a buyer a paying buyer of a day.
    pub(crate) fn count_paying(&mut self, place: u32, day: Day, scope: Agent, sign: i32, cx: &Context<'_>) {
        let utc = cx.constants.utc_offset;
        let settled = utc.day(cx.horizon.money_sealed_until) - 3;
        let Some(buyer) = self.buyers.get_mut(place) else { return };
        buyer.paying.retain(|p| p.day >= settled && p.orders > 0);
        let entry = match buyer.paying.iter_mut().find(|p| p.day == day && p.scope == scope) {
            Some(entry) => entry,
            None => {
                buyer.paying.push(Paying { day, scope, orders: 0 });
                let last = buyer.paying.len() - 1;
                &mut buyer.paying[last]
            }
        };
        let before = entry.orders > 0;
        entry.orders += sign;
        let after = entry.orders > 0;
        if before != after {
            let delta = if after { 1 } else { -1 };
            let grain = peakdesk_model::table::Grain::Day;
            self.windows
                .add_at(grain, utc.start(day), scope, &[(crate::figure::PAYING_BUYERS, delta)]);
        }
    }
}
