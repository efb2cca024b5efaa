//! Shops that are left out because the fold of one of their frames panicked: a defect of ours, which must not stop the others.
//!
//! ```text
//! a shop is at work ─► panic ─► the owner asks which shop, drops the fold, begins again from an older state ─► set_aside(shop, offset)
//! ```
//!
//! Always holds: before that offset the shop is folded like any other, from it on nothing of it is: no event, no timer, no
//! alert, no live figure. What the other shops say does not depend on it.
//!
//! Not here: catching the panic, and where the fold begins again. A state with a shop left out lacks what has happened to it
//! since, so it must not be stored.

use crate::shop::Shop;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which shops, and from which offset of the log partition on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Aside {
    since: BTreeMap<Arc<str>, i64>,
    /// Offset of the frame that is being folded.
    at: i64,
}

impl Aside {
    pub(crate) fn add(&mut self, shop: &str, since: i64) {
        self.since.insert(shop.into(), since);
    }

    pub(crate) fn len(&self) -> usize {
        self.since.len()
    }

    /// The frame at `offset` begins: shops whose offset is reached are left out.
    pub(crate) fn begin(&mut self, offset: i64, shops: &mut [Shop], index: &HashMap<Arc<str>, u32>) {
        self.at = offset;
        for (id, _) in self.since.iter().filter(|(_, since)| **since <= offset) {
            if let Some(shop) = index.get(id).and_then(|place| shops.get_mut(*place as usize)) {
                shop.set_aside = true;
            }
        }
    }

    /// Whether nothing is to be read of a shop.
    pub(crate) fn has(&self, shop: &str) -> bool {
        !self.since.is_empty() && self.since.get(shop).is_some_and(|since| *since <= self.at)
    }
}

/// A marked point for tests: whoever embeds the fold says what happens when an event is read.
#[cfg(feature = "failpoints")]
pub mod point {
    use std::sync::OnceLock;

    static POINT: OnceLock<fn(&str)> = OnceLock::new();

    /// From now on `act` is called with the id of each event, inside the fold of its shop. The first caller decides.
    pub fn at_each_event(act: fn(&str)) {
        POINT.get_or_init(|| act);
    }

    pub(crate) fn reach(event_id: &str) {
        if let Some(act) = POINT.get() {
            act(event_id);
        }
    }
}
