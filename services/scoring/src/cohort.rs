//! Inquiry, after-sale and conversion: what became of a buyer who wrote on a day.
//!
//! Source: metric definitions, "inquiry, after-sale, conversion".

use crate::credit::{OrderFact, Trail};
use crate::figure;
use crate::machine::{Agent, Rules, SHOP};
use crate::window::Windows;
use peakdesk_model::table::{CreditRule, Grain};
use peakdesk_model::time::Day;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// A set of the ten flags of a buyer's day, in the order of the published columns.
pub type Flags = u16;

const ORDERED: u32 = 0;
const PAID: u32 = 3;
const DEPOSIT: u32 = 6;
/// The flag `paid_1d`.
pub const PAID_1D: Flags = 1 << PAID;
/// `net_paid_3d`.
pub const NET_PAID: u32 = 9;

/// What a buyer's day contributes to windows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The first valid message of the day (ms).
    pub first_at: i64,
    /// Some order was paid and neither closed nor refunded when the buyer wrote.
    pub open_after_sale: bool,
    /// INQUIRY, else AFTERSALE.
    pub is_inquiry: bool,
    /// The shop's flags.
    pub flags: Flags,
    /// The agents that served the buyer, each with its own flags.
    pub agents: SmallVec<[(Agent, Flags); 2]>,
}

/// How far the publication of a buyer's day has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DayPhase {
    /// Not yet.
    Running,
    /// Open.
    Open,
    /// Final: only `net_paid_3d` can still change.
    Final,
}

/// A buyer's day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuyerDay {
    /// The business day.
    pub day: Day,
    /// The first valid message (ms).
    pub first_at: i64,
    /// Who served the buyer.
    pub agents: SmallVec<[Agent; 2]>,
    /// What is in the windows now.
    pub outcome: Option<Outcome>,
    /// How far its publication has come.
    pub phase: DayPhase,
    /// Changed since it was published.
    pub dirty: bool,
    /// Credits of paid, unrefunded orders of this cohort that are kept no longer ([`SHOP`] for none).
    pub forgotten: SmallVec<[Agent; 1]>,
}

impl BuyerDay {
    /// A day begun by its first message.
    pub fn new(day: Day, first_at: i64) -> Self {
        BuyerDay {
            day,
            first_at,
            agents: SmallVec::new(),
            outcome: None,
            phase: DayPhase::Running,
            dirty: false,
            forgotten: SmallVec::new(),
        }
    }

    /// Finds anew who served the buyer: who touched them on the day from their first message on, or else on the next day.
    pub fn find_agents(&mut self, trail: &Trail, rules: &Rules<'_>) -> bool {
        let (end, next_end) = (rules.utc.end(self.day), rules.utc.end(self.day + 1));
        let mut touches = trail.touches_within(self.first_at, end - 1);
        if touches.is_empty() {
            touches = trail.touches_within(end, next_end - 1);
        }
        let mut agents: SmallVec<[Agent; 2]> = SmallVec::new();
        for touch in touches {
            if !agents.contains(&touch.agent) {
                agents.push(touch.agent);
            }
        }
        agents.sort_unstable();
        let changed = agents != self.agents;
        self.agents = agents;
        changed
    }

    /// Whether the order is of this cohort: paid within three days of the first message, and not brushing.
    pub fn includes(&self, order: &OrderFact, rules: &Rules<'_>) -> bool {
        let end = rules.utc.end(self.day + 2);
        order.paid_at().is_some_and(|t| (self.first_at..end).contains(&t)) && !order.life.fake_before(end)
    }

    /// Recomputes what holds now and changes the windows accordingly; `true` if it differs from what was.
    pub fn update(&mut self, orders: &[&OrderFact], windows: &mut Windows, rules: &Rules<'_>) -> bool {
        let new = match (self.phase, &self.outcome) {
            (DayPhase::Final, Some(old)) => self.restate(old, orders, rules),
            _ => self.evaluate(orders, rules),
        };
        if self.outcome.as_ref() == Some(&new) {
            return false;
        }
        if let Some(old) = &self.outcome {
            old.apply(self.day, windows, rules, -1);
        }
        new.apply(self.day, windows, rules, 1);
        self.outcome = Some(new);
        true
    }

    /// Takes its contribution back.
    pub fn retract(&mut self, windows: &mut Windows, rules: &Rules<'_>) {
        if let Some(old) = self.outcome.take() {
            old.apply(self.day, windows, rules, -1);
        }
    }

    fn evaluate(&self, orders: &[&OrderFact], rules: &Rules<'_>) -> Outcome {
        let (first, day, utc) = (self.first_at, self.day, rules.utc);
        let lookback = rules.policy.on(day).after_sale_lookback_ms;
        let real: SmallVec<[&OrderFact; 4]> = orders.iter().copied().filter(|o| !o.life.fake_before(utc.end(day + 2))).collect();
        let open_after_sale = real.iter().any(|o| is_open_after_sale(o, first, lookback));
        let soon = utc.end(day + 1);
        let bought = |t: i64| (first..soon).contains(&t);
        let is_inquiry = !open_after_sale || real.iter().any(|o| bought(o.created_at) || o.paid_at().is_some_and(bought));
        let flags = |agent: Option<Agent>| if is_inquiry { self.flags(&real, agent, rules) } else { 0 };
        Outcome {
            first_at: first,
            open_after_sale,
            is_inquiry,
            flags: flags(None),
            agents: self.agents.iter().map(|a| (*a, flags(Some(*a)))).collect(),
        }
    }

    fn flags(&self, orders: &[&OrderFact], agent: Option<Agent>, rules: &Rules<'_>) -> Flags {
        let mut flags = 0;
        for order in orders.iter().filter(|o| agent.is_none() || o.credit.agent() == agent) {
            let by_order = agent.is_none() || order.credit.rule() == CreditRule::BeforeOrder;
            for k in 0..3 {
                let span = self.first_at..rules.utc.end(self.day + k as Day);
                let paid = order.paid_at().is_some_and(|t| span.contains(&t));
                let created = span.contains(&order.created_at);
                let deposit = order.deposit_at().is_some_and(|t| span.contains(&t));
                flags |= Flags::from(paid) << (PAID + k);
                flags |= Flags::from(paid || (created && by_order)) << (ORDERED + k);
                flags |= Flags::from(deposit && by_order) << (DEPOSIT + k);
            }
        }
        flags | self.net_paid(orders, agent, rules)
    }

    fn net_paid(&self, orders: &[&OrderFact], agent: Option<Agent>, rules: &Rules<'_>) -> Flags {
        let forgotten = self.forgotten.iter().any(|a| agent.is_none_or(|agent| *a == agent));
        let kept = orders
            .iter()
            .any(|o| (agent.is_none() || o.credit.agent() == agent) && self.includes(o, rules) && !o.is_refunded(None));
        Flags::from(forgotten || kept) << NET_PAID
    }

    /// Only `net_paid_3d` is looked at again.
    fn restate(&self, old: &Outcome, orders: &[&OrderFact], rules: &Rules<'_>) -> Outcome {
        let mut new = old.clone();
        if old.is_inquiry {
            let net = |flags: Flags, agent| (flags & !(1 << NET_PAID)) | self.net_paid(orders, agent, rules);
            new.flags = net(old.flags, None);
            for (agent, flags) in &mut new.agents {
                *flags = net(*flags, Some(*agent));
            }
        }
        new
    }
}

fn is_open_after_sale(order: &OrderFact, first: i64, lookback_ms: i64) -> bool {
    let before = |t: &i64| *t < first;
    let Some(money_at) = [order.paid_at(), order.deposit_at()].into_iter().flatten().filter(before).max() else {
        return false;
    };
    first - money_at <= lookback_ms && order.life.closed.is_none_or(|m| m.at >= first) && !order.is_refunded(Some(first))
}

impl Outcome {
    fn apply(&self, day: Day, windows: &mut Windows, rules: &Rules<'_>, sign: i64) {
        let class = if self.is_inquiry {
            figure::INQUIRY_BUYERS
        } else {
            figure::AFTER_SALE_BUYERS
        };
        let scopes = std::iter::once((SHOP, self.flags)).chain(self.agents.iter().copied());
        for (scope, flags) in scopes {
            if self.is_inquiry && scope != SHOP {
                windows.watch.inquiry(scope, self.first_at, flags & PAID_1D != 0, sign);
            }
            let mut changes: SmallVec<[(figure::Fig, i64); 12]> = SmallVec::new();
            changes.push((class, sign));
            for bit in 0..=NET_PAID {
                if flags & (1 << bit) != 0 {
                    changes.push((figure::ORDERED_1D + bit as usize, sign));
                }
            }
            windows.add_at(Grain::Hour, rules.utc.hour_start(self.first_at), scope, &changes);
            windows.add_at(Grain::Day, rules.utc.start(day), scope, &changes);
        }
    }

    /// The flags in the order of the published columns.
    pub fn flags(&self) -> [bool; 10] {
        std::array::from_fn(|bit| self.flags & (1 << bit) != 0)
    }
}
