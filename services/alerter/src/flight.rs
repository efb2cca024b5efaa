//! What a chat receiver was sent and may have: the delivery under way, and those of unknown fate that wait for the end of quiet hours.
//!
//! | a delivery of unknown fate | what is done |
//! | --- | --- |
//! | a partition of it is not live | it waits, and all else with it: nobody knows what of it holds |
//! | some of it holds and may be told now | it is repeated, unchanged |
//! | some of it holds, and its routes are quiet | it is put aside; other deliveries may be sent |
//! | nothing of it holds | it is given up |
//!
//! Always holds: what a delivery put aside says is not told by another one in the meantime, as the same quiet hours hold for it. What has got
//! worse since, so that it passes, is told, and does not hold any more in the older delivery.

use crate::core::View;
use crate::group::{Group, awake, route_of};
use crate::message::{Change, Delivery, Part, What};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// How long it is worth telling that something is over (ms).
const RESOLVED_KEPT_MS: i64 = 3_600_000;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Flight {
    pub delivery: Option<Delivery>,
    /// Whether the receiver may have it.
    pub maybe: bool,
    /// When something was sent, within the last minute (ms, wall time).
    pub recent: VecDeque<i64>,
    /// The receiver may have them; oldest first.
    #[serde(default)]
    pub aside: VecDeque<Delivery>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relevance {
    Send,
    Wait,
    Quiet,
    Over,
}

impl Flight {
    /// All deliveries that the receiver may have.
    pub fn all(&self) -> impl Iterator<Item = &Delivery> {
        self.delivery.iter().chain(&self.aside)
    }

    pub fn holds_group(&self, id: &str) -> bool {
        self.all().flat_map(|d| &d.parts).any(|p| p.group == id)
    }

    /// Puts the delivery aside if it is quiet, and takes up the first one that is so no more. Returns whether anything changed.
    pub fn choose(&mut self, relevance: impl Fn(&Delivery) -> Relevance) -> bool {
        let quiet = |d: &Delivery| relevance(d) == Relevance::Quiet;
        let rests = self.delivery.take_if(|d| quiet(d));
        let mut changed = rests.is_some();
        self.aside.extend(rests);
        if self.delivery.is_none()
            && let Some(at) = self.aside.iter().position(|d| !quiet(d))
        {
            self.delivery = self.aside.remove(at);
            self.maybe = true;
            changed = true;
        }
        changed
    }
}

/// Whether a delivery whose fate nobody knows is worth repeating now.
pub(crate) fn relevance(delivery: &Delivery, groups: &BTreeMap<String, Group>, view: &View<'_>, now: i64) -> Relevance {
    let young = now - delivery.created_ms < RESOLVED_KEPT_MS;
    let holds = |part: &Part, c: &Change| match c.what {
        What::Resolved => young,
        What::Still => view.is_open(&c.alert.id),
        What::Firing | What::Escalated => {
            let told = groups.get(&part.group).and_then(|g| g.told.get(&c.alert.id));
            view.is_open(&c.alert.id) && told.is_none_or(|told| told.severity < c.severity)
        }
    };
    let all = delivery.parts.iter().flat_map(|p| p.changes.iter().map(move |c| (p, c)));
    let here: Vec<_> = all.filter(|(_, c)| !view.is_elsewhere(c.alert.partition, now)).collect();
    let unknown = here.iter().any(|(_, c)| !view.is_live(c.alert.partition));
    let mut holding = here
        .iter()
        .filter(|(p, c)| !view.is_live(c.alert.partition) || holds(p, c))
        .peekable();
    if holding.peek().is_none() {
        return Relevance::Over;
    }
    // Of a route that is in the file no more nobody knows quiet hours.
    let tellable = |(p, c): &&(&Part, &Change)| route_of(view.plan, &p.group).is_none_or(|route| awake(c, route, view, now));
    match (holding.any(|one| tellable(&one)), unknown) {
        (false, _) => Relevance::Quiet,
        (true, true) => Relevance::Wait,
        (true, false) => Relevance::Send,
    }
}
