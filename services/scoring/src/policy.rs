//! Policies: named profiles of scoring rules whose knobs change only at the start of a business day, and the constants of a
//! deployment that no policy can change.
//!
//! A profile is a list of versions; each names the day from which it holds and only the knobs it changes. Which day's knobs
//! hold for a figure is said where the figure is computed (metric definitions, "conventions").

use crate::alert_knobs::AlertKnobs;
use peakdesk_model::time::{DAY_MS, Day, HOUR_MS, MINUTE_MS, SECOND_MS, UtcOffset, format_date, parse_date, parse_duration_ms};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What holds for a whole deployment, for all shops and days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constants {
    /// Where business days begin.
    pub utc_offset: UtcOffset,
    /// A chat event later than this, by its source partition's clock, is excluded (ms).
    pub lateness_chat_ms: i64,
    /// An order or refund event later than this is raised (ms).
    pub lateness_money_ms: i64,
    /// How long orders are kept after their creation (ms).
    pub order_retention_ms: i64,
    /// How long touches are kept (ms).
    pub touch_retention_ms: i64,
    /// Alert rules are evaluated at multiples of it (ms); it divides a minute.
    pub alert_step_ms: i64,
    /// After this much wall time a source partition whose clock stands no longer holds alerts back (ms).
    pub stall_patience_ms: i64,
}

impl Default for Constants {
    fn default() -> Self {
        Constants {
            utc_offset: UtcOffset::CHINA,
            lateness_chat_ms: 15 * MINUTE_MS,
            lateness_money_ms: 24 * HOUR_MS,
            order_retention_ms: 45 * DAY_MS,
            touch_retention_ms: 7 * DAY_MS,
            alert_step_ms: 200,
            stall_patience_ms: 30 * SECOND_MS,
        }
    }
}

/// The knobs that hold on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knobs {
    /// A silence this long ends a session (ms).
    pub session_gap_ms: i64,
    /// The most a round counts for in capped latency (ms).
    pub latency_cap_ms: i64,
    /// How long after the end of the day a question may still be answered (ms).
    pub close_of_day_ms: i64,
    /// Time of day within which rounds are assessed, `[from, to)` (ms since local midnight).
    pub assessed_hours_ms: (i64, i64),
    /// How long before an order a touch still earns it (ms).
    pub attribution_window_ms: i64,
    /// How long a paid order makes a buyer's message an after-sale one (ms).
    pub after_sale_lookback_ms: i64,
    /// By when a refund is promised (ms after the request).
    pub refund_promise_ms: i64,
    /// Time of day within which people are alerted, `[from, to)` (ms since local midnight).
    pub alert_hours_ms: (i64, i64),
    /// Thresholds and samples of the alert rules.
    pub alerts: AlertKnobs,
}

impl Default for Knobs {
    fn default() -> Self {
        Knobs {
            session_gap_ms: 10 * MINUTE_MS,
            latency_cap_ms: 600 * SECOND_MS,
            close_of_day_ms: 60 * MINUTE_MS,
            assessed_hours_ms: (8 * HOUR_MS, 23 * HOUR_MS),
            attribution_window_ms: 72 * HOUR_MS,
            after_sale_lookback_ms: 21 * DAY_MS,
            refund_promise_ms: 24 * HOUR_MS,
            alert_hours_ms: (8 * HOUR_MS, 23 * HOUR_MS),
            alerts: AlertKnobs::default(),
        }
    }
}

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not TOML, or not of the form of a policy file.
    #[error("policy is not of the form `profile = \"NAME\"` followed by [[version]] tables: {0}")]
    Form(String),
    /// A value that cannot be.
    #[error("policy {profile}, version {version}: {knob}: {what}")]
    Knob {
        /// Profile name.
        profile: String,
        /// Day from which the version holds, or `first`.
        version: String,
        /// The knob.
        knob: String,
        /// What is wrong and what would do.
        what: String,
    },
    /// Versions out of order.
    #[error(
        "policy {profile}: version from {from} does not come after the one before it; order versions by `from`, only the first may leave it out"
    )]
    Order {
        /// Profile name.
        profile: String,
        /// The day at fault.
        from: String,
    },
}

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    name: String,
    /// Ascending by day; the first holds since ever.
    versions: Vec<Version>,
    longest_lookback_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    from: Day,
    label: Arc<str>,
    knobs: Knobs,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    profile: String,
    #[serde(default)]
    version: Vec<toml::Table>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy::new("default", vec![(Day::MIN, Knobs::default())])
    }
}

impl Policy {
    fn new(name: &str, versions: Vec<(Day, Knobs)>) -> Self {
        let longest_lookback_ms = versions.iter().map(|(_, k)| k.after_sale_lookback_ms).max().unwrap_or(0);
        let versions = versions
            .into_iter()
            .map(|(from, knobs)| {
                let label = if from == Day::MIN {
                    name.to_owned()
                } else {
                    format!("{name}@{}", format_date(from))
                };
                Version {
                    from,
                    label: label.into(),
                    knobs,
                }
            })
            .collect();
        Policy {
            name: name.to_owned(),
            versions,
            longest_lookback_ms,
        }
    }

    /// Parses a policy file and checks it against the deployment's constants.
    pub fn parse(text: &str, constants: &Constants) -> Result<Self, PolicyError> {
        let file: PolicyFile = toml::from_str(text).map_err(|e| PolicyError::Form(e.to_string().trim_end().replace('\n', " ")))?;
        if file.profile.is_empty() || file.profile.contains(|c: char| c.is_control() || c == '@') {
            return Err(PolicyError::Form(
                "the profile's name is empty or holds a control character or @".into(),
            ));
        }
        let mut knobs = Knobs::default();
        let mut versions: Vec<(Day, Knobs)> = Vec::new();
        for mut table in file.version {
            let from = match table.remove("from") {
                None => None,
                Some(value) => {
                    Some(read_day(&value).ok_or_else(|| PolicyError::Form(format!("`from` = {value} is not a date YYYY-MM-DD")))?)
                }
            };
            let from = from.unwrap_or(Day::MIN);
            let label = if from == Day::MIN { "first".to_owned() } else { format_date(from) };
            if versions.last().is_some_and(|(last, _)| *last >= from) {
                return Err(PolicyError::Order {
                    profile: file.profile,
                    from: label,
                });
            }
            let fail = |knob: &str, what: String| PolicyError::Knob {
                profile: file.profile.clone(),
                version: label.clone(),
                knob: knob.to_owned(),
                what,
            };
            for (knob, text) in flatten(&table).map_err(|(knob, what)| fail(&knob, what))? {
                knobs.set(&knob, &text).map_err(|what| fail(&knob, what))?;
            }
            knobs.check(constants).map_err(|(knob, what)| fail(&knob, what))?;
            if versions.is_empty() && from != Day::MIN {
                versions.push((Day::MIN, Knobs::default()));
            }
            versions.push((from, knobs.clone()));
        }
        if versions.is_empty() {
            versions.push((Day::MIN, knobs));
        }
        Ok(Policy::new(&file.profile, versions))
    }

    /// The profile's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn version(&self, day: Day) -> &Version {
        let after = self.versions.partition_point(|v| v.from <= day);
        &self.versions[after.saturating_sub(1)]
    }

    /// The knobs that hold on a day.
    pub fn on(&self, day: Day) -> &Knobs {
        &self.version(day).knobs
    }

    /// Whether the knobs of some later day may be others.
    pub fn changes_after(&self, day: Day) -> bool {
        self.versions.last().is_some_and(|version| version.from > day)
    }

    /// What rows of that day carry in their `policy` column.
    pub fn label(&self, day: Day) -> &Arc<str> {
        &self.version(day).label
    }

    /// The longest after-sale look-back of any version: how long paid orders must be kept.
    pub fn longest_lookback_ms(&self) -> i64 {
        self.longest_lookback_ms
    }
}

/// Which profile holds for which shop.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    default: Arc<Policy>,
    by_shop: BTreeMap<String, Arc<Policy>>,
}

impl Policies {
    /// One profile for all shops but those named.
    pub fn new(default: Policy, by_shop: BTreeMap<String, Policy>) -> Self {
        Policies {
            default: Arc::new(default),
            by_shop: by_shop.into_iter().map(|(shop, p)| (shop, Arc::new(p))).collect(),
        }
    }

    /// The profile of a shop.
    pub fn of(&self, shop_id: &str) -> &Arc<Policy> {
        self.by_shop.get(shop_id).unwrap_or(&self.default)
    }
}

fn read_day(value: &toml::Value) -> Option<Day> {
    match value {
        toml::Value::String(text) => parse_date(text),
        toml::Value::Datetime(date) => parse_date(&date.to_string()),
        _ => None,
    }
}

/// `(knob, text)` pairs; `rule.knob = "…"` is a nested table in TOML.
fn flatten(table: &toml::Table) -> Result<Vec<(String, String)>, (String, String)> {
    let mut out = Vec::new();
    for (key, value) in table {
        match value {
            toml::Value::String(text) => out.push((key.clone(), text.clone())),
            toml::Value::Table(inner) => {
                for (knob, value) in inner {
                    let name = format!("{key}.{knob}");
                    let toml::Value::String(text) = value else {
                        return Err((name, format!("{value} is not a string; write \"{value}\"")));
                    };
                    out.push((name, text.clone()));
                }
            }
            other => return Err((key.clone(), format!("{other} is not a string; write \"{other}\""))),
        }
    }
    Ok(out)
}

impl Knobs {
    fn set(&mut self, knob: &str, text: &str) -> Result<(), String> {
        let duration =
            || parse_duration_ms(text).ok_or_else(|| format!("{text:?} is not a duration like \"600s\", \"10m\", \"72h\" or \"21d\""));
        match knob {
            "session_gap" => self.session_gap_ms = duration()?,
            "latency_cap" => self.latency_cap_ms = duration()?,
            "close_of_day" => self.close_of_day_ms = duration()?,
            "attribution_window" => self.attribution_window_ms = duration()?,
            "after_sale_lookback" => self.after_sale_lookback_ms = duration()?,
            "refund_promise" => self.refund_promise_ms = duration()?,
            "assessed_hours" => self.assessed_hours_ms = parse_hours(text)?,
            "alert_hours" => self.alert_hours_ms = parse_hours(text)?,
            _ => self.alerts.set(knob, text)?,
        }
        Ok(())
    }

    fn check(&self, constants: &Constants) -> Result<(), (String, String)> {
        let bad = |knob: &str, what: &str| Err((knob.to_owned(), what.to_owned()));
        if self.session_gap_ms <= 0 {
            return bad("session_gap", "must be more than nothing");
        }
        if self.latency_cap_ms <= 0 {
            return bad("latency_cap", "must be more than nothing");
        }
        if self.attribution_window_ms <= 0 || self.attribution_window_ms > constants.touch_retention_ms - constants.lateness_money_ms {
            return bad(
                "attribution_window",
                "must be more than nothing and at most touch_retention less allowed_lateness_money",
            );
        }
        if self.after_sale_lookback_ms > constants.order_retention_ms {
            return bad("after_sale_lookback", "must not be more than order_retention");
        }
        self.alerts.check()
    }
}

/// Parses `08:00-23:00` into milliseconds since midnight; `24:00` is allowed as the end. An en dash will do too.
fn parse_hours(text: &str) -> Result<(i64, i64), String> {
    let clock = |part: &str| -> Option<i64> {
        let (h, m) = part.split_once(':')?;
        if h.len() != 2 || m.len() != 2 {
            return None;
        }
        let (h, m): (i64, i64) = (h.parse().ok()?, m.parse().ok()?);
        (m < 60 && (h < 24 || (h == 24 && m == 0))).then_some(h * HOUR_MS + m * MINUTE_MS)
    };
    let parts = text.split_once('-').or_else(|| text.split_once('–'));
    match parts.and_then(|(a, b)| Some((clock(a.trim())?, clock(b.trim())?))) {
        Some((from, to)) if from < to => Ok((from, to)),
        _ => Err(format!(
            "{text:?} is not a span of one day like \"08:00-23:00\" (24:00 is allowed as its end)"
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Policy, PolicyError> {
        Policy::parse(text, &Constants::default())
    }

    #[test]
    fn versions_inherit_and_hold_from_their_day() {
        let policy = parse(
            "profile = \"peak\"\n[[version]]\nlatency_cap = \"300s\"\n[[version]]\nfrom = 2025-11-23\nassessed_hours = \"09:00-24:00\"\nmany_waiting.warning = \"3\"",
        )
        .unwrap();
        let day = parse_date("2025-11-23").unwrap();
        assert_eq!(policy.on(day - 1).assessed_hours_ms, (8 * HOUR_MS, 23 * HOUR_MS));
        assert_eq!(policy.on(day).assessed_hours_ms, (9 * HOUR_MS, 24 * HOUR_MS));
        assert_eq!(policy.on(day).latency_cap_ms, 300_000);
        assert_eq!(&**policy.label(day - 1), "peak");
        assert_eq!(&**policy.label(day), "peak@2025-11-23");
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_name() {
        for (text, part) in [
            ("profile = \"p\"\n[[version]]\nlatency_kap = \"300s\"", "latency_kap"),
            ("profile = \"p\"\n[[version]]\nlatency_cap = 300", "is not a string"),
            ("profile = \"p\"\n[[version]]\nlatency_cap = \"300\"", "is not a duration"),
            ("profile = \"p\"\n[[version]]\nattribution_window = \"7d\"", "touch_retention"),
            ("profile = \"p\"\n[[version]]\nafter_sale_lookback = \"46d\"", "order_retention"),
            ("profile = \"p\"\n[[version]]\nassessed_hours = \"23:00-08:00\"", "span of one day"),
            (
                "profile = \"p\"\n[[version]]\nfrom = \"2025-11-02\"\n[[version]]\nfrom = \"2025-11-02\"",
                "come after",
            ),
            ("profile = \"p\"\n[[version]]\nfrom = \"yesterday\"", "YYYY-MM-DD"),
            ("name = \"p\"", "profile"),
            ("profile = \"p\"\n[[version]]\nmany_waiting.warning = \"11\"", "many_waiting"),
            ("profile = \"p\"\n[[version]]\nno_rule.warning = \"11\"", "no_rule"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_shipped_default_policy_says_the_defaults() {
        let shipped = parse(include_str!("../../../schemas/policy.default.toml")).unwrap();
        assert_eq!(shipped, Policy::default());
    }

    #[test]
    fn the_policy_of_a_sale_differs_in_its_alert_hours_only() {
        let sale = parse(include_str!("../../../schemas/policy.double11.toml")).unwrap();
        let around_the_clock = Knobs {
            alert_hours_ms: (0, DAY_MS),
            ..Knobs::default()
        };
        assert_eq!(*sale.on(0), around_the_clock);
    }
}
