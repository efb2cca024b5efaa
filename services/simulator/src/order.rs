//! An order's life: created, paid (or its deposit first), shipped, completed or closed, and perhaps refunded.

use peakdesk_model::input::{OrderRecord, RefundRecord, Topic};
use rand::Rng;
use smallvec::SmallVec;

use crate::calendar::Calendar;
use crate::config::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};
use crate::dist::{SimRng, between, chance, geometric, log_normal, log_normal_ms, log_uniform, pick};
use crate::outbox::{Flags, Outbox};
use crate::record::SimBody;
use crate::shop::Shop;
use crate::talk::buyer_id;

/// What an order or a conversation can see and touch while it goes on.
pub(crate) struct Scene<'a> {
    pub(crate) rng: &'a mut SimRng,
    pub(crate) calendar: &'a Calendar,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) shop: &'a mut Shop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Deposit,
    Pay,
    Ship,
    Complete,
    Close,
    Request,
    Agree,
    Refuse,
    Succeed,
    Withdraw,
}

#[derive(Debug, Clone, Copy)]
struct Refund {
    number: u32,
    amount_fen: i64,
    reason: &'static str,
    phase: &'static str,
}

/// How an order came about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    /// Nobody talked to the buyer for it.
    pub(crate) silent: bool,
    /// Brushing.
    pub(crate) brushing: bool,
}

/// An order with the steps that are still to come.
#[derive(Debug)]
pub(crate) struct Order {
    /// Index of the shop.
    pub(crate) shop: u32,
    /// The buyer's number within the shop.
    pub(crate) buyer: u32,
    number: u32,
    amount_fen: i64,
    deposit_fen: i64,
    lines: u8,
    item_count: i64,
    created_ms: i64,
    origin: Origin,
    /// The buyer talks to the shop before paying, and that decides.
    asks_before_paying: bool,
    /// First step at which the brushing flag is seen.
    flagged_from: Step,
    refund: Option<Refund>,
    plan: SmallVec<[(i64, Step); 4]>,
}

const REASONS: [&str; 6] = ["QUALITY", "NOT_AS_DESCRIBED", "OUT_OF_STOCK", "SIZE", "NO_REASON", "OTHER"];
const SOURCES: [&str; 5] = ["search", "live", "ads", "recommendation", "cart"];
const BRUSHING_FLAG_STEPS: [Step; 3] = [Step::Create, Step::Pay, Step::Ship];

/// The traffic channel of a buyer: always the same one.
pub(crate) fn source_of(buyer: u32) -> Option<String> {
    SOURCES.get(buyer as usize % SOURCES.len()).map(|&source| source.to_owned())
}

impl Order {
    /// An order that will be created at `at_ms`.
    pub(crate) fn new(scene: &mut Scene<'_>, shop: u32, buyer: u32, at_ms: i64, origin: Origin) -> Self {
        let lines = (1 + geometric(scene.rng, 0.6)).min(8);
        let item_count = (0..lines).map(|_| 1 + i64::from(geometric(scene.rng, 0.15))).sum();
        scene.shop.orders += 1;
        let asks_before_paying = origin.silent && !origin.brushing && chance(scene.rng, 0.03);
        Self {
            shop,
            buyer,
            number: scene.shop.orders,
            amount_fen: (log_normal(scene.rng, 12_000.0, 0.9) as i64).clamp(100, 10_000_000),
            deposit_fen: 0,
            lines: lines as u8,
            item_count,
            created_ms: at_ms,
            origin: Origin {
                silent: origin.silent && !asks_before_paying,
                ..origin
            },
            asks_before_paying,
            flagged_from: pick(scene.rng, &BRUSHING_FLAG_STEPS).copied().unwrap_or(Step::Create),
            refund: None,
            plan: SmallVec::from_slice(&[(at_ms, Step::Create)]),
        }
    }

    /// When the order moves next; `None` if nothing is planned.
    pub(crate) fn next_ms(&self) -> Option<i64> {
        self.plan.first().map(|&(at, _)| at)
    }

    /// Takes the next step. True if the order is now waiting for a conversation before it goes on (see [`Order::settle`]).
    pub(crate) fn advance(&mut self, scene: &mut Scene<'_>) -> bool {
        if self.plan.is_empty() {
            return false;
        }
        let (at, step) = self.plan.remove(0);
        self.report(scene, at, step);
        match step {
            Step::Create => return self.created(scene, at),
            Step::Deposit => self.plan_balance(scene, at),
            Step::Pay => self.paid(scene, at),
            Step::Request => self.plan_answer(scene, at),
            Step::Agree => {
                let soon = if self.is_before_shipment() { 5 * MINUTE_MS } else { DAY_MS };
                let wait = log_normal_ms(scene.rng, soon as f64, 0.8, SECOND_MS, 12 * DAY_MS);
                self.then(at + wait, Step::Succeed);
            }
            Step::Succeed if self.is_before_shipment() && self.is_full_refund() => self.then(at + SECOND_MS, Step::Close),
            _ => {}
        }
        false
    }

    /// The buyer has talked to the shop about paying: most pay now, the others let the order close.
    pub(crate) fn settle(&mut self, scene: &mut Scene<'_>, at_ms: i64) {
        if chance(scene.rng, 0.8) {
            let wait = log_normal_ms(scene.rng, 2.0 * MINUTE_MS as f64, 1.0, SECOND_MS, HOUR_MS);
            self.then(at_ms + wait, Step::Pay);
        } else {
            self.then(at_ms + scene.calendar.unpaid_timeout_ms(at_ms), Step::Close);
        }
    }

    fn then(&mut self, at_ms: i64, step: Step) {
        let place = self.plan.partition_point(|&(at, _)| at <= at_ms);
        self.plan.insert(place, (at_ms, step));
    }

    fn is_before_shipment(&self) -> bool {
        self.refund.is_some_and(|refund| refund.phase == "BEFORE_SHIPMENT")
    }

    fn is_full_refund(&self) -> bool {
        self.refund.is_some_and(|refund| refund.amount_fen == self.amount_fen)
    }

    fn created(&mut self, scene: &mut Scene<'_>, at: i64) -> bool {
        if self.origin.brushing {
            self.then(at + between(scene.rng, 5 * SECOND_MS, 2 * MINUTE_MS), Step::Pay);
            return false;
        }
        if self.asks_before_paying {
            return true;
        }
        if chance(scene.rng, scene.calendar.presale_share(at)) {
            self.deposit_fen = self.amount_fen * between(scene.rng, 10, 21) / 100;
            let wait = log_normal_ms(scene.rng, MINUTE_MS as f64, 1.0, SECOND_MS, HOUR_MS);
            self.then(at + wait, Step::Deposit);
            return false;
        }
        let timeout = scene.calendar.unpaid_timeout_ms(at);
        let prompt = scene.calendar.prompt_payment_share(at);
        let draw: f64 = scene.rng.random();
        if draw < prompt {
            let wait = log_normal_ms(scene.rng, 25.0 * SECOND_MS as f64, 0.9, 2 * SECOND_MS, 15 * MINUTE_MS);
            self.then(at + wait, Step::Pay);
        } else if draw < 0.88 {
            self.then(at + log_uniform(scene.rng, 15 * MINUTE_MS, timeout - MINUTE_MS), Step::Pay);
        } else {
            self.then(at + timeout, Step::Close);
        }
        false
    }

    /// The balance of a presale falls due when the sale opens, on ordinary days one to three days later.
    fn plan_balance(&mut self, scene: &mut Scene<'_>, at: i64) {
        let due = match scene.calendar.sale_ms {
            Some(sale_ms) if at < sale_ms => sale_ms,
            _ => at + between(scene.rng, DAY_MS, 3 * DAY_MS),
        };
        if chance(scene.rng, 0.06) {
            self.then(due + 3 * DAY_MS, Step::Close);
        } else {
            let wait = log_normal_ms(scene.rng, 10.0 * MINUTE_MS as f64, 1.5, SECOND_MS, 2 * DAY_MS);
            self.then(due + wait, Step::Pay);
        }
    }

    fn paid(&mut self, scene: &mut Scene<'_>, at: i64) {
        let shipped = at + log_normal_ms(scene.rng, 20.0 * HOUR_MS as f64, 0.5, HOUR_MS, 5 * DAY_MS);
        let completed = shipped + between(scene.rng, 5 * DAY_MS, 12 * DAY_MS);
        if self.origin.brushing {
            self.then(shipped, Step::Ship);
            return;
        }
        let buyer = self.buyer;
        scene.shop.remember_paid(scene.rng, buyer);
        let refund_share = scene.shop.refund_share;
        if !chance(scene.rng, refund_share) {
            self.then(shipped, Step::Ship);
            self.then(completed, Step::Complete);
            return;
        }
        let (requested, phase) = if chance(scene.rng, 0.3) {
            let wait = log_normal_ms(scene.rng, 3.0 * HOUR_MS as f64, 1.2, MINUTE_MS, 3 * DAY_MS);
            (at + wait, "BEFORE_SHIPMENT")
        } else {
            let requested = at + between(scene.rng, 3 * DAY_MS, 15 * DAY_MS);
            let received = requested > shipped + 4 * DAY_MS;
            (requested, if received { "AFTER_RECEIPT" } else { "AFTER_SHIPMENT" })
        };
        let partial = chance(scene.rng, 0.2);
        scene.shop.refunds += 1;
        self.refund = Some(Refund {
            number: scene.shop.refunds,
            amount_fen: if partial {
                self.amount_fen * between(scene.rng, 5, 80) / 100
            } else {
                self.amount_fen
            },
            reason: pick(scene.rng, &REASONS).copied().unwrap_or("OTHER"),
            phase,
        });
        self.then(requested, Step::Request);
        // Goods leave before the request that names them as sent, and not at all if all money is asked back before that.
        if phase != "BEFORE_SHIPMENT" {
            self.then(shipped.min(requested - HOUR_MS), Step::Ship);
        } else if partial {
            self.then(shipped.max(requested + HOUR_MS), Step::Ship);
        }
    }

    fn plan_answer(&mut self, scene: &mut Scene<'_>, at: i64) {
        let usual = if self.is_before_shipment() { 20 * MINUTE_MS } else { 5 * HOUR_MS };
        let wait = log_normal_ms(scene.rng, usual as f64, 1.0, SECOND_MS, 2 * DAY_MS);
        let answer = match between(scene.rng, 0, 100) {
            0..4 => Step::Refuse,
            4..7 => Step::Withdraw,
            _ => Step::Agree,
        };
        self.then(at + wait, answer);
    }

    fn report(&self, scene: &mut Scene<'_>, at: i64, step: Step) {
        let refund_status = match step {
            Step::Request => "REQUESTED",
            Step::Agree => "AGREED",
            Step::Refuse => "REFUSED",
            Step::Succeed => "SUCCEEDED",
            Step::Withdraw => "CLOSED",
            Step::Create => return self.report_order(scene, at, "CREATED", step),
            Step::Deposit => return self.report_order(scene, at, "DEPOSIT_PAID", step),
            Step::Pay => return self.report_order(scene, at, "PAID", step),
            Step::Ship => return self.report_order(scene, at, "SHIPPED", step),
            Step::Complete => return self.report_order(scene, at, "COMPLETED", step),
            Step::Close => return self.report_order(scene, at, "CLOSED", step),
        };
        let Some(refund) = self.refund else { return };
        scene.shop.refund_events += 1;
        let record = RefundRecord {
            event_id: format!("r{}", scene.shop.refund_events),
            shop_id: scene.shop.id.clone(),
            buyer_id: buyer_id(self.buyer),
            order_id: format!("o{}", self.number),
            refund_id: format!("f{}", refund.number),
            status: refund_status.to_owned(),
            event_time: at,
            amount_fen: matches!(step, Step::Request | Step::Succeed).then_some(refund.amount_fen),
            reason: (step == Step::Request).then(|| refund.reason.to_owned()),
            phase: (step == Step::Request).then(|| refund.phase.to_owned()),
        };
        let key = record.refund_id.clone();
        scene
            .outbox
            .send(scene.rng, Topic::Refunds, key, at, SimBody::Refund(record), Flags::default());
    }

    fn report_order(&self, scene: &mut Scene<'_>, at: i64, status: &str, step: Step) {
        scene.shop.order_events += 1;
        let priced = matches!(step, Step::Create | Step::Pay);
        let repeats_creation = step != Step::Create && chance(scene.rng, 0.7);
        let flagged = self.origin.brushing && (step as u8) >= (self.flagged_from as u8);
        let record = OrderRecord {
            event_id: format!("o{}", scene.shop.order_events),
            shop_id: scene.shop.id.clone(),
            buyer_id: buyer_id(self.buyer),
            order_id: format!("o{}", self.number),
            status: status.to_owned(),
            event_time: at,
            amount_fen: match step {
                Step::Deposit => Some(self.deposit_fen),
                _ => priced.then_some(self.amount_fen),
            },
            item_count: priced.then_some(self.item_count),
            order_created_at: repeats_creation.then_some(self.created_ms),
            sku_ids: (step == Step::Create).then(|| {
                (0..self.lines)
                    .map(|line| format!("k{}", (self.number + u32::from(line) * 37) % 300))
                    .collect()
            }),
            fake: flagged.then_some(true),
            source: if step == Step::Create { source_of(self.buyer) } else { None },
        };
        let key = record.order_id.clone();
        let flags = Flags {
            silent: self.origin.silent,
            brushing: self.origin.brushing,
            ..Flags::default()
        };
        scene.outbox.send(scene.rng, Topic::Orders, key, at, SimBody::Order(record), flags);
    }
}
