//! What is delivered: changes of alerts, by group, under an id that follows from them.
//!
//! A delivery says what happened, not in which words: the texts are made for each attempt ([`crate::text`]), so that a signature has the
//! time of its attempt, and a delivery kept over a restart is told in the language configured then.

use crate::alert::Alert;
use peakdesk_model::alert::Severity;
use serde::{Deserialize, Serialize};

/// What is told of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It fires.
    Firing,
    /// It was told before, and has got worse.
    Escalated,
    /// It was told before, and still fires.
    Still,
    /// It is over.
    Resolved,
}

impl What {
    /// The name in bodies and ids.
    pub fn name(self) -> &'static str {
        match self {
            What::Firing => "firing",
            What::Escalated => "escalated",
            What::Still => "still_firing",
            What::Resolved => "resolved",
        }
    }
}

/// Something to tell of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What.
    pub what: What,
    /// Of which alert, as it was when this was written down.
    pub alert: Alert,
    /// Its severity; for Alertmanager that of the label, which for a resolved one may be a milder one than it came to.
    pub severity: Severity,
    /// For Alertmanager, of what is over: since when (ms, wall time).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<i64>,
}

/// The changes of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which group.
    pub group: String,
    /// Worst first, then oldest first.
    pub changes: Vec<Change>,
    /// How many of the group fire once this is told, by severity (warning, major, critical).
    pub open: [u32; 3],
    /// How often it was repeated that the group still fires.
    pub repeats: u32,
    /// Since when it was to be told (ms, wall time).
    pub since: i64,
}

/// A message to a receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// 32 hex digits, a function of receiver and content: equal content is repeated under an equal id, and nothing else.
    pub id: String,
    /// To whom.
    pub receiver: String,
    /// When it was written down (ms, wall time).
    pub created_ms: i64,
    /// At least one, each with at least one change.
    pub parts: Vec<Part>,
}

impl Delivery {
    /// A delivery with its id.
    pub fn new(receiver: &str, parts: Vec<Part>, created_ms: i64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(receiver.as_bytes());
        for part in &parts {
            hasher.update(&[0x1E]).update(part.group.as_bytes());
            if part.changes.iter().any(|c| c.what == What::Still) {
                hasher.update(&part.repeats.to_le_bytes());
            }
            for change in &part.changes {
                hasher.update(&[0x1F]).update(change.alert.id.as_bytes());
                hasher.update(change.what.name().as_bytes());
                hasher.update(&change.alert.transition.to_le_bytes());
                hasher.update(change.severity.name().as_bytes());
            }
        }
        let mut id = hasher.finalize().to_hex().to_string();
        id.truncate(32);
        Delivery {
            id,
            receiver: receiver.to_owned(),
            created_ms,
            parts,
        }
    }

    /// All changes.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.parts.iter().flat_map(|p| &p.changes)
    }

    /// How many changes of a sort.
    pub fn count(&self, what: What) -> usize {
        self.changes().filter(|c| c.what == what).count()
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// It surely does not have it, and may take it later.
    NotNow {
        /// Why, without secrets.
        why: String,
        /// How long the receiver wants to be left alone (ms).
        wait_ms: Option<i64>,
    },
    /// It surely does not have it, and is not likely to take it later: a wrong secret, an unknown address.
    Refused {
        /// Why, without secrets.
        why: String,
    },
    /// Nobody knows: the answer did not come, or was one of a proxy in between. It is repeated unchanged, under the same id.
    Unknown {
        /// Why, without secrets.
        why: String,
    },
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is under way.
    Sending,
    /// It will be tried again.
    Retrying,
    /// The receiver has it.
    Delivered,
    /// It was refused too often, and is not tried again.
    Failed,
    /// All it said was over before it arrived.
    Dropped,
    /// It was surely not received, and what still holds of it went into a newer one.
    Replaced,
}

/// The changes in the order of a message: worst first, then oldest.
pub(crate) fn sort(changes: &mut [Change]) {
    changes.sort_by(|a, b| {
        let rank = |c: &Change| {
            (
                c.what == What::Resolved,
                std::cmp::Reverse(c.severity),
                c.alert.onset,
                c.alert.id.clone(),
            )
        };
        rank(a).cmp(&rank(b))
    });
}

/// The pause before the next attempt (ms): doubling from a second, up to `most`, spread by ±20 % so that receivers that came down together are not
/// tried together.
pub(crate) fn back_off_ms(failures: u32, most: i64, seed: &str) -> i64 {
    let base = 1_000_i64.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(most);
    let hash = blake3::hash(format!("{seed} {failures}").as_bytes());
    let spread = i64::from(hash.as_bytes()[0]) * 40 / 255 - 20;
    base + base * spread / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_are_spread() {
        for failures in 1..60 {
            let pause = back_off_ms(failures, 60_000, "x");
            let base = (1_000 << (failures - 1).min(10)).min(60_000);
            assert!((base * 8 / 10..=base * 12 / 10).contains(&pause), "{failures}: {pause}");
        }
        let pauses: std::collections::BTreeSet<i64> = (0..20).map(|n| back_off_ms(9, 60_000, &n.to_string())).collect();
        assert!(pauses.len() > 10);
    }
}
