//! The reply-round machine of one buyer, and everything else about a buyer that follows from the order of chat events.
//!
//! [`Machine::step`] reads one event and reports what it means as [`Atom`]s: additions to windows, closed rounds, touches. The
//! same function serves three purposes, told apart only by what is done with the atoms: to add a new event, to subtract and
//! add again after an event came out of order, and to seal.
//!
//! Always holds: atoms are a function of the machine and the event; nothing is remembered outside of it.
//! Source: metric definitions, "reply rounds", "reception", "ratings".

use crate::policy::Policy;
use peakdesk_model::event::{Kind, RobotKind};
use peakdesk_model::table::Outcome;
use peakdesk_model::time::{Day, UtcOffset};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// An agent of a shop: an index into the shop's list of agents.
pub type Agent = u32;

/// Stands for the shop as a whole where an agent may be named.
pub const SHOP: Agent = u32::MAX;

/// One chat event as the machine reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatStep {
    /// Event time (ms).
    pub t: i64,
    /// One of the five chat kinds.
    pub kind: Kind,
    /// Addressee, sender, giver, rated agent.
    pub agent: Option<Agent>,
    /// Receiver of a transfer.
    pub to_agent: Option<Agent>,
    /// BUYER_MESSAGE: ignored but for being counted.
    pub spam: bool,
    /// AGENT_MESSAGE: written by a robot on the agent's behalf.
    pub assisted: bool,
    /// RATING: 1 to 5.
    pub rating: u8,
    /// ROBOT_MESSAGE.
    pub robot_kind: RobotKind,
}

/// A closed round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Customer clock (ms).
    pub t0: i64,
    /// Number of this buyer's earlier rounds with the same `t0`.
    pub seq: u32,
    /// Agent clock (ms).
    pub a0: i64,
    /// Who it counts for.
    pub agent: Option<Agent>,
    /// When it was answered, handed over or moved (ms).
    pub ended_at: Option<i64>,
    /// How it ended.
    pub outcome: Outcome,
    /// Valid buyer messages in it.
    pub n: u32,
    /// First of its session.
    pub first: bool,
    /// Whether any round of its chain so far was the first of its session.
    pub chain_first: bool,
}

impl Round {
    /// A chain ends with a round that was answered or given up.
    pub fn ends_chain(&self) -> bool {
        matches!(self.outcome, Outcome::Replied | Outcome::Unanswered)
    }

    /// `(customer, agent)` latency, of an answered round only (ms).
    pub fn latencies(&self) -> Option<(i64, i64)> {
        match (self.outcome, self.ended_at) {
            (Outcome::Replied, Some(end)) => Some((end - self.t0, end - self.a0)),
            _ => None,
        }
    }
}

/// What one event contributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atom {
    /// A valid buyer message, and the agent it is counted for.
    BuyerMessage {
        /// Event time (ms).
        t: i64,
        /// Addressee, else holder.
        agent: Option<Agent>,
    },
    /// A message by an agent.
    AgentMessage {
        /// Event time (ms).
        t: i64,
        /// Sender.
        agent: Agent,
        /// Written by a robot for the agent.
        assisted: bool,
    },
    /// A message by a robot.
    RobotMessage {
        /// Event time (ms).
        t: i64,
        /// A full answer.
        full: bool,
    },
    /// A buyer message to be ignored.
    Spam {
        /// Event time (ms).
        t: i64,
    },
    /// The buyer is new to a window of this scope.
    Distinct {
        /// Event time (ms).
        t: i64,
        /// An agent, or [`SHOP`].
        scope: Agent,
        /// Received (touched) instead of consulting.
        received: bool,
        /// New to the day as well as to the hour.
        new_to_day: bool,
        /// New to the hour.
        new_to_hour: bool,
    },
    /// An effective reply to a buyer who wrote within the attribution window.
    Touch {
        /// Event time (ms).
        t: i64,
        /// Sender.
        agent: Agent,
    },
    /// A closed round.
    Round(Round),
    /// One rating more (or less) of an agent on a day.
    Rating {
        /// The day.
        day: Day,
        /// The rated agent.
        agent: Agent,
        /// 1 to 5.
        stars: u8,
        /// 1, or -1 for the one that a later rating replaces.
        sign: i64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Wait {
    t0: i64,
    a0: i64,
    owner: Agent,
    n: u32,
    first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Queue {
    q0: i64,
    qa: i64,
    n: u32,
}

/// The hour (its start) in which a scope has seen the buyer; of the current day only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Presence {
    hour: i64,
    scope: Agent,
    received: bool,
}

/// The state of one buyer after a prefix of the chat events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Machine {
    holder: Option<Agent>,
    wait: Option<Wait>,
    queue: Option<Queue>,
    asked: bool,
    last: Option<i64>,
    /// Inverse of the definition's `fresh`, so that the default is the initial state.
    stale: bool,
    last_valid: Option<i64>,
    chain_t0: Option<i64>,
    chain_rounds: u32,
    chain_first: bool,
    /// The day that `presence` and `ratings` are about.
    day: Day,
    presence: SmallVec<[Presence; 2]>,
    ratings: SmallVec<[(Agent, u8); 1]>,
}

/// What the rules depend on besides the events.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Where days begin.
    pub utc: UtcOffset,
    /// The shop's policy.
    pub policy: &'a Policy,
    /// No chat event before it (ms) comes any more.
    pub chat_sealed_until: i64,
}

impl Rules<'_> {
    /// The moment up to which a question with these clocks may still be answered.
    pub fn deadline(&self, t0: i64, a0: i64) -> i64 {
        let day = self.utc.day(t0);
        let close_of_day = self.policy.on(day).close_of_day_ms;
        (self.utc.end(day).max(a0) + close_of_day).min(self.utc.end(day + 1))
    }
}

impl Machine {
    /// Times of the open wait or question, for which windows must wait: `t0` and `a0`, or `q0` and `qa`.
    pub fn open_times(&self) -> Option<(i64, i64)> {
        match (&self.wait, &self.queue) {
            (Some(w), _) => Some((w.t0, w.a0)),
            (None, Some(q)) => Some((q.q0, q.qa)),
            (None, None) => None,
        }
    }

    /// The open wait or question: `t0`, `a0` and the owner, or `q0`, `qa` and [`SHOP`].
    pub fn open(&self) -> Option<(i64, i64, Agent)> {
        match (&self.wait, &self.queue) {
            (Some(w), _) => Some((w.t0, w.a0, w.owner)),
            (None, Some(q)) => Some((q.q0, q.qa, SHOP)),
            (None, None) => None,
        }
    }

    /// Until when the open wait or question may be answered.
    pub fn deadline(&self, rules: &Rules<'_>) -> Option<i64> {
        self.open_times().map(|(t0, a0)| rules.deadline(t0, a0))
    }

    /// Closes what is open if `t` is past its deadline.
    pub fn close_if_past(&mut self, t: i64, rules: &Rules<'_>, sink: &mut impl FnMut(Atom)) {
        if self.deadline(rules).is_none_or(|deadline| t <= deadline) {
            return;
        }
        if let Some(w) = self.wait.take() {
            self.emit(w, Some(w.owner), None, Outcome::Unanswered, sink);
        } else if let Some(q) = self.queue.take() {
            let first = self.take_fresh();
            let wait = Wait {
                t0: q.q0,
                a0: q.qa,
                owner: SHOP,
                n: q.n,
                first,
            };
            self.emit(wait, None, None, Outcome::Unanswered, sink);
        }
    }

    /// Reads one event; the events of a buyer must come in order.
    pub fn step(&mut self, event: &ChatStep, rules: &Rules<'_>, sink: &mut impl FnMut(Atom)) {
        let t = event.t;
        self.turn_day(rules.utc.day(t));
        match event.kind {
            Kind::Rating => return self.rate(event, sink),
            Kind::BuyerMessage if event.spam => return sink(Atom::Spam { t }),
            _ => {}
        }
        self.close_if_past(t, rules, sink);
        let gap = rules.policy.on(rules.utc.day(t)).session_gap_ms;
        if self.last.is_some_and(|last| t - last >= gap) && self.wait.is_none() && self.queue.is_none() {
            self.holder = None;
            self.stale = false;
            self.asked = false;
        }
        self.last = Some(t);
        match event.kind {
            Kind::BuyerMessage => self.buyer_message(event, rules, sink),
            Kind::AgentMessage => self.agent_message(event, rules, sink),
            Kind::RobotMessage => self.robot_message(event, sink),
            _ => self.transfer(event, sink),
        }
    }

    fn buyer_message(&mut self, event: &ChatStep, rules: &Rules<'_>, sink: &mut impl FnMut(Atom)) {
        let t = event.t;
        let counted_for = event.agent.or(self.holder);
        sink(Atom::BuyerMessage { t, agent: counted_for });
        self.see(t, SHOP, false, rules, sink);
        if let Some(agent) = counted_for {
            self.see(t, agent, false, rules, sink);
        }
        self.last_valid = Some(t);
        match (event.agent, self.wait) {
            (Some(x), Some(w)) if w.owner != x => {
                let cap = rules.policy.on(rules.utc.day(w.t0)).latency_cap_ms;
                let outcome = if t - w.a0 > cap { Outcome::Transferred } else { Outcome::Moved };
                self.emit(w, Some(w.owner), Some(t), outcome, sink);
                self.wait = Some(Wait {
                    a0: t,
                    owner: x,
                    n: w.n + 1,
                    ..w
                });
            }
            (_, Some(w)) => self.wait = Some(Wait { n: w.n + 1, ..w }),
            (Some(x), None) => self.open_from_queue(t, x, 1),
            (None, None) => match (self.holder, &mut self.queue) {
                (Some(holder), _) => {
                    let first = self.take_fresh();
                    self.wait = Some(Wait {
                        t0: t,
                        a0: t,
                        owner: holder,
                        n: 1,
                        first,
                    });
                }
                (None, Some(q)) => q.n += 1,
                (None, queue) => *queue = Some(Queue { q0: t, qa: t, n: 1 }),
            },
        }
        if event.agent.is_some() {
            self.holder = event.agent;
            self.queue = None;
        }
        self.asked = true;
    }

    fn agent_message(&mut self, event: &ChatStep, rules: &Rules<'_>, sink: &mut impl FnMut(Atom)) {
        let (t, Some(agent)) = (event.t, event.agent) else { return };
        sink(Atom::AgentMessage {
            t,
            agent,
            assisted: event.assisted,
        });
        let window = rules.policy.on(rules.utc.day(t)).attribution_window_ms;
        if self.last_valid.is_some_and(|valid| valid > t - window) {
            self.see(t, SHOP, true, rules, sink);
            self.see(t, agent, true, rules, sink);
            sink(Atom::Touch { t, agent });
        }
        if let Some(w) = self.wait.take() {
            self.emit(w, Some(agent), Some(t), Outcome::Replied, sink);
        } else if let Some(q) = self.queue.take() {
            let first = self.take_fresh();
            let wait = Wait {
                t0: q.q0,
                a0: q.qa,
                owner: agent,
                n: q.n,
                first,
            };
            self.emit(wait, Some(agent), Some(t), Outcome::Replied, sink);
        }
        self.holder = Some(agent);
        self.queue = None;
        self.asked = false;
    }

    fn robot_message(&mut self, event: &ChatStep, sink: &mut impl FnMut(Atom)) {
        let full = event.robot_kind == RobotKind::Full;
        sink(Atom::RobotMessage { t: event.t, full });
        if self.wait.is_none() && full {
            self.queue = None;
        }
    }

    fn transfer(&mut self, event: &ChatStep, sink: &mut impl FnMut(Atom)) {
        let t = event.t;
        match (event.to_agent, self.wait) {
            (Some(x), Some(w)) if w.owner != x => {
                self.emit(w, Some(w.owner), Some(t), Outcome::Transferred, sink);
                self.wait = Some(Wait { a0: t, owner: x, ..w });
            }
            (Some(_), Some(_)) => {}
            (Some(x), None) => {
                if self.queue.is_some() || (event.agent.is_none() && self.asked) {
                    self.open_from_queue(t, x, 0);
                }
            }
            (None, Some(w)) => {
                self.wait = None;
                self.emit(w, Some(w.owner), Some(t), Outcome::Transferred, sink);
                self.queue = Some(Queue { q0: w.t0, qa: t, n: w.n });
            }
            (None, None) => {}
        }
        self.holder = event.to_agent;
        if event.to_agent.is_some() {
            self.queue = None;
        }
    }

    /// Opens a round for `owner` that takes over what lies in the queue.
    fn open_from_queue(&mut self, t: i64, owner: Agent, messages: u32) {
        let first = self.take_fresh();
        let (t0, queued) = self.queue.map_or((t, 0), |q| (q.q0, q.n));
        self.wait = Some(Wait {
            t0,
            a0: t,
            owner,
            n: queued + messages,
            first,
        });
    }

    fn take_fresh(&mut self) -> bool {
        !std::mem::replace(&mut self.stale, true)
    }

    fn emit(&mut self, w: Wait, agent: Option<Agent>, ended_at: Option<i64>, outcome: Outcome, sink: &mut impl FnMut(Atom)) {
        if self.chain_t0 != Some(w.t0) {
            self.chain_t0 = Some(w.t0);
            self.chain_rounds = 0;
            self.chain_first = false;
        }
        self.chain_first |= w.first;
        let round = Round {
            t0: w.t0,
            seq: self.chain_rounds,
            a0: w.a0,
            agent,
            ended_at,
            outcome,
            n: w.n,
            first: w.first,
            chain_first: self.chain_first,
        };
        self.chain_rounds += 1;
        sink(Atom::Round(round));
    }

    fn turn_day(&mut self, day: Day) {
        if self.day != day {
            self.day = day;
            self.presence.clear();
            self.ratings.clear();
        }
    }

    fn see(&mut self, t: i64, scope: Agent, received: bool, rules: &Rules<'_>, sink: &mut impl FnMut(Atom)) {
        let hour = rules.utc.hour_start(t);
        let (mut new_to_day, mut new_to_hour) = (true, true);
        for p in &self.presence {
            if p.scope == scope && p.received == received {
                new_to_day = false;
                new_to_hour &= p.hour != hour;
            }
        }
        if new_to_hour {
            self.presence.push(Presence { hour, scope, received });
            sink(Atom::Distinct {
                t,
                scope,
                received,
                new_to_day,
                new_to_hour,
            });
        }
    }

    fn rate(&mut self, event: &ChatStep, sink: &mut impl FnMut(Atom)) {
        let Some(agent) = event.agent else { return };
        let (day, stars) = (self.day, event.rating);
        match self.ratings.iter_mut().find(|(a, _)| *a == agent) {
            Some((_, before)) => {
                sink(Atom::Rating {
                    day,
                    agent,
                    stars: *before,
                    sign: -1,
                });
                *before = stars;
            }
            None => self.ratings.push((agent, stars)),
        }
        sink(Atom::Rating {
            day,
            agent,
            stars,
            sign: 1,
        });
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
