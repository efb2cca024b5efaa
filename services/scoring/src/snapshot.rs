//! A state as it stood at one point of the log, to be stored beside the fold that goes on.
//!
//! ```text
//! fold ── snapshot() ─► Snapshot ── serde ─► bytes ── serde ─► Fold: says what the first one says from there on
//! ```
//!
//! Always holds: nothing that the fold does later changes a snapshot. Taking one copies what is small and shares what is large
//! (values in chunks, blocks of windows, timers of a moment); the fold copies a shared part when it first changes it.
//!
//! Not here: files, checksums, when one is taken.

use crate::fold::Fold;
use crate::shop::Shop;
use serde::{Deserialize, Deserializer, Serialize};

/// Counts up whenever the stored state means something else, or another code would go on from it differently: a state of
/// another version is not used.
pub const STATE_VERSION: u32 = 3;

/// A state that can only be stored.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Snapshot(Fold);

impl Snapshot {
    pub(crate) fn of(fold: Fold) -> Self {
        Snapshot(fold)
    }
}

/// Shops with the maps that are not stored.
pub(crate) fn indexed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Shop>, D::Error> {
    let mut shops = Vec::<Shop>::deserialize(deserializer)?;
    shops.iter_mut().for_each(Shop::index);
    Ok(shops)
}
