//! To whom an order is credited, and what an order and a refund contribute to windows.
//!
//! Source: metric definitions, "orders and attribution", "refunds".

use crate::figure;
use crate::machine::{Agent, Rules, SHOP};
use crate::money::{OrderLife, RefundLife};
use crate::window::Windows;
use peakdesk_model::table::{CreditRule, Grain};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// An agent's effective reply to a buyer who wrote within the attribution window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    /// Event time (ms).
    pub t: i64,
    /// Who.
    pub agent: Agent,
}

/// What later orders may ask for of a buyer's chat, in the order of events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Trail {
    /// Touches.
    pub touches: Vec<Touch>,
    /// Times of full answers by a robot (ms).
    pub robots: Vec<i64>,
}

impl Trail {
    /// Touches in `[from, to]` (ms).
    pub fn touches_within(&self, from: i64, to: i64) -> &[Touch] {
        let lo = self.touches.partition_point(|x| x.t < from);
        let hi = self.touches.partition_point(|x| x.t <= to);
        self.touches.get(lo..hi).unwrap_or(&[])
    }

    fn robot_within(&self, from: i64, to: i64) -> bool {
        let lo = self.robots.partition_point(|t| *t < from);
        self.robots.get(lo).is_some_and(|t| *t <= to)
    }

    /// Forgets what lies before `until` (ms).
    pub fn forget(&mut self, until: i64) {
        let n = self.touches.partition_point(|x| x.t < until);
        self.touches.drain(..n);
        let n = self.robots.partition_point(|t| *t < until);
        self.robots.drain(..n);
    }

    /// The oldest thing in it (ms).
    pub fn first_at(&self) -> Option<i64> {
        let touch = self.touches.first().map(|touch| touch.t);
        touch.into_iter().chain(self.robots.first().copied()).min()
    }

    /// Takes back what lies at or after `from` (ms).
    pub fn rewind(&mut self, from: i64) {
        self.touches.truncate(self.touches.partition_point(|x| x.t < from));
        self.robots.truncate(self.robots.partition_point(|t| *t < from));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct BeforeOrder {
    last: Touch,
    first_agent: Agent,
    agents: u32,
}

/// The touches that decide an order's credit, remembered because the trail is forgotten sooner than the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    created_at: i64,
    paid_at: Option<i64>,
    before_order: Option<BeforeOrder>,
    before_payment: Option<Touch>,
    robot: bool,
}

impl Credit {
    /// Looks for the deciding touches. What was found before stands where neither the times it depends on nor the trail can
    /// have changed: the trail changes from `unsettled_from` (ms) on only.
    pub fn find(
        before: Option<&Credit>,
        trail: &Trail,
        created_at: i64,
        paid_at: Option<i64>,
        window_ms: i64,
        unsettled_from: i64,
    ) -> Credit {
        let known = before.filter(|c| c.created_at == created_at);
        let (before_order, robot) = match known {
            Some(c) if created_at < unsettled_from => (c.before_order, c.robot),
            _ => {
                let touches = trail.touches_within(created_at - window_ms, created_at);
                (BeforeOrder::among(touches), trail.robot_within(created_at - window_ms, created_at))
            }
        };
        let before_payment = match (known, paid_at) {
            (_, None) => None,
            (Some(c), Some(paid)) if c.paid_at == paid_at && paid < unsettled_from => c.before_payment,
            (_, Some(paid)) => trail.touches_within(created_at.max(paid - window_ms) + 1, paid).last().copied(),
        };
        Credit {
            created_at,
            paid_at,
            before_order,
            before_payment,
            robot,
        }
    }

    /// The rule by which it is credited.
    pub fn rule(&self) -> CreditRule {
        if self.before_order.is_some() {
            CreditRule::BeforeOrder
        } else if self.before_payment.is_some() {
            CreditRule::BeforePayment
        } else if self.robot {
            CreditRule::RobotOnly
        } else if self.paid_at.is_some() {
            CreditRule::Silent
        } else {
            CreditRule::None
        }
    }

    /// The deciding touch.
    pub fn touch(&self) -> Option<Touch> {
        self.before_order.map(|b| b.last).or(self.before_payment)
    }

    /// Who it is credited to.
    pub fn agent(&self) -> Option<Agent> {
        self.touch().map(|t| t.agent)
    }

    /// `(first agent, number of agents)` of the touches before the order.
    pub fn before(&self) -> (Option<Agent>, u32) {
        self.before_order.map_or((None, 0), |b| (Some(b.first_agent), b.agents))
    }

    /// From the deciding touch to the order (ms), `before_order` only.
    pub fn lag_ms(&self) -> Option<i64> {
        self.before_order.map(|b| self.created_at - b.last.t)
    }
}

impl BeforeOrder {
    fn among(touches: &[Touch]) -> Option<BeforeOrder> {
        let (first, last) = (touches.first()?, touches.last()?);
        let mut agents: SmallVec<[Agent; 4]> = SmallVec::new();
        for touch in touches {
            if !agents.contains(&touch.agent) {
                agents.push(touch.agent);
            }
        }
        Some(BeforeOrder {
            last: *last,
            first_agent: first.agent,
            agents: agents.len() as u32,
        })
    }
}

/// An order that exists, with everything its figures and its row depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderFact {
    /// What is known of it.
    pub life: OrderLife,
    /// Its buyer's place in the shop's list.
    pub buyer: u32,
    /// When it was created (ms).
    pub created_at: i64,
    /// To whom it is credited.
    pub credit: Credit,
    /// `(succeeded_at, fen)` of its succeeded refunds, ascending.
    pub refunds: SmallVec<[(i64, i64); 1]>,
}

impl OrderFact {
    /// Effective time of payment (ms).
    pub fn paid_at(&self) -> Option<i64> {
        self.life.paid.map(|m| m.at)
    }

    /// Effective time of the deposit's payment (ms).
    pub fn deposit_at(&self) -> Option<i64> {
        self.life.deposit.map(|m| m.at)
    }

    /// Total payable: as paid, else as created (fen).
    pub fn amount_fen(&self) -> Option<i64> {
        self.life.paid.or(self.life.created).and_then(|m| m.amount_fen)
    }

    /// Items: as paid, else as created.
    pub fn item_count(&self) -> Option<i64> {
        self.life.paid.or(self.life.created).and_then(|m| m.item_count)
    }

    /// Sum of succeeded refunds (fen).
    pub fn refunded_fen(&self) -> i64 {
        self.refunds.iter().map(|r| r.1).sum()
    }

    /// Brushing, as the figures of orders and refunds see it.
    pub fn is_fake(&self, rules: &Rules<'_>) -> bool {
        self.life.fake_before(rules.utc.end(rules.utc.day(self.created_at) + 2))
    }

    /// Whether the refunds that succeeded before `t` (all, if `None`) give back what was paid before `t`.
    pub fn is_refunded(&self, before: Option<i64>) -> bool {
        let counts = |at: i64| before.is_none_or(|t| at < t);
        let done: SmallVec<[i64; 4]> = self.refunds.iter().filter(|r| counts(r.0)).map(|r| r.1).collect();
        let due = match self.life.paid.filter(|m| counts(m.at)) {
            Some(_) => self.amount_fen(),
            None => self.life.deposit.and_then(|m| m.amount_fen),
        };
        !done.is_empty() && done.iter().sum::<i64>() >= due.unwrap_or(0)
    }

    /// What its row says: it is published again when this changes.
    pub fn says(&self) -> impl PartialEq + use<> {
        let life = &self.life;
        let given = [life.created, life.paid, life.closed].map(|m| m.map(|m| m.event_time));
        let times = (
            self.created_at,
            [life.deposit, life.paid, life.closed].map(|m| m.map(|m| m.at)),
            given,
        );
        let money = (
            life.deposit.and_then(|m| m.amount_fen),
            self.amount_fen(),
            self.item_count(),
            self.refunded_fen(),
        );
        (
            self.buyer,
            times,
            money,
            life.fake_at.is_some(),
            (self.credit.rule(), self.credit.before(), self.credit.touch()),
        )
    }

    /// Adds (1) or subtracts (-1) its figures; distinct paying buyers are counted elsewhere.
    pub fn apply(&self, windows: &mut Windows, rules: &Rules<'_>, sign: i64) {
        if self.is_fake(rules) {
            return;
        }
        let rule = self.credit.rule();
        let before_order = (rule == CreditRule::BeforeOrder).then(|| self.credit.agent()).flatten();
        for scope in [Some(SHOP), before_order].into_iter().flatten() {
            windows.add_hour_day(rules, self.created_at, scope, &[(figure::ORDERS_CREATED, sign)]);
            if let Some(deposit) = self.life.deposit {
                let fen = deposit.amount_fen.unwrap_or(0);
                windows.add_hour_day(
                    rules,
                    deposit.at,
                    scope,
                    &[(figure::DEPOSITS_PAID, sign), (figure::DEPOSIT_FEN, sign * fen)],
                );
            }
        }
        let Some(paid_at) = self.paid_at() else { return };
        let amount = self.amount_fen().unwrap_or(0);
        windows.watch.order(rules, paid_at, amount, sign);
        for scope in [Some(SHOP), self.credit.agent()].into_iter().flatten() {
            windows.add_hour_day(
                rules,
                paid_at,
                scope,
                &[
                    (figure::ORDERS_PAID, sign),
                    (figure::ITEMS_PAID, sign * self.item_count().unwrap_or(0)),
                    (figure::GROSS_FEN, sign * amount),
                ],
            );
            let refunded = self.refunded_fen().min(amount);
            let day = rules.utc.start(rules.utc.day(paid_at));
            windows.add_at(Grain::Day, day, scope, &[(figure::REFUNDED_OF_COHORT_FEN, sign * refunded)]);
        }
        match rule {
            CreditRule::Silent => {
                windows.add_hour_day(
                    rules,
                    paid_at,
                    SHOP,
                    &[(figure::SILENT_ORDERS, sign), (figure::SILENT_FEN, sign * amount)],
                );
            }
            CreditRule::RobotOnly => windows.add_hour_day(rules, paid_at, SHOP, &[(figure::ROBOT_ONLY_ORDERS, sign)]),
            _ => {}
        }
    }
}

/// A refund with everything its figures and its row depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundFact {
    /// What is known of it.
    pub life: RefundLife,
    /// Who its order is credited to.
    pub agent: Option<Agent>,
    /// Its order counts as brushing.
    pub order_is_fake: bool,
    /// The promised time is over.
    pub promise_is_over: bool,
}

impl RefundFact {
    /// What its row says: it is published again when this changes.
    pub fn says(&self) -> impl PartialEq + use<> {
        let life = &self.life;
        let marks = [life.requested, life.succeeded].map(|m| m.map(|m| (m.at, m.event_time, m.amount_fen)));
        (life.order, life.buyer, self.agent, marks, life.ended_at(), life.reason, life.phase)
    }

    /// Adds (1) or subtracts (-1) its figures.
    pub fn apply(&self, windows: &mut Windows, rules: &Rules<'_>, sign: i64) {
        if self.order_is_fake {
            return;
        }
        if let Some(done) = self.life.succeeded {
            let fen = done.amount_fen.unwrap_or(0);
            windows.watch.refund(done.at, sign);
            for scope in [Some(SHOP), self.agent].into_iter().flatten() {
                windows.add_hour_day(rules, done.at, scope, &[(figure::REFUNDS, sign), (figure::REFUND_FEN, sign * fen)]);
            }
        }
        let Some(requested) = self.life.requested else { return };
        let day = rules.utc.day(requested.at);
        let due = requested.at + rules.policy.on(day).refund_promise_ms;
        let kept = self.life.succeeded.is_some_and(|m| m.at <= due);
        let day = rules.utc.start(day);
        let mut add = |fig| windows.add_at(Grain::Day, day, SHOP, &[(fig, sign)]);
        if !kept && self.life.ended_at().is_some_and(|at| at <= due) {
            return add(figure::REFUND_REQUESTS_ENDED);
        }
        add(figure::REFUND_REQUESTS);
        if kept {
            add(figure::REFUNDS_WITHIN_PROMISE);
        }
        if self.life.succeeded.is_some() || self.promise_is_over {
            add(figure::REFUND_PROMISE_DECIDED);
        }
    }
}
