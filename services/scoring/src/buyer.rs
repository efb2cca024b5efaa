//! One buyer of a shop: the sealed and the newest state of their chat, and the events between the two.
//!
//! ```text
//! sealed machine ──► events that may still be preceded by others, in order ──► newest machine
//! ```
//!
//! An event in order moves the newest machine on. One out of order is put in its place: what the events behind it
//! contributed is subtracted, and added again as it holds now. Sealing moves the sealed machine on. While there are no
//! events between the two, one machine is both.

use crate::alerts::Watched;
use crate::cohort::BuyerDay;
use crate::credit::{Touch, Trail};
use crate::key::EventKey;
use crate::machine::{Agent, Atom, ChatStep, Machine, Round, Rules};
use crate::output::Planned;
use crate::window::Windows;
use peakdesk_model::event::BuyerKey;
use peakdesk_model::time::Day;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// A chat event that may still be preceded by others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenEvent {
    /// Its place in the order of events.
    pub key: EventKey,
    /// The clock of its source partition (ms): which copy of a duplicate counts.
    pub clock: i64,
    /// What the machine reads.
    pub step: ChatStep,
}

/// Days paid for, per scope: how many orders make the buyer a paying buyer of that day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paying {
    /// Day of payment.
    pub day: Day,
    /// Credited agent, or the shop.
    pub scope: u32,
    /// Number of orders.
    pub orders: i32,
}

/// A buyer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buyer {
    /// Who.
    pub key: BuyerKey,
    sealed: Machine,
    newest: Option<Box<Machine>>,
    open: Vec<OpenEvent>,
    /// Touches and robots' answers.
    pub trail: Trail,
    /// Days with a valid message, ascending.
    pub days: Vec<BuyerDay>,
    /// Orders with a life of this buyer: places in the shop's list.
    pub orders: SmallVec<[u32; 2]>,
    /// No order of theirs was created or paid after it (ms).
    pub orders_until: i64,
    /// Distinct paying, while it can change.
    pub paying: SmallVec<[Paying; 1]>,
    /// When its chat is to be sealed next.
    pub seal: Planned,
    /// When something of it is to be forgotten next.
    pub forget: Planned,
    /// Newest time anything was heard of the buyer (ms).
    pub heard_at: i64,
    /// The open wait or question as the alert rules know it.
    pub watched: Option<Watched>,
}

/// What a change of the chat touched, for what depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatChange {
    /// Touches, robots' answers or first messages may differ from here on (ms); `None` if none does.
    pub trail_from: Option<i64>,
    /// Whose touch it is, if that is all that may differ.
    pub touched: Option<Agent>,
}

impl Buyer {
    /// A buyer of whom nothing is known.
    pub fn new(key: BuyerKey) -> Self {
        Buyer {
            key,
            sealed: Machine::default(),
            newest: None,
            open: Vec::new(),
            trail: Trail::default(),
            days: Vec::new(),
            orders: SmallVec::new(),
            orders_until: i64::MIN,
            paying: SmallVec::new(),
            seal: Planned::default(),
            forget: Planned::default(),
            heard_at: i64::MIN,
            watched: None,
        }
    }

    /// The state after all events that no other can precede.
    pub fn sealed(&self) -> &Machine {
        &self.sealed
    }

    /// The state after all events known.
    pub fn head(&self) -> &Machine {
        self.newest.as_deref().unwrap_or(&self.sealed)
    }

    /// Time of the first event that is not sealed (ms).
    pub fn first_open_at(&self) -> Option<i64> {
        self.open.first().map(|e| e.key.time)
    }

    /// The identities of the events that are not sealed.
    pub fn open_identities(&self) -> impl Iterator<Item = u128> {
        self.open.iter().map(|e| e.key.identity())
    }

    /// Adds an event; windows change by what it contributes.
    pub fn insert(&mut self, event: OpenEvent, windows: &mut Windows, rules: &Rules<'_>) -> ChatChange {
        self.heard_at = self.heard_at.max(event.key.time);
        if self.open.last().is_none_or(|last| last.key < event.key) {
            return self.append(event, windows, rules);
        }
        let at = self.open.partition_point(|e| e.key < event.key);
        self.rederive(at, windows, rules, |open| open.insert(at, event))
    }

    /// Takes an event out that another copy replaces.
    pub fn remove(&mut self, identity: u128, windows: &mut Windows, rules: &Rules<'_>) -> ChatChange {
        match self.open.iter().position(|e| e.key.identity() == identity) {
            None => ChatChange {
                trail_from: None,
                touched: None,
            },
            Some(at) => self.rederive(at, windows, rules, |open| {
                open.remove(at);
            }),
        }
    }

    /// The event with this identity, if it is not sealed.
    pub fn find(&self, identity: u128) -> Option<&OpenEvent> {
        self.open.iter().find(|e| e.key.identity() == identity)
    }

    fn append(&mut self, event: OpenEvent, windows: &mut Windows, rules: &Rules<'_>) -> ChatChange {
        let machine = self.newest.get_or_insert_with(|| Box::new(self.sealed.clone()));
        let mut notes = Notes::default();
        machine.step(&event.step, rules, &mut |atom| {
            windows.apply(rules, &atom, 1);
            notes.take(&atom, &mut self.trail, rules);
        });
        let t = event.key.time;
        self.open.push(event);
        let first = notes.reconcile(&mut self.days, None);
        ChatChange {
            trail_from: (notes.noted || first).then_some(t),
            touched: notes.touched.filter(|_| !first),
        }
    }

    /// Changes the events from place `at` on, and with them everything they contribute.
    fn rederive(&mut self, at: usize, windows: &mut Windows, rules: &Rules<'_>, change: impl FnOnce(&mut Vec<OpenEvent>)) -> ChatChange {
        let begin = self.first_open_at().unwrap_or(i64::MAX);
        let mut before = self.sealed.clone();
        self.open.iter().take(at).for_each(|e| before.step(&e.step, rules, &mut |_| {}));
        let mut old = before.clone();
        self.open
            .iter()
            .skip(at)
            .for_each(|e| old.step(&e.step, rules, &mut |atom| windows.apply(rules, &atom, -1)));
        let from = self.open.get(at).map_or(i64::MAX, |e| e.key.time);
        change(&mut self.open);
        let from = from.min(self.open.get(at).map_or(i64::MAX, |e| e.key.time));
        let begin = begin.min(self.first_open_at().unwrap_or(i64::MAX));
        self.trail.rewind(begin);
        let mut notes = Notes::default();
        let mut machine = self.sealed.clone();
        for (i, event) in self.open.iter().enumerate() {
            machine.step(&event.step, rules, &mut |atom| {
                if i >= at {
                    windows.apply(rules, &atom, 1);
                }
                notes.take(&atom, &mut self.trail, rules);
            });
        }
        self.newest = (!self.open.is_empty()).then(|| Box::new(machine));
        notes.reconcile(&mut self.days, Some((begin, windows, rules)));
        ChatChange {
            trail_from: Some(from),
            touched: None,
        }
    }

    /// Seals the events that no other can precede any more: `sealed` gets their identities, `closed` the rounds they closed.
    pub fn seal_until(&mut self, rules: &Rules<'_>, mut sealed: impl FnMut(u128), closed: &mut Vec<Round>) {
        let n = self.open.partition_point(|e| e.key.time < rules.chat_sealed_until);
        for event in self.open.drain(..n) {
            self.sealed.step(&event.step, rules, &mut |atom| {
                if let Atom::Round(round) = atom {
                    closed.push(round);
                }
            });
            sealed(event.key.identity());
        }
        if self.open.is_empty() {
            self.newest = None;
            self.open = Vec::new();
        }
    }

    /// Closes a wait or question whose deadline is past, if no event is there, or can come, that may answer it.
    pub fn close_if_past(&mut self, windows: &mut Windows, rules: &Rules<'_>, closed: &mut Vec<Round>) {
        if !self.open.is_empty() {
            return;
        }
        self.sealed.close_if_past(rules.chat_sealed_until, rules, &mut |atom| {
            if let Atom::Round(round) = atom {
                windows.apply(rules, &atom, 1);
                closed.push(round);
            }
        });
    }

    /// Whether nothing is left that a rule could ask for.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
            && self.sealed.open_times().is_none()
            && self.trail.touches.is_empty()
            && self.trail.robots.is_empty()
            && self.days.is_empty()
            && self.orders.is_empty()
    }
}

/// What a run over events says about days.
#[derive(Default)]
struct Notes {
    /// First valid message per day, in order.
    firsts: SmallVec<[(Day, i64); 2]>,
    /// A touch or a robot's full answer was seen.
    noted: bool,
    /// The agent of the last touch.
    touched: Option<Agent>,
}

impl Notes {
    fn take(&mut self, atom: &Atom, trail: &mut Trail, rules: &Rules<'_>) {
        match *atom {
            Atom::BuyerMessage { t, .. } => {
                let day = rules.utc.day(t);
                if self.firsts.last().is_none_or(|f| f.0 != day) {
                    self.firsts.push((day, t));
                }
            }
            Atom::Touch { t, agent } => {
                trail.touches.push(Touch { t, agent });
                self.noted = true;
                self.touched = Some(agent);
            }
            Atom::RobotMessage { t, full: true } => {
                trail.robots.push(t);
                self.noted = true;
            }
            _ => {}
        }
    }

    /// Brings the days in line with the first messages seen. After a change of events from `begin` on, days that begin
    /// there are found anew; one that has lost its messages is taken back.
    fn reconcile(&self, days: &mut Vec<BuyerDay>, changed: Option<(i64, &mut Windows, &Rules<'_>)>) -> bool {
        let mut changed_any = false;
        if let Some((begin, windows, rules)) = changed {
            days.retain_mut(|d| {
                let keep = d.first_at < begin || self.firsts.iter().any(|f| f.0 == d.day);
                if !keep {
                    d.retract(windows, rules);
                }
                keep
            });
            for d in days.iter_mut().filter(|d| d.first_at >= begin) {
                if let Some((_, t)) = self.firsts.iter().find(|f| f.0 == d.day) {
                    d.first_at = *t;
                }
            }
        }
        for (day, t) in &self.firsts {
            match days.binary_search_by_key(day, |d| d.day) {
                Ok(i) => days[i].first_at = days[i].first_at.min(*t),
                Err(i) => {
                    // Most buyers have one or two.
                    days.reserve_exact(1);
                    days.insert(i, BuyerDay::new(*day, *t));
                    changed_any = true;
                }
            }
        }
        changed_any
    }
}
