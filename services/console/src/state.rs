//! Everything the console knows: the newest live value of each key, the alerts, and what changed when. Pure: messages go in,
//! answers and events come out; the clock is a parameter.
//!
//! What always holds:
//!
//! * Of a key the value with the newest log time is kept, whatever the order in which they come; of two with the same, the later.
//! * A value is shown under the ids it holds, and only if they are those of its key.
//! * Agents of a day before the shop's present one, and hours of curves older than [`CURVE_KEPT_MS`], are dropped.
//! * Every shown thing is one [`Event`], rendered once; answers and streams share its bytes.

use crate::book::{Acknowledgement, Alert, Book, Effect};
use crate::feed::{Event, Feed, Kind};
use peakdesk_model::alert::{AlertRow, Severity};
use peakdesk_model::live::{AgentDetail, AgentLive, Curve, LiveKey, ShopLive};
use peakdesk_model::time::{DAY_MS, UtcOffset};
use peakdesk_scoring::policy::Policies;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Minutes older than this, against the shop's log time, are not shown.
pub const CURVE_KEPT_MS: i64 = 2 * DAY_MS;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It was news.
    New,
    /// A newer value was known, or it is too old to be shown.
    Stale,
    /// It is not what it should be; nothing was changed.
    Unreadable,
}

/// Numbers of open alerts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Counts {
    pub warning: u32,
    pub major: u32,
    pub critical: u32,
}

impl Counts {
    fn of(&mut self, severity: Severity) -> &mut u32 {
        match severity {
            Severity::Warning => &mut self.warning,
            Severity::Major => &mut self.major,
            Severity::Critical => &mut self.critical,
        }
    }
}

/// A value of a key.
#[derive(Debug)]
struct Slot {
    /// Values are newer by this: log time, then the wall time of sending where there is one.
    order: (i64, i64),
    /// Business day, where there is one.
    day: String,
    /// Length of its JSON without what is added here.
    own_len: usize,
    event: Arc<Event>,
}

#[derive(Debug, Default)]
struct Agent {
    live: Option<Slot>,
    detail: Option<Slot>,
    counts: Counts,
}

impl Agent {
    fn is_empty(&self) -> bool {
        self.live.is_none() && self.detail.is_none() && self.counts == Counts::default()
    }
}

/// A shop.
#[derive(Debug)]
struct Shop {
    live: Option<Slot>,
    agents: BTreeMap<Arc<str>, Agent>,
    curves: BTreeMap<i64, Slot>,
    counts: Counts,
    feed: Feed,
}

/// How an alert is counted and where its event is.
#[derive(Debug)]
struct Shown {
    /// Counted as open with this severity.
    open: Option<Severity>,
    event: Arc<Event>,
}

/// The state of a console.
#[derive(Debug)]
pub struct State {
    epoch: String,
    seq: u64,
    shops: BTreeMap<Arc<str>, Shop>,
    book: Book,
    shown: BTreeMap<Arc<str>, Shown>,
    overview: Feed,
    policies: Policies,
    utc: UtcOffset,
}

impl State {
    /// Nothing is known. `epoch` is unique to this state, without `-`; thresholds are those of the policies.
    pub fn new(epoch: String, past_alerts: usize, policies: Policies, utc: UtcOffset) -> Self {
        State {
            epoch,
            seq: 0,
            shops: BTreeMap::new(),
            book: Book::new(past_alerts),
            shown: BTreeMap::new(),
            overview: Feed::new(0),
            policies,
            utc,
        }
    }

    /// What ids of events begin with.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Applies a message of the topic `live`; without a value, its key is gone.
    pub fn apply_live(&mut self, key: &[u8], value: Option<&[u8]>, now_ms: i64) -> Applied {
        let Some(key) = std::str::from_utf8(key).ok().and_then(LiveKey::decode) else {
            return Applied::Unreadable;
        };
        let Some(value) = value else {
            return self.remove(&key);
        };
        match key {
            LiveKey::Shop { shop } => match read::<ShopLive>(value) {
                Some(live) if live.shop_id == shop => self.apply_shop(&live, now_ms),
                _ => Applied::Unreadable,
            },
            LiveKey::Agent { shop, agent } => match read::<AgentLive>(value) {
                Some(live) if live.shop_id == shop && live.agent_id == agent => {
                    let order = (live.at, live.sent_wall_ms);
                    self.apply_agent(&shop, &agent, Kind::Agent, order, &live.day, json(&live), now_ms)
                }
                _ => Applied::Unreadable,
            },
            LiveKey::Detail { shop, agent } => match read::<AgentDetail>(value) {
                Some(detail) if detail.shop_id == shop && detail.agent_id == agent => {
                    let order = (detail.at, 0);
                    self.apply_agent(&shop, &agent, Kind::Detail, order, &detail.day, json(&detail), now_ms)
                }
                _ => Applied::Unreadable,
            },
            LiveKey::Curve { shop, hour } => match read::<Curve>(value) {
                Some(curve) if curve.shop_id == shop && curve.hour == hour => self.apply_curve(&curve, now_ms),
                _ => Applied::Unreadable,
            },
        }
    }

    fn shop_mut(&mut self, shop: &str) -> (Arc<str>, &mut Shop) {
        let name = match self.shops.get_key_value(shop) {
            Some((name, _)) => name.clone(),
            None => Arc::from(shop),
        };
        let at = self.overview.published();
        let entry = self.shops.entry(name.clone()).or_insert_with(|| Shop {
            live: None,
            agents: BTreeMap::new(),
            curves: BTreeMap::new(),
            counts: Counts::default(),
            feed: Feed::new(at),
        });
        (name, entry)
    }

    fn apply_shop(&mut self, live: &ShopLive, now_ms: i64) -> Applied {
        let order = (live.at, live.sent_wall_ms);
        let seq = self.seq + 1;
        let epoch = self.epoch.clone();
        let (name, shop) = self.shop_mut(&live.shop_id);
        let before = shop.live.as_ref();
        if before.is_some_and(|before| before.order > order) {
            return Applied::Stale;
        }
        let replaced = before.map(|before| before.event.seq);
        let own = json(live);
        let text = with_counts(&own, &shop.counts);
        let event = Arc::new(Event::new(&epoch, seq, Kind::Shop, name, None, now_ms, &text));
        shop.live = Some(Slot {
            order,
            day: live.day.clone(),
            own_len: own.len(),
            event: event.clone(),
        });
        shop.drop_old();
        shop.feed.push(event.clone(), replaced);
        self.overview.push(event, replaced);
        self.seq = seq;
        Applied::New
    }

    #[allow(clippy::too_many_arguments)]
    fn apply_agent(&mut self, shop: &str, agent: &str, kind: Kind, order: (i64, i64), day: &str, own: String, now_ms: i64) -> Applied {
        let seq = self.seq + 1;
        let epoch = self.epoch.clone();
        let (shop_name, shop) = self.shop_mut(shop);
        if shop.live.as_ref().is_some_and(|live| day < live.day.as_str()) {
            return Applied::Stale;
        }
        let name = shop.agent_name(agent);
        let entry = shop.agents.entry(name.clone()).or_default();
        let counts = entry.counts;
        let slot = if kind == Kind::Detail { &mut entry.detail } else { &mut entry.live };
        if slot.as_ref().is_some_and(|before| before.order > order) {
            return Applied::Stale;
        }
        let replaced = slot.as_ref().map(|before| before.event.seq);
        let own_len = own.len();
        let text = if kind == Kind::Detail { own } else { with_counts(&own, &counts) };
        let event = Arc::new(Event::new(&epoch, seq, kind, shop_name, Some(name), now_ms, &text));
        *slot = Some(Slot {
            order,
            day: day.to_owned(),
            own_len,
            event: event.clone(),
        });
        shop.feed.push(event, replaced);
        self.seq = seq;
        Applied::New
    }

    fn apply_curve(&mut self, curve: &Curve, now_ms: i64) -> Applied {
        let order = (curve.at, 0);
        let seq = self.seq + 1;
        let epoch = self.epoch.clone();
        let (name, shop) = self.shop_mut(&curve.shop_id);
        let before = shop.curves.get(&curve.hour);
        if shop.oldest_hour() > curve.hour || before.is_some_and(|before| before.order > order) {
            return Applied::Stale;
        }
        let replaced = before.map(|before| before.event.seq);
        let own = json(curve);
        let event = Arc::new(Event::new(&epoch, seq, Kind::Curve, name, None, now_ms, &own));
        let slot = Slot {
            order,
            day: String::new(),
            own_len: own.len(),
            event: event.clone(),
        };
        shop.curves.insert(curve.hour, slot);
        shop.feed.push(event, replaced);
        self.seq = seq;
        Applied::New
    }

    fn remove(&mut self, key: &LiveKey) -> Applied {
        let (LiveKey::Shop { shop: name }
        | LiveKey::Agent { shop: name, .. }
        | LiveKey::Detail { shop: name, .. }
        | LiveKey::Curve { shop: name, .. }) = key;
        let Some(shop) = self.shops.get_mut(name.as_str()) else {
            return Applied::Stale;
        };
        let gone = match key {
            LiveKey::Shop { .. } => shop.live.take(),
            LiveKey::Agent { agent, .. } => shop.agents.get_mut(agent.as_str()).and_then(|a| a.live.take()),
            LiveKey::Detail { agent, .. } => shop.agents.get_mut(agent.as_str()).and_then(|a| a.detail.take()),
            LiveKey::Curve { hour, .. } => shop.curves.remove(hour),
        };
        let Some(slot) = gone else { return Applied::Stale };
        // Whoever shows it does so until it resumes or fetches again.
        shop.feed.forget(slot.event.seq, true);
        if slot.event.kind == Kind::Shop {
            self.overview.forget(slot.event.seq, true);
        }
        Applied::New
    }

    /// Applies a transition of an alert.
    pub fn apply_alert(&mut self, row: &AlertRow, now_ms: i64) -> Applied {
        let effect = self.book.apply(row);
        self.show(effect, now_ms)
    }

    /// Applies a message of the topic of acknowledgements; without a value, the alert is taken on by nobody any more.
    pub fn apply_acknowledgement(&mut self, key: &[u8], value: Option<&[u8]>, now_ms: i64) -> Applied {
        let Ok(id) = std::str::from_utf8(key) else {
            return Applied::Unreadable;
        };
        let acknowledgement = match value {
            None => None,
            Some(value) => match read::<Acknowledgement>(value) {
                None => return Applied::Unreadable,
                some => some,
            },
        };
        let effect = self.book.acknowledge(id, acknowledgement);
        self.show(effect, now_ms)
    }

    /// Makes the event of an alert that changed, and those of its shop and agent if their counts did.
    fn show(&mut self, effect: Effect, now_ms: i64) -> Applied {
        let applied = if effect.changed.is_some() { Applied::New } else { Applied::Stale };
        if let Some(alert) = effect.changed.and_then(|id| self.book.get(&id).cloned()) {
            self.seq += 1;
            let text = self.alert_json(&alert);
            let (shop, agent) = (alert.shop.clone(), alert.agent.clone());
            let event = Arc::new(Event::new(
                &self.epoch,
                self.seq,
                Kind::Alert,
                shop.clone(),
                agent.clone(),
                now_ms,
                &text,
            ));
            let open = alert.resolved_at().is_none().then(|| alert.severity());
            let before = self.shown.insert(
                alert.id.clone(),
                Shown {
                    open,
                    event: event.clone(),
                },
            );
            let replaced = before.as_ref().map(|before| before.event.seq);
            self.shop_mut(&shop).1.feed.push(event.clone(), replaced);
            self.overview.push(event, replaced);
            self.count(&shop, agent.as_deref(), before.and_then(|before| before.open), open, now_ms);
        }
        for id in effect.gone {
            let Some(shown) = self.shown.remove(&id) else { continue };
            if let Some(shop) = self.shops.get_mut(&shown.event.shop) {
                shop.feed.forget(shown.event.seq, true);
            }
            self.overview.forget(shown.event.seq, true);
        }
        applied
    }

    fn count(&mut self, shop: &str, agent: Option<&str>, before: Option<Severity>, after: Option<Severity>, now_ms: i64) {
        if before == after {
            return;
        }
        let change = |counts: &mut Counts| {
            if let Some(severity) = before {
                let n = counts.of(severity);
                *n = n.saturating_sub(1);
            }
            if let Some(severity) = after {
                *counts.of(severity) += 1;
            }
        };
        let (mut seq, epoch) = (self.seq, self.epoch.clone());
        let Some(entry) = self.shops.get_mut(shop) else { return };
        change(&mut entry.counts);
        if let Some(slot) = &mut entry.live {
            seq += 1;
            let replaced = slot.recount(&epoch, seq, &entry.counts, now_ms);
            entry.feed.push(slot.event.clone(), Some(replaced));
            self.overview.push(slot.event.clone(), Some(replaced));
        }
        if let Some(agent) = agent {
            let name = entry.agent_name(agent);
            let of_agent = entry.agents.entry(name.clone()).or_default();
            change(&mut of_agent.counts);
            if let Some(slot) = &mut of_agent.live {
                seq += 1;
                let replaced = slot.recount(&epoch, seq, &of_agent.counts, now_ms);
                entry.feed.push(slot.event.clone(), Some(replaced));
            } else if of_agent.is_empty() {
                entry.agents.remove(&name);
            }
        }
        self.seq = seq;
    }

    fn alert_json(&self, alert: &Alert) -> String {
        let knobs = self.policies.of(&alert.shop).on(self.utc.day(alert.onset));
        let mut threshold: BTreeMap<&str, i64> = knobs.alerts.thresholds(alert.rule).collect();
        if alert.rule == peakdesk_model::alert::Rule::RefundPromiseAtRisk {
            threshold.insert("refund_promise", knobs.refund_promise_ms);
        }
        alert.to_json(Some(&threshold))
    }

    /// Publishes what changed since the last time; how many events of each kind, in the order of [`Kind::ALL`].
    pub fn flush(&mut self) -> [u64; Kind::ALL.len()] {
        let mut made = [0; Kind::ALL.len()];
        // Its events are those of the shops.
        self.overview.flush();
        for shop in self.shops.values_mut() {
            for (sum, n) in made.iter_mut().zip(shop.feed.flush()) {
                *sum += n;
            }
        }
        made
    }

    /// The feed of a shop that is known; `None`: of all shops (shops and alerts only).
    pub fn feed(&self, shop: Option<&str>) -> Option<&Feed> {
        match shop {
            None => Some(&self.overview),
            Some(shop) => self.shops.get(shop).map(|shop| &shop.feed),
        }
    }

    /// The shops of which there are figures, by id.
    pub fn shops(&self) -> impl Iterator<Item = &Arc<Event>> {
        self.shops.values().filter_map(|shop| Some(&shop.live.as_ref()?.event))
    }

    /// A shop.
    pub fn shop(&self, shop: &str) -> Option<&Arc<Event>> {
        Some(&self.shops.get(shop)?.live.as_ref()?.event)
    }

    /// When the newest figures of a shop were sent (wall time of the scorer, ms).
    pub fn sent_wall_ms(&self, shop: &str) -> Option<i64> {
        self.shops.get(shop)?.sent_wall_ms()
    }

    /// Curves of a shop that begin at `from` (ms) or later, and the log time they are counted from.
    pub fn curves(&self, shop: &str, hours: i64) -> Option<Vec<&Arc<Event>>> {
        let shop = self.shops.get(shop)?;
        let from = shop.newest().saturating_sub(hours.saturating_mul(peakdesk_model::time::HOUR_MS));
        Some(shop.curves.range(from..).map(|(_, slot)| &slot.event).collect())
    }

    /// The agents of a shop of which there are figures, by id.
    pub fn agents(&self, shop: &str) -> Option<impl Iterator<Item = &Arc<Event>>> {
        let shop = self.shops.get(shop)?;
        Some(shop.agents.values().filter_map(|agent| Some(&agent.live.as_ref()?.event)))
    }

    /// An agent's figures, and its day in detail.
    pub fn agent(&self, shop: &str, agent: &str) -> Option<(&Arc<Event>, Option<&Arc<Event>>)> {
        let agent = self.shops.get(shop)?.agents.get(agent)?;
        let detail = agent.detail.as_ref().map(|slot| &slot.event);
        Some((&agent.live.as_ref()?.event, detail))
    }

    /// Alerts.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// The JSON of an alert.
    pub fn alert(&self, id: &str) -> Option<&Arc<Event>> {
        self.shown.get(id).map(|shown| &shown.event)
    }

    /// The newest wall time at which a shop's figures were sent (ms).
    pub fn newest_sent_ms(&self) -> Option<i64> {
        self.shops.values().filter_map(|shop| Some(shop.live.as_ref()?.order.1)).max()
    }

    /// Ids that mean everything that is shown, without places and times of arrival: equal states show the same.
    pub fn contents(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for shop in self.shops.values() {
            let agents = shop.agents.values().flat_map(|agent| [&agent.live, &agent.detail]).flatten();
            let slots = shop.live.iter().chain(agents).chain(shop.curves.values());
            all.extend(slots.map(|slot| slot.event.json().to_owned()));
        }
        all.extend(self.shown.values().map(|shown| shown.event.json().to_owned()));
        all
    }
}

impl Slot {
    /// Renders it again with other counts; the place of the event before.
    fn recount(&mut self, epoch: &str, seq: u64, counts: &Counts, now_ms: i64) -> u64 {
        let old = &self.event;
        // What stands before the counts is the value as it was, but for its closing brace.
        let own = old.json().get(..self.own_len - 1).unwrap_or_default();
        let text = with_counts(&[own, "}"].concat(), counts);
        let event = Event::new(epoch, seq, old.kind, old.shop.clone(), old.agent.clone(), now_ms, &text);
        let replaced = old.seq;
        self.event = Arc::new(event);
        replaced
    }
}

impl Shop {
    fn sent_wall_ms(&self) -> Option<i64> {
        Some(self.live.as_ref()?.order.1)
    }

    fn agent_name(&self, agent: &str) -> Arc<str> {
        match self.agents.get_key_value(agent) {
            Some((name, _)) => name.clone(),
            None => Arc::from(agent),
        }
    }

    /// The newest log time of the shop.
    fn newest(&self) -> i64 {
        let live = self.live.as_ref().map_or(i64::MIN, |live| live.order.0);
        live.max(self.curves.keys().next_back().copied().unwrap_or(i64::MIN))
    }

    /// The first hour that is kept; everything, while the shop's log time is not known.
    fn oldest_hour(&self) -> i64 {
        self.live
            .as_ref()
            .map_or(i64::MIN, |live| live.order.0.saturating_sub(CURVE_KEPT_MS))
    }

    /// Drops what the present day and time have made old. Who shows it knows so by itself.
    fn drop_old(&mut self) {
        let Some(live) = &self.live else { return };
        let (day, feed) = (live.day.as_str(), &mut self.feed);
        let mut drop = |slot: &mut Option<Slot>| {
            if slot.as_ref().is_some_and(|slot| slot.day.as_str() < day)
                && let Some(old) = slot.take()
            {
                feed.forget(old.event.seq, false);
            }
        };
        for agent in self.agents.values_mut() {
            drop(&mut agent.live);
            drop(&mut agent.detail);
        }
        self.agents.retain(|_, agent| !agent.is_empty());
        let oldest = self.oldest_hour();
        let kept = self.curves.split_off(&oldest);
        for old in std::mem::replace(&mut self.curves, kept).into_values() {
            self.feed.forget(old.event.seq, false);
        }
    }
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    serde_json::from_slice(value).ok()
}

fn json<T: Serialize>(value: &T) -> String {
    // Texts, numbers and maps with text keys always have a JSON form.
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}

/// An object with the counts of its open alerts.
fn with_counts(object: &str, counts: &Counts) -> String {
    let open = object.strip_suffix('}').unwrap_or(object);
    format!("{open},\"open_alerts\":{}}}", json(counts))
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(crate) mod tests;
