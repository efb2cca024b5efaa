//! A group of a chat receiver: what was said of its alerts, and what is to be said.

use crate::alert::Alert;
use crate::core::View;
use crate::message::{Change, What};
use crate::routes::{Plan, Route};
use peakdesk_model::alert::Severity;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Critical alerts do not wait for `group_interval`; but no two messages with some of them follow each other faster than this (ms), so that a
/// burst that trickles in is no burst of messages.
pub(crate) const URGENT_INTERVAL_MS: i64 = 15_000;

/// What was said of an alert last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub severity: Severity,
    /// False where the message failed for good.
    pub delivered: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub told: BTreeMap<Arc<str>, Told>,
    /// Since when something is to be told (ms, wall time).
    pub waiting_since: Option<i64>,
    /// When something was told last (ms, wall time).
    pub last: Option<i64>,
    /// When something critical was told last (ms, wall time).
    #[serde(default)]
    pub last_urgent: Option<i64>,
    pub repeats: u32,
    /// Alerts of the group that are open; known from the alerts themselves.
    #[serde(skip)]
    pub open: BTreeSet<Arc<str>>,
}

impl Group {
    /// The difference between what is and what was said.
    pub fn changes<'g>(&'g self, view: &'g View<'_>) -> impl Iterator<Item = Change> + 'g {
        let begun = self.open.iter().filter_map(|id| {
            let alert = view.alerts.get(id)?;
            let what = match self.told.get(id) {
                None => What::Firing,
                Some(told) if alert.severity <= told.severity => return None,
                Some(told) if told.delivered => What::Escalated,
                Some(_) => What::Firing,
            };
            Some(change(what, alert))
        });
        let over = self.told.iter().filter(|(id, told)| told.delivered && !self.open.contains(*id));
        begun.chain(over.filter_map(|(id, _)| view.alerts.get(id).map(|alert| change(What::Resolved, alert))))
    }

    /// Since when something is due, and what.
    pub fn due(&self, route: &Route, view: &View<'_>, now: i64) -> Option<(i64, Vec<Change>)> {
        if let Some(since) = self.waiting_since {
            if now < since + route.group_wait_ms {
                return None;
            }
            let changes: Vec<Change> = self.changes(view).filter(|c| allowed(c, route, view, now)).collect();
            let rested = if changes.iter().any(is_urgent) {
                let interval = URGENT_INTERVAL_MS.min(route.group_interval_ms);
                self.last_urgent.is_none_or(|last| now >= last + interval)
            } else {
                self.last.is_none_or(|last| now >= last + route.group_interval_ms)
            };
            if !changes.is_empty() {
                return rested.then_some((since, changes));
            }
        }
        let last = self
            .last
            .filter(|last| route.repeat_interval_ms > 0 && now >= last + route.repeat_interval_ms)?;
        let told = self.open.iter().filter(|id| self.told.contains_key(*id));
        let still = told.filter_map(|id| view.alerts.get(id)).map(|alert| change(What::Still, alert));
        let still: Vec<Change> = still.filter(|c| allowed(c, route, view, now)).collect();
        (!still.is_empty()).then_some((last + route.repeat_interval_ms, still))
    }

    pub fn note(&mut self, change: &Change, delivered: bool, view: &View<'_>) {
        let id = &change.alert.id;
        let before = self.told.get(id);
        let delivered = delivered || before.is_some_and(|t| t.delivered);
        // An older delivery may arrive after one that says worse.
        let severity = before.map_or(change.severity, |t| t.severity.max(change.severity));
        if change.what == What::Resolved || (!delivered && !view.is_open(id)) {
            self.told.remove(id);
            return;
        }
        let told = Told { severity, delivered };
        self.told.insert(id.clone(), told);
    }
}

fn change(what: What, alert: &Alert) -> Change {
    Change {
        what,
        alert: alert.told(),
        severity: alert.severity,
        ends_at: None,
    }
}

/// Whether it does not wait for the interval of its group.
pub(crate) fn is_urgent(change: &Change) -> bool {
    matches!(change.what, What::Firing | What::Escalated) && change.severity == Severity::Critical
}

/// Whether it may be told now: its partition is live, and nobody sleeps (or it is worth waking them).
pub(crate) fn allowed(change: &Change, route: &Route, view: &View<'_>, now: i64) -> bool {
    view.is_live(change.alert.partition) && awake(change, route, view, now)
}

/// Whether nobody sleeps, or it is worth waking them.
pub(crate) fn awake(change: &Change, route: &Route, view: &View<'_>, now: i64) -> bool {
    let quiet = || route.quiet.iter().any(|hours| hours.contains(now, view.offset));
    (route.critical_passes && change.severity == Severity::Critical) || !quiet()
}

/// `ROUTE␟values`; routes have no such character in their names.
pub(crate) fn group_id(plan: &Plan, alert: &Alert, route: &str) -> Option<String> {
    Some(format!("{route}\u{1f}{}", plan.route(route)?.group_of(alert)))
}

pub(crate) fn route_of<'p>(plan: &'p Plan, group: &str) -> Option<&'p Route> {
    plan.route(group.split('\u{1f}').next().unwrap_or(""))
}
