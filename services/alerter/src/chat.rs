//! One chat receiver (a robot, a webhook): its groups, the delivery under way, its limit of messages.
//!
//! | an attempt ended | the delivery | what it said |
//! | --- | --- | --- |
//! | delivered | done | counts as told |
//! | nobody knows, or nobody knew of an attempt before | repeated unchanged under its id, after a pause | – |
//! | surely not received | given up for a new one, after a pause | is said by the new one, as far as it still holds, with what is new |
//! | refused, for the `tries`th time on end | has failed for good | counts as dealt with, not as told: no resolved message follows |
//!
//! A delivery that is to be repeated is dropped once all it says fires is over; a resolved message follows then, as the receiver may have it.
//! In quiet hours it is put aside ([`crate::flight`]), so that it wakes nobody, and what may be told then does not wait for it.

use crate::alert::Alert;
use crate::core::{Outstanding, View, Writes, json};
use crate::flight::{Flight, Relevance, relevance};
use crate::group::{Group, allowed, group_id, is_urgent, route_of};
use crate::message::{Change, Delivery, Fate, Outcome, Part, What, back_off_ms, sort};
use crate::routes::{Plan, Receiver};
use peakdesk_model::alert::Severity;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A little more than the minute of the platforms' limits: two messages may take different times to arrive.
pub(crate) const RATE_WINDOW_MS: i64 = 61_000;
/// Feishu takes no more than five messages within a second.
const GAP_MS: i64 = 250;
/// Changes in one delivery: what is more waits for the next.
const CHANGES_MAX: usize = 5_000;

pub(crate) struct ChatDesk {
    name: String,
    per_minute: usize,
    tries_max: u32,
    retry_max_ms: i64,
    groups: BTreeMap<String, Group>,
    flight: Flight,
    /// The delivery is with the sender.
    sending: bool,
    failures: u32,
    refusals: u32,
    retry_at: i64,
    heard: BTreeSet<String>,
    dirty: BTreeSet<String>,
    flight_dirty: bool,
}

impl ChatDesk {
    pub fn new(receiver: &Receiver) -> Self {
        ChatDesk {
            name: receiver.name.clone(),
            per_minute: receiver.per_minute as usize,
            tries_max: receiver.tries_max,
            retry_max_ms: receiver.retry_max_ms,
            groups: BTreeMap::new(),
            flight: Flight::default(),
            sending: false,
            failures: 0,
            refusals: 0,
            retry_at: i64::MIN,
            heard: BTreeSet::new(),
            dirty: BTreeSet::new(),
            flight_dirty: false,
        }
    }

    pub fn load_group(&mut self, plan: &Plan, id: &str, value: &[u8]) -> Result<(), serde_json::Error> {
        let group: Group = serde_json::from_slice(value)?;
        if route_of(plan, id).is_some() {
            self.groups.insert(id.to_owned(), group);
        } else {
            tracing::warn!(
                receiver = self.name,
                group = id,
                "its route is not in the routes file any more; forgotten"
            );
            self.dirty.insert(id.to_owned());
        }
        Ok(())
    }

    pub fn load_flight(&mut self, value: &[u8]) -> Result<(), serde_json::Error> {
        self.flight = serde_json::from_slice(value)?;
        // How the attempt ended that was under way, nobody knows.
        self.flight.maybe = self.flight.delivery.is_some();
        Ok(())
    }

    /// Puts a loaded alert into its group, which may be another one than when it was told.
    pub fn place(&mut self, view: &View<'_>, alert: &Alert, route: &str) {
        let Some(id) = group_id(view.plan, alert, route) else { return };
        let elsewhere: Vec<String> = self
            .groups
            .iter()
            .filter(|(other, g)| **other != id && g.told.contains_key(&alert.id))
            .map(|(other, _)| other.clone())
            .collect();
        for other in elsewhere {
            let told = self.groups.get_mut(&other).and_then(|g| g.told.remove(&alert.id));
            if let Some(told) = told {
                self.groups.entry(id.clone()).or_default().told.insert(alert.id.clone(), told);
                self.dirty.extend([other, id.clone()]);
            }
        }
        if alert.is_open() {
            self.groups.entry(id).or_default().open.insert(alert.id.clone());
        }
    }

    /// After everything is loaded: what was told of alerts that nobody knows is forgotten.
    pub fn tidy(&mut self, view: &View<'_>, now: i64) {
        let ids: Vec<String> = self.groups.keys().cloned().collect();
        for id in ids {
            if let Some(group) = self.groups.get_mut(&id) {
                let before = group.told.len();
                group.told.retain(|alert, _| view.alerts.contains_key(alert));
                if group.told.len() != before {
                    self.dirty.insert(id.clone());
                }
            }
            self.refresh(&id, view, now);
        }
    }

    /// Something happened to an alert; [`ChatDesk::refresh_heard`] follows.
    pub fn heard(&mut self, view: &View<'_>, alert: &Alert, route: &str) {
        let Some(id) = group_id(view.plan, alert, route) else { return };
        let group = self.groups.entry(id.clone()).or_default();
        if alert.is_open() {
            group.open.insert(alert.id.clone());
        } else {
            group.open.remove(&alert.id);
            if group.told.get(&alert.id).is_some_and(|t| !t.delivered) {
                group.told.remove(&alert.id);
            }
        }
        self.heard.insert(id);
    }

    pub fn refresh_heard(&mut self, view: &View<'_>, now: i64) {
        for id in std::mem::take(&mut self.heard) {
            self.dirty.insert(id.clone());
            self.refresh(&id, view, now);
        }
    }

    /// Notes since when a group has something to tell, or takes away one that has nothing more to remember.
    fn refresh(&mut self, id: &str, view: &View<'_>, now: i64) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let waiting_since = if group.changes(view).next().is_some() {
            Some(group.waiting_since.unwrap_or(now))
        } else {
            None
        };
        if waiting_since != group.waiting_since {
            group.waiting_since = waiting_since;
            self.dirty.insert(id.to_owned());
        }
        let interval = route_of(view.plan, id).map_or(0, |r| r.group_interval_ms);
        let rested = group.last.is_none_or(|last| now - last >= interval);
        let flying = self.flight.holds_group(id);
        if group.open.is_empty() && group.told.is_empty() && rested && !flying {
            self.groups.remove(id);
            self.dirty.insert(id.to_owned());
        }
    }

    /// Whether it still has to say something of an alert, or is about to know that it must.
    pub fn holds(&self, plan: &Plan, alert: &Alert, route: &str) -> bool {
        let in_flight = self.flight.all().flat_map(Delivery::changes).any(|c| c.alert.id == alert.id);
        let told = |id: String| self.groups.get(&id).is_some_and(|g| g.told.contains_key(&alert.id));
        in_flight || group_id(plan, alert, route).is_some_and(told)
    }

    /// Ids of deliveries that are repeated once quiet hours are over.
    pub fn put_aside(&self) -> impl Iterator<Item = &str> {
        self.flight.aside.iter().map(|d| d.id.as_str())
    }

    /// The next delivery, and one that was given up for it.
    pub fn next(&mut self, view: &View<'_>, now: i64) -> (Option<Delivery>, Option<Delivery>) {
        if self.sending || now < self.retry_at {
            return (None, None);
        }
        let tokens = self.tokens(now);
        let mut dropped = None;
        self.flight_dirty |= self.flight.choose(|d| relevance(d, &self.groups, view, now));
        if let Some(delivery) = &self.flight.delivery {
            match relevance(delivery, &self.groups, view, now) {
                Relevance::Wait | Relevance::Quiet => return (None, None),
                Relevance::Send if tokens == 0 => return (None, None),
                Relevance::Send => {
                    let delivery = delivery.clone();
                    self.send(now);
                    return (Some(delivery), None);
                }
                Relevance::Over => dropped = self.drop_flight(view, now),
            }
        }
        let due = self.due(view, now);
        if due.is_empty() || tokens == 0 {
            return (None, dropped);
        }
        // More groups than messages: all of them go into one.
        let merged = if due.len() > tokens { due.len() } else { 1 };
        let mut parts: Vec<Part> = Vec::new();
        let mut room = CHANGES_MAX;
        for due in due.into_iter().take(merged) {
            let mut changes = due.changes;
            changes.truncate(room);
            if changes.is_empty() {
                break;
            }
            room -= changes.len();
            parts.push(self.part(&due.group, changes, due.rank.1, view));
        }
        for part in &parts {
            if let Some(group) = self.groups.get_mut(&part.group) {
                group.waiting_since = None;
                self.dirty.insert(part.group.clone());
            }
        }
        let delivery = Delivery::new(&self.name, parts, now);
        (self.flight.delivery, self.flight.maybe) = (Some(delivery.clone()), false);
        self.send(now);
        (Some(delivery), dropped)
    }

    fn send(&mut self, now: i64) {
        self.sending = true;
        self.flight.recent.push_back(now);
        self.flight_dirty = true;
    }

    /// How many messages may be sent now.
    fn tokens(&mut self, now: i64) -> usize {
        // A wall clock that was set back must not silence a receiver for longer than the window.
        self.flight.recent.retain(|t| (now - RATE_WINDOW_MS..=now).contains(t));
        if self.flight.recent.back().is_some_and(|t| now - t < GAP_MS) {
            return 0;
        }
        self.per_minute.saturating_sub(self.flight.recent.len())
    }

    /// The groups that have something to say now: worst first, then those that wait longest.
    fn due(&mut self, view: &View<'_>, now: i64) -> Vec<Due> {
        let mut all = Vec::new();
        for (id, group) in &self.groups {
            if let Some(route) = route_of(view.plan, id)
                && let Some((since, mut changes)) = group.due(route, view, now)
            {
                sort(&mut changes);
                let worst = changes.iter().filter(|c| c.what != What::Resolved).map(|c| c.severity).max();
                all.push(Due {
                    group: id.clone(),
                    rank: (std::cmp::Reverse(worst), since),
                    changes,
                });
            }
        }
        all.sort_by_key(|due| due.rank);
        all
    }

    fn part(&self, id: &str, changes: Vec<Change>, since: i64, view: &View<'_>) -> Part {
        let mut open = [0; 3];
        let mut repeats = 0;
        if let Some(group) = self.groups.get(id) {
            repeats = group.repeats;
            let said: BTreeSet<&str> = changes.iter().map(|c| &*c.alert.id).collect();
            let told = |id: &Arc<str>| said.contains(&**id) || group.told.contains_key(id);
            for alert in group.open.iter().filter(|id| told(id)).filter_map(|id| view.alerts.get(id)) {
                if let Some(n) = open.get_mut(alert.severity as usize) {
                    *n += 1;
                }
            }
        }
        Part {
            group: id.to_owned(),
            changes,
            open,
            repeats,
            since,
        }
    }

    /// Gives up a delivery whose fate nobody knows: what it said may have been received.
    fn drop_flight(&mut self, view: &View<'_>, now: i64) -> Option<Delivery> {
        let delivery = self.flight.delivery.take()?;
        self.flight_dirty = true;
        self.settle(&delivery, Some(true), view, now);
        Some(delivery)
    }

    pub fn outcome(&mut self, view: &View<'_>, delivery: &Delivery, outcome: &Outcome, now: i64) -> Fate {
        if !self.sending || self.flight.delivery.as_ref().is_none_or(|d| d.id != delivery.id) {
            return Fate::Dropped;
        }
        self.sending = false;
        self.flight_dirty = true;
        if *outcome == Outcome::Delivered {
            (self.failures, self.refusals, self.retry_at) = (0, 0, i64::MIN);
            self.flight.delivery = None;
            self.settle(delivery, Some(true), view, now);
            return Fate::Delivered;
        }
        self.failures = self.failures.saturating_add(1);
        let pause = back_off_ms(self.failures, self.retry_max_ms, &delivery.id);
        self.retry_at = now + pause;
        match outcome {
            Outcome::Refused { .. } => self.refusals += 1,
            Outcome::NotNow { wait_ms, .. } => {
                self.refusals = 0;
                self.retry_at = now + pause.max(wait_ms.unwrap_or(0));
            }
            _ => self.flight.maybe = true,
        }
        if self.refusals >= self.tries_max {
            self.refusals = 0;
            self.flight.delivery = None;
            self.settle(delivery, Some(self.flight.maybe), view, now);
            return Fate::Failed;
        }
        // What it may have is repeated as it was: of anything else it could not tell that it is a repeat.
        if self.flight.maybe {
            return Fate::Retrying;
        }
        self.flight.delivery = None;
        self.settle(delivery, None, view, now);
        Fate::Retrying
    }

    /// Notes what was said: delivered or not, or (`None`) to be said again.
    fn settle(&mut self, delivery: &Delivery, delivered: Option<bool>, view: &View<'_>, now: i64) {
        for part in &delivery.parts {
            let group = self.groups.entry(part.group.clone()).or_default();
            if let Some(delivered) = delivered {
                group.last = Some(now);
                if part.changes.iter().any(is_urgent) {
                    group.last_urgent = Some(now);
                }
                group.repeats += u32::from(part.changes.iter().any(|c| c.what == What::Still));
                for change in &part.changes {
                    group.note(change, delivered, view);
                }
            } else if part.changes.iter().all(|c| c.what != What::Still) {
                group.waiting_since = Some(group.waiting_since.map_or(part.since, |since| since.min(part.since)));
            }
            self.dirty.insert(part.group.clone());
            self.refresh(&part.group, view, now);
        }
    }

    pub fn outstanding(&self, view: &View<'_>, now: i64) -> Outstanding {
        let mut out = Outstanding::default();
        let mut add = |changes: usize, since: i64| {
            let since = since.min(now);
            out.changes += changes;
            out.since = Some(out.since.map_or(since, |s| s.min(since)));
        };
        if let Some(delivery) = &self.flight.delivery {
            add(delivery.changes().count(), delivery.created_ms);
        }
        let flying = |id: &String| self.flight.delivery.iter().flat_map(|d| &d.parts).any(|p| p.group == *id);
        for (id, group) in self.groups.iter().filter(|(id, _)| !flying(id)) {
            if let (Some(since), Some(route)) = (group.waiting_since, route_of(view.plan, id)) {
                match group.changes(view).filter(|c| allowed(c, route, view, now)).count() {
                    0 => {}
                    changes => add(changes, since),
                }
            }
        }
        out
    }

    pub fn take_writes(&mut self, writes: &mut Writes) {
        for id in std::mem::take(&mut self.dirty) {
            let value = self.groups.get(&id).map(json);
            writes.push((format!("g/{}/{id}", self.name), value));
        }
        if std::mem::take(&mut self.flight_dirty) {
            writes.push((format!("f/{}", self.name), Some(json(&self.flight))));
        }
    }
}

struct Due {
    group: String,
    rank: (std::cmp::Reverse<Option<Severity>>, i64),
    changes: Vec<Change>,
}
