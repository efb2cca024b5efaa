//! The simulation's clock: a queue of what happens next, and the records that come out of it.
//!
//! Whatever happens at time `t` sends records that arrive at `t` or later. So a record may be handed out as soon as its arrival
//! is not after the next thing to happen, and the stream comes in order of arrival without looking ahead.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::SeedableRng;

use crate::SimError;
use crate::calendar::Calendar;
use crate::config::SimConfig;
use crate::curve::Curve;
use crate::dist::{SimRng, chance, exponential, log_normal_ms};
use crate::order::{Order, Origin, Scene};
use crate::outbox::Outbox;
use crate::record::SimRecord;
use crate::session::{Purpose, Service, Session, Turn};
use crate::shop::{Known, Shop, open_shops};
use crate::talk::send_spam;
use crate::totals::SimTotals;

/// Silent orders are about three quarters of all; brushing orders are all silent.
const SILENT_SHARE: f64 = 0.75;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    /// The next buyer of a shop begins to talk.
    Buyer(u32),
    /// The next silent order of a shop.
    SilentOrder(u32),
    /// The next round of a conversation.
    Session(u32),
    /// The next step of an order.
    Order(u32),
}

/// Produces the records of a simulation in order of arrival.
///
/// Everything follows from the configuration: the same build gives equal records for equal configurations. (Another version of the
/// random number crates may draw differently.)
pub struct Generator {
    rng: SimRng,
    calendar: Calendar,
    chats: Curve,
    orders_curve: Curve,
    end_ms: i64,
    brushing_share: f64,
    shops: Vec<Shop>,
    sessions: Slab<Session>,
    orders: Slab<Order>,
    tasks: BinaryHeap<Reverse<(i64, u64, Task)>>,
    sequence: u64,
    outbox: Outbox,
    totals: SimTotals,
}

impl Generator {
    /// Opens the shops; nothing has happened yet.
    ///
    /// # Errors
    /// [`SimError::Config`] if a setting is out of range.
    pub fn new(config: &SimConfig) -> Result<Self, SimError> {
        config.check()?;
        let mut rng = SimRng::seed_from_u64(config.seed);
        let calendar = Calendar::new(config);
        let shops = open_shops(config, &mut rng);
        let mut generator = Self {
            rng,
            chats: calendar.chat_curve(),
            orders_curve: calendar.order_curve(),
            calendar,
            end_ms: config.end_ms(),
            brushing_share: config.brushing_share,
            shops,
            sessions: Slab::default(),
            orders: Slab::default(),
            tasks: BinaryHeap::new(),
            sequence: 0,
            outbox: Outbox::new(config),
            totals: SimTotals::default(),
        };
        for shop in 0..config.shops {
            generator.await_buyer(shop);
            generator.await_silent_order(shop);
        }
        Ok(generator)
    }

    /// What was handed out so far; of the whole run once the iterator is exhausted.
    pub fn totals(&self) -> &SimTotals {
        &self.totals
    }

    /// Conversations and orders that can still change, and records on their way: what the generator's memory follows.
    pub fn open_items(&self) -> usize {
        self.sessions.len() + self.orders.len() + self.outbox.len()
    }

    fn schedule(&mut self, at_ms: i64, task: Task) -> bool {
        let in_time = at_ms < self.end_ms;
        if in_time {
            self.tasks.push(Reverse((at_ms, self.sequence, task)));
            self.sequence += 1;
        }
        in_time
    }

    fn await_buyer(&mut self, shop: u32) {
        let step = exponential(&mut self.rng);
        let Some(state) = self.shops.get_mut(shop as usize) else { return };
        state.chat_volume += step / state.conversations_per_day.max(1e-9);
        if let Some(at) = self.chats.time_of(state.chat_volume) {
            self.schedule(at, Task::Buyer(shop));
        }
    }

    fn await_silent_order(&mut self, shop: u32) {
        let step = exponential(&mut self.rng);
        let Some(state) = self.shops.get_mut(shop as usize) else { return };
        state.order_volume += step / state.silent_orders_per_day.max(1e-9);
        if let Some(at) = self.orders_curve.time_of(state.order_volume) {
            self.schedule(at, Task::SilentOrder(shop));
        }
    }

    /// A shop and what its conversations and orders need. The shop's index comes from a task and always exists.
    fn scene(&mut self, shop: u32) -> Option<Scene<'_>> {
        let shop = self.shops.get_mut(shop as usize)?;
        Some(Scene {
            rng: &mut self.rng,
            calendar: &self.calendar,
            outbox: &mut self.outbox,
            shop,
        })
    }

    fn run(&mut self, now: i64, task: Task) {
        match task {
            Task::Buyer(shop) => {
                self.buyer_comes(now, shop);
                self.await_buyer(shop);
            }
            Task::SilentOrder(shop) => {
                self.silent_order(now, shop);
                self.await_silent_order(shop);
            }
            Task::Session(index) => self.session_goes_on(now, index),
            Task::Order(index) => self.order_goes_on(now, index),
        }
    }

    fn buyer_comes(&mut self, now: i64, shop: u32) {
        let after_sale = self.calendar.after_sale_share(now);
        let Some(mut scene) = self.scene(shop) else { return };
        if chance(scene.rng, 0.03) {
            let buyer = scene.shop.new_buyer();
            send_spam(&mut scene, buyer, now);
            return;
        }
        let paid = if chance(scene.rng, after_sale) {
            scene.shop.any_paid(scene.rng)
        } else {
            None
        };
        let (known, purpose) = match paid {
            Some(buyer) => (
                Known {
                    buyer,
                    welcomed_day: i64::MIN,
                },
                Purpose::AfterSale,
            ),
            None => {
                let returning = if chance(scene.rng, 0.12) {
                    scene.shop.take_recent(scene.rng)
                } else {
                    None
                };
                let new = |shop: &mut Shop| Known {
                    buyer: shop.new_buyer(),
                    welcomed_day: i64::MIN,
                };
                (returning.unwrap_or_else(|| new(scene.shop)), Purpose::Inquiry)
            }
        };
        self.begin_session(now, shop, known, purpose);
    }

    fn begin_session(&mut self, at: i64, shop: u32, known: Known, purpose: Purpose) {
        let Some(mut scene) = self.scene(shop) else { return };
        let session = Session::new(&mut scene, shop, known, purpose, at);
        if at < self.end_ms {
            self.totals.conversations += 1;
            self.totals.conversations_after_sale += u64::from(purpose == Purpose::AfterSale);
            let index = self.sessions.insert(session);
            self.schedule(at, Task::Session(index));
        } else {
            self.give_up_order_of(purpose);
        }
    }

    fn session_goes_on(&mut self, now: i64, index: u32) {
        let Some(mut session) = self.sessions.take(index) else { return };
        let shop = session.shop;
        let Some(mut scene) = self.scene(shop) else { return };
        let turn = session.advance(&mut scene, now);
        if session.takes_order_now() {
            let buyer = session.buyer;
            let at = now + log_normal_ms(scene.rng, 30_000.0, 1.0, 1_000, 600_000);
            self.place_order(
                at,
                shop,
                buyer,
                Origin {
                    silent: false,
                    brushing: false,
                },
            );
        }
        match turn {
            Turn::Again(at) => {
                let purpose = session.purpose;
                self.sessions.put_back(index, session);
                if !self.schedule(at, Task::Session(index)) {
                    self.sessions.free(index);
                    self.give_up_order_of(purpose);
                }
            }
            Turn::Over => {
                self.sessions.free(index);
                self.session_ends(now, &session);
            }
        }
    }

    fn session_ends(&mut self, now: i64, session: &Session) {
        match session.service {
            Service::Robot if !session.had_agent() => self.totals.conversations_robot_only += 1,
            Service::Assisted => self.totals.conversations_assisted += 1,
            _ => self.totals.conversations_human += 1,
        }
        self.totals.conversations_unanswered += u64::from(session.unanswered);
        if let Purpose::BeforePaying(order) = session.purpose {
            self.settle_order(now, order);
        }
        let Some(mut scene) = self.scene(session.shop) else { return };
        scene.shop.remember(scene.rng, session.known());
        if let Some(at) = session.decides_to_order(&mut scene, now) {
            self.place_order(
                at,
                session.shop,
                session.buyer,
                Origin {
                    silent: false,
                    brushing: false,
                },
            );
        }
    }

    fn silent_order(&mut self, now: i64, shop: u32) {
        let brushing_share = self.brushing_share / SILENT_SHARE;
        let Some(scene) = self.scene(shop) else { return };
        let brushing = chance(scene.rng, brushing_share);
        let again = if chance(scene.rng, 0.05) {
            scene.shop.any_paid(scene.rng)
        } else {
            None
        };
        let buyer = again.unwrap_or_else(|| scene.shop.new_buyer());
        self.place_order(now, shop, buyer, Origin { silent: true, brushing });
    }

    fn place_order(&mut self, at: i64, shop: u32, buyer: u32, origin: Origin) {
        if at >= self.end_ms {
            return;
        }
        let Some(mut scene) = self.scene(shop) else { return };
        let order = Order::new(&mut scene, shop, buyer, at, origin);
        let index = self.orders.insert(order);
        self.schedule(at, Task::Order(index));
    }

    fn order_goes_on(&mut self, now: i64, index: u32) {
        let Some(mut order) = self.orders.take(index) else { return };
        let (shop, buyer) = (order.shop, order.buyer);
        let Some(mut scene) = self.scene(shop) else { return };
        if order.advance(&mut scene) {
            let at = now + log_normal_ms(scene.rng, 120_000.0, 1.0, 5_000, 3_600_000);
            self.orders.put_back(index, order);
            let known = Known {
                buyer,
                welcomed_day: i64::MIN,
            };
            self.begin_session(at, shop, known, Purpose::BeforePaying(index));
            return;
        }
        self.keep_order(index, order);
    }

    fn settle_order(&mut self, now: i64, index: u32) {
        let Some(mut order) = self.orders.take(index) else { return };
        let Some(mut scene) = self.scene(order.shop) else { return };
        order.settle(&mut scene, now);
        self.keep_order(index, order);
    }

    /// A conversation that the end of the run cuts off: the order that waits for it will not move any more.
    fn give_up_order_of(&mut self, purpose: Purpose) {
        if let Purpose::BeforePaying(order) = purpose {
            self.orders.free(order);
        }
    }

    /// Keeps an order only if something will still happen to it within the run.
    fn keep_order(&mut self, index: u32, order: Order) {
        let next = order.next_ms();
        self.orders.put_back(index, order);
        if !next.is_some_and(|at| self.schedule(at, Task::Order(index))) {
            self.orders.free(index);
        }
    }
}

impl Iterator for Generator {
    type Item = SimRecord;

    fn next(&mut self) -> Option<SimRecord> {
        loop {
            let next_task = self.tasks.peek().map(|Reverse((at, _, _))| *at);
            let next_arrival = self.outbox.next_arrival_ms();
            match (next_task, next_arrival) {
                (None, None) => return None,
                (Some(task), arrival) if arrival.is_none_or(|arrival| arrival > task) => {
                    let Reverse((now, _, task)) = self.tasks.pop()?;
                    self.run(now, task);
                }
                _ => {
                    let (record, flags) = self.outbox.pop()?;
                    self.totals.add(&record, flags);
                    return Some(record);
                }
            }
        }
    }
}

/// Items under stable indices, which are used again.
struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    fn insert(&mut self, item: T) -> u32 {
        if let Some(index) = self.free.pop() {
            self.put_back(index, item);
            return index;
        }
        self.items.push(Some(item));
        (self.items.len() - 1) as u32
    }

    /// Takes an item out and keeps its index for [`Slab::put_back`] or [`Slab::free`].
    fn take(&mut self, index: u32) -> Option<T> {
        self.items.get_mut(index as usize)?.take()
    }

    fn put_back(&mut self, index: u32, item: T) {
        if let Some(place) = self.items.get_mut(index as usize) {
            *place = Some(item);
        }
    }

    fn free(&mut self, index: u32) {
        if let Some(place) = self.items.get_mut(index as usize) {
            *place = None;
            self.free.push(index);
        }
    }
}
