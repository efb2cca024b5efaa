//! The nine rules, evaluated for a scope at a moment.
//!
//! A scope is evaluated when something of it has changed, and at the moments at which it would say something else although
//! nothing has: a threshold of age is reached, a minute leaves a span, hours begin or end. Each evaluation says when the next
//! such moment is.
//!
//! Source: metric definitions, "alerts".

use super::track::{Condition, Track, Transition, in_hours, next_boundary, stretch_start};
use super::watch::{AgentWatch, MANY_AGE_MS, Pace, SHOP_AGE_MS, Watch, minute};
use crate::machine::{Agent, Rules, SHOP};
use crate::policy::Knobs;
use crate::shop::{Context, Shop};
use peakdesk_model::alert::{Rule, Severity};
use peakdesk_model::time::{DAY_MS, HOUR_MS, MINUTE_MS};

/// A refund request is at risk this long before its promise is over.
const PROMISE_MARGIN_MS: i64 = 4 * HOUR_MS;

/// A value as it stands, and what it means.
struct Reading {
    num: i64,
    den: i64,
    condition: Condition,
    /// When it may mean something else although nothing changes (ms).
    next: i64,
}

/// A transition with the value at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    pub rule: Rule,
    pub scope: Agent,
    pub transition: Transition,
    pub num: i64,
    pub den: i64,
}

/// The moment of an evaluation, and what holds at it for a whole shop.
pub(super) struct Moment<'a> {
    t: i64,
    step: i64,
    rules: Rules<'a>,
    knobs: &'a Knobs,
    in_hours: bool,
    stretch: i64,
}

impl<'a> Moment<'a> {
    pub(super) fn new(t: i64, cx: &Context<'a>) -> Self {
        let rules = cx.rules();
        Moment {
            t,
            step: cx.constants.alert_step_ms,
            knobs: rules.policy.on(rules.utc.day(t)),
            in_hours: in_hours(&rules, t),
            stretch: stretch_start(&rules, t),
            rules,
        }
    }

    /// The first moment of evaluation at or after `at`, if it is to come.
    fn after(&self, at: i64) -> i64 {
        if at <= self.t { i64::MAX } else { up_to(at, self.step) }
    }

    /// How many of the waits are of an age, and when the next of them is.
    fn of_age(&self, waits: &mut super::waits::WaitSet, age_ms: i64) -> (i64, i64) {
        let count = waits.until(self.t - age_ms) as i64;
        let next = waits.next().map_or(i64::MAX, |since| self.after(since + age_ms));
        if self.t - self.stretch < age_ms {
            return (0, next.min(self.after(self.stretch + age_ms)));
        }
        (count, next)
    }

    /// Greatest age of waits.
    fn oldest(&self, waits: &super::waits::WaitSet) -> Reading {
        let rule = Rule::BuyerWaiting;
        let began = waits.first().map(|since| since.max(self.stretch));
        let age = began.map_or(0, |began| (self.t - began).max(0));
        let levels = self.knobs.alerts.rule(rule).levels;
        let next = began.map_or(i64::MAX, |began| {
            levels
                .into_iter()
                .flatten()
                .map(|level| self.after(began + level))
                .min()
                .unwrap_or(i64::MAX)
        });
        let exists = waits.first().is_some_and(|since| since <= self.t);
        self.reading(rule, age, 1, next, |level| exists && age >= level, |resolve| age < resolve)
    }

    fn reading(&self, rule: Rule, num: i64, den: i64, next: i64, reaches: impl Fn(i64) -> bool, resolves: impl Fn(i64) -> bool) -> Reading {
        let knobs = self.knobs.alerts.rule(rule);
        let level = Severity::ALL.into_iter().zip(knobs.levels).rev();
        let starred = !matches!(rule, Rule::ConversionLow | Rule::RefundSpike | Rule::RefundPromiseAtRisk);
        Reading {
            num,
            den,
            condition: Condition {
                level: level.filter(|(_, l)| l.is_some_and(&reaches)).map(|(severity, _)| severity).next(),
                resolves: resolves(knobs.resolve),
                over: !knobs.enabled || (starred && !self.in_hours),
            },
            next,
        }
    }

    /// A ratio in per cent that is bad when low; `strictly` below the level, or at it too.
    fn ratio(&self, rule: Rule, [all, hits]: [i64; 2], next_minute: Option<i64>, strictly: bool) -> Reading {
        let knobs = self.knobs.alerts.rule(rule);
        let low = |level: i64| hits * 100 < level * all || (!strictly && hits * 100 == level * all);
        let next = next_minute.map_or(i64::MAX, |m| m * MINUTE_MS);
        self.reading(
            rule,
            hits,
            all,
            next,
            |level| all > 0 && all >= knobs.min && low(level),
            |resolve| all == 0 || !low_at(hits, all, resolve, strictly),
        )
    }

    /// Does what a reading means to a track; `next` becomes the earliest moment to look again.
    fn step(&self, rule: Rule, scope: Agent, track: &mut Track, reading: Reading, next: &mut i64, said: &mut Vec<Said>) {
        let utc = self.rules.utc;
        let held_for = |onset| self.rules.policy.on(utc.day(onset)).alerts.rule(rule).for_ms;
        if let Some(transition) = track.step(self.t, reading.condition, held_for) {
            said.push(Said {
                rule,
                scope,
                transition,
                num: reading.num,
                den: reading.den,
            });
        }
        *next = reading.next.min(*next);
        if let Track::Pending(onset) = track {
            *next = (*next).min(self.after(*onset + held_for(*onset)));
        }
    }

    fn agent_step(&self, scope: Agent, watch: &mut AgentWatch, said: &mut Vec<Said>) -> i64 {
        let mut next = i64::MAX;
        let oldest = self.oldest(&watch.waits);
        self.step(
            Rule::BuyerWaiting,
            scope,
            &mut watch.tracks[Rule::BuyerWaiting as usize],
            oldest,
            &mut next,
            said,
        );
        let (many, at) = self.of_age(&mut watch.waits, MANY_AGE_MS);
        let many = self.reading(Rule::ManyWaiting, many, 1, at, |level| many > level, |resolve| many <= resolve);
        self.step(
            Rule::ManyWaiting,
            scope,
            &mut watch.tracks[Rule::ManyWaiting as usize],
            many,
            &mut next,
            said,
        );
        let active = [Rule::BuyerWaiting, Rule::ManyWaiting]
            .iter()
            .any(|r| watch.tracks[*r as usize].is_active());
        self.bound(next, active || !watch.waits.is_empty())
    }

    fn agent_minute(&self, scope: Agent, watch: &mut AgentWatch, said: &mut Vec<Said>) -> i64 {
        let (now, mut next) = (minute(self.t), i64::MAX);
        watch.rate.advance(now);
        let rate = self.ratio(Rule::ReplyRate3minLow, watch.rate.sum(), watch.rate.next_change(), true);
        self.step(
            Rule::ReplyRate3minLow,
            scope,
            &mut watch.tracks[Rule::ReplyRate3minLow as usize],
            rate,
            &mut next,
            said,
        );
        watch.slow.advance(now);
        let slow = self.slow(watch);
        self.step(
            Rule::RepliesSlow,
            scope,
            &mut watch.tracks[Rule::RepliesSlow as usize],
            slow,
            &mut next,
            said,
        );
        watch
            .conversion
            .drop_before(minute(self.rules.utc.start(self.rules.utc.day(self.t))));
        watch.conversion.advance(now);
        let mut conversion = self.ratio(Rule::ConversionLow, watch.conversion.sum(), watch.conversion.next_change(), true);
        let track = &mut watch.tracks[Rule::ConversionLow as usize];
        // The cohort of another day is another alert.
        let utc = self.rules.utc;
        conversion.condition.over |= track.onset().is_some_and(|onset| utc.day(onset) != utc.day(self.t));
        self.step(Rule::ConversionLow, scope, track, conversion, &mut next, said);
        let rules = [Rule::ReplyRate3minLow, Rule::RepliesSlow, Rule::ConversionLow];
        let active = rules.iter().any(|r| watch.tracks[*r as usize].is_active());
        if watch.tracks[Rule::ConversionLow as usize].is_active() {
            next = next.min(self.after(utc.end(utc.day(self.t))));
        }
        self.bound(next, active || watch.rate.sum()[0] != 0 || watch.slow.sum()[0] != 0)
    }

    fn slow(&self, watch: &AgentWatch) -> Reading {
        let [replies, sum] = watch.slow.sum();
        let rule = Rule::RepliesSlow;
        let min = self.knobs.alerts.rule(rule).min;
        let next = watch.slow.next_change().map_or(i64::MAX, |m| m * MINUTE_MS);
        let reaches = |level: i64| replies > 0 && replies >= min && sum > level * replies;
        self.reading(rule, sum, replies, next, reaches, |resolve| sum <= resolve * replies)
    }

    fn shop_step(&self, watch: &mut Watch, said: &mut Vec<Said>) -> i64 {
        let mut next = i64::MAX;
        let queue = self.oldest(&watch.queue);
        self.step(
            Rule::BuyerWaiting,
            SHOP,
            &mut watch.tracks[Rule::BuyerWaiting as usize],
            queue,
            &mut next,
            said,
        );
        let (waiting, at) = self.of_age(&mut watch.all, SHOP_AGE_MS);
        let all = self.reading(
            Rule::ShopWaiting,
            waiting,
            1,
            at,
            |level| waiting > level,
            |resolve| waiting <= resolve,
        );
        self.step(
            Rule::ShopWaiting,
            SHOP,
            &mut watch.tracks[Rule::ShopWaiting as usize],
            all,
            &mut next,
            said,
        );
        let promise = self.promise(watch);
        let track = &mut watch.tracks[Rule::RefundPromiseAtRisk as usize];
        self.step(Rule::RefundPromiseAtRisk, SHOP, track, promise, &mut next, said);
        let rules = [Rule::BuyerWaiting, Rule::ShopWaiting, Rule::RefundPromiseAtRisk];
        let active = rules.iter().any(|r| watch.tracks[*r as usize].is_active());
        self.bound(next, active || !watch.all.is_empty() || !watch.requests.is_empty())
    }

    fn promise(&self, watch: &mut Watch) -> Reading {
        let promise = self.knobs.refund_promise_ms;
        // Strictly older than the limit; what begins after this moment does not count.
        let begun_by = |limit: i64| (self.t - limit - 1).min(self.t);
        let n = watch.requests.until(begun_by(promise - PROMISE_MARGIN_MS)) as i64;
        let m = watch.overdue.until(begun_by(promise)) as i64;
        let when = |next: Option<i64>, limit: i64| next.map_or(i64::MAX, |since| self.after((since + limit + 1).max(since)));
        let next = when(watch.requests.next(), promise - PROMISE_MARGIN_MS).min(when(watch.overdue.next(), promise));
        let rule = Rule::RefundPromiseAtRisk;
        let mut reading = self.reading(rule, n, m, next, |_| false, |resolve| n <= resolve);
        let [warning, major, critical] = self.knobs.alerts.rule(rule).levels;
        let reached = [
            (Severity::Critical, m, critical),
            (Severity::Major, m, major),
            (Severity::Warning, n, warning),
        ];
        let level = reached.into_iter().find(|(_, value, level)| level.is_some_and(|l| *value >= l));
        reading.condition.level = level.map(|l| l.0);
        reading
    }

    fn shop_minute(&self, watch: &mut Watch, said: &mut Vec<Said>) -> i64 {
        let (now, mut next) = (minute(self.t), i64::MAX);
        watch.chains.advance(now);
        let rate = self.ratio(Rule::ReplyRate5minLow, watch.chains.sum(), watch.chains.next_change(), false);
        self.step(
            Rule::ReplyRate5minLow,
            SHOP,
            &mut watch.tracks[Rule::ReplyRate5minLow as usize],
            rate,
            &mut next,
            said,
        );
        let spike = self.spike(watch, now);
        self.step(
            Rule::RefundSpike,
            SHOP,
            &mut watch.tracks[Rule::RefundSpike as usize],
            spike,
            &mut next,
            said,
        );
        let active = [Rule::ReplyRate5minLow, Rule::RefundSpike]
            .iter()
            .any(|r| watch.tracks[*r as usize].is_active());
        self.bound(next, active || watch.chains.sum()[0] != 0)
    }

    fn spike(&self, watch: &mut Watch, now: i64) -> Reading {
        let parts = [&mut watch.refunds, &mut watch.refunds_before, &mut watch.orders];
        let [(n, a), (base, b), (orders, c)] = parts.map(|s| {
            s.advance(now);
            (s.sum()[0], s.next_change())
        });
        let rule = Rule::RefundSpike;
        let knob = |name: &str| self.knobs.alerts.get(name).unwrap_or(0);
        let fires = n >= knob("refund_spike.min_refunds")
            && 24 * n > knob("refund_spike.times_base") * base
            && knob("refund_spike.orders_per_refund") * n > orders;
        let resolves = n < knob("refund_spike.resolve_refunds") || 24 * n <= knob("refund_spike.resolve_times_base") * base;
        let next = [a, b, c].into_iter().flatten().min().map_or(i64::MAX, |m| m * MINUTE_MS);
        let mut reading = self.reading(rule, n, base, next, |_| false, |_| resolves);
        reading.condition.level = fires.then_some(Severity::Warning);
        reading
    }

    /// With something open, hours and days matter too, unless they never change again: an alert that nothing resolves would
    /// otherwise be looked at for ever.
    fn bound(&self, next: i64, something: bool) -> i64 {
        let (policy, today) = (self.rules.policy, self.rules.utc.day(self.t));
        let always = policy.on(today).alert_hours_ms == (0, DAY_MS) && !policy.changes_after(today);
        if something && !always {
            next.min(self.after(next_boundary(&self.rules, self.t)))
        } else {
            next
        }
    }
}

fn low_at(hits: i64, all: i64, resolve: i64, strictly: bool) -> bool {
    hits * 100 < resolve * all || (!strictly && hits * 100 == resolve * all)
}

/// The first multiple of `step` at or after `t`.
pub(crate) fn up_to(t: i64, step: i64) -> i64 {
    (t + step - 1).div_euclid(step) * step
}

impl Shop {
    /// Closes what has an end of its own and has reached it at `t` (ms).
    pub(crate) fn expire(&mut self, t: i64, cx: &Context<'_>) -> Option<i64> {
        let watch = &mut self.windows.watch;
        // A request is over when it is not kept any more, a wait when its deadline has passed.
        while let Some((end, requested_at, refund)) = watch.ends.first().copied().filter(|(end, ..)| *end <= t) {
            watch.request(refund, requested_at, end, false);
        }
        if watch.first_deadline().is_some_and(|deadline| deadline < t) {
            let open: Vec<u32> = watch.all.iter().map(|(_, buyer)| buyer).collect();
            for buyer in open {
                let watched = self.buyers.get(buyer).and_then(|b| b.watched.as_ref());
                if watched.is_none_or(|w| w.over || w.deadline >= t) {
                    continue;
                }
                if let Some(watched) = self.buyers.get_mut(buyer).and_then(|b| b.watched.as_mut()) {
                    watched.over = true;
                    watch.end_wait(buyer, watched);
                }
            }
            watch.forget_deadlines(t);
        }
        watch.next_end().map(|end| up_to(end, cx.constants.alert_step_ms))
    }

    /// Evaluates the rules of a scope that are due; when to look again, if nothing changes.
    pub(super) fn evaluate(&mut self, moment: &Moment<'_>, scope: Agent, pace: Pace, said: &mut Vec<Said>) -> i64 {
        let watch = &mut self.windows.watch;
        let next = match (pace, scope) {
            (Pace::Step, SHOP) => moment.shop_step(watch, said),
            (Pace::Step, agent) => moment.agent_step(agent, watch.agent(agent), said),
            (Pace::Minute, SHOP) => moment.shop_minute(watch, said),
            (Pace::Minute, agent) => moment.agent_minute(agent, watch.agent(agent), said),
            (Pace::Expiry, _) => return i64::MAX,
        };
        match pace {
            Pace::Minute if next != i64::MAX => up_to(next, MINUTE_MS),
            _ => next,
        }
    }
}
