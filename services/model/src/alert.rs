//! Alerts: what the fold says about them, and how their readers get it back.
//!
//! An alert is a series of transitions: `firing`, any number of `escalated`, at most one `resolved`. Each is a row of the table
//! `alerts`, and travels on the topic of that name in the envelope of the results ([`crate::results`]), with its span.

use crate::position::LogPosition;
use crate::table::{Stamp, Table};
use crate::time::Day;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Int32Type, Int64Type, TimestampMillisecondType};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The rules, in the order of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Rule {
    BuyerWaiting,
    ConversionLow,
    ManyWaiting,
    RefundPromiseAtRisk,
    RefundSpike,
    RepliesSlow,
    #[serde(rename = "reply_rate_3min_low")]
    ReplyRate3minLow,
    #[serde(rename = "reply_rate_5min_low")]
    ReplyRate5minLow,
    ShopWaiting,
}

impl Rule {
    /// All rules, in the order of the bytes of their names.
    pub const ALL: [Rule; 9] = [
        Rule::BuyerWaiting,
        Rule::ConversionLow,
        Rule::ManyWaiting,
        Rule::RefundPromiseAtRisk,
        Rule::RefundSpike,
        Rule::RepliesSlow,
        Rule::ReplyRate3minLow,
        Rule::ReplyRate5minLow,
        Rule::ShopWaiting,
    ];

    /// The name in tables, policies and labels.
    pub fn name(self) -> &'static str {
        match self {
            Rule::BuyerWaiting => "buyer_waiting",
            Rule::ConversionLow => "conversion_low",
            Rule::ManyWaiting => "many_waiting",
            Rule::RefundPromiseAtRisk => "refund_promise_at_risk",
            Rule::RefundSpike => "refund_spike",
            Rule::RepliesSlow => "replies_slow",
            Rule::ReplyRate3minLow => "reply_rate_3min_low",
            Rule::ReplyRate5minLow => "reply_rate_5min_low",
            Rule::ShopWaiting => "shop_waiting",
        }
    }

    /// The rule of this name.
    pub fn from_name(name: &str) -> Option<Rule> {
        Rule::ALL.into_iter().find(|r| r.name() == name)
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Severity {
    Warning,
    Major,
    Critical,
}

impl Severity {
    /// All of them, ascending.
    pub const ALL: [Severity; 3] = [Severity::Warning, Severity::Major, Severity::Critical];

    /// The name in tables and labels.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Major => "major",
            Severity::Critical => "critical",
        }
    }

    /// The severity of this name.
    pub fn from_name(name: &str) -> Option<Severity> {
        Severity::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// What happened to an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum TransitionKind {
    Firing,
    Escalated,
    Resolved,
}

impl TransitionKind {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            TransitionKind::Firing => "firing",
            TransitionKind::Escalated => "escalated",
            TransitionKind::Resolved => "resolved",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [TransitionKind::Firing, TransitionKind::Escalated, TransitionKind::Resolved]
            .into_iter()
            .find(|k| k.name() == name)
    }
}

/// A row of `alerts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRow {
    /// Always final; its `dt` is the day of the onset.
    pub stamp: Stamp,
    /// 32 hex digits, a function of rule, shop, agent and onset.
    pub alert_id: Arc<str>,
    /// 0 for firing, then counted up.
    pub transition: u32,
    /// What happened.
    pub kind: TransitionKind,
    /// Which rule.
    pub rule: Rule,
    /// Of which shop.
    pub shop_id: Arc<str>,
    /// Of which agent; `None`: of the shop as a whole.
    pub agent_id: Option<Arc<str>>,
    /// How bad; of a resolved one the worst it was.
    pub severity: Severity,
    /// The value: milliseconds, a count, or the numerator of a ratio.
    pub value_num: i64,
    /// 1, or the denominator of a ratio (for `refund_spike` the base, for `refund_promise_at_risk` those overdue).
    pub value_den: i64,
    /// When the condition began to hold (ms).
    pub onset: i64,
    /// When this happened (ms).
    pub at: i64,
    /// JSON: a list of up to 5 of the buyers, rounds or refunds behind it, worst first.
    pub evidence: Arc<str>,
}

impl AlertRow {
    /// The id of the alert of a rule and scope that began at `onset` (ms).
    pub fn id_of(rule: Rule, shop_id: &str, agent_id: Option<&str>, onset: i64) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(rule.name().as_bytes()).update(&[0x1F]);
        hasher.update(shop_id.as_bytes()).update(&[0x1F]);
        hasher.update(agent_id.unwrap_or("").as_bytes()).update(&[0x1F]);
        hasher.update(onset.to_string().as_bytes());
        let mut hex = hasher.finalize().to_hex().to_string();
        hex.truncate(32);
        hex
    }

    /// Reads the rows of a batch of the table `alerts`; `None` if a column is missing, of another type, or holds a name that
    /// nobody knows.
    pub fn read(batch: &RecordBatch) -> Option<Vec<AlertRow>> {
        let text = |name: &str| batch.column_by_name(name)?.as_string_opt::<i32>();
        let int = |name: &str| batch.column_by_name(name)?.as_primitive_opt::<Int64Type>();
        let time = |name: &str| batch.column_by_name(name)?.as_primitive_opt::<TimestampMillisecondType>();
        let (ids, kinds, rules, severities) = (text("alert_id")?, text("kind")?, text("rule")?, text("severity")?);
        let (shops, agents, evidence, policies) = (text("shop_id")?, text("agent_id")?, text("evidence")?, text("policy")?);
        let transitions = batch.column_by_name("transition")?.as_primitive_opt::<Int32Type>()?;
        let days = batch.column_by_name("dt")?.as_primitive_opt::<Date32Type>()?;
        let (nums, dens) = (int("value_num")?, int("value_den")?);
        let (onsets, ats, published) = (time("onset")?, time("at")?, time("published_at")?);
        let row = |i: usize| {
            Some(AlertRow {
                stamp: Stamp {
                    policy: policies.value(i).into(),
                    is_final: true,
                    published_at: published.value(i),
                    dt: days.value(i) as Day,
                    position: crate::results::position(batch, i),
                },
                alert_id: ids.value(i).into(),
                transition: u32::try_from(transitions.value(i)).ok()?,
                kind: TransitionKind::from_name(kinds.value(i))?,
                rule: Rule::from_name(rules.value(i))?,
                shop_id: shops.value(i).into(),
                agent_id: agents.is_valid(i).then(|| agents.value(i).into()),
                severity: Severity::from_name(severities.value(i))?,
                value_num: nums.value(i),
                value_den: dens.value(i),
                onset: onsets.value(i),
                at: ats.value(i),
                evidence: evidence.value(i).into(),
            })
        };
        (0..batch.num_rows()).map(row).collect()
    }

    /// The alert rows of a decoded message, at and behind `from`, in the order of their positions.
    pub fn of_message(batches: &[(Table, RecordBatch)], from: LogPosition) -> Option<Vec<AlertRow>> {
        let mut rows = Vec::new();
        for (_, batch) in batches.iter().filter(|(table, _)| *table == Table::Alerts) {
            rows.extend(AlertRow::read(batch)?.into_iter().filter(|r| r.stamp.position >= from));
        }
        Some(rows)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::table::Rows;

    #[test]
    fn names_of_rules_are_in_order_and_lead_back() {
        assert!(Rule::ALL.is_sorted_by(|a, b| a.name() < b.name() && a < b));
        for rule in Rule::ALL {
            assert_eq!(Rule::from_name(rule.name()), Some(rule));
            assert_eq!(serde_json::to_string(&rule).unwrap(), format!("\"{}\"", rule.name()));
        }
    }

    #[test]
    fn an_id_depends_on_every_part() {
        let id = AlertRow::id_of(Rule::ManyWaiting, "s1", Some("a"), 5);
        assert_eq!(id.len(), 32);
        let others = [
            AlertRow::id_of(Rule::ShopWaiting, "s1", Some("a"), 5),
            AlertRow::id_of(Rule::ManyWaiting, "s2", Some("a"), 5),
            AlertRow::id_of(Rule::ManyWaiting, "s1", None, 5),
            AlertRow::id_of(Rule::ManyWaiting, "s1", Some("a"), 6),
        ];
        assert!(!others.contains(&id));
    }

    #[test]
    fn rows_come_back_from_a_batch() {
        let row = AlertRow {
            stamp: Stamp {
                policy: "default".into(),
                is_final: true,
                published_at: 7,
                dt: 20_000,
                position: LogPosition { offset: 3, index: 1 },
            },
            alert_id: "00".into(),
            transition: 2,
            kind: TransitionKind::Resolved,
            rule: Rule::ReplyRate5minLow,
            shop_id: "s1".into(),
            agent_id: None,
            severity: Severity::Critical,
            value_num: 3,
            value_den: 4,
            onset: 5,
            at: 6,
            evidence: "[]".into(),
        };
        let mut rows = Rows::default();
        rows.alerts.push(row.clone());
        let batches = rows.to_batches(0).unwrap();
        assert_eq!(AlertRow::of_message(&batches, LogPosition::start_of(0)).unwrap(), [row]);
        assert!(AlertRow::of_message(&batches, LogPosition::start_of(4)).unwrap().is_empty());
    }
}
