//! The core: from transitions to deliveries. No I/O and no clock; wall time (ms) is handed in.
//!
//! ```text
//! span ─► alerts that are open ─┬─► group of a chat receiver:   what is open  −  what was told  =  what is to be told
//!                               └─► entries of an Alertmanager: what is open  −  what was sent  =  what is to be sent
//! ```
//!
//! What is to be told is never a queue of events but the difference between two states. So what fired and was over before it could be told
//! is not told, however long a receiver was away; what was told is told to be over; and what comes to more than a receiver may get is merged.
//!
//! Always holds: at most one delivery of a receiver is under way; it is written down ([`Core::take_writes`]) before it is sent, and stays
//! written down, unchanged, until it is known whether the receiver has it (or it is put aside in quiet hours, and still written down). An alert is told of only while its partition is live: read
//! to its end, and written by a scorer that had read everything.

use crate::alert::Alert;
use crate::chat::ChatDesk;
use crate::manager::ManagerDesk;
use crate::message::{Delivery, Fate, Outcome};
use crate::routes::{Kind, Plan};
use peakdesk_model::alert::{AlertRow, Severity, TransitionKind};
use peakdesk_model::position::{Coverage, LogPosition, coverage};
use peakdesk_model::results::Span;
use peakdesk_model::time::UtcOffset;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A partition that is nobody's of ours for this long (ms) is somebody else's: that one tells of its alerts.
const ELSEWHERE_MS: i64 = 120_000;

/// Values of the store by key; `None` takes one away.
pub type Writes = Vec<(String, Option<Vec<u8>>)>;

/// Something in the store is not readable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {key:?}: {cause}; was it written by a newer version?")]
pub struct EntryError {
    /// Which.
    pub key: String,
    /// What does not fit.
    pub cause: String,
}

/// What is known of a partition.
#[derive(Debug, Clone)]
pub(crate) struct Partition {
    /// Everything before it has been applied; `None` where reading began behind the beginning.
    at: Option<LogPosition>,
    owned: bool,
    /// Since when it is owned, or not (ms, wall time).
    since: i64,
    end_reached: bool,
    /// What the last span applied said of its scorer; kept, as with a scorer that is down there may be no other for long.
    caught_up: bool,
}

#[derive(Serialize, Deserialize)]
struct PartitionEntry {
    at: LogPosition,
    #[serde(default)]
    caught_up: bool,
}

/// What the desks see of the core.
pub(crate) struct View<'a> {
    pub plan: &'a Plan,
    pub alerts: &'a BTreeMap<Arc<str>, Alert>,
    pub partitions: &'a BTreeMap<i32, Partition>,
    pub offset: UtcOffset,
}

impl View<'_> {
    /// Whether what is known of the partition is the present.
    pub fn is_live(&self, partition: i32) -> bool {
        self.partitions.get(&partition).is_some_and(Partition::is_live)
    }

    /// Whether somebody else tells of its alerts.
    pub fn is_elsewhere(&self, partition: i32, now: i64) -> bool {
        self.partitions
            .get(&partition)
            .is_none_or(|p| !p.owned && now - p.since > ELSEWHERE_MS)
    }

    /// Whether the alert fires, as far as is known.
    pub fn is_open(&self, id: &str) -> bool {
        self.alerts.get(id).is_some_and(Alert::is_open)
    }
}

impl Partition {
    fn is_live(&self) -> bool {
        self.owned && self.end_reached && self.caught_up
    }
}

enum Desk {
    Chat(ChatDesk),
    Manager(ManagerDesk),
}

/// What a receiver has outstanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outstanding {
    /// Changes that are under way or to be told.
    pub changes: usize,
    /// Since when the oldest of them waits (ms, wall time).
    pub since: Option<i64>,
}

/// The state of the alerter.
pub struct Core {
    plan: Arc<Plan>,
    offset: UtcOffset,
    behind_max_ms: i64,
    alerts: BTreeMap<Arc<str>, Alert>,
    partitions: BTreeMap<i32, Partition>,
    desks: BTreeMap<String, Desk>,
    /// Keys whose values are to be written.
    dirty: BTreeSet<String>,
    /// Deliveries that were dropped since they were last asked for.
    dropped: Vec<Delivery>,
}

impl Core {
    /// Goes on from what is in the store. Receivers and routes that are no more are forgotten with all that was to be told by them.
    pub fn load(
        plan: Arc<Plan>,
        offset: UtcOffset,
        behind_max_ms: i64,
        entries: &BTreeMap<String, Vec<u8>>,
        now: i64,
    ) -> Result<Self, EntryError> {
        let desks = plan.receivers.iter().map(|r| {
            let desk = match r.kind {
                Kind::Alertmanager { resend_ms } => Desk::Manager(ManagerDesk::new(r, resend_ms)),
                _ => Desk::Chat(ChatDesk::new(r)),
            };
            (r.name.clone(), desk)
        });
        let mut core = Core {
            desks: desks.collect(),
            plan: plan.clone(),
            offset,
            behind_max_ms,
            alerts: BTreeMap::new(),
            partitions: BTreeMap::new(),
            dirty: BTreeSet::new(),
            dropped: Vec::new(),
        };
        for (key, value) in entries {
            core.load_entry(key, value, now)
                .map_err(|cause| EntryError { key: key.clone(), cause })?;
        }
        core.reroute(now);
        Ok(core)
    }

    fn load_entry(&mut self, key: &str, value: &[u8], now: i64) -> Result<(), String> {
        let text = |e: serde_json::Error| e.to_string();
        let (kind, rest) = key.split_once('/').ok_or("not a key of the alerter")?;
        match kind {
            "p" => {
                let entry: PartitionEntry = serde_json::from_slice(value).map_err(text)?;
                let number = rest.parse().map_err(|_| "not a partition")?;
                self.partitions
                    .insert(number, Partition::resting(Some(entry.at), entry.caught_up, now));
            }
            "a" => {
                let alert: Alert = serde_json::from_slice(value).map_err(text)?;
                self.alerts.insert(alert.id.clone(), alert);
            }
            "g" | "f" | "e" => {
                let (receiver, name) = rest.split_once('/').unwrap_or((rest, ""));
                match (self.desks.get_mut(receiver), kind) {
                    (Some(Desk::Chat(desk)), "g") => desk.load_group(&self.plan, name, value).map_err(text)?,
                    (Some(Desk::Chat(desk)), "f") => desk.load_flight(value).map_err(text)?,
                    (Some(Desk::Manager(desk)), "e") => desk.load_entry(name, value).map_err(text)?,
                    _ => {
                        tracing::warn!(receiver, "not in the routes file any more; what was to be told to it is forgotten");
                        self.dirty.insert(key.to_owned());
                    }
                }
            }
            // What the store keeps for itself.
            _ => {}
        }
        Ok(())
    }

    /// Routes what is open anew: the file may have changed.
    fn reroute(&mut self, now: i64) {
        let ids: Vec<Arc<str>> = self.alerts.keys().cloned().collect();
        for id in &ids {
            let Some(alert) = self.alerts.get_mut(id) else { continue };
            let old = alert.targets.clone();
            let plan = &self.plan;
            alert
                .targets
                .retain(|t| plan.receiver(&t.receiver).is_some() && plan.route(&t.route).is_some());
            if alert.is_open() {
                extend(alert, plan);
            }
            if alert.targets != old {
                self.dirty.insert(format!("a/{id}"));
            }
            let view = View {
                plan: &self.plan,
                alerts: &self.alerts,
                partitions: &self.partitions,
                offset: self.offset,
            };
            if let Some(alert) = self.alerts.get(id) {
                for target in &alert.targets {
                    match self.desks.get_mut(&target.receiver) {
                        Some(Desk::Chat(desk)) => desk.place(&view, alert, &target.route),
                        Some(Desk::Manager(desk)) => desk.place(alert),
                        None => {}
                    }
                }
            }
        }
        let (desks, view) = self.split();
        for desk in desks.values_mut() {
            match desk {
                Desk::Chat(desk) => desk.tidy(&view, now),
                Desk::Manager(desk) => desk.tidy(&view),
            }
        }
        self.forget(ids.iter());
    }

    fn split(&mut self) -> (&mut BTreeMap<String, Desk>, View<'_>) {
        let view = View {
            plan: &self.plan,
            alerts: &self.alerts,
            partitions: &self.partitions,
            offset: self.offset,
        };
        (&mut self.desks, view)
    }

    /// A partition is ours from now on. `from_start` says that reading begins at the first message there is, and `low` its offset.
    pub fn assigned(&mut self, number: i32, low: i64, now: i64) {
        let beginning = (low == 0).then(|| LogPosition::start_of(0));
        let (at, caught_up) = self.partitions.get(&number).map_or((None, false), |p| (p.at, p.caught_up));
        self.partitions.insert(
            number,
            Partition {
                owned: true,
                ..Partition::resting(at.or(beginning), caught_up, now)
            },
        );
    }

    /// Whether anything is kept of a partition: without it, reading begins at the beginning.
    pub fn knows(&self, number: i32) -> bool {
        self.partitions.get(&number).is_some_and(|p| p.at.is_some())
    }

    /// A partition is not ours any more.
    pub fn revoked(&mut self, number: i32, now: i64) {
        if let Some(partition) = self.partitions.get_mut(&number) {
            *partition = Partition::resting(partition.at, partition.caught_up, now);
        }
    }

    /// A partition is read to its end.
    pub fn end_reached(&mut self, number: i32) {
        if let Some(partition) = self.partitions.get_mut(&number) {
            partition.end_reached = true;
        }
    }

    /// Whether a partition is live.
    pub fn is_live(&self, number: i32) -> bool {
        self.partitions.get(&number).is_some_and(Partition::is_live)
    }

    /// The partitions that are ours.
    pub fn owned(&self) -> impl Iterator<Item = i32> {
        self.partitions.iter().filter(|(_, p)| p.owned).map(|(n, _)| *n)
    }

    /// What a span means, and from which position on its rows are to be applied.
    pub fn coverage(&self, number: i32, span: &Span) -> (Coverage, LogPosition) {
        let at = self.partitions.get(&number).and_then(|p| p.at).unwrap_or(span.from);
        (coverage(&span.from, &span.to, &at), at)
    }

    /// Applies a span: the rows at and behind the position that [`Core::coverage`] gave. `produced_ms` is when Kafka got the message.
    pub fn apply(&mut self, number: i32, span: &Span, rows: &[AlertRow], produced_ms: i64, now: i64) {
        let Some(partition) = self.partitions.get_mut(&number) else {
            return;
        };
        partition.at = Some(span.to);
        // A scorer that never gets to the very end of a busy log is not behind while its time is that of the wall.
        let lag = produced_ms.saturating_sub(span.log_time_ms);
        partition.caught_up = span.caught_up || lag.saturating_abs() <= self.behind_max_ms;
        // So is a reader whose messages are old: the process may have stood still.
        if now.saturating_sub(produced_ms) > self.behind_max_ms {
            partition.end_reached = false;
        }
        self.dirty.insert(format!("p/{number}"));
        let mut touched = BTreeSet::new();
        for row in rows {
            self.apply_row(number, row, span.log_time_ms, produced_ms, now);
            touched.insert(row.alert_id.clone());
        }
        let (desks, view) = self.split();
        for alert in touched.iter().filter_map(|id| view.alerts.get(id)) {
            for target in &alert.targets {
                match desks.get_mut(&target.receiver) {
                    Some(Desk::Chat(desk)) => desk.heard(&view, alert, &target.route),
                    Some(Desk::Manager(desk)) => desk.heard(alert),
                    None => {}
                }
            }
        }
        for desk in desks.values_mut() {
            if let Desk::Chat(desk) = desk {
                desk.refresh_heard(&view, now);
            }
        }
        self.forget(touched.iter());
    }

    fn apply_row(&mut self, number: i32, row: &AlertRow, log_time_ms: i64, produced_ms: i64, now: i64) {
        self.dirty.insert(format!("a/{}", row.alert_id));
        let known = self.alerts.get_mut(&row.alert_id);
        let alert = match (row.kind, known) {
            // What began before anything that is known was told to nobody by us.
            (TransitionKind::Resolved, None) => return,
            (TransitionKind::Resolved, Some(alert)) => {
                alert.update(row);
                alert.ended_at = Some(produced_ms.min(now).max(alert.starts_at + 1));
                return;
            }
            (_, Some(alert)) => {
                alert.update(row);
                alert
            }
            (_, None) => {
                let alert = Alert::new(row, number, produced_ms, log_time_ms);
                self.alerts.entry(row.alert_id.clone()).or_insert(alert)
            }
        };
        extend(alert, &self.plan);
    }

    /// Forgets alerts that are over and that nobody has to be told of any more.
    fn forget<'i>(&mut self, ids: impl Iterator<Item = &'i Arc<str>>) {
        for id in ids {
            let Some(alert) = self.alerts.get(id).filter(|a| !a.is_open()) else {
                continue;
            };
            let needed = alert.targets.iter().any(|t| match self.desks.get(&t.receiver) {
                Some(Desk::Chat(desk)) => desk.holds(&self.plan, alert, &t.route),
                Some(Desk::Manager(desk)) => desk.holds(alert),
                None => false,
            });
            if !needed {
                self.alerts.remove(id);
                self.dirty.insert(format!("a/{id}"));
            }
        }
    }

    /// The next delivery to a receiver, if one is due. It must be written down before it is sent, and [`Core::outcome`] be told how that went;
    /// until then there is no other.
    pub fn next(&mut self, receiver: &str, now: i64) -> Option<Delivery> {
        let (desks, view) = self.split();
        let (delivery, dropped, released) = match desks.get_mut(receiver)? {
            Desk::Chat(desk) => {
                let (delivery, dropped) = desk.next(&view, now);
                let released = dropped.iter().flat_map(Delivery::changes).map(|c| c.alert.id.clone());
                (delivery, dropped.clone(), released.collect())
            }
            Desk::Manager(desk) => (desk.next(&view, now), None, desk.take_released()),
        };
        self.dropped.extend(dropped);
        self.forget(released.iter());
        delivery
    }

    /// Ids of deliveries to a receiver that wait for the end of quiet hours, to be repeated then.
    pub fn put_aside(&self, receiver: &str) -> Vec<String> {
        match self.desks.get(receiver) {
            Some(Desk::Chat(desk)) => desk.put_aside().map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }

    /// Deliveries that came to nothing because all they said was over.
    pub fn take_dropped(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.dropped)
    }

    /// How the delivery that [`Core::next`] gave last went, and what becomes of it.
    pub fn outcome(&mut self, delivery: &Delivery, outcome: &Outcome, now: i64) -> Fate {
        let (desks, view) = self.split();
        let fate = match desks.get_mut(&delivery.receiver) {
            Some(Desk::Chat(desk)) => desk.outcome(&view, delivery, outcome, now),
            Some(Desk::Manager(desk)) => desk.outcome(delivery, outcome, now),
            None => Fate::Dropped,
        };
        let ids: BTreeSet<Arc<str>> = delivery.changes().map(|c| c.alert.id.clone()).collect();
        self.forget(ids.iter());
        fate
    }

    /// What a receiver has outstanding. What waits for a partition to be live, or for the end of quiet hours, is not counted.
    pub fn outstanding(&mut self, receiver: &str, now: i64) -> Outstanding {
        let (desks, view) = self.split();
        match desks.get(receiver) {
            Some(Desk::Chat(desk)) => desk.outstanding(&view, now),
            Some(Desk::Manager(desk)) => desk.outstanding(&view, now),
            None => Outstanding::default(),
        }
    }

    /// Alerts that are open, by severity.
    pub fn open(&self) -> [(Severity, usize); 3] {
        Severity::ALL.map(|s| (s, self.alerts.values().filter(|a| a.is_open() && a.severity == s).count()))
    }

    /// What has changed since this was last asked for: to be written as a whole or not at all.
    pub fn take_writes(&mut self) -> Writes {
        let mut writes = Writes::new();
        for key in std::mem::take(&mut self.dirty) {
            let value = match key.split_once('/') {
                Some(("p", number)) => {
                    let known = number.parse().ok().and_then(|n: i32| self.partitions.get(&n));
                    known.and_then(|p| {
                        Some(json(&PartitionEntry {
                            at: p.at?,
                            caught_up: p.caught_up,
                        }))
                    })
                }
                Some(("a", id)) => self.alerts.get(id).map(json),
                _ => None,
            };
            writes.push((key, value));
        }
        for desk in self.desks.values_mut() {
            match desk {
                Desk::Chat(desk) => desk.take_writes(&mut writes),
                Desk::Manager(desk) => desk.take_writes(&mut writes),
            }
        }
        writes
    }
}

impl Partition {
    fn resting(at: Option<LogPosition>, caught_up: bool, now: i64) -> Self {
        Partition {
            at,
            owned: false,
            since: now,
            end_reached: false,
            caught_up,
        }
    }
}

/// Adds those whom the alert, as it is now, is to be told to; by one route each.
fn extend(alert: &mut Alert, plan: &Plan) {
    for target in plan.targets(alert) {
        if !alert.targets.iter().any(|t| t.receiver == target.receiver) {
            alert.targets.insert(target);
        }
    }
}

/// The value of an entry. Structs of texts and numbers always have a JSON form.
pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
