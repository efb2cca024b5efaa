//! The fold: `(state, frame) -> (state, outputs)` for one partition of the shop log.
//!
//! ```text
//! frame ─► which of its events are new? ─► shops ─► clocks ─► complete_until ─► timers ─► rows
//! ```
//!
//! Always holds:
//! - the fold reads no clock, does no I/O and depends on no hash order; the same log gives the same outputs at the same positions;
//! - every range of source offsets is applied once: repeats are dropped, a gap is not applied and holds its clock back;
//! - timers are handled in order of their moment, each as if `complete_until` stood exactly there, so that final rows do not
//!   depend on how often the clock is told.
//!
//! Not here: which partition is read where, where snapshots are kept, catching the panic of a shop (`aside`).

use crate::alerts::Agenda;
use crate::aside::Aside;
use crate::live::{LiveValue, Telling};
use crate::output::{Counts, Horizon, Output, Timer};
use crate::policy::{Constants, Policies, Policy};
use crate::shop::{Context, Shop};
use crate::snapshot::{self, Snapshot};
use hashbrown::HashMap;
use peakdesk_model::event::Event;
use peakdesk_model::frame::FrameHead;
use peakdesk_model::input::Topic;
use peakdesk_model::position::{Coverage, SourcePartition, coverage};
use peakdesk_model::time::MINUTE_MS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state of one log partition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fold {
    constants: Constants,
    #[serde(deserialize_with = "snapshot::indexed")]
    shops: Vec<Shop>,
    shop_index: HashMap<Arc<str>, u32>,
    /// Everything below this offset of a source partition is applied.
    covered: BTreeMap<SourcePartition, i64>,
    /// Clocks go on over generations.
    clocks: BTreeMap<(Topic, i32), i64>,
    /// Source partitions that hold records of which nothing has come yet, and up to which offset: nothing is complete
    /// before them.
    expected: BTreeMap<SourcePartition, i64>,
    now: i64,
    complete_until: Option<i64>,
    horizon: Horizon,
    /// By moment; shared with a snapshot until they change.
    timers: BTreeMap<i64, triomphe::Arc<Vec<(u32, Timer)>>>,
    agenda: Agenda,
    /// The newest wall time of an intake (ms); at which of them each clock last moved, and whether its intake had caught up
    /// when it last spoke.
    wall: i64,
    moved: BTreeMap<(Topic, i32), (i64, bool)>,
    expected_since: Option<i64>,
    counts: Counts,
    #[serde(skip)]
    aside: Aside,
}

/// What is in state, for progress displays and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Size {
    pub shops: usize,
    pub buyers: usize,
    pub orders: usize,
    pub refunds: usize,
    pub windows: usize,
}

impl std::ops::AddAssign for Size {
    fn add_assign(&mut self, other: Size) {
        self.shops += other.shops;
        self.buyers += other.buyers;
        self.orders += other.orders;
        self.refunds += other.refunds;
        self.windows += other.windows;
    }
}

impl Fold {
    /// The state before any frame.
    pub fn new(constants: Constants) -> Self {
        let never = i64::MIN / 4;
        Fold {
            constants,
            shops: Vec::new(),
            shop_index: HashMap::new(),
            covered: BTreeMap::new(),
            clocks: BTreeMap::new(),
            expected: BTreeMap::new(),
            now: 0,
            complete_until: None,
            horizon: Horizon {
                complete_until: never,
                chat_sealed_until: never,
                money_sealed_until: never,
            },
            timers: BTreeMap::new(),
            agenda: Agenda::default(),
            wall: 0,
            moved: BTreeMap::new(),
            expected_since: None,
            counts: Counts::default(),
            aside: Aside::default(),
        }
    }

    /// From the frame at offset `since` on the shop is left out. Such a state is not to be stored.
    pub fn set_aside(&mut self, shop: &str, since: i64) {
        self.aside.add(shop, since);
    }

    /// Shops that are left out, or will be.
    pub fn shops_set_aside(&self) -> usize {
        self.aside.len()
    }

    /// The shop that was being folded when the output stood as it does: after a panic, the one to set aside.
    pub fn at_work(&self, out: &Output) -> Option<&str> {
        let shop = self.shops.get(out.at_work()? as usize)?;
        Some(&shop.id)
    }

    /// The newest time seen (ms).
    pub fn now(&self) -> i64 {
        self.now
    }

    /// The time up to which every source partition that ever had a record is read (ms).
    pub fn complete_until(&self) -> Option<i64> {
        self.complete_until
    }

    /// What has been decided so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How often the alert rules of an agent or a shop were evaluated since this was made or restored.
    pub fn alert_evaluations(&self) -> u64 {
        self.agenda.evaluations
    }

    /// What is in state.
    pub fn size(&self) -> Size {
        let mut size = Size {
            shops: self.shops.len(),
            ..Size::default()
        };
        for shop in &self.shops {
            size.buyers += shop.buyers.len();
            size.orders += shop.orders.len();
            size.refunds += shop.refunds.len();
            size.windows += shop.windows.len();
        }
        size
    }

    /// Tells where every shop stands, and what has changed of agents and minutes since this was last called; details of
    /// agents only where wished. Nothing that is published depends on it.
    pub fn tell(&mut self, details: bool, mut tell: impl FnMut(LiveValue)) {
        let telling = Telling {
            constants: &self.constants,
            now: self.now,
            details,
        };
        let (complete_until, caught_up) = (self.complete_until, self.caught_up());
        for shop in self.shops.iter_mut().filter(|shop| !shop.set_aside) {
            shop.tell(&telling, &mut |mut value| {
                if let LiveValue::Shop(shop) = &mut value {
                    shop.complete_until = complete_until;
                    shop.caught_up = caught_up;
                }
                tell(value);
            });
        }
    }

    /// Whether the intakes of all source partitions had read them to their ends when they last spoke: what is said now is
    /// about the present.
    pub fn caught_up(&self) -> bool {
        self.expected.is_empty() && !self.moved.is_empty() && self.moved.values().all(|m| m.1)
    }

    /// The moment of the next timer (ms); without one nothing will change unless an event comes.
    pub fn next_timer_at(&self) -> Option<i64> {
        let timer = self.timers.keys().next().copied();
        timer.into_iter().chain(self.agenda.next_at()).min()
    }

    /// Whether anything may still be published if no event comes. Without it, what is planned only forgets.
    pub fn may_say_more(&self) -> bool {
        let says = |timers: &triomphe::Arc<Vec<(u32, Timer)>>| timers.iter().any(|(_, timer)| !timer.only_forgets());
        self.agenda.next_at().is_some() || self.timers.values().any(says)
    }

    /// Reads the frame at `offset` of the log partition.
    pub fn apply<'a>(
        &mut self,
        offset: i64,
        head: &FrameHead,
        events: impl Iterator<Item = Event<'a>>,
        policies: &Policies,
        out: &mut Output,
    ) {
        out.begin(offset, self.now.max(head.newest_clock().unwrap_or(self.now)));
        self.aside.begin(offset, &mut self.shops, &self.shop_index);
        let first_new = self.admit(head, out);
        for event in events {
            match first_new.iter().find(|(partition, _)| *partition == event.source.partition) {
                Some((_, Some(from))) if event.source.offset >= *from => {
                    if head.in_step {
                        self.alert_until(event.clock, policies, out);
                    }
                    self.read(&event, policies, out);
                }
                Some((_, Some(_))) => out.counts.repeated += 1,
                _ => {}
            }
        }
        self.now = self.now.max(head.newest_clock().unwrap_or(self.now));
        if let Some(clock) = self.alert_clock() {
            self.alert_until(clock, policies, out);
        }
        if let Some(complete) = self.clocks.values().copied().min().filter(|_| self.expected.is_empty()) {
            let complete = self.complete_until.map_or(complete, |before| before.max(complete));
            self.complete_until = Some(complete);
            self.advance(complete, policies, out);
        }
        self.counts.add(&std::mem::take(&mut out.counts));
    }

    /// Compares the frame's ranges with what is covered: from which offset of each source partition on its events are new;
    /// `None` behind a gap.
    fn admit(&mut self, head: &FrameHead, out: &mut Output) -> Vec<(SourcePartition, Option<i64>)> {
        let mut first_new = Vec::with_capacity(head.ranges.len());
        self.wall = self.wall.max(head.wall_ms);
        for range in &head.ranges {
            let at = self.covered.get(&range.partition).copied().unwrap_or(range.origin);
            match coverage(&range.from, &range.to, &at) {
                Coverage::Gap => {
                    out.counts.gaps += 1;
                    // Its clock stands; one that has none yet holds everything until the repeat.
                    let until = self.expected.entry(range.partition).or_insert(range.from);
                    *until = range.from.max(*until);
                    first_new.push((range.partition, None));
                    continue;
                }
                Coverage::Repeat => first_new.push((range.partition, Some(i64::MAX))),
                Coverage::Apply => {
                    self.covered.insert(range.partition, range.to.max(at));
                    first_new.push((range.partition, Some(at)));
                }
            }
            if let Some(clock) = range.clock {
                let source = (range.partition.topic, range.partition.partition);
                let known = self.clocks.entry(source).or_insert(i64::MIN);
                let moved = self.moved.entry(source).or_insert((self.wall, false));
                moved.1 = head.caught_up;
                if clock > *known {
                    *known = clock;
                    moved.0 = self.wall;
                }
            }
        }
        self.expected.extend(head.expected.iter().copied());
        let (clocks, covered) = (&self.clocks, &self.covered);
        self.expected.retain(|p, until| {
            // One that is read and still has no clock held nothing with a usable arrival time.
            !clocks.contains_key(&(p.topic, p.partition)) && covered.get(p).is_none_or(|at| at < until)
        });
        self.expected_since = match self.expected.is_empty() {
            true => None,
            false => self.expected_since.or(Some(self.wall)),
        };
        first_new
    }

    /// The clock of the alerts (ms): as `complete_until`, but a source partition whose clock has stood still for too long of wall
    /// time no longer holds it back. Better an alert with a gap than none.
    fn alert_clock(&self) -> Option<i64> {
        let patience = self.constants.stall_patience_ms;
        let waits = |since: i64| self.wall - since <= patience;
        if self.expected_since.is_some_and(waits) {
            return None;
        }
        let moving = |source: &&(Topic, i32)| self.moved.get(source).is_some_and(|m| waits(m.0));
        self.clocks
            .iter()
            .filter(|(source, _)| moving(source))
            .map(|(_, clock)| *clock)
            .min()
    }

    /// The state as it stands, to be stored while the fold goes on. Costs little: what is large is shared until it changes.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(Fold {
            constants: self.constants.clone(),
            shops: self.shops.iter().map(Shop::snapshot).collect(),
            shop_index: self.shop_index.clone(),
            covered: self.covered.clone(),
            clocks: self.clocks.clone(),
            expected: self.expected.clone(),
            timers: self.timers.clone(),
            agenda: self.agenda.clone(),
            moved: self.moved.clone(),
            aside: self.aside.clone(),
            ..*self
        })
    }

    /// The constants it works by.
    pub fn constants(&self) -> &Constants {
        &self.constants
    }

    /// Whether two folds find the same shops, buyers, orders and events by their names: what a restored one must.
    #[doc(hidden)]
    pub fn finds_the_same(&self, other: &Fold) -> bool {
        self.shop_index == other.shop_index
            && self.shops.len() == other.shops.len()
            && self.shops.iter().zip(&other.shops).all(|(a, b)| a.finds_the_same(b))
    }

    /// Lets every scope be evaluated at the next moment, as if all had changed. Under the policies by which the fold has gone on
    /// so far this says nothing more, as a law shows; under others it plans anew when rules are looked at next.
    pub fn look_at_all(&mut self) {
        for (place, shop) in self.shops.iter_mut().enumerate() {
            shop.windows.watch.touch_all();
            self.agenda.stir(place as u32, shop);
        }
    }

    /// Evaluates the alert rules at every moment before `clock` (ms).
    fn alert_until(&mut self, clock: i64, policies: &Policies, out: &mut Output) {
        self.agenda
            .advance(clock, &mut self.shops, &self.constants, policies, self.horizon, out);
    }

    fn read(&mut self, event: &Event<'_>, policies: &Policies, out: &mut Output) {
        if self.aside.has(event.shop_id) {
            return;
        }
        let place = match self.shop_index.get(event.shop_id) {
            Some(place) => *place,
            None => {
                let place = self.shops.len() as u32;
                let shop = Shop::new(event.shop_id);
                self.shop_index.insert(shop.id.clone(), place);
                self.shops.push(shop);
                place
            }
        };
        let Some(shop) = self.shops.get_mut(place as usize) else { return };
        out.work_on(Some(place));
        #[cfg(feature = "failpoints")]
        crate::aside::point::reach(event.event_id);
        let policy: &Policy = policies.of(&shop.id);
        shop.read(
            event,
            &Context {
                constants: &self.constants,
                policy,
                horizon: self.horizon,
            },
            out,
        );
        self.agenda.stir(place, shop);
        take_timers(&mut self.timers, place, out);
        out.work_on(None);
    }

    /// Handles the timers up to `complete` (ms).
    fn advance(&mut self, complete: i64, policies: &Policies, out: &mut Output) {
        while let Some(entry) = self.timers.first_entry().filter(|e| *e.key() <= complete) {
            let (due, mut timers) = entry.remove_entry();
            self.horizon = self.horizon_at(due.max(self.horizon.complete_until));
            triomphe::Arc::make_mut(&mut timers).sort_by_key(|(_, timer)| rank(timer));
            for &(place, timer) in timers.iter() {
                let Some(shop) = self.shops.get_mut(place as usize).filter(|shop| !shop.set_aside) else {
                    continue;
                };
                out.work_on(Some(place));
                let policy: &Policy = policies.of(&shop.id);
                shop.handle(
                    timer,
                    &Context {
                        constants: &self.constants,
                        policy,
                        horizon: self.horizon,
                    },
                    out,
                );
                self.agenda.stir(place, shop);
                take_timers(&mut self.timers, place, out);
            }
            out.work_on(None);
        }
        let full_minute = complete.div_euclid(MINUTE_MS) * MINUTE_MS;
        self.horizon = self.horizon_at(full_minute.max(self.horizon.complete_until));
    }

    fn horizon_at(&self, complete_until: i64) -> Horizon {
        Horizon {
            complete_until,
            chat_sealed_until: complete_until - self.constants.lateness_chat_ms,
            money_sealed_until: complete_until - self.constants.lateness_money_ms,
        }
    }
}

/// Timers of one moment are handled kind by kind, those of one kind in the order in which they were planned.
fn rank(timer: &Timer) -> u8 {
    match timer {
        Timer::SealChat { .. } => 0,
        Timer::Deadline { .. } => 1,
        Timer::SealOrder { .. } => 2,
        Timer::SealRefund { .. } => 3,
        Timer::PromiseOver { .. } => 4,
        Timer::BuyersOpen { .. } => 5,
        Timer::BuyersFinal { .. } => 6,
        Timer::RunningDay { .. } => 7,
        Timer::Open { .. } => 8,
        Timer::Final { .. } => 9,
        Timer::Corrections => 10,
        Timer::ForgetOrder { .. } => 11,
        Timer::ForgetRefund { .. } => 12,
        Timer::ForgetBuyer { .. } => 13,
        Timer::ForgetWindows { .. } => 14,
    }
}

fn take_timers(timers: &mut BTreeMap<i64, triomphe::Arc<Vec<(u32, Timer)>>>, place: u32, out: &mut Output) {
    for (due, timer) in out.timers.drain(..) {
        triomphe::Arc::make_mut(timers.entry(due).or_default()).push((place, timer));
    }
}

impl Counts {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Counts) {
        self.accepted += other.accepted;
        self.late += other.late;
        self.sealed += other.sealed;
        self.duplicates += other.duplicates;
        self.raised += other.raised;
        self.repeated += other.repeated;
        self.gaps += other.gaps;
    }
}
