//! Live figures out of the state: what has changed of agents since it was last told, and where every shop stands.
//!
//! Reads the state and forgets which agents had changed; nothing that is published depends on it.

use crate::alerts::Watch;
use crate::credit::OrderFact;
use crate::machine::{Agent, SHOP};
use crate::policy::Constants;
use crate::shop::Shop;
use peakdesk_model::live::{
    AgentDetail, AgentLive, CreditedOrder, Curve, CurvePoint, Figures, HourFigures, LiveKey, MissedRound, ShopLive, Waiting,
};
use peakdesk_model::table::{FIGURES, Grain, NULL};
use peakdesk_model::time::{DAY_MS, Day, HOUR_MS, MINUTE_MS, SECOND_MS, format_date};
use std::sync::Arc;

/// Notable things told of an agent.
const DETAIL_MAX: usize = 100;

/// Figures of a shop's hours: those that add up, for comparison with the day before.
const HOUR_FIGURES: [&str; 13] = [
    "rounds",
    "replied",
    "replied_within_180s",
    "latency_sum_ms",
    "buyer_messages",
    "consulting_buyers",
    "received_buyers",
    "inquiry_buyers",
    "paid_1d",
    "orders_paid",
    "gross_fen",
    "refunds",
    "refund_fen",
];

/// A value to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LiveValue {
    Shop(ShopLive),
    Agent(AgentLive),
    Detail(AgentDetail),
    Curve(Curve),
}

impl LiveValue {
    /// The key under which it is told.
    pub fn key(&self) -> LiveKey {
        match self {
            LiveValue::Shop(s) => LiveKey::Shop { shop: s.shop_id.clone() },
            LiveValue::Agent(a) => LiveKey::Agent {
                shop: a.shop_id.clone(),
                agent: a.agent_id.clone(),
            },
            LiveValue::Detail(d) => LiveKey::Detail {
                shop: d.shop_id.clone(),
                agent: d.agent_id.clone(),
            },
            LiveValue::Curve(c) => LiveKey::Curve {
                shop: c.shop_id.clone(),
                hour: c.hour,
            },
        }
    }
}

/// The moment of telling.
pub(crate) struct Telling<'a> {
    pub constants: &'a Constants,
    /// Log time (ms).
    pub now: i64,
    /// Agents' details too, not only their figures.
    pub details: bool,
}

impl Telling<'_> {
    fn day(&self) -> Day {
        self.constants.utc_offset.day(self.now)
    }
}

impl Shop {
    /// Tells the shop, and what has changed of its agents and its minutes.
    pub(crate) fn tell(&mut self, telling: &Telling<'_>, tell: &mut impl FnMut(LiveValue)) {
        tell(LiveValue::Shop(self.shop_live(telling)));
        let day = telling.day();
        for hour in self.windows.watch.take_curves() {
            tell(LiveValue::Curve(self.curve(hour, telling)));
        }
        for agent in 0..self.agents.len() as Agent {
            // Looked at before it is changed: what a snapshot shares is copied for a change.
            let seen = self.windows.watch.agent_if(agent);
            if seen.is_none_or(|watch| watch.live || watch.told_day != Some(day)) {
                let watch = self.windows.watch.agent(agent);
                watch.live = false;
                watch.told_day = Some(day);
                watch.detail = true;
                tell(LiveValue::Agent(self.agent_live(agent, telling)));
            }
            let seen = self.windows.watch.agent_if(agent);
            if telling.details && seen.is_some_and(|watch| watch.detail) {
                self.windows.watch.agent(agent).detail = false;
                tell(LiveValue::Detail(self.agent_detail(agent, telling)));
            }
        }
    }

    fn figures(&mut self, grain: Grain, start: i64, scope: Agent, wanted: &[&str]) -> Figures {
        let block = self.windows.blocks(grain).get(&start);
        let Some(window) = block.and_then(|b| b.get(scope)) else {
            return Figures::new();
        };
        let values = window.values(grain, scope == SHOP);
        let named = FIGURES.iter().zip(values.iter());
        let said = named.filter(|((name, _), value)| **value != NULL && **value != 0 && (wanted.is_empty() || wanted.contains(name)));
        said.map(|((name, _), value)| ((*name).to_owned(), *value)).collect()
    }

    fn hours(&mut self, day: Day, scope: Agent, wanted: &[&str], telling: &Telling<'_>) -> Vec<HourFigures> {
        let begin = telling.constants.utc_offset.start(day);
        let starts = (0..DAY_MS / HOUR_MS).map(|h| begin + h * HOUR_MS);
        let hours = starts.map(|start| HourFigures {
            start,
            figures: self.figures(Grain::Hour, start, scope, wanted),
        });
        hours.filter(|h| !h.figures.is_empty()).collect()
    }

    fn shop_live(&mut self, telling: &Telling<'_>) -> ShopLive {
        let (utc, day) = (telling.constants.utc_offset, telling.day());
        ShopLive {
            shop_id: self.id.to_string(),
            at: telling.now,
            complete_until: None,
            caught_up: false,
            sent_wall_ms: 0,
            day: format_date(day),
            day_start: utc.start(day),
            utc_offset_minutes: (utc.as_ms() / MINUTE_MS) as i32,
            waiting: waiting(&self.windows.watch, SHOP, telling.now),
            figures: self.figures(Grain::Day, utc.start(day), SHOP, &[]),
            hours: self.hours(day, SHOP, &HOUR_FIGURES, telling),
            yesterday: self.hours(day - 1, SHOP, &HOUR_FIGURES, telling),
        }
    }

    fn agent_live(&mut self, agent: Agent, telling: &Telling<'_>) -> AgentLive {
        let day = telling.day();
        AgentLive {
            shop_id: self.id.to_string(),
            agent_id: self.agent_name(agent),
            at: telling.now,
            sent_wall_ms: 0,
            day: format_date(day),
            waiting: waiting(&self.windows.watch, agent, telling.now),
            figures: self.figures(Grain::Day, telling.constants.utc_offset.start(day), agent, &[]),
        }
    }

    fn agent_detail(&mut self, agent: Agent, telling: &Telling<'_>) -> AgentDetail {
        let day = telling.day();
        AgentDetail {
            shop_id: self.id.to_string(),
            agent_id: self.agent_name(agent),
            at: telling.now,
            day: format_date(day),
            hours: self.hours(day, agent, &[], telling),
            missed: self.missed(agent, day, telling.constants),
            orders: self.credited(agent, day, telling.constants),
        }
    }

    fn agent_name(&self, agent: Agent) -> String {
        self.agents.get(agent as usize).map_or(String::new(), |name| name.to_string())
    }

    fn missed(&self, agent: Agent, day: Day, constants: &Constants) -> Vec<MissedRound> {
        let utc = constants.utc_offset;
        let Some(watch) = self.windows.watch.agent_if(agent) else {
            return Vec::new();
        };
        let newest = watch.notable.range((utc.start(day), i64::MIN, 0)..).rev();
        let missed = newest.filter(|((a0, ..), n)| n.is_missed(*a0));
        let round = |((a0, t0, buyer), n): (&(i64, i64, u32), &crate::alerts::Notable)| MissedRound {
            buyer_key: self.buyers.get(*buyer).map_or(String::new(), |b| b.key.to_hex()),
            t0: *t0,
            a0: *a0,
            ended_at: n.ended_at,
            outcome: n.outcome.name().to_owned(),
        };
        missed.take(DETAIL_MAX).map(round).collect()
    }

    fn credited(&self, agent: Agent, day: Day, constants: &Constants) -> Vec<CreditedOrder> {
        let utc = constants.utc_offset;
        let Some(watch) = self.windows.watch.agent_if(agent) else {
            return Vec::new();
        };
        let newest = watch.credited.range((utc.start(day), 0)..).rev();
        let order = |(_, order): &(i64, u32)| {
            let slot = self.orders.get(*order)?;
            let fact = slot.facts.iter().flatten().find(|f| f.credit.agent() == Some(agent))?;
            Some(self.credited_order(&slot.id, fact))
        };
        newest.filter_map(order).take(DETAIL_MAX).collect()
    }

    fn credited_order(&self, id: &Arc<str>, fact: &OrderFact) -> CreditedOrder {
        let (first, agents) = fact.credit.before();
        CreditedOrder {
            order_id: id.to_string(),
            buyer_key: self.buyers.get(fact.buyer).map_or(String::new(), |b| b.key.to_hex()),
            created_at: fact.created_at,
            paid_at: fact.paid_at(),
            amount_fen: fact.amount_fen(),
            refunded_fen: fact.refunded_fen(),
            rule: fact.credit.rule().name().to_owned(),
            last_touch_at: fact.credit.touch().map(|t| t.t),
            lag_ms: fact.credit.lag_ms(),
            first_touch_agent: first.map(|a| self.agent_name(a)),
            touching_agents: i64::from(agents),
            fake: fact.life.fake_at.is_some(),
        }
    }

    fn curve(&self, hour: i64, telling: &Telling<'_>) -> Curve {
        let point = |(minute, [consulting, messages, orders, gross]): (i64, [i64; 4])| CurvePoint {
            minute: ((minute * MINUTE_MS - hour) / MINUTE_MS) as u8,
            consulting_buyers: consulting,
            buyer_messages: messages,
            orders_paid: orders,
            gross_fen: gross,
        };
        Curve {
            shop_id: self.id.to_string(),
            hour,
            at: telling.now,
            minutes: self.windows.watch.curve_of(hour).map(point).collect(),
        }
    }
}

fn waiting(watch: &Watch, scope: Agent, now: i64) -> Waiting {
    let waits = match scope {
        SHOP => Some(&watch.all),
        _ => watch.agent_if(scope).map(|a| &a.waits),
    };
    waits.map_or_else(Waiting::default, |waits| Waiting {
        buyers: waits.len() as u32,
        over_180s: waits.count_until(now - 180 * SECOND_MS) as u32,
        oldest_since: waits.first(),
    })
}
