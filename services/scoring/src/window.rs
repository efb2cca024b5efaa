//! Windows: the figures of an agent or a shop over a minute, an hour or a day.
//!
//! Every contribution is added to the windows it belongs to and can be subtracted again; nothing else ever changes a window.
//! A [`Block`] holds the windows of all scopes of one shop that share a span of time, because they are published together.
//!
//! Always holds: a window's figures are the sum of the contributions that hold at this moment.

use crate::alerts::Watch;
use crate::figure::{self, Fig};
use crate::histogram::Latencies;
use crate::machine::{Agent, Atom, Round, Rules, SHOP};
use peakdesk_model::table::{FIGURES, Grain, NULL, Outcome};
use peakdesk_model::time::SECOND_MS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use triomphe::Arc;
use xxhash_rust::xxh3::Xxh3Default;

/// How far the publication of a block has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing is published, but a running day once an hour.
    Running,
    /// Published open: every change is a new open row.
    Open,
    /// Published final: every change is a correction.
    Final,
}

/// The figures of one scope over one span of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    figures: Figures,
    latencies: Option<Box<Latencies>>,
    /// Changed since it was last published.
    pub dirty: bool,
    /// Hash of the values last published: a row that would say the same again is not written.
    published: Option<u64>,
}

/// Values by figure: all of them while the window runs, the nonzero ones once it is final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Figures {
    Dense(Box<[i64]>),
    Sparse(Vec<(u8, i64)>),
}

impl Window {
    fn new(grain: Grain) -> Self {
        Window {
            figures: Figures::Dense(vec![0; figure::defined_at(grain)].into()),
            latencies: None,
            dirty: false,
            published: None,
        }
    }

    /// The value of a figure as it stands.
    pub fn get(&self, fig: Fig) -> i64 {
        match &self.figures {
            Figures::Dense(values) => values.get(fig).copied().unwrap_or(0),
            Figures::Sparse(values) => values.iter().find(|v| usize::from(v.0) == fig).map_or(0, |v| v.1),
        }
    }

    /// Adds to a figure; one that is not defined at the window's grain is ignored.
    pub fn add(&mut self, fig: Fig, delta: i64) {
        match &mut self.figures {
            Figures::Dense(values) => {
                if let Some(value) = values.get_mut(fig) {
                    *value += delta;
                }
            }
            Figures::Sparse(values) => match values.binary_search_by_key(&fig, |v| usize::from(v.0)) {
                Ok(i) => values[i].1 += delta,
                Err(i) => values.insert(i, (fig as u8, delta)),
            },
        }
    }

    /// The row's values, with null for what is not defined at the grain or for the scope.
    pub fn values(&self, grain: Grain, shop: bool) -> Box<[i64; FIGURES.len()]> {
        let defined = figure::defined_at(grain);
        let mut out = Box::new([NULL; FIGURES.len()]);
        for (fig, (_, scope)) in FIGURES.iter().enumerate().take(defined) {
            if scope.covers(shop) {
                out[fig] = self.get(fig);
            }
        }
        if grain == Grain::Day {
            out[figure::NET_FEN] = self.get(figure::GROSS_FEN) - self.get(figure::REFUNDED_OF_COHORT_FEN);
        }
        if self.get(figure::REPLIED) == 0 {
            out[figure::LATENCY_MAX..=figure::LATENCY_P99].fill(NULL);
        } else if let Some(summary) = self.latencies.as_ref().and_then(|l| l.summary()) {
            out[figure::LATENCY_MAX] = summary.max;
            out[figure::LATENCY_P50..=figure::LATENCY_P99].copy_from_slice(&summary.p50_p90_p95_p99);
        }
        out
    }

    /// The values to publish now, if there is something to say: something not zero or not said before, or, where `always`,
    /// anything but zeros that were never published.
    /// `sealed_until` (ms) is before what chat can still change.
    pub fn publish(&mut self, grain: Grain, shop: bool, always: bool, sealed_until: i64) -> Option<Box<[i64; FIGURES.len()]>> {
        self.dirty = false;
        if self.published.is_none() && self.is_zero() {
            return None;
        }
        if let Some(latencies) = &mut self.latencies {
            latencies.settle(sealed_until);
        }
        let values = self.values(grain, shop);
        let mut hasher = Xxh3Default::new();
        values.iter().for_each(|v| hasher.update(&v.to_le_bytes()));
        let hash = Some(hasher.digest());
        let news = self.published != hash;
        self.published = hash;
        (news || always).then_some(values)
    }

    fn is_zero(&self) -> bool {
        match &self.figures {
            Figures::Dense(values) => values.iter().all(|v| *v == 0),
            Figures::Sparse(values) => values.iter().all(|v| v.1 == 0),
        }
    }

    /// Gives up what only unsealed rounds need; the latency figures become plain values.
    fn compact(&mut self) {
        if let Some(summary) = self.latencies.take().and_then(|l| l.summary()) {
            self.add(figure::LATENCY_MAX, summary.max);
            for (i, value) in summary.p50_p90_p95_p99.into_iter().enumerate() {
                self.add(figure::LATENCY_P50 + i, value);
            }
        }
        if let Figures::Dense(values) = &self.figures {
            let sparse = values
                .iter()
                .enumerate()
                .filter(|(_, v)| **v != 0)
                .map(|(i, v)| (i as u8, *v))
                .collect();
            self.figures = Figures::Sparse(sparse);
        }
    }

    fn latency(&mut self, latency: Latency, sealed_until: i64, sign: i64) {
        let latencies = self.latencies.get_or_insert_with(Box::default);
        if sign > 0 {
            latencies.add(latency.ms, latency.ended_at, sealed_until)
        } else {
            latencies.remove(latency.ms, latency.ended_at)
        }
    }
}

/// The windows of one shop that share a span of time. A copy shares them until one of the two changes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// How far its publication has come.
    pub phase: Phase,
    /// Ascending by agent, the shop ([`SHOP`]) last.
    windows: Arc<Vec<(Agent, Window)>>,
}

impl Block {
    fn new() -> Self {
        Block {
            phase: Phase::Running,
            windows: Arc::default(),
        }
    }

    /// The windows, agents in the order in which they were first seen, then the shop's.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Agent, &mut Window)> {
        Arc::make_mut(&mut self.windows).iter_mut().map(|(agent, w)| (*agent, w))
    }

    /// One window, if it exists.
    pub fn get(&self, scope: Agent) -> Option<&Window> {
        let i = Self::place(&self.windows, scope).ok()?;
        Some(&self.windows[i].1)
    }

    /// One window to be changed, if it exists.
    pub fn get_mut(&mut self, scope: Agent) -> Option<&mut Window> {
        let i = Self::place(&self.windows, scope).ok()?;
        Some(&mut Arc::make_mut(&mut self.windows)[i].1)
    }

    /// Where the scope stands, or where it would.
    fn place(windows: &[(Agent, Window)], scope: Agent) -> Result<usize, usize> {
        // The shop stands last, and an agent at its number where all before it are there.
        let guess = if scope == SHOP {
            windows.len().wrapping_sub(1)
        } else {
            scope as usize
        };
        match windows.get(guess) {
            Some(window) if window.0 == scope => Ok(guess),
            _ => windows.binary_search_by_key(&scope, |w| w.0),
        }
    }

    fn get_or_new(&mut self, scope: Agent, grain: Grain) -> &mut Window {
        let windows = Arc::make_mut(&mut self.windows);
        let i = match Self::place(windows, scope) {
            Ok(i) => i,
            Err(i) => {
                let mut window = Window::new(grain);
                if self.phase == Phase::Final {
                    window.compact();
                }
                windows.insert(i, (scope, window));
                i
            }
        };
        &mut windows[i].1
    }

    /// Keeps of every window only what corrections need.
    pub fn compact(&mut self) {
        for (_, window) in self.iter_mut() {
            window.compact();
        }
    }
}

/// A window that was published and has changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WindowId {
    /// Its length.
    pub grain: Grain,
    /// Its start (ms).
    pub start: i64,
    /// An agent or [`SHOP`].
    pub scope: Agent,
}

/// All windows of a shop.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Windows {
    minutes: BTreeMap<i64, Block>,
    hours: BTreeMap<i64, Block>,
    days: BTreeMap<i64, Block>,
    /// Published windows that have changed since, each once.
    pub changed: Vec<WindowId>,
    /// Blocks that came into being since this was last taken: their publication is to be planned.
    pub born: Vec<(Grain, i64)>,
    /// What alerts and live figures ask, fed with the same contributions.
    pub watch: Watch,
}

impl Windows {
    /// The blocks of a grain by their start.
    pub fn blocks(&mut self, grain: Grain) -> &mut BTreeMap<i64, Block> {
        match grain {
            Grain::Minute => &mut self.minutes,
            Grain::Hour => &mut self.hours,
            Grain::Day => &mut self.days,
        }
    }

    /// Number of windows kept.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        [&self.minutes, &self.hours, &self.days]
            .into_iter()
            .flat_map(|m| m.values())
            .map(|b| b.windows.len())
            .sum()
    }

    fn with(&mut self, grain: Grain, start: i64, scopes: &[Agent], mut change: impl FnMut(&mut Window)) {
        let born = &mut self.born;
        let map = match grain {
            Grain::Minute => &mut self.minutes,
            Grain::Hour => &mut self.hours,
            Grain::Day => &mut self.days,
        };
        let block = map.entry(start).or_insert_with(|| {
            born.push((grain, start));
            Block::new()
        });
        let published = block.phase != Phase::Running;
        for &scope in scopes {
            let window = block.get_or_new(scope, grain);
            change(window);
            if grain == Grain::Day && scope != SHOP {
                self.watch.agent(scope).live = true;
            }
            if !window.dirty {
                window.dirty = true;
                if published {
                    self.changed.push(WindowId { grain, start, scope });
                }
            }
        }
    }

    /// Adds to figures of the hour and the day of `t`.
    pub fn add_hour_day(&mut self, rules: &Rules<'_>, t: i64, scope: Agent, changes: &[(Fig, i64)]) {
        let utc = rules.utc;
        for (grain, start) in [(Grain::Hour, utc.hour_start(t)), (Grain::Day, utc.start(utc.day(t)))] {
            self.with(grain, start, &[scope], |w| {
                changes.iter().for_each(|(fig, delta)| w.add(*fig, *delta))
            });
        }
    }

    /// Adds to figures of a window that starts at `start`.
    pub fn add_at(&mut self, grain: Grain, start: i64, scope: Agent, changes: &[(Fig, i64)]) {
        self.with(grain, start, &[scope], |w| {
            changes.iter().for_each(|(fig, delta)| w.add(*fig, *delta))
        });
    }

    fn each_grain(&mut self, rules: &Rules<'_>, t: i64, scopes: &[Agent], mut change: impl FnMut(&mut Window)) {
        let utc = rules.utc;
        let starts = [
            (Grain::Minute, utc.minute_start(t)),
            (Grain::Hour, utc.hour_start(t)),
            (Grain::Day, utc.start(utc.day(t))),
        ];
        for (grain, start) in starts {
            self.with(grain, start, scopes, &mut change);
        }
    }

    /// Adds (`sign` 1) or subtracts (-1) what an atom contributes.
    pub fn apply(&mut self, rules: &Rules<'_>, atom: &Atom, sign: i64) {
        match *atom {
            Atom::BuyerMessage { t, agent } => {
                self.watch.add_curve(rules, t, [0, sign, 0, 0]);
                let scopes = [SHOP, agent.unwrap_or(SHOP)];
                let scopes = if agent.is_some() { scopes.as_slice() } else { &[SHOP] };
                self.each_grain(rules, t, scopes, |w| w.add(figure::BUYER_MESSAGES, sign));
            }
            Atom::AgentMessage { t, agent, assisted } => {
                self.each_grain(rules, t, &[SHOP, agent], |w| {
                    w.add(figure::AGENT_MESSAGES, sign);
                    w.add(figure::ASSISTED_MESSAGES, if assisted { sign } else { 0 });
                });
            }
            Atom::RobotMessage { t, .. } => self.each_grain(rules, t, &[SHOP], |w| w.add(figure::ROBOT_MESSAGES, sign)),
            Atom::Spam { t } => self.each_grain(rules, t, &[SHOP], |w| w.add(figure::SPAM_MESSAGES, sign)),
            Atom::Distinct {
                t,
                scope,
                received,
                new_to_day,
                new_to_hour,
            } => {
                let fig = if received {
                    figure::RECEIVED_BUYERS
                } else {
                    figure::CONSULTING_BUYERS
                };
                if new_to_day && scope == SHOP && !received {
                    self.watch.add_curve(rules, t, [sign, 0, 0, 0]);
                }
                if new_to_hour {
                    self.add_at(Grain::Hour, rules.utc.hour_start(t), scope, &[(fig, sign)]);
                }
                if new_to_day {
                    self.add_at(Grain::Day, rules.utc.start(rules.utc.day(t)), scope, &[(fig, sign)]);
                }
            }
            Atom::Touch { .. } => {}
            Atom::Rating {
                day,
                agent,
                stars,
                sign: own,
            } => {
                let fig = figure::RATINGS_1 + usize::from(stars.clamp(1, 5)) - 1;
                for scope in [SHOP, agent] {
                    self.add_at(Grain::Day, rules.utc.start(day), scope, &[(fig, sign * own)]);
                }
            }
            Atom::Round(round) => {
                self.watch.round(rules, &round, sign);
                self.round(rules, &round, sign);
            }
        }
    }

    fn round(&mut self, rules: &Rules<'_>, round: &Round, sign: i64) {
        if let Some(agent) = round.agent
            && round.outcome != Outcome::Moved
        {
            let measured = Measured::new(rules, round, round.a0, round.first);
            self.each_grain(rules, round.a0, &[agent], |w| measured.add(w, sign));
        }
        if round.ends_chain() {
            let measured = Measured::new(rules, round, round.t0, round.chain_first);
            self.each_grain(rules, round.t0, &[SHOP], |w| measured.add(w, sign));
        }
    }
}

/// How long an answered round lasted by one of its clocks, and when it ended (ms).
#[derive(Debug, Clone, Copy)]
struct Latency {
    ms: i64,
    ended_at: i64,
}

/// What a round (of an agent) or a chain (of the shop) adds to a window.
struct Measured {
    outcome: Outcome,
    latency: Option<Latency>,
    sealed_until: i64,
    cap: i64,
    first: bool,
    assessed: bool,
}

impl Measured {
    /// By the clock that counts for the scope.
    fn new(rules: &Rules<'_>, round: &Round, clock: i64, first: bool) -> Self {
        let knobs = rules.policy.on(rules.utc.day(round.t0));
        let time_of_day = rules.utc.time_of_day_ms(clock);
        let (from, to) = knobs.assessed_hours_ms;
        let assessed = (from..to).contains(&time_of_day);
        let answered = round.ended_at.filter(|_| round.outcome == Outcome::Replied);
        Measured {
            outcome: round.outcome,
            latency: answered.map(|ended_at| Latency {
                ms: ended_at - clock,
                ended_at,
            }),
            sealed_until: rules.chat_sealed_until,
            cap: knobs.latency_cap_ms,
            first,
            assessed,
        }
    }

    fn add(&self, w: &mut Window, sign: i64) {
        w.add(figure::ROUNDS, sign);
        let outcome = match self.outcome {
            Outcome::Replied => figure::REPLIED,
            Outcome::Transferred | Outcome::Moved => figure::TRANSFERRED,
            Outcome::Unanswered => figure::UNANSWERED,
        };
        w.add(outcome, sign);
        w.add(
            figure::LATENCY_CAPPED_SUM,
            sign * self.latency.map_or(self.cap, |l| l.ms.min(self.cap)),
        );
        w.add(figure::FIRST_ROUNDS, if self.first { sign } else { 0 });
        w.add(figure::ASSESSED_ROUNDS, if self.assessed { sign } else { 0 });
        let Some(answered) = self.latency else { return };
        let latency = answered.ms;
        w.latency(answered, self.sealed_until, sign);
        w.add(figure::LATENCY_SUM, sign * latency);
        for (fig, seconds) in [
            (figure::WITHIN_30S, 30),
            (figure::WITHIN_60S, 60),
            (figure::WITHIN_180S, 180),
            (figure::WITHIN_300S, 300),
        ] {
            w.add(fig, if latency <= seconds * SECOND_MS { sign } else { 0 });
        }
        if self.first {
            w.add(figure::FIRST_REPLIED, sign);
            w.add(figure::FIRST_LATENCY_SUM, sign * latency);
        }
        if self.assessed {
            w.add(figure::ASSESSED_WITHIN_180S, if latency <= 180 * SECOND_MS { sign } else { 0 });
            w.add(figure::ASSESSED_WITHIN_300S, if latency <= 300 * SECOND_MS { sign } else { 0 });
        }
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
