//! The knobs of the alert rules: thresholds, samples and durations, dated like every knob of a policy.
//!
//! One table says everything: name, unit, default. Levels must satisfy warning ≤ major ≤ critical.

use peakdesk_model::alert::Rule;
use peakdesk_model::time::{MINUTE_MS, SECOND_MS, parse_duration_ms};
use serde::{Deserialize, Serialize};

/// How the value of a knob is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `"100s"`; held in milliseconds.
    Duration,
    /// `"5"`, up to [`COUNT_MAX`].
    Count,
    /// `"80%"` or `"80"`, a whole number from 0 to 100.
    Percent,
    /// `"true"` or `"false"`; held as 1 or 0.
    Switch,
}

/// The largest count: more buyers, replies or refunds than any shop has, and small enough to be multiplied with another count.
const COUNT_MAX: i64 = 1_000_000_000;

/// Name, unit and default of every knob; those whose value 0 would fire on nothing are marked.
const KNOBS: [(&str, Unit, i64, bool); 49] = {
    use Unit::{Count, Duration, Percent, Switch};
    [
        ("buyer_waiting.warning", Duration, 100 * SECOND_MS, true),
        ("buyer_waiting.major", Duration, 180 * SECOND_MS, true),
        ("buyer_waiting.critical", Duration, 300 * SECOND_MS, true),
        ("buyer_waiting.resolve", Duration, 60 * SECOND_MS, false),
        ("buyer_waiting.for", Duration, 0, false),
        ("buyer_waiting.enabled", Switch, 1, false),
        ("many_waiting.warning", Count, 5, false),
        ("many_waiting.critical", Count, 10, false),
        ("many_waiting.resolve", Count, 3, false),
        ("many_waiting.for", Duration, 0, false),
        ("many_waiting.enabled", Switch, 1, false),
        ("shop_waiting.major", Count, 20, false),
        ("shop_waiting.critical", Count, 50, false),
        ("shop_waiting.resolve", Count, 10, false),
        ("shop_waiting.for", Duration, 0, false),
        ("shop_waiting.enabled", Switch, 1, false),
        ("reply_rate_3min_low.warning", Percent, 80, false),
        ("reply_rate_3min_low.min_rounds", Count, 30, true),
        ("reply_rate_3min_low.resolve", Percent, 85, false),
        ("reply_rate_3min_low.for", Duration, 2 * MINUTE_MS, false),
        ("reply_rate_3min_low.enabled", Switch, 1, false),
        ("reply_rate_5min_low.warning", Percent, 80, false),
        ("reply_rate_5min_low.min_chains", Count, 30, true),
        ("reply_rate_5min_low.resolve", Percent, 85, false),
        ("reply_rate_5min_low.for", Duration, 2 * MINUTE_MS, false),
        ("reply_rate_5min_low.enabled", Switch, 1, false),
        ("replies_slow.warning", Duration, 40 * SECOND_MS, false),
        ("replies_slow.min_replies", Count, 5, true),
        ("replies_slow.resolve", Duration, 30 * SECOND_MS, false),
        ("replies_slow.for", Duration, 5 * MINUTE_MS, false),
        ("replies_slow.enabled", Switch, 1, false),
        ("conversion_low.warning", Percent, 10, false),
        ("conversion_low.min_buyers", Count, 30, true),
        ("conversion_low.resolve", Percent, 12, false),
        ("conversion_low.for", Duration, 10 * MINUTE_MS, false),
        ("conversion_low.enabled", Switch, 1, false),
        ("refund_spike.min_refunds", Count, 10, true),
        ("refund_spike.times_base", Count, 3, false),
        ("refund_spike.orders_per_refund", Count, 20, false),
        ("refund_spike.resolve_refunds", Count, 5, false),
        ("refund_spike.resolve_times_base", Count, 2, false),
        ("refund_spike.for", Duration, 0, false),
        ("refund_spike.enabled", Switch, 1, false),
        ("refund_promise_at_risk.warning", Count, 1, true),
        ("refund_promise_at_risk.major", Count, 1, true),
        ("refund_promise_at_risk.critical", Count, 10, true),
        ("refund_promise_at_risk.resolve", Count, 0, false),
        ("refund_promise_at_risk.for", Duration, 0, false),
        ("refund_promise_at_risk.enabled", Switch, 1, false),
    ]
};

/// Levels that must not fall: `(lower, higher)`.
const LEVELS: [(&str, &str); 6] = [
    ("buyer_waiting.warning", "buyer_waiting.major"),
    ("buyer_waiting.major", "buyer_waiting.critical"),
    ("many_waiting.warning", "many_waiting.critical"),
    ("shop_waiting.major", "shop_waiting.critical"),
    ("refund_promise_at_risk.warning", "refund_promise_at_risk.major"),
    ("refund_promise_at_risk.major", "refund_promise_at_risk.critical"),
];

/// The knobs of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleKnobs {
    /// Switched on.
    pub enabled: bool,
    /// How long its condition must hold (ms).
    pub for_ms: i64,
    /// Thresholds of warning, major and critical; `None` where the rule has no such severity.
    pub levels: [Option<i64>; 3],
    /// The resolving threshold.
    pub resolve: i64,
    /// The least sample.
    pub min: i64,
}

/// The values of all knobs, in the order of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertKnobs {
    values: Vec<i64>,
    /// The same by rule, in the order of [`Rule::ALL`].
    rules: Vec<RuleKnobs>,
}

impl Default for AlertKnobs {
    fn default() -> Self {
        let mut knobs = AlertKnobs {
            values: KNOBS.iter().map(|k| k.2).collect(),
            rules: Vec::new(),
        };
        knobs.arrange();
        knobs
    }
}

impl AlertKnobs {
    /// The value of `RULE.KNOB`: milliseconds, a count, per cent, or 1 and 0 for true and false.
    pub fn get(&self, knob: &str) -> Option<i64> {
        let i = KNOBS.iter().position(|k| k.0 == knob)?;
        self.values.get(i).copied()
    }

    /// The knobs of a rule.
    pub fn rule(&self, rule: Rule) -> &RuleKnobs {
        &self.rules[rule as usize]
    }

    /// The thresholds of a rule: knob and value, in the units of [`AlertKnobs::get`].
    pub fn thresholds(&self, rule: Rule) -> impl Iterator<Item = (&'static str, i64)> {
        let of_rule = move |(i, k): (usize, &(&'static str, Unit, i64, bool))| {
            let knob = k.0.strip_prefix(rule.name())?.strip_prefix('.')?;
            Some((knob, *self.values.get(i)?))
        };
        KNOBS.iter().enumerate().filter_map(of_rule)
    }

    fn arrange(&mut self) {
        let rules = Rule::ALL.map(|rule| {
            let of = |knob: &str| self.get(&format!("{}.{knob}", rule.name()));
            let first_of = |knobs: [&str; 4]| knobs.into_iter().find_map(of).unwrap_or(0);
            RuleKnobs {
                enabled: of("enabled") != Some(0),
                for_ms: of("for").unwrap_or(0),
                levels: ["warning", "major", "critical"].map(of),
                resolve: first_of(["resolve", "resolve_refunds", "", ""]),
                min: first_of(["min_rounds", "min_chains", "min_replies", "min_buyers"]),
            }
        });
        self.rules = rules.into();
    }

    pub(crate) fn set(&mut self, knob: &str, text: &str) -> Result<(), String> {
        let Some(i) = KNOBS.iter().position(|k| k.0 == knob) else {
            return Err("no such knob; the default policy in schemas/policy.default.toml names them all".to_owned());
        };
        let (_, unit, _, positive) = KNOBS[i];
        let value = match unit {
            Unit::Duration => parse_duration_ms(text).ok_or_else(|| format!("{text:?} is not a duration like \"100s\" or \"5m\""))?,
            Unit::Count => text
                .parse()
                .ok()
                .filter(|v| (0..=COUNT_MAX).contains(v))
                .ok_or_else(|| format!("{text:?} is not a whole number from 0 to {COUNT_MAX}"))?,
            Unit::Percent => text
                .strip_suffix('%')
                .unwrap_or(text)
                .trim()
                .parse()
                .ok()
                .filter(|v| (0..=100).contains(v))
                .ok_or_else(|| format!("{text:?} is not a whole percentage like \"80%\""))?,
            Unit::Switch => match text {
                "true" => 1,
                "false" => 0,
                _ => return Err(format!("{text:?} is neither \"true\" nor \"false\"")),
            },
        };
        if positive && value == 0 {
            return Err("must be more than 0, or it would fire on nothing".to_owned());
        }
        self.values[i] = value;
        self.arrange();
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<(), (String, String)> {
        for (low, high) in LEVELS {
            if self.get(low) > self.get(high) {
                return Err((low.to_owned(), format!("must not be above {high}")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counts_are_bounded() {
        for (knob, unit, _, _) in KNOBS {
            if unit == Unit::Count {
                let mut knobs = AlertKnobs::default();
                knobs.set(knob, &COUNT_MAX.to_string()).unwrap();
                assert_eq!(knobs.get(knob), Some(COUNT_MAX));
                for bad in [(COUNT_MAX + 1).to_string(), i64::MAX.to_string(), "-1".to_owned()] {
                    let problem = knobs.set(knob, &bad).unwrap_err();
                    assert!(problem.contains("from 0 to 1000000000"), "{problem}");
                }
            }
        }
    }
}
