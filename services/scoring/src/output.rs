//! What the fold says: rows with their log positions, and what it plans to do later.

use crate::machine::Agent;
use peakdesk_model::position::LogPosition;
use peakdesk_model::table::{Grain, Rows, Stamp};
use peakdesk_model::time::Day;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Something to be done when `complete_until` reaches a moment. Timers of one moment are handled in the order of the variants:
/// first what seals, then what publishes, then what forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Timer {
    SealChat { buyer: u32 },
    Deadline { buyer: u32 },
    SealOrder { order: u32 },
    SealRefund { refund: u32 },
    PromiseOver { refund: u32 },
    BuyersOpen { day: Day },
    BuyersFinal { day: Day },
    RunningDay { start: i64 },
    Open { grain: Grain, start: i64 },
    Final { grain: Grain, start: i64 },
    Corrections,
    ForgetOrder { order: u32 },
    ForgetRefund { refund: u32 },
    ForgetBuyer { buyer: u32 },
    ForgetWindows { grain: Grain, start: i64 },
}

impl Timer {
    /// Whether it makes room in the state and nothing else.
    pub(crate) fn only_forgets(&self) -> bool {
        matches!(
            self,
            Timer::ForgetOrder { .. } | Timer::ForgetRefund { .. } | Timer::ForgetBuyer { .. } | Timer::ForgetWindows { .. }
        )
    }
}

/// What has been decided about records, by outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Events that count in figures.
    pub accepted: u64,
    /// Chat events excluded as late.
    pub late: u64,
    /// Chat events excluded or raised money events because their time was sealed already.
    pub sealed: u64,
    /// Copies of chat events that were accepted.
    pub duplicates: u64,
    /// Order and refund events that were raised.
    pub raised: u64,
    /// Events whose record is in the log again.
    pub repeated: u64,
    /// Ranges of frames that were not applied because something before them is missing.
    pub gaps: u64,
}

impl Counts {
    /// What has been added since an earlier reading.
    pub fn since(&self, earlier: &Counts) -> Counts {
        Counts {
            accepted: self.accepted - earlier.accepted,
            late: self.late - earlier.late,
            sealed: self.sealed - earlier.sealed,
            duplicates: self.duplicates - earlier.duplicates,
            raised: self.raised - earlier.raised,
            repeated: self.repeated - earlier.repeated,
            gaps: self.gaps - earlier.gaps,
        }
    }
}

/// Collects the outputs of one frame.
#[derive(Debug, Default)]
pub struct Output {
    /// Rows in the order in which they were published.
    pub rows: Rows,
    /// When to do what next.
    pub(crate) timers: Vec<(i64, Timer)>,
    pub(crate) counts: Counts,
    offset: i64,
    index: u32,
    now: i64,
    /// The place of the shop that is being folded.
    at_work: Option<u32>,
}

impl Output {
    /// Begins the outputs of the frame at a log offset; `now` is the log time (ms).
    pub(crate) fn begin(&mut self, offset: i64, now: i64) {
        self.offset = offset;
        self.index = 0;
        self.now = now;
    }

    /// A shop is folded from here on, or none.
    pub(crate) fn work_on(&mut self, place: Option<u32>) {
        self.at_work = place;
    }

    pub(crate) fn at_work(&self) -> Option<u32> {
        self.at_work
    }

    pub(crate) fn stamp(&mut self, policy: &Arc<str>, is_final: bool, dt: Day) -> Stamp {
        let position = self.position();
        Stamp {
            policy: policy.clone(),
            is_final,
            published_at: self.now,
            dt,
            position,
        }
    }

    /// The position of the next row.
    pub(crate) fn position(&mut self) -> LogPosition {
        let index = self.index;
        self.index += 1;
        LogPosition {
            offset: self.offset,
            index,
        }
    }

    /// Log time (ms).
    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    pub(crate) fn plan(&mut self, due: i64, timer: Timer) {
        self.timers.push((due, timer));
    }
}

/// The moment for which a repeated timer is planned. An earlier wish replaces a later one; what then fires without being
/// planned any more is ignored, so that there is one chain of timers however often wishes change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Planned(Option<i64>);

impl Planned {
    /// Wishes for a timer at `due` (ms).
    pub(crate) fn wish(&mut self, due: i64, timer: Timer, out: &mut Output) {
        if self.0.is_none_or(|planned| due < planned) {
            self.0 = Some(due);
            out.plan(due, timer);
        }
    }

    /// The moment (ms), if one is planned.
    pub(crate) fn at(&self) -> Option<i64> {
        self.0
    }

    /// Whether a timer that fires at `now` (ms) is the planned one; it is planned no more then.
    pub(crate) fn fires(&mut self, now: i64) -> bool {
        let fires = self.0.is_some_and(|planned| planned <= now);
        if fires {
            self.0 = None;
        }
        fires
    }
}

/// The times by which the fold works, all of them functions of the log (ms).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Horizon {
    /// Everything before it is known; handled up to here.
    pub complete_until: i64,
    /// No chat event before it can come any more.
    pub chat_sealed_until: i64,
    /// No order or refund event before it can come any more.
    pub money_sealed_until: i64,
}

/// Names an agent's text.
pub(crate) fn text(agents: &[Arc<str>], agent: Option<Agent>) -> Option<Arc<str>> {
    agents.get(agent? as usize).cloned()
}
