//! What a run produced, counted record by record as it is handed out.

use std::fmt;

use peakdesk_model::input::{ChatRecord, OrderRecord, RefundRecord, Topic};
use serde::{Deserialize, Serialize};

use crate::config::{DAY_MS, MINUTE_MS};
use crate::outbox::Flags;
use crate::record::{SimBody, SimRecord};

/// Chat later than this by its partition's clock is late under the default settings of the pipeline.
pub(crate) const CHAT_LATE_MS: i64 = 15 * MINUTE_MS;
/// Order and refund events older than this are raised under the default settings of the pipeline.
pub(crate) const MONEY_RAISED_MS: i64 = DAY_MS;

/// Counts of one run. All but the first four groups count each event once: neither second deliveries nor damaged copies.
///
/// `records = chat + orders + refunds = unique_events + duplicates + dead`. Planned figures are what the simulated people did;
/// the pipeline's own figures differ from them by late events and by what its rules say about a round.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimTotals {
    /// Records handed out, of every kind.
    pub records: u64,
    /// Of these, on the chat topic.
    pub chat_records: u64,
    /// Of these, on the order topic.
    pub order_records: u64,
    /// Of these, on the refund topic.
    pub refund_records: u64,
    /// Distinct good events.
    pub unique_events: u64,
    /// Second deliveries.
    pub duplicates: u64,
    /// Damaged records.
    pub dead: u64,
    /// Chat records (second deliveries too) that arrive more than 15 minutes after their event time.
    pub late_chat: u64,
    /// Order and refund records (second deliveries too) that arrive more than 24 hours after their event time.
    pub raised_money: u64,

    /// Buyer messages that are not spam.
    pub buyer_messages: u64,
    /// Spam messages.
    pub spam_messages: u64,
    /// Messages of agents, assisted ones too.
    pub agent_messages: u64,
    /// Messages written by a robot on an agent's behalf.
    pub assisted_messages: u64,
    /// Messages of robots.
    pub robot_messages: u64,
    /// Transfers.
    pub transfers: u64,
    /// Ratings.
    pub ratings: u64,
    /// Rounds that an agent was meant to end: first replies to a buyer's messages.
    pub replied_rounds_planned: u64,

    /// Orders created.
    pub orders_created: u64,
    /// Deposits of presales paid.
    pub deposits_paid: u64,
    /// Orders paid (presales: the balance).
    pub orders_paid: u64,
    /// Sum of the paid orders, in fen.
    pub paid_fen: i64,
    /// Orders closed.
    pub orders_closed: u64,
    /// Created orders that are brushing, whether flagged at once or later.
    pub brushing_orders: u64,
    /// Created orders of buyers who did not talk to the shop for it.
    pub silent_orders: u64,
    /// Refunds requested.
    pub refunds_requested: u64,
    /// Refunds that succeeded.
    pub refunds_succeeded: u64,
    /// Sum of the succeeded refunds, in fen.
    pub refunded_fen: i64,

    /// Conversations begun (spam not counted).
    pub conversations: u64,
    /// Of these, about something the buyer has bought.
    pub conversations_after_sale: u64,
    /// Conversations that ended without an agent having had a part in them.
    pub conversations_robot_only: u64,
    /// Conversations led by a robot in an agent's name.
    pub conversations_assisted: u64,
    /// Conversations that an agent led.
    pub conversations_human: u64,
    /// Conversations in which the buyer's last question got no answer.
    pub conversations_unanswered: u64,
}

impl SimTotals {
    pub(crate) fn add(&mut self, record: &SimRecord, flags: Flags) {
        self.records += 1;
        match record.topic {
            Topic::Chat => self.chat_records += 1,
            Topic::Orders => self.order_records += 1,
            Topic::Refunds => self.refund_records += 1,
        }
        if flags.dead {
            self.dead += 1;
            return;
        }
        let age_ms = record.body.event_time_ms().map_or(0, |at| record.timestamp_ms - at);
        match record.body {
            SimBody::Chat(_) => self.late_chat += u64::from(age_ms > CHAT_LATE_MS),
            _ => self.raised_money += u64::from(age_ms > MONEY_RAISED_MS),
        }
        if flags.duplicate {
            self.duplicates += 1;
            return;
        }
        self.unique_events += 1;
        match &record.body {
            SimBody::Chat(chat) => self.add_chat(chat, flags),
            SimBody::Order(order) => self.add_order(order, flags),
            SimBody::Refund(refund) => self.add_refund(refund),
            SimBody::Raw(_) => {}
        }
    }

    fn add_chat(&mut self, chat: &ChatRecord, flags: Flags) {
        match chat.kind.as_str() {
            "BUYER_MESSAGE" if chat.spam == Some(true) => self.spam_messages += 1,
            "BUYER_MESSAGE" => self.buyer_messages += 1,
            "ROBOT_MESSAGE" => self.robot_messages += 1,
            "AGENT_MESSAGE" => {
                self.agent_messages += 1;
                self.assisted_messages += u64::from(chat.assisted == Some(true));
                self.replied_rounds_planned += u64::from(flags.ends_round);
            }
            "TRANSFER" => self.transfers += 1,
            _ => self.ratings += 1,
        }
    }

    fn add_order(&mut self, order: &OrderRecord, flags: Flags) {
        match order.status.as_str() {
            "CREATED" => {
                self.orders_created += 1;
                self.brushing_orders += u64::from(flags.brushing);
                self.silent_orders += u64::from(flags.silent);
            }
            "DEPOSIT_PAID" => self.deposits_paid += 1,
            "PAID" => {
                self.orders_paid += 1;
                self.paid_fen += order.amount_fen.unwrap_or(0);
            }
            "CLOSED" => self.orders_closed += 1,
            _ => {}
        }
    }

    fn add_refund(&mut self, refund: &RefundRecord) {
        match refund.status.as_str() {
            "REQUESTED" => self.refunds_requested += 1,
            "SUCCEEDED" => {
                self.refunds_succeeded += 1;
                self.refunded_fen += refund.amount_fen.unwrap_or(0);
            }
            _ => {}
        }
    }
}

/// Fen, never negative here, as yuan.
fn yuan(fen: i64) -> String {
    format!("{}.{:02}", fen / 100, fen % 100)
}

impl fmt::Display for SimTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "records         {} (chat {}, orders {}, refunds {}): {} events, {} delivered twice, {} damaged",
            self.records, self.chat_records, self.order_records, self.refund_records, self.unique_events, self.duplicates, self.dead
        )?;
        writeln!(
            f,
            "late            chat {}, orders and refunds {}",
            self.late_chat, self.raised_money
        )?;
        writeln!(
            f,
            "messages        buyers {}, agents {} (assisted {}), robots {}, spam {}, transfers {}, ratings {}",
            self.buyer_messages,
            self.agent_messages,
            self.assisted_messages,
            self.robot_messages,
            self.spam_messages,
            self.transfers,
            self.ratings
        )?;
        writeln!(
            f,
            "conversations   {} (after-sale {}), ended: robot only {}, assisted {}, human {}, unanswered {}; rounds replied {}",
            self.conversations,
            self.conversations_after_sale,
            self.conversations_robot_only,
            self.conversations_assisted,
            self.conversations_human,
            self.conversations_unanswered,
            self.replied_rounds_planned
        )?;
        writeln!(
            f,
            "orders          created {} (silent {}, brushing {}), deposits {}, paid {} ({} yuan), closed {}",
            self.orders_created,
            self.silent_orders,
            self.brushing_orders,
            self.deposits_paid,
            self.orders_paid,
            yuan(self.paid_fen),
            self.orders_closed
        )?;
        write!(
            f,
            "refunds         requested {}, succeeded {} ({} yuan)",
            self.refunds_requested,
            self.refunds_succeeded,
            yuan(self.refunded_fen)
        )
    }
}
