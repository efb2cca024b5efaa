//! One conversation between a buyer and a shop, from the first message to the decision to order.
//!
//! ```text
//! robot rounds ─► (hand-off through the queue) ─► human rounds, with transfers ─► follow-up, rating ─► order?
//! ```
//!
//! A round is drawn when the buyer begins to speak: the messages and the replies are sent ahead, with their own times, and the
//! conversation sleeps until the next round. What an agent has open at that moment decides how long the buyer waits.

use peakdesk_model::input::ChatRecord;
use rand::Rng;

use crate::config::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};
use crate::dist::{between, chance, geometric, log_normal, log_normal_ms, log_uniform, shift_logit};
use crate::order::{Scene, source_of};
use crate::shop::{Known, OPEN_LIMIT, Skill};
use crate::talk::{agent_id, blank, burst, gap, send, think};
use crate::text::{Voice, say};

/// Why the buyer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Thinks of buying.
    Inquiry,
    /// Something about a paid order.
    AfterSale,
    /// Has ordered and not paid; the index is the order's.
    BeforePaying(u32),
}

/// Who leads the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// A robot; an agent only after a hand-off.
    Robot,
    /// A robot in an agent's name.
    Assisted,
    /// An agent.
    Human,
}

/// Something out of the ordinary in one human round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detour {
    Transfer,
    PingPong,
    BackToRobot,
    BuyerTurnsElsewhere,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Wake the conversation again at this time.
    Again(i64),
    /// It is over.
    Over,
}

/// A conversation that is going on.
#[derive(Debug)]
pub(crate) struct Session {
    /// Index of the shop.
    pub(crate) shop: u32,
    /// The buyer's number within the shop.
    pub(crate) buyer: u32,
    pub(crate) purpose: Purpose,
    pub(crate) service: Service,
    pub(crate) unanswered: bool,
    agent: Option<usize>,
    had_agent: bool,
    robot_rounds: u32,
    human_rounds: u32,
    hand_off: bool,
    detour: Option<(u32, Detour)>,
    welcomed_day: i64,
    sku: u32,
    waits: u32,
    wait_sum_ms: i64,
    let_wait: bool,
    last_reply_ms: Option<i64>,
    orders_meanwhile: bool,
    closing: bool,
}

impl Session {
    /// A conversation that begins at `at_ms`.
    pub(crate) fn new(scene: &mut Scene<'_>, shop: u32, known: Known, purpose: Purpose, at_ms: i64) -> Self {
        let staffed = scene.calendar.is_staffed(at_ms);
        let (robot_first, hand_off, assisted) = match (staffed, scene.calendar.is_peak(at_ms)) {
            (false, _) => (0.96, 0.05, 0.03),
            (true, true) => (0.80, 0.25, 0.20),
            (true, false) => (0.50, 0.30, 0.25),
        };
        let draw: f64 = scene.rng.random();
        let service = if draw < robot_first {
            Service::Robot
        } else if draw < robot_first + assisted {
            Service::Assisted
        } else {
            Service::Human
        };
        let robot = service == Service::Robot;
        let human_rounds = 1 + geometric(scene.rng, 2.9) + geometric(scene.rng, 2.9);
        let detour = match between(scene.rng, 0, 1_000) {
            0..30 => Some(Detour::Transfer),
            30..40 => Some(Detour::PingPong),
            40..45 => Some(Detour::BackToRobot),
            45..55 => Some(Detour::BuyerTurnsElsewhere),
            _ => None,
        };
        Self {
            shop,
            buyer: known.buyer,
            purpose,
            service,
            unanswered: false,
            agent: None,
            had_agent: false,
            robot_rounds: if robot { 1 + geometric(scene.rng, 0.5) } else { 0 },
            human_rounds,
            hand_off: robot && chance(scene.rng, hand_off),
            detour: detour.map(|detour| (1 + between(scene.rng, 0, i64::from(human_rounds)) as u32, detour)),
            welcomed_day: known.welcomed_day,
            sku: scene.rng.random_range(0..300),
            waits: 0,
            wait_sum_ms: 0,
            let_wait: false,
            last_reply_ms: None,
            orders_meanwhile: purpose == Purpose::Inquiry && chance(scene.rng, 0.05),
            closing: false,
        }
    }

    /// Whether an agent ever had a part in it.
    pub(crate) fn had_agent(&self) -> bool {
        self.had_agent
    }

    /// The buyer orders while still talking: true once, in the course of the conversation.
    pub(crate) fn takes_order_now(&mut self) -> bool {
        let now = self.orders_meanwhile && self.last_reply_ms.is_some();
        if now {
            self.orders_meanwhile = false;
        }
        now
    }

    /// The buyer, to be remembered.
    pub(crate) fn known(&self) -> Known {
        Known {
            buyer: self.buyer,
            welcomed_day: self.welcomed_day,
        }
    }

    /// Plays the next round, which begins at `now`.
    pub(crate) fn advance(&mut self, scene: &mut Scene<'_>, now: i64) -> Turn {
        if self.closing {
            self.release(scene);
            return Turn::Over;
        }
        if self.robot_rounds > 0 {
            return self.robot_round(scene, now);
        }
        let queued = self.hand_off && self.agent.is_none();
        if queued && !scene.calendar.is_staffed(now) {
            return self.night_queue(scene, now);
        }
        self.human_round(scene, now)
    }

    fn robot_round(&mut self, scene: &mut Scene<'_>, now: i64) -> Turn {
        let mut at = now;
        for _ in 0..burst(scene) {
            self.buyer_says(scene, at, None);
            let answered = at + between(scene.rng, 200, 900);
            let kind = if chance(scene.rng, 0.15) { "KEYWORD" } else { "FULL" };
            self.robot_says(scene, answered, kind);
            self.last_reply_ms = Some(answered);
            at = answered + between(scene.rng, SECOND_MS, 2 * SECOND_MS) + gap(scene);
        }
        self.robot_rounds -= 1;
        if self.robot_rounds == 0 && !self.hand_off {
            return self.close(at);
        }
        Turn::Again(at + think(scene))
    }

    /// A buyer who asks for a person at night: answered in the morning, or never.
    fn night_queue(&mut self, scene: &mut Scene<'_>, now: i64) -> Turn {
        let mut at = now;
        for _ in 0..burst(scene) {
            self.buyer_says(scene, at, None);
            at += gap(scene);
        }
        let morning = scene.calendar.midnight_ms(now) + 8 * HOUR_MS + between(scene.rng, 0, HOUR_MS);
        if chance(scene.rng, 0.5) && morning > at {
            let agent = self.assign(scene);
            self.let_wait = true;
            self.agent_says(scene, morning, agent, true, false);
            self.last_reply_ms = Some(morning);
        } else {
            self.unanswered = true;
        }
        self.close(morning.max(at))
    }

    fn human_round(&mut self, scene: &mut Scene<'_>, now: i64) -> Turn {
        let through_queue = self.agent.is_none() && (self.hand_off || chance(scene.rng, 0.5));
        let mut agent = self.assign(scene);
        let mut clock = now;
        if through_queue {
            self.buyer_says(scene, now, None);
            clock = now + between(scene.rng, 500, 4 * SECOND_MS);
            self.transfer(scene, clock, None, Some(agent));
        } else {
            let addressed = !self.had_agent || chance(scene.rng, 0.9);
            self.buyer_says(scene, now, addressed.then_some(agent));
        }
        self.had_agent = true;
        if let Some((round, detour)) = self.detour {
            self.detour = (round > 1).then_some((round - 1, detour));
            if round == 1 && scene.shop.agents.len() > 1 {
                match self.take_detour(scene, clock, agent, detour) {
                    Some((next, at)) => (agent, clock) = (next, at),
                    None => return self.close(clock + MINUTE_MS),
                }
            }
        }
        let assisted = self.service == Service::Assisted && chance(scene.rng, 0.85);
        let latency = if assisted {
            Some(between(scene.rng, 800, 5 * SECOND_MS))
        } else {
            self.human_latency_ms(scene, agent)
        };
        let Some(latency) = latency else {
            return self.never_answered(scene, now, agent);
        };
        let replied = clock + latency;
        let mut at = now + gap(scene);
        for _ in 1..burst(scene) {
            if at >= replied {
                break;
            }
            if at > clock {
                self.buyer_says(scene, at, Some(agent));
            }
            at += gap(scene);
        }
        self.waits += 1;
        self.wait_sum_ms += replied - now;
        self.let_wait |= replied - now > 300 * SECOND_MS;
        self.reply(scene, replied, agent, assisted)
    }

    fn reply(&mut self, scene: &mut Scene<'_>, replied: i64, agent: usize, assisted: bool) -> Turn {
        self.agent_says(scene, replied, agent, true, assisted);
        let mut last = replied;
        for _ in 0..geometric(scene.rng, 0.3).min(4) {
            last += log_normal_ms(scene.rng, 4_000.0, 0.6, 500, MINUTE_MS);
            self.agent_says(scene, last, agent, false, assisted);
        }
        self.last_reply_ms = Some(last);
        self.human_rounds -= 1;
        if self.human_rounds > 0 {
            return Turn::Again(last + think(scene));
        }
        if chance(scene.rng, 0.03) {
            last += log_uniform(scene.rng, 5 * MINUTE_MS, 30 * MINUTE_MS);
            self.agent_says(scene, last, agent, false, false);
        }
        if chance(scene.rng, 0.08) {
            self.rate(scene, last, agent);
        }
        self.close(last + 20 * SECOND_MS)
    }

    fn never_answered(&mut self, scene: &mut Scene<'_>, now: i64, agent: usize) -> Turn {
        let mut at = now;
        for _ in 1..burst(scene) {
            at += gap(scene);
            self.buyer_says(scene, at, Some(agent));
        }
        at += between(scene.rng, MINUTE_MS, 5 * MINUTE_MS);
        if chance(scene.rng, 0.5) {
            self.buyer_says(scene, at, None);
        }
        self.unanswered = true;
        self.let_wait = true;
        self.close(at + MINUTE_MS)
    }

    /// Who answers now, and since when it is theirs; `None` if a robot took over.
    fn take_detour(&mut self, scene: &mut Scene<'_>, clock: i64, agent: usize, detour: Detour) -> Option<(usize, i64)> {
        let other = (agent + 1 + scene.rng.random_range(0..scene.shop.agents.len() - 1)) % scene.shop.agents.len();
        let at = clock + between(scene.rng, 3 * SECOND_MS, 20 * SECOND_MS);
        match detour {
            Detour::Transfer => {
                self.transfer(scene, at, Some(agent), Some(other));
                self.reassign(scene, other);
                Some((other, at))
            }
            Detour::PingPong => {
                self.transfer(scene, at, Some(agent), Some(other));
                let back = at + between(scene.rng, 10 * SECOND_MS, 40 * SECOND_MS);
                self.transfer(scene, back, Some(other), Some(agent));
                Some((agent, back))
            }
            Detour::BackToRobot => {
                self.transfer(scene, at, Some(agent), None);
                if chance(scene.rng, 0.5) {
                    self.robot_says(scene, at + 700, "FULL");
                    self.last_reply_ms = Some(at + 700);
                    return None;
                }
                self.reassign(scene, other);
                Some((other, at))
            }
            Detour::BuyerTurnsElsewhere => {
                self.buyer_says(scene, at, Some(other));
                self.reassign(scene, other);
                Some((other, at))
            }
        }
    }

    fn human_latency_ms(&self, scene: &mut Scene<'_>, agent: usize) -> Option<i64> {
        let (skill, open) = scene
            .shop
            .agents
            .get(agent)
            .map_or((Skill::Normal, 1), |agent| (agent.skill, agent.open));
        let load = f64::from(open) / OPEN_LIMIT;
        let (median_s, sigma, never) = match skill {
            _ if load > 2.0 => (120.0, 1.4, 0.05),
            Skill::Fast => (8.0, 0.9, 0.005),
            Skill::Normal => (20.0, 1.1, 0.01),
            Skill::Weak => (100.0, 1.3, 0.05),
        };
        if chance(scene.rng, never) {
            return None;
        }
        // Overload is a latency of its own; below it, people get slower with every open conversation.
        let slowed_s = if load > 2.0 { median_s } else { median_s * (1.0 + load.powi(2)) };
        Some(log_normal_ms(scene.rng, slowed_s * 1_000.0, sigma, 900, 2 * HOUR_MS))
    }

    fn assign(&mut self, scene: &mut Scene<'_>) -> usize {
        if let Some(agent) = self.agent {
            return agent;
        }
        let agent = scene.shop.choose_agent(scene.rng);
        self.reassign(scene, agent);
        agent
    }

    fn reassign(&mut self, scene: &mut Scene<'_>, agent: usize) {
        self.release(scene);
        self.agent = Some(agent);
        if let Some(agent) = scene.shop.agents.get_mut(agent) {
            agent.open += 1;
        }
    }

    fn release(&mut self, scene: &mut Scene<'_>) {
        if let Some(agent) = self.agent.and_then(|agent| scene.shop.agents.get_mut(agent)) {
            agent.open = agent.open.saturating_sub(1);
        }
    }

    fn close(&mut self, at: i64) -> Turn {
        self.closing = true;
        Turn::Again(at)
    }

    /// When the buyer orders after the conversation that ended at `now`; `None` if not at all.
    pub(crate) fn decides_to_order(&self, scene: &mut Scene<'_>, now: i64) -> Option<i64> {
        let agent = self.agent.and_then(|agent| scene.shop.agents.get(agent));
        let mut p = match self.purpose {
            Purpose::Inquiry => agent.map_or(scene.shop.robot_conversion, |agent| agent.conversion),
            Purpose::AfterSale => 0.04,
            Purpose::BeforePaying(_) => return None,
        };
        let mean_wait_s = self.wait_sum_ms as f64 / 1_000.0 / f64::from(self.waits.max(1));
        p = shift_logit(p, -0.15 * (mean_wait_s / 15.0).log2().max(0.0));
        if self.let_wait {
            p = shift_logit(p, -0.6);
        }
        if !chance(scene.rng, p) {
            return None;
        }
        // 80 % within an hour, 97 % within a day, 99 % within three.
        let wait = log_normal_ms(scene.rng, 5.0 * MINUTE_MS as f64, 2.95, SECOND_MS, 14 * DAY_MS);
        let at = now.max(self.last_reply_ms.unwrap_or(now) + wait);
        match scene.calendar.sale_ms {
            // On the eve most wait for the prices of the sale; presales are the exception.
            Some(sale_ms) if at < sale_ms && sale_ms - at < DAY_MS && chance(scene.rng, 0.5) => {
                Some(sale_ms + log_normal(scene.rng, MINUTE_MS as f64, 1.2) as i64)
            }
            _ => Some(at),
        }
    }

    fn rate(&mut self, scene: &mut Scene<'_>, last: i64, agent: usize) {
        let good = if self.let_wait { 0.55 } else { 0.88 };
        let stars = if chance(scene.rng, good) {
            between(scene.rng, 4, 6)
        } else {
            between(scene.rng, 1, 4)
        };
        let at = last + log_uniform(scene.rng, 5 * SECOND_MS, 10 * MINUTE_MS);
        let mut record = self.record(scene, at, "RATING");
        record.agent_id = agent_id(scene, agent);
        record.rating = Some(stars as i32);
        send(scene, record, false);
    }

    fn buyer_says(&mut self, scene: &mut Scene<'_>, at: i64, to: Option<usize>) {
        let voice = if self.purpose == Purpose::AfterSale {
            Voice::BuyerAfter
        } else {
            Voice::BuyerBefore
        };
        let mut record = self.record(scene, at, "BUYER_MESSAGE");
        record.text = Some(say(scene.rng, voice));
        record.agent_id = to.and_then(|agent| agent_id(scene, agent));
        record.sku_id = chance(scene.rng, 0.3).then(|| format!("k{}", self.sku));
        record.source = source_of(self.buyer);
        send(scene, record, false);
        let today = scene.calendar.day(at);
        if self.welcomed_day != today {
            self.welcomed_day = today;
            let greeted = at + between(scene.rng, 100, 600);
            self.robot_says(scene, greeted, "WELCOME");
        }
    }

    fn robot_says(&self, scene: &mut Scene<'_>, at: i64, kind: &str) {
        let mut record = self.record(scene, at, "ROBOT_MESSAGE");
        let voice = if kind == "WELCOME" { Voice::Welcome } else { Voice::Robot };
        record.text = Some(say(scene.rng, voice));
        // FULL is what a robot message without a kind means.
        record.robot_kind = (kind != "FULL" || chance(scene.rng, 0.5)).then(|| kind.to_owned());
        send(scene, record, false);
    }

    fn agent_says(&self, scene: &mut Scene<'_>, at: i64, agent: usize, ends_round: bool, assisted: bool) {
        let mut record = self.record(scene, at, "AGENT_MESSAGE");
        record.text = Some(say(scene.rng, Voice::Agent));
        record.agent_id = agent_id(scene, agent);
        record.assisted = assisted.then_some(true);
        send(scene, record, ends_round);
    }

    fn transfer(&self, scene: &mut Scene<'_>, at: i64, from: Option<usize>, to: Option<usize>) {
        let mut record = self.record(scene, at, "TRANSFER");
        record.agent_id = from.and_then(|agent| agent_id(scene, agent));
        record.to_agent_id = to.and_then(|agent| agent_id(scene, agent));
        send(scene, record, false);
    }

    fn record(&self, scene: &mut Scene<'_>, at: i64, kind: &str) -> ChatRecord {
        blank(scene, self.buyer, at, kind)
    }
}

#[cfg(test)]
mod tests;
