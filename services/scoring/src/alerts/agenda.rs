//! When which scope is evaluated next, over all shops of a log partition.

use super::evaluate::{Moment, Said, up_to};
use super::watch::Pace;
use crate::machine::{Agent, SHOP};
use crate::output::Horizon;
use crate::output::Output;
use crate::policy::{Constants, Policies};
use crate::shop::{Context, Shop};
use peakdesk_model::alert::AlertRow;
use peakdesk_model::time::MINUTE_MS;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is to be evaluated: shop, scope, pace.
type Item = (u32, Agent, Pace);

/// The moments of evaluation that have something to do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Agenda {
    items: BTreeMap<i64, Vec<Item>>,
    /// Shops of which something was touched since.
    stirred: BTreeSet<u32>,
    /// Kept for its room only.
    #[serde(skip)]
    touched: Vec<(Agent, Pace, i64)>,
    /// How many scopes were evaluated.
    #[serde(skip)]
    pub(crate) evaluations: u64,
    /// The alert clock (ms) as it was when moments were last looked at: every moment of evaluation before it is evaluated.
    clock: Option<i64>,
}

impl Agenda {
    /// The next moment with something to do (ms); what was touched and not looked at since is due now.
    pub(crate) fn next_at(&self) -> Option<i64> {
        let touched = self.clock.filter(|_| !self.stirred.is_empty());
        self.items.keys().next().copied().into_iter().chain(touched).min()
    }

    /// Remembers that something of a shop was touched.
    pub(crate) fn stir(&mut self, place: u32, shop: &Shop) {
        if shop.windows.watch.is_touched() {
            self.stirred.insert(place);
        }
    }

    /// Evaluates what is due before `clock` (ms), at its moments.
    pub(crate) fn advance(
        &mut self,
        clock: i64,
        shops: &mut [Shop],
        constants: &Constants,
        policies: &Policies,
        horizon: Horizon,
        out: &mut Output,
    ) {
        let first = up_to(self.clock.unwrap_or(clock), constants.alert_step_ms);
        // Most clocks lie before the next moment of evaluation: what was touched waits for it.
        if self.clock.is_some() && clock <= first {
            return;
        }
        for place in std::mem::take(&mut self.stirred) {
            if let Some(shop) = shops.get_mut(place as usize).filter(|shop| !shop.set_aside) {
                out.work_on(Some(place));
                self.plan_touched(place, shop, first, constants);
            }
        }
        out.work_on(None);
        while let Some(entry) = self.items.first_entry().filter(|e| *e.key() < clock) {
            let (t, items) = entry.remove_entry();
            let mut rows = Vec::new();
            for (place, items) in by_shop(items) {
                let Some(shop) = shops.get_mut(place as usize).filter(|shop| !shop.set_aside) else {
                    continue;
                };
                out.work_on(Some(place));
                let cx = Context {
                    constants,
                    policy: policies.of(&shop.id),
                    horizon,
                };
                self.evaluate(t, place, shop, items, &cx, &mut rows);
            }
            out.work_on(None);
            rows.sort_by(|a, b| key(a).cmp(&key(b)));
            for mut row in rows {
                row.stamp.position = out.position();
                row.stamp.published_at = out.now();
                out.rows.alerts.push(row);
            }
        }
        self.clock = Some(clock);
    }

    fn evaluate(&mut self, t: i64, place: u32, shop: &mut Shop, mut items: Vec<Item>, cx: &Context<'_>, rows: &mut Vec<AlertRow>) {
        if items.iter().any(|i| i.2 == Pace::Expiry) {
            shop.windows.watch.take_due(SHOP, Pace::Expiry, t);
            if let Some(next) = shop.expire(t, cx) {
                self.put(place, shop, SHOP, Pace::Expiry, next);
            }
            // Whose wait is over is evaluated at this very moment.
            shop.windows.watch.take_touched(|scope, pace, _| {
                if pace == Pace::Step && !items.contains(&(place, scope, pace)) {
                    items.push((place, scope, pace));
                }
            });
            for (_, scope, pace) in items.iter().filter(|i| i.2 != Pace::Expiry) {
                shop.windows.watch.plan(*scope, *pace, t);
            }
        }
        let mut said: Vec<Said> = Vec::new();
        let moment = Moment::new(t, cx);
        for (_, scope, pace) in items {
            if pace == Pace::Expiry || !shop.windows.watch.take_due(scope, pace, t) {
                continue;
            }
            self.evaluations += 1;
            let next = shop.evaluate(&moment, scope, pace, &mut said);
            if next != i64::MAX {
                self.put(place, shop, scope, pace, next);
            }
        }
        rows.extend(said.into_iter().map(|said| shop.alert_row(t, &said, cx)));
    }

    fn plan_touched(&mut self, place: u32, shop: &mut Shop, first: i64, constants: &Constants) {
        let mut touched = std::mem::take(&mut self.touched);
        shop.windows
            .watch
            .take_touched(|scope, pace, from| touched.push((scope, pace, from)));
        for (scope, pace, from) in touched.drain(..) {
            let at = match pace {
                Pace::Step => up_to(from.max(first), constants.alert_step_ms),
                Pace::Minute => up_to(first, MINUTE_MS),
                Pace::Expiry => match shop.windows.watch.next_end() {
                    Some(end) => up_to(end, constants.alert_step_ms).max(first),
                    None => continue,
                },
            };
            self.put(place, shop, scope, pace, at);
        }
        self.touched = touched;
    }

    fn put(&mut self, place: u32, shop: &mut Shop, scope: Agent, pace: Pace, at: i64) {
        if shop.windows.watch.plan(scope, pace, at) {
            self.items.entry(at).or_default().push((place, scope, pace));
        }
    }
}

/// Rows of one moment come in the order of the bytes of shop, rule and agent, the shop's own first.
fn key(row: &AlertRow) -> (&str, &str, &str) {
    (&row.shop_id, row.rule.name(), row.agent_id.as_deref().unwrap_or(""))
}

fn by_shop(items: Vec<Item>) -> BTreeMap<u32, Vec<Item>> {
    let mut shops: BTreeMap<u32, Vec<Item>> = BTreeMap::new();
    for item in items {
        shops.entry(item.0).or_default().push(item);
    }
    shops
}
