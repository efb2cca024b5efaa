//! An alert as the alerter keeps it: the newest of its transitions, and the wall-clock times that receivers want.
//!
//! Rows carry log time, which need not be the wall's (a simulated day runs faster, a replayed one is past). What is told to people is log
//! time: when the condition began on the shop's own clock. Alertmanager lives in wall time; it gets
//! `starts_at = when Kafka got the message − (log time of the message − onset)`, at most [`AGE_MAX_MS`] earlier. Both are properties
//! of the message, so that every reading of it gives the same time, and Alertmanager knows a repeat as one.

use peakdesk_model::alert::{AlertRow, Rule, Severity};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// An alert is not said to have begun longer before it was heard of than this.
const AGE_MAX_MS: i64 = 24 * 3_600_000;

/// Evidence longer than this is not kept; it holds up to five objects of about a hundred bytes.
const EVIDENCE_BYTES_MAX: usize = 4_096;

/// A receiver, and the route by which an alert came to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// Name of the receiver.
    pub receiver: String,
    /// Name of the route.
    pub route: String,
}

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// 32 hex digits.
    pub id: Arc<str>,
    /// Partition of the topic, which is that of its shop.
    pub partition: i32,
    /// Which rule.
    pub rule: Rule,
    /// Of which shop.
    pub shop: Arc<str>,
    /// Of which agent; `None`: of the shop as a whole.
    pub agent: Option<Arc<str>>,
    /// The worst it was.
    pub severity: Severity,
    /// Number of its newest transition.
    pub transition: u32,
    /// Value at the newest transition.
    pub value_num: i64,
    /// Value at the newest transition.
    pub value_den: i64,
    /// When the condition began to hold (ms, log time).
    pub onset: i64,
    /// When the newest transition was (ms, log time).
    pub at: i64,
    /// JSON: a list of what is behind it, worst first.
    pub evidence: Arc<str>,
    /// When it began (ms, wall time).
    pub starts_at: i64,
    /// When it was heard to be over (ms, wall time).
    pub ended_at: Option<i64>,
    /// Who is told of it. Whoever was told of less is told of more: targets are added, not taken away.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub targets: BTreeSet<Target>,
}

impl Alert {
    /// An alert from the first row that is known of it. `produced_ms` is when Kafka got the message, `log_time_ms` the log time at its end.
    pub fn new(row: &AlertRow, partition: i32, produced_ms: i64, log_time_ms: i64) -> Self {
        let age = log_time_ms.saturating_sub(row.onset).clamp(0, AGE_MAX_MS);
        let mut alert = Alert {
            id: row.alert_id.clone(),
            partition,
            rule: row.rule,
            shop: row.shop_id.clone(),
            agent: row.agent_id.clone(),
            severity: row.severity,
            transition: row.transition,
            value_num: row.value_num,
            value_den: row.value_den,
            onset: row.onset,
            at: row.at,
            evidence: "[]".into(),
            starts_at: produced_ms.saturating_sub(age),
            ended_at: None,
            targets: BTreeSet::new(),
        };
        alert.keep_evidence(row);
        alert
    }

    /// Takes over what a later row says.
    pub fn update(&mut self, row: &AlertRow) {
        self.severity = self.severity.max(row.severity);
        self.transition = row.transition;
        (self.value_num, self.value_den, self.at) = (row.value_num, row.value_den, row.at);
        self.keep_evidence(row);
    }

    fn keep_evidence(&mut self, row: &AlertRow) {
        self.evidence = if row.evidence.len() <= EVIDENCE_BYTES_MAX {
            row.evidence.clone()
        } else {
            "[]".into()
        };
    }

    /// Whether it still fires.
    pub fn is_open(&self) -> bool {
        self.ended_at.is_none()
    }

    /// Without what only the alerter itself needs.
    pub fn told(&self) -> Alert {
        Alert {
            targets: BTreeSet::new(),
            ..self.clone()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use peakdesk_model::alert::TransitionKind;
    use peakdesk_model::position::LogPosition;
    use peakdesk_model::table::Stamp;

    /// A row of the shop `s1`.
    pub(crate) fn row(agent: &str, onset: i64, transition: u32, kind: TransitionKind, severity: Severity) -> AlertRow {
        let rule = Rule::BuyerWaiting;
        AlertRow {
            stamp: Stamp {
                policy: "default".into(),
                is_final: true,
                published_at: onset,
                dt: 20_000,
                position: LogPosition::start_of(0),
            },
            alert_id: AlertRow::id_of(rule, "s1", Some(agent), onset).into(),
            transition,
            kind,
            rule,
            shop_id: "s1".into(),
            agent_id: Some(agent.into()),
            severity,
            value_num: 120_000,
            value_den: 1,
            onset,
            at: onset + 1_000 * i64::from(transition),
            evidence: "[]".into(),
        }
    }

    #[test]
    fn wall_times_follow_from_the_message_and_are_bounded() {
        let row = row("a", 50_000, 0, TransitionKind::Firing, Severity::Warning);
        assert_eq!(Alert::new(&row, 0, 1_000_000, 80_000).starts_at, 970_000);
        assert_eq!(Alert::new(&row, 0, 1_000_000, 10_000).starts_at, 1_000_000);
        let old = Alert::new(&row, 0, 1_000_000_000, 500_000_000);
        assert_eq!(old.starts_at, 1_000_000_000 - AGE_MAX_MS);
    }

    #[test]
    fn a_later_row_never_makes_it_milder() {
        let mut alert = Alert::new(&row("a", 5, 0, TransitionKind::Firing, Severity::Major), 0, 9, 9);
        alert.update(&row("a", 5, 1, TransitionKind::Escalated, Severity::Critical));
        alert.update(&row("a", 5, 2, TransitionKind::Resolved, Severity::Major));
        assert_eq!((alert.severity, alert.transition), (Severity::Critical, 2));
    }

    #[test]
    fn endless_evidence_is_not_kept() {
        let mut long = row("a", 5, 0, TransitionKind::Firing, Severity::Major);
        long.evidence = "x".repeat(EVIDENCE_BYTES_MAX + 1).into();
        assert_eq!(&*Alert::new(&long, 0, 9, 9).evidence, "[]");
    }
}
