//! Log partitions that cannot start, as a condition of readiness.

use peakdesk_runtime::health::Condition;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Why which partition cannot start, over all threads of the role.
#[derive(Debug)]
pub struct Refusals {
    condition: Condition,
    reasons: Mutex<BTreeMap<i32, String>>,
}

impl Refusals {
    /// None yet: the condition is met.
    pub fn new(condition: Condition) -> Self {
        condition.set(true);
        Refusals {
            condition,
            reasons: Mutex::default(),
        }
    }

    pub(crate) fn add(&self, partition: i32, why: String) {
        self.change(|reasons| {
            reasons.insert(partition, why);
        });
    }

    pub(crate) fn remove(&self, partition: i32) {
        self.change(|reasons| {
            reasons.remove(&partition);
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<i32, String>)) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut reasons);
        if reasons.is_empty() {
            self.condition.set(true);
        } else {
            let all: Vec<&str> = reasons.values().map(String::as_str).collect();
            self.condition.fail(&all.join(" | "));
        }
    }
}
