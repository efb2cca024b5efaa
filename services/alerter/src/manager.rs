//! One Alertmanager: what it was sent, and what is to be sent again.
//!
//! Alertmanager knows an alert by its labels, and takes it for over when it is not sent again. So this keeps an entry for every set of labels
//! (rule, shop, agent, severity), sends it at once when it is new or over, and again every `resend`: while it fires, so that it goes on
//! firing; when it is over for [`RESOLVED_KEPT_MS`] more, as an Alertmanager that was restarted has forgotten that it was told.
//!
//! Severity is a label: an alert that gets worse is over under the milder label, and begins under the worse one, at the time at which it began as a
//! whole. What fires in a partition that has moved to another alerter is dropped, as that one sends it. Sending again what was sent is no repeat to Alertmanager: labels and `startsAt` are the same.

use crate::alert::Alert;
use crate::core::{Outstanding, View, Writes, json};
use crate::message::{Change, Delivery, Fate, Outcome, Part, What, back_off_ms, sort};
use crate::routes::Receiver;
use peakdesk_model::alert::Severity;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long what is over is sent again (ms); as Prometheus does.
const RESOLVED_KEPT_MS: i64 = 15 * 60_000;
/// Alerts in one request; about half a megabyte.
const BATCH_MAX: usize = 500;
/// How often entries are looked through where nothing was heard.
const LOOK_MS: i64 = 500;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    alert: Alert,
    severity: Severity,
    ends_at: Option<i64>,
    /// Whether the receiver may have it.
    told: bool,
    /// Since when it is as it is (ms, wall time).
    since: i64,
    /// When it was sent last as it is (ms, wall time). Not kept: after a restart everything is sent again.
    #[serde(skip)]
    sent_at: Option<i64>,
    /// Whether it was sent at all in this life, so that the receiver still takes it for firing.
    #[serde(skip)]
    alive: bool,
}

pub(crate) struct ManagerDesk {
    name: String,
    resend_ms: i64,
    tries_max: u32,
    retry_max_ms: i64,
    entries: BTreeMap<String, Entry>,
    open: BTreeSet<Arc<str>>,
    /// What is under way, and whether the receiver may have had it before.
    sending: Option<Vec<(String, bool)>>,
    failures: u32,
    refusals: u32,
    retry_at: i64,
    look_at: i64,
    /// Alerts of entries that came to nothing.
    released: Vec<Arc<str>>,
    rounds: u32,
    dirty: BTreeSet<String>,
}

impl ManagerDesk {
    pub fn new(receiver: &Receiver, resend_ms: i64) -> Self {
        ManagerDesk {
            name: receiver.name.clone(),
            resend_ms,
            tries_max: receiver.tries_max,
            retry_max_ms: receiver.retry_max_ms,
            entries: BTreeMap::new(),
            open: BTreeSet::new(),
            sending: None,
            failures: 0,
            refusals: 0,
            retry_at: i64::MIN,
            look_at: i64::MIN,
            released: Vec::new(),
            rounds: 0,
            dirty: BTreeSet::new(),
        }
    }

    pub fn load_entry(&mut self, key: &str, value: &[u8]) -> Result<(), serde_json::Error> {
        self.entries.insert(key.to_owned(), serde_json::from_slice(value)?);
        Ok(())
    }

    pub fn place(&mut self, alert: &Alert) {
        if alert.is_open() {
            self.open.insert(alert.id.clone());
        }
    }

    pub fn tidy(&mut self, view: &View<'_>) {
        self.open.retain(|id| view.is_open(id));
    }

    pub fn heard(&mut self, alert: &Alert) {
        if alert.is_open() {
            self.open.insert(alert.id.clone());
        } else {
            self.open.remove(&alert.id);
        }
        self.look_at = i64::MIN;
    }

    /// Whether it has to learn yet when the alert was over.
    pub fn holds(&self, alert: &Alert) -> bool {
        Severity::ALL.iter().any(|s| {
            let entry = self.entries.get(&key(alert, *s));
            entry.is_some_and(|e| e.alert.id == alert.id && e.ends_at.is_none())
        })
    }

    pub fn next(&mut self, view: &View<'_>, now: i64) -> Option<Delivery> {
        if self.sending.is_some() || now < self.retry_at || now < self.look_at {
            return None;
        }
        self.begin(view, now);
        self.end(view, now);
        self.leave(view, now);
        let mut due: Vec<(bool, String)> = Vec::new();
        for (key, entry) in &self.entries {
            let stale = entry.sent_at.is_none_or(|at| now - at >= self.resend_ms || at > now);
            // What is not known to be the present is not told, but what was told is kept as it is.
            if stale && (entry.alive || view.is_live(entry.alert.partition)) {
                due.push((entry.sent_at.is_some(), key.clone()));
            }
        }
        if due.is_empty() {
            self.look_at = now + LOOK_MS;
            return None;
        }
        // News first.
        due.sort();
        due.truncate(BATCH_MAX);
        let mut changes = Vec::new();
        let mut sending = Vec::new();
        for (again, key) in due {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            let what = match (entry.ends_at, again) {
                (Some(_), _) => What::Resolved,
                (None, true) => What::Still,
                (None, false) => What::Firing,
            };
            changes.push(Change {
                what,
                alert: entry.alert.clone(),
                severity: entry.severity,
                ends_at: entry.ends_at,
            });
            if !entry.told {
                self.dirty.insert(key.clone());
            }
            sending.push((key, std::mem::replace(&mut entry.told, true)));
        }
        sort(&mut changes);
        self.sending = Some(sending);
        self.rounds = self.rounds.wrapping_add(1);
        let part = Part {
            group: String::new(),
            changes,
            open: [0; 3],
            repeats: self.rounds,
            since: now,
        };
        Some(Delivery::new(&self.name, vec![part], now))
    }

    /// Alerts that may be forgotten, as far as this one is concerned.
    pub fn take_released(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.released)
    }

    /// Entries for what fires and has none.
    fn begin(&mut self, view: &View<'_>, now: i64) {
        for alert in self.open.iter().filter_map(|id| view.alerts.get(id)) {
            if !view.is_live(alert.partition) {
                continue;
            }
            let key = key(alert, alert.severity);
            match self.entries.get_mut(&key) {
                Some(entry) if entry.alert.id == alert.id && entry.ends_at.is_none() => {
                    if entry.alert.transition != alert.transition {
                        entry.alert = alert.told();
                        entry.sent_at = None;
                        self.dirty.insert(key);
                    }
                }
                old => {
                    // Whoever may take these labels for firing, by an alert before, has to learn of an end.
                    let unended = old.filter(|e| e.told && (e.ends_at.is_none() || e.sent_at.is_none()));
                    let entry = Entry {
                        alert: alert.told(),
                        severity: alert.severity,
                        ends_at: None,
                        told: unended.is_some(),
                        since: now,
                        sent_at: None,
                        alive: false,
                    };
                    self.dirty.insert(key.clone());
                    self.released.extend(self.entries.insert(key, entry).map(|e| e.alert.id));
                }
            }
        }
    }

    /// The end of what fires no more, or no more with this severity; what is over for long enough is forgotten.
    fn end(&mut self, view: &View<'_>, now: i64) {
        let mut gone = Vec::new();
        for (key, entry) in &mut self.entries {
            if let Some(ends_at) = entry.ends_at {
                if now - ends_at > RESOLVED_KEPT_MS && entry.sent_at.is_some() {
                    gone.push(key.clone());
                }
                continue;
            }
            let alert = view.alerts.get(&entry.alert.id);
            let ended_at = match alert {
                Some(alert) if alert.is_open() && alert.severity == entry.severity => continue,
                Some(alert) => alert.ended_at.filter(|_| alert.severity == entry.severity),
                None => None,
            };
            if !view.is_live(entry.alert.partition) {
                continue;
            }
            if entry.told {
                // A newer value is not told of what is over under this label.
                if let Some(alert) = alert.filter(|a| !a.is_open()) {
                    entry.alert = alert.told();
                }
                entry.ends_at = Some(ended_at.unwrap_or(now).max(entry.alert.starts_at + 1));
                (entry.since, entry.sent_at) = (now, None);
                self.dirty.insert(key.clone());
            } else {
                gone.push(key.clone());
            }
        }
        self.forget(gone);
    }

    /// Drops what somebody else tells of now: kept alive by us too, it would never be over.
    fn leave(&mut self, view: &View<'_>, now: i64) {
        let elsewhere = |e: &Entry| view.is_elsewhere(e.alert.partition, now);
        let gone: Vec<String> = self.entries.iter().filter(|(_, e)| elsewhere(e)).map(|(k, _)| k.clone()).collect();
        self.forget(gone);
    }

    fn forget(&mut self, keys: Vec<String>) {
        for key in keys {
            self.released.extend(self.entries.remove(&key).map(|e| e.alert.id));
            self.dirty.insert(key);
        }
    }

    pub fn outcome(&mut self, delivery: &Delivery, outcome: &Outcome, now: i64) -> Fate {
        let Some(sending) = self.sending.take() else {
            return Fate::Dropped;
        };
        self.look_at = i64::MIN;
        if *outcome == Outcome::Delivered {
            (self.failures, self.refusals, self.retry_at) = (0, 0, i64::MIN);
            for change in delivery.changes() {
                if let Some(entry) = self.entries.get_mut(&key(&change.alert, change.severity))
                    && (&entry.alert, entry.ends_at) == (&change.alert, change.ends_at)
                {
                    entry.sent_at = Some(now);
                    entry.alive = true;
                }
            }
            return Fate::Delivered;
        }
        self.failures = self.failures.saturating_add(1);
        let pause = back_off_ms(self.failures, self.retry_max_ms, &self.name);
        self.retry_at = now + pause;
        match outcome {
            Outcome::Unknown { .. } => return Fate::Retrying,
            Outcome::NotNow { wait_ms, .. } => {
                self.refusals = 0;
                self.retry_at = now + pause.max(wait_ms.unwrap_or(0));
            }
            _ => self.refusals += 1,
        }
        for (key, told) in sending {
            if let Some(entry) = self.entries.get_mut(&key).filter(|e| e.told != told) {
                entry.told = told;
                self.dirty.insert(key);
            }
        }
        if self.refusals >= self.tries_max {
            // What fires is tried again all the same, as ever.
            self.refusals = 0;
            self.retry_at = now + pause.max(self.resend_ms);
            return Fate::Failed;
        }
        Fate::Retrying
    }

    pub fn outstanding(&self, view: &View<'_>, now: i64) -> Outstanding {
        let mut out = Outstanding::default();
        for entry in self.entries.values() {
            if entry.sent_at.is_none() && view.is_live(entry.alert.partition) {
                out.changes += 1;
                let since = entry.since.min(now);
                out.since = Some(out.since.map_or(since, |s| s.min(since)));
            }
        }
        out
    }

    pub fn take_writes(&mut self, writes: &mut Writes) {
        for key in std::mem::take(&mut self.dirty) {
            let value = self.entries.get(&key).map(json);
            writes.push((format!("e/{}/{key}", self.name), value));
        }
    }
}

/// The labels, as a key; ids hold no control characters.
fn key(alert: &Alert, severity: Severity) -> String {
    let agent = alert.agent.as_deref().unwrap_or("");
    [alert.rule.name(), &alert.shop, agent, severity.name()].join("\u{1f}")
}
