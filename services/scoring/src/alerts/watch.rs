//! What the alert rules and the live figures ask of a shop, kept up to date by every change: who waits, the last hour's rounds,
//! refunds and orders by minute, what is notable.
//!
//! Always holds: everything here is a sum or a set of what contributes at this moment; what is taken back leaves no trace,
//! but in the two lists of notable things, which are bounded and for people only.

use super::sliding::{ENDLESS, Sliding};
use super::track::{Track, in_hours, next_boundary};
use super::waits::WaitSet;
use crate::machine::{Agent, Round, Rules, SHOP};
use peakdesk_model::alert::Rule;
use peakdesk_model::table::Outcome;
use peakdesk_model::time::{Day, HOUR_MS, MINUTE_MS, SECOND_MS};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use triomphe::Arc;

/// Waits of this age count as many.
pub(super) const MANY_AGE_MS: i64 = 30 * SECOND_MS;
/// Waits of this age count for the shop.
pub(super) const SHOP_AGE_MS: i64 = 180 * SECOND_MS;
/// Rounds answered later than this are notable.
const NOTABLE_MS: i64 = 30 * SECOND_MS;
/// Minutes that a curve is kept.
const CURVE_MIN: i64 = 26 * 60;
/// Notable things kept per agent.
const NOTABLE_MAX: usize = 200;

/// The minute that holds `t`.
pub(super) fn minute(t: i64) -> i64 {
    t.div_euclid(MINUTE_MS)
}

/// Which rules of a scope are to be evaluated: those of every step, or those of full minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Pace {
    /// At multiples of the alert step.
    Step,
    /// At full minutes.
    Minute,
    /// What has an end of its own (deadlines) is to be closed.
    Expiry,
}

/// An open wait or question of a buyer, as the rules see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Customer clock (ms).
    pub t0: i64,
    /// Agent clock, or since when the question lies in the queue (ms).
    pub a0: i64,
    /// Who is waited for; [`SHOP`] for a question in the queue.
    pub owner: Agent,
    /// Until when it may be answered (ms).
    pub deadline: i64,
    /// The deadline is over: nobody waits any more.
    pub over: bool,
}

/// A round that was answered late or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notable {
    /// When it was answered or handed over (ms).
    pub ended_at: Option<i64>,
    /// How it ended.
    pub outcome: Outcome,
}

/// What is watched of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentWatch {
    /// Open waits by a0.
    pub waits: WaitSet,
    /// By a0: rounds, those replied within 180 s.
    pub(super) rate: Sliding,
    /// By ended_at: replied rounds, their latency (ms).
    pub(super) slow: Sliding,
    /// By first message: inquiry buyers, those of them who paid on the day.
    pub(super) conversion: Sliding,
    /// Late and unanswered rounds by `(a0, t0, buyer)`; the newest only.
    pub notable: BTreeMap<(i64, i64, u32), Notable>,
    /// Those of them that are merely slow: they go first.
    slow_notable: BTreeSet<(i64, i64, u32)>,
    /// Credited orders by `(created or paid at, order)`; the newest only.
    pub credited: BTreeSet<(i64, u32)>,
    pub(super) tracks: [Track; Rule::ALL.len()],
    pub(super) due: [i64; 2],
    /// From when on it may say something else, by pace (ms); `MAX`: it may not.
    touched: [i64; 2],
    /// Something that the live figures show has changed since they were told, or of their details.
    pub live: bool,
    pub(crate) detail: bool,
    pub(crate) told_day: Option<Day>,
}

impl Notable {
    /// Whether it was not answered within 180 s of its `a0` (ms).
    pub fn is_missed(&self, a0: i64) -> bool {
        self.outcome != Outcome::Replied || self.ended_at.is_some_and(|end| end - a0 > 180 * SECOND_MS)
    }
}

impl AgentWatch {
    /// Adds a notable round, and makes room for it: rounds that are missed are listed for their day, those merely slow go before them.
    fn note(&mut self, key: (i64, i64, u32), notable: Notable) {
        match notable.is_missed(key.0) {
            true => self.slow_notable.remove(&key),
            false => self.slow_notable.insert(key),
        };
        self.notable.insert(key, notable);
        if self.notable.len() > NOTABLE_MAX {
            let gone = self.slow_notable.pop_first().or_else(|| self.notable.keys().next().copied());
            gone.and_then(|key| self.notable.remove(&key));
        }
    }

    fn forget_note(&mut self, key: (i64, i64, u32)) {
        self.notable.remove(&key);
        self.slow_notable.remove(&key);
    }
}

impl Default for AgentWatch {
    fn default() -> Self {
        AgentWatch {
            waits: WaitSet::default(),
            rate: Sliding::new(63, 3),
            slow: Sliding::new(5, 0),
            conversion: Sliding::new(ENDLESS, 60),
            notable: BTreeMap::new(),
            slow_notable: BTreeSet::new(),
            credited: BTreeSet::new(),
            tracks: [Track::Idle; Rule::ALL.len()],
            due: [i64::MAX; 2],
            touched: [i64::MAX; 2],
            live: false,
            detail: false,
            told_day: None,
        }
    }
}

/// What is watched of a shop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Shared with a snapshot until they change.
    agents: Vec<Arc<AgentWatch>>,
    /// Questions in the queue by qa.
    pub queue: WaitSet,
    /// Open waits and questions.
    pub all: WaitSet,
    /// By t0: chains, those replied within 300 s.
    pub(super) chains: Sliding,
    /// By succeeded_at: refunds.
    pub(super) refunds: Sliding,
    pub(super) refunds_before: Sliding,
    /// By paid_at: orders.
    pub(super) orders: Sliding,
    /// Refund requests that are neither granted nor refused, by requested_at.
    pub requests: WaitSet,
    /// The same again, for those past the promise.
    pub overdue: WaitSet,
    /// The last refunds that succeeded: `(succeeded_at, fen)`.
    pub(super) last_refunds: BTreeSet<(i64, u32)>,
    /// By minute: buyers who wrote for the first time that day, their messages, orders paid, fen.
    curve: BTreeMap<i64, [i64; 4]>,
    curve_newest: i64,
    /// Hours of which it has changed since they were told (their starts).
    curve_hours: BTreeSet<i64>,
    /// How many of the open waits and questions have a deadline at a moment (ms).
    deadlines: BTreeMap<i64, u32>,
    /// Until when requests are kept: `(end, requested_at, refund)`.
    pub(super) ends: BTreeSet<(i64, i64, u32)>,
    pub(super) tracks: [Track; Rule::ALL.len()],
    pub(super) due: [i64; 3],
    touched: [i64; 3],
    touched_agents: Vec<Agent>,
    /// The buyer whose chat is being read.
    subject: u32,
}

impl Default for Watch {
    fn default() -> Self {
        Watch {
            agents: Vec::new(),
            queue: WaitSet::default(),
            all: WaitSet::default(),
            chains: Sliding::new(20, 5),
            refunds: Sliding::new(60, 0),
            refunds_before: Sliding::new(25 * 60, 60),
            orders: Sliding::new(60, 0),
            requests: WaitSet::default(),
            overdue: WaitSet::default(),
            last_refunds: BTreeSet::new(),
            curve: BTreeMap::new(),
            curve_newest: i64::MIN / 4,
            curve_hours: BTreeSet::new(),
            deadlines: BTreeMap::new(),
            ends: BTreeSet::new(),
            tracks: [Track::Idle; Rule::ALL.len()],
            due: [i64::MAX; 3],
            touched: [i64::MAX; 3],
            touched_agents: Vec::new(),
            subject: 0,
        }
    }
}

/// At once.
const NOW: i64 = i64::MIN;

impl Watch {
    /// The agent's part, made where there is none.
    pub fn agent(&mut self, agent: Agent) -> &mut AgentWatch {
        let at = agent as usize;
        if at >= self.agents.len() {
            self.agents.resize_with(at + 1, Arc::default);
        }
        Arc::make_mut(&mut self.agents[at])
    }

    /// The agent's part, if there is one.
    pub fn agent_if(&self, agent: Agent) -> Option<&AgentWatch> {
        self.agents.get(agent as usize).map(|watch| &**watch)
    }

    /// Whose chat is being read: late rounds are noted for this buyer.
    pub fn about(&mut self, buyer: u32) {
        self.subject = buyer;
    }

    /// Says that rules of a scope may say something else now.
    pub(super) fn touch(&mut self, scope: Agent, pace: Pace) {
        self.touch_from(scope, pace, NOW);
    }

    /// Says that rules of a scope may say something else from a moment on (ms).
    fn touch_from(&mut self, scope: Agent, pace: Pace, at: i64) {
        let touched = match scope {
            SHOP => self.touched.get_mut(pace as usize),
            agent => {
                if self.agent(agent).touched == [i64::MAX; 2] {
                    self.touched_agents.push(agent);
                }
                self.agent(agent).touched.get_mut(pace as usize)
            }
        };
        if let Some(touched) = touched {
            *touched = at.min(*touched);
        }
    }

    /// Says that everything may say something else now.
    pub fn touch_all(&mut self) {
        for pace in [Pace::Step, Pace::Minute, Pace::Expiry] {
            self.touch(SHOP, pace);
        }
        for agent in 0..self.agents.len() as Agent {
            self.touch(agent, Pace::Step);
            self.touch(agent, Pace::Minute);
        }
    }

    /// What was touched since it was last asked, and from when on it counts (ms).
    pub fn take_touched(&mut self, mut each: impl FnMut(Agent, Pace, i64)) {
        let mut tell = |scope, touched: &[i64]| {
            for (pace, at) in [Pace::Step, Pace::Minute, Pace::Expiry].into_iter().zip(touched) {
                if *at != i64::MAX {
                    each(scope, pace, *at);
                }
            }
        };
        tell(SHOP, &std::mem::replace(&mut self.touched, [i64::MAX; 3]));
        let mut touched = std::mem::take(&mut self.touched_agents);
        for agent in touched.drain(..) {
            tell(agent, &std::mem::replace(&mut self.agent(agent).touched, [i64::MAX; 2]));
        }
        // The list is filled again and again.
        self.touched_agents = touched;
    }

    /// Whether anything was touched.
    pub fn is_touched(&self) -> bool {
        self.touched != [i64::MAX; 3] || !self.touched_agents.is_empty()
    }

    /// Brings `due` forward for a scope; `false` if it is to be evaluated by then anyway.
    pub fn plan(&mut self, scope: Agent, pace: Pace, at: i64) -> bool {
        let due = match scope {
            SHOP => self.due.get_mut(pace as usize),
            _ => self.agent(scope).due.get_mut(pace as usize),
        };
        match due {
            Some(due) if at < *due => {
                *due = at;
                true
            }
            _ => false,
        }
    }

    /// Whether what was planned for `at` is still planned; it is not any more then.
    pub fn take_due(&mut self, scope: Agent, pace: Pace, at: i64) -> bool {
        let due = match scope {
            SHOP => self.due.get_mut(pace as usize),
            _ => self.agent(scope).due.get_mut(pace as usize),
        };
        match due {
            Some(due) if *due == at => {
                *due = i64::MAX;
                true
            }
            _ => false,
        }
    }

    /// Adds (1) or takes back (-1) a closed round.
    pub fn round(&mut self, rules: &Rules<'_>, round: &Round, sign: i64) {
        if let Some(agent) = round.agent
            && round.outcome != Outcome::Moved
        {
            let latency = round.latencies().map(|l| l.1);
            let (subject, counts) = (self.subject, in_hours(rules, round.a0));
            let watch = self.agent(agent);
            if counts {
                let hit = latency.is_some_and(|l| l <= 180 * SECOND_MS);
                watch.rate.add(minute(round.a0), [sign, if hit { sign } else { 0 }]);
                if let (Some(latency), Some(end)) = (latency, round.ended_at) {
                    watch.slow.add(minute(end), [sign, sign * latency]);
                }
            }
            if latency.is_none_or(|l| l > NOTABLE_MS) {
                let key = (round.a0, round.t0, subject);
                if sign > 0 {
                    let notable = Notable {
                        ended_at: round.ended_at,
                        outcome: round.outcome,
                    };
                    watch.note(key, notable);
                } else {
                    watch.forget_note(key);
                }
            }
            watch.live = true;
            self.touch(agent, Pace::Minute);
        }
        if round.ends_chain() && in_hours(rules, round.t0) {
            let hit = round.latencies().is_some_and(|l| l.0 <= 300 * SECOND_MS);
            self.chains.add(minute(round.t0), [sign, if hit { sign } else { 0 }]);
            self.touch(SHOP, Pace::Minute);
        }
    }

    /// Replaces a buyer's open wait or question by another.
    pub fn replace_wait(&mut self, rules: &Rules<'_>, buyer: u32, was: Option<Watched>, is: Option<Watched>) {
        for (watched, sign) in [(was, -1), (is, 1)] {
            let Some(w) = watched else { continue };
            if w.owner != SHOP && in_hours(rules, w.a0) {
                self.agent(w.owner).rate.add(minute(w.a0), [sign, 0]);
            }
            if in_hours(rules, w.t0) {
                self.chains.add(minute(w.t0), [sign, 0]);
            }
            self.touch(w.owner, Pace::Minute);
            self.touch(SHOP, Pace::Minute);
            if !w.over && sign > 0 {
                self.begin_wait(rules, buyer, &w);
            } else if !w.over {
                self.end_wait(buyer, &w);
            }
        }
    }

    /// Counts a wait or question among those that are open. It says nothing before it has the least age that a rule asks for, or
    /// before hours or thresholds change.
    fn begin_wait(&mut self, rules: &Rules<'_>, buyer: u32, w: &Watched) {
        self.waits_of(w.owner).insert(w.a0, buyer);
        self.all.insert(w.a0, buyer);
        *self.deadlines.entry(w.deadline).or_default() += 1;
        let levels = rules.policy.on(rules.utc.day(w.a0)).alerts.rule(Rule::BuyerWaiting).levels;
        let oldest = levels.into_iter().flatten().min().unwrap_or(i64::MAX);
        let boundary = next_boundary(rules, w.a0);
        let (own, shops) = (oldest.min(MANY_AGE_MS), oldest.min(SHOP_AGE_MS));
        if w.owner != SHOP {
            self.agent(w.owner).live = true;
            self.touch_from(w.owner, Pace::Step, boundary.min(w.a0 + own));
        }
        self.touch_from(SHOP, Pace::Step, boundary.min(w.a0 + shops));
        self.touch(SHOP, Pace::Expiry);
    }

    /// Takes a wait or question out of those that are open. That makes nothing worse: only what is pending or firing may change.
    pub(super) fn end_wait(&mut self, buyer: u32, w: &Watched) {
        self.waits_of(w.owner).remove(w.a0, buyer);
        self.all.remove(w.a0, buyer);
        if let Some(count) = self.deadlines.get_mut(&w.deadline) {
            *count -= 1;
            if *count == 0 {
                self.deadlines.remove(&w.deadline);
            }
        }
        let active = |tracks: &[Track], rules: [Rule; 2]| rules.iter().any(|r| tracks.get(*r as usize).is_some_and(Track::is_active));
        if w.owner != SHOP {
            let agent = self.agent(w.owner);
            agent.live = true;
            if active(&agent.tracks, [Rule::BuyerWaiting, Rule::ManyWaiting]) {
                self.touch(w.owner, Pace::Step);
            }
        }
        if active(&self.tracks, [Rule::BuyerWaiting, Rule::ShopWaiting]) {
            self.touch(SHOP, Pace::Step);
        }
    }

    fn waits_of(&mut self, owner: Agent) -> &mut WaitSet {
        match owner {
            SHOP => &mut self.queue,
            agent => &mut self.agent(agent).waits,
        }
    }

    /// Adds (1) or takes back (-1) an inquiry buyer of an agent, by first message (ms).
    pub fn inquiry(&mut self, agent: Agent, first_at: i64, paid: bool, sign: i64) {
        let watch = self.agent(agent);
        watch.conversion.add(minute(first_at), [sign, if paid { sign } else { 0 }]);
        watch.live = true;
        self.touch(agent, Pace::Minute);
    }

    /// Adds to the curve of a shop at `t` (ms).
    pub fn add_curve(&mut self, rules: &Rules<'_>, t: i64, figures: [i64; 4]) {
        let at = minute(t);
        if at < self.curve_newest - CURVE_MIN {
            return;
        }
        let point = self.curve.entry(at).or_default();
        point.iter_mut().zip(figures).for_each(|(to, figure)| *to += figure);
        self.curve_hours.insert(rules.utc.hour_start(t));
        if at <= self.curve_newest {
            return;
        }
        self.curve_newest = at;
        while let Some(oldest) = self.curve.first_entry().filter(|e| *e.key() < at - CURVE_MIN) {
            let gone = oldest.remove_entry().0 * MINUTE_MS;
            self.curve_hours.retain(|hour| *hour > gone - HOUR_MS);
        }
    }

    /// The hours whose curve has changed since they were last taken.
    pub fn take_curves(&mut self) -> BTreeSet<i64> {
        std::mem::take(&mut self.curve_hours)
    }

    /// The minutes of an hour that had anything.
    pub fn curve_of(&self, hour: i64) -> impl Iterator<Item = (i64, [i64; 4])> {
        let minutes = self.curve.range(minute(hour)..minute(hour + HOUR_MS));
        minutes.filter(|(_, p)| **p != [0; 4]).map(|(m, p)| (*m, *p))
    }

    /// Adds (1) or takes back (-1) a paid order.
    pub fn order(&mut self, rules: &Rules<'_>, paid_at: i64, fen: i64, sign: i64) {
        self.add_curve(rules, paid_at, [0, 0, sign, sign * fen]);
        self.orders.add(minute(paid_at), [sign, 0]);
        self.touch(SHOP, Pace::Minute);
    }

    /// Adds (1) or takes back (-1) a refund that succeeded.
    pub fn refund(&mut self, succeeded_at: i64, sign: i64) {
        self.refunds.add(minute(succeeded_at), [sign, 0]);
        self.refunds_before.add(minute(succeeded_at), [sign, 0]);
        self.touch(SHOP, Pace::Minute);
    }

    /// Notes which refund succeeded, for people.
    pub(crate) fn note_refund(&mut self, succeeded_at: i64, refund: u32) {
        self.last_refunds.insert((succeeded_at, refund));
        if self.last_refunds.len() > NOTABLE_MAX {
            self.last_refunds.pop_first();
        }
    }

    /// Adds or takes out a refund request that waits, kept until `end` (ms).
    pub fn request(&mut self, refund: u32, requested_at: i64, end: i64, open: bool) {
        let entry = (end, requested_at, refund);
        if open {
            self.requests.insert(requested_at, refund);
            self.overdue.insert(requested_at, refund);
            self.ends.insert(entry);
        } else {
            self.requests.remove(requested_at, refund);
            self.overdue.remove(requested_at, refund);
            self.ends.remove(&entry);
        }
        self.touch(SHOP, Pace::Step);
        self.touch(SHOP, Pace::Expiry);
    }

    /// When the first thing ends by itself (ms): the first moment at which it is over.
    pub(super) fn next_end(&self) -> Option<i64> {
        let request = self.ends.first().map(|(end, ..)| *end);
        request.into_iter().chain(self.first_deadline().map(|deadline| deadline + 1)).min()
    }

    /// Lets go of deadlines before a moment (ms): whatever had one is closed.
    pub(super) fn forget_deadlines(&mut self, before: i64) {
        self.deadlines = self.deadlines.split_off(&before);
    }

    /// The first deadline of an open wait or question (ms).
    pub(super) fn first_deadline(&self) -> Option<i64> {
        self.deadlines.keys().next().copied()
    }

    /// Notes that an order is credited to an agent, or is not any more.
    pub fn credit(&mut self, agent: Agent, at: i64, order: u32, holds: bool) {
        let watch = self.agent(agent);
        if holds {
            watch.credited.insert((at, order));
            if watch.credited.len() > NOTABLE_MAX {
                watch.credited.pop_first();
            }
        } else {
            watch.credited.remove(&(at, order));
        }
        watch.live = true;
    }
}
