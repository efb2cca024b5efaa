//! Alerts by id: their transitions, and who has taken them on. Pure.
//!
//! What always holds:
//!
//! * An alert follows from the set of its transitions: order and repeats do not matter.
//! * Open alerts are kept all; of resolved ones the newest, up to a bound. What an alert leaves with goes with it.
//! * Acknowledgements count in the order they are applied; one of an alert that is not known waits for it, up to a bound.

use peakdesk_model::alert::{AlertRow, Rule, Severity, TransitionKind};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Acknowledgements that wait for an alert: those of alerts that are no longer kept come back at every start.
const WAITING_MAX: usize = 20_000;

/// Who has taken on an alert: the value of a message on the topic of acknowledgements, whose key is the alert's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// The user.
    pub by: String,
    /// When, by the wall clock (ms).
    pub at_wall_ms: i64,
    /// What the user says about it; may be empty.
    pub note: String,
}

/// A transition, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transition {
    /// `firing`, `escalated` or `resolved`.
    pub kind: TransitionKind,
    /// How bad.
    pub severity: Severity,
    /// When (ms).
    pub at: i64,
    /// The value then.
    pub value_num: i64,
    /// Its denominator.
    pub value_den: i64,
}

/// An alert.
#[derive(Debug, Clone)]
pub struct Alert {
    /// Id.
    pub id: Arc<str>,
    /// Rule.
    pub rule: Rule,
    /// Shop.
    pub shop: Arc<str>,
    /// Agent; `None`: about the shop as a whole.
    pub agent: Option<Arc<str>>,
    /// When the condition began to hold (ms).
    pub onset: i64,
    /// By number.
    transitions: BTreeMap<u32, Transition>,
    /// Evidence of the newest transition: a JSON list.
    evidence: Arc<str>,
    /// Who has taken it on.
    pub acknowledged: Option<Acknowledgement>,
}

/// Where an alert stands in lists: by when it fired, then by id.
pub type Place = (i64, Arc<str>);

impl Alert {
    fn new(row: &AlertRow) -> Self {
        Alert {
            id: row.alert_id.clone(),
            rule: row.rule,
            shop: row.shop_id.clone(),
            agent: row.agent_id.clone(),
            onset: row.onset,
            transitions: BTreeMap::new(),
            evidence: "[]".into(),
            acknowledged: None,
        }
    }

    fn first(&self) -> Option<&Transition> {
        self.transitions.values().next()
    }

    fn last(&self) -> Option<&Transition> {
        self.transitions.values().next_back()
    }

    /// When it fired, as far as is known (ms).
    pub fn fired_at(&self) -> i64 {
        self.first().map_or(self.onset, |t| t.at)
    }

    /// When it was resolved (ms); `None`: it is firing.
    pub fn resolved_at(&self) -> Option<i64> {
        self.transitions.values().find(|t| t.kind == TransitionKind::Resolved).map(|t| t.at)
    }

    /// How bad it is; of a resolved one the worst it was.
    pub fn severity(&self) -> Severity {
        self.last().map_or(Severity::Warning, |t| t.severity)
    }

    /// Its place in lists.
    pub fn place(&self) -> Place {
        (self.fired_at(), self.id.clone())
    }

    /// As JSON; `threshold` is what the policy says.
    pub fn to_json(&self, threshold: Option<&BTreeMap<&str, i64>>) -> String {
        let last = self.last();
        let empty = || RawValue::from_string("[]".to_owned()).ok();
        let view = View {
            alert_id: &self.id,
            rule: self.rule,
            shop_id: &self.shop,
            agent_id: self.agent.as_deref(),
            severity: self.severity(),
            state: if self.resolved_at().is_some() { "resolved" } else { "firing" },
            onset: self.onset,
            fired_at: self.fired_at(),
            resolved_at: self.resolved_at(),
            at: last.map_or(self.onset, |t| t.at),
            value_num: last.map_or(0, |t| t.value_num),
            value_den: last.map_or(1, |t| t.value_den),
            threshold,
            evidence: RawValue::from_string(self.evidence.to_string()).ok().or_else(empty),
            transitions: self.transitions.values().collect(),
            acknowledged: self.acknowledged.as_ref(),
        };
        // Texts, numbers and maps with text keys always have a JSON form.
        serde_json::to_string(&view).unwrap_or_else(|_| "{}".to_owned())
    }
}

#[derive(Serialize)]
struct View<'a> {
    alert_id: &'a str,
    rule: Rule,
    shop_id: &'a str,
    agent_id: Option<&'a str>,
    severity: Severity,
    state: &'static str,
    onset: i64,
    fired_at: i64,
    resolved_at: Option<i64>,
    at: i64,
    value_num: i64,
    value_den: i64,
    threshold: Option<&'a BTreeMap<&'a str, i64>>,
    evidence: Option<Box<RawValue>>,
    transitions: Vec<&'a Transition>,
    acknowledged: Option<&'a Acknowledgement>,
}

/// What a row or an acknowledgement did to an alert.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effect {
    /// The alert that changed; `None`: nothing new.
    pub changed: Option<Arc<str>>,
    /// Alerts that are no longer kept.
    pub gone: Vec<Arc<str>>,
}

/// All alerts that are kept.
#[derive(Debug)]
pub struct Book {
    alerts: BTreeMap<Arc<str>, Alert>,
    /// Every alert by its place in lists.
    places: BTreeSet<Place>,
    /// Resolved ones by when that was.
    past: BTreeSet<(i64, Arc<str>)>,
    past_max: usize,
    /// Acknowledgements without an alert, and the same by age.
    waiting: BTreeMap<Arc<str>, Acknowledgement>,
    waiting_by_age: BTreeSet<(i64, Arc<str>)>,
}

impl Book {
    /// Keeps at most `past_max` resolved alerts.
    pub fn new(past_max: usize) -> Self {
        Book {
            alerts: BTreeMap::new(),
            places: BTreeSet::new(),
            past: BTreeSet::new(),
            past_max,
            waiting: BTreeMap::new(),
            waiting_by_age: BTreeSet::new(),
        }
    }

    /// An alert by id.
    pub fn get(&self, id: &str) -> Option<&Alert> {
        self.alerts.get(id)
    }

    /// The newest alerts first, by when they fired; only those before a place, if one is given.
    pub fn newest(&self, before: Option<&Place>) -> impl Iterator<Item = &Alert> {
        let places = match before {
            Some(before) => self.places.range(..before.clone()),
            None => self.places.range::<Place, _>(..),
        };
        places.rev().filter_map(|(_, id)| self.alerts.get(id))
    }

    /// Applies a transition.
    pub fn apply(&mut self, row: &AlertRow) -> Effect {
        let known = self.alerts.get(&row.alert_id);
        if known.is_some_and(|alert| alert.transitions.contains_key(&row.transition)) {
            return Effect::default();
        }
        let id = row.alert_id.clone();
        let mut alert = match self.alerts.remove(&id) {
            Some(alert) => {
                self.places.remove(&alert.place());
                alert
            }
            None => Alert {
                acknowledged: self.take_waiting(&id),
                ..Alert::new(row)
            },
        };
        if alert.transitions.keys().next_back().is_none_or(|last| *last < row.transition) {
            alert.evidence = row.evidence.clone();
        }
        let transition = Transition {
            kind: row.kind,
            severity: row.severity,
            at: row.at,
            value_num: row.value_num,
            value_den: row.value_den,
        };
        alert.transitions.insert(row.transition, transition);
        self.places.insert(alert.place());
        if let Some(at) = alert.resolved_at() {
            self.past.insert((at, id.clone()));
        }
        self.alerts.insert(id.clone(), alert);
        let mut effect = Effect {
            changed: Some(id),
            gone: Vec::new(),
        };
        while self.past.len() > self.past_max {
            let Some((_, oldest)) = self.past.pop_first() else { break };
            if let Some(alert) = self.alerts.remove(&oldest) {
                self.places.remove(&alert.place());
            }
            effect.gone.push(oldest);
        }
        effect
    }

    /// Notes who has taken on an alert; `None`: nobody any more.
    pub fn acknowledge(&mut self, id: &str, acknowledgement: Option<Acknowledgement>) -> Effect {
        if let Some(alert) = self.alerts.get_mut(id) {
            if alert.acknowledged == acknowledgement {
                return Effect::default();
            }
            alert.acknowledged = acknowledgement;
            return Effect {
                changed: Some(alert.id.clone()),
                gone: Vec::new(),
            };
        }
        self.take_waiting(id);
        if let Some(acknowledgement) = acknowledgement {
            let id: Arc<str> = id.into();
            self.waiting_by_age.insert((acknowledgement.at_wall_ms, id.clone()));
            self.waiting.insert(id, acknowledgement);
            if self.waiting.len() > WAITING_MAX
                && let Some((_, oldest)) = self.waiting_by_age.pop_first()
            {
                self.waiting.remove(&oldest);
            }
        }
        Effect::default()
    }

    fn take_waiting(&mut self, id: &str) -> Option<Acknowledgement> {
        let (id, acknowledgement) = self.waiting.remove_entry(id)?;
        self.waiting_by_age.remove(&(acknowledgement.at_wall_ms, id));
        Some(acknowledgement)
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
