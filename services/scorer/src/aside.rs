//! Shops on which the fold panicked: set aside one by one, so that the others of their partition go on.
//!
//! ```text
//! frame ─► fold ─ panic ─► which shop was at work? ─► noted here ─► the partition begins again from an older state, which leaves
//!                                                                 the shop out from that frame on
//! ```
//!
//! Always holds: the state in which the panic happened is dropped, so what the others say is what they would have said; while a
//! shop is set aside no checkpoint of its partition is taken, so that a process with a mended fold goes on from before the
//! frame and has the shop again. A panic follows from the log: whoever has the partition sets the same shop aside at the same frame.
//!
//! Not here: rows of the shop that fell due in the meantime; their readers have passed the positions. A replay has them.

use peakdesk_scoring::fold::Fold;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A shop, the offset of the frame on which its fold panicked, and what the panic said.
#[derive(Debug)]
pub(crate) struct Panicked {
    pub(crate) shop: String,
    pub(crate) offset: i64,
    pub(crate) cause: String,
}

/// What a panic says.
pub(crate) fn cause(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// The shops that this process has set aside, by partition; shared by its threads.
#[derive(Debug, Default)]
pub struct Aside {
    shops: Mutex<BTreeMap<i32, BTreeMap<String, i64>>>,
}

impl Aside {
    /// Notes a shop; whether it was not noted before: if it was, leaving it out has not helped.
    pub(crate) fn add(&self, partition: i32, panicked: &Panicked) -> bool {
        let mut shops = self.shops.lock().unwrap_or_else(PoisonError::into_inner);
        let of = shops.entry(partition).or_default();
        of.insert(panicked.shop.clone(), panicked.offset).is_none()
    }

    /// Tells a state that goes on at `next` which shops to leave out. One that was stored behind a panic knows better: somebody's
    /// fold has passed the frame.
    pub(crate) fn apply(&self, partition: i32, next: i64, fold: &mut Fold) {
        let mut shops = self.shops.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of) = shops.get_mut(&partition) else { return };
        of.retain(|_, since| *since >= next);
        for (shop, since) in of.iter() {
            fold.set_aside(shop, *since);
        }
    }
}

/// In test builds, a marked point at each event: `fold-event/ID`.
pub(crate) fn mark_points() {
    #[cfg(feature = "failpoints")]
    peakdesk_scoring::point::at_each_event(|id| peakdesk_runtime::failpoint::reach(&format!("fold-event/{id}")));
}
