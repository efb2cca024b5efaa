//! Live figures: the newest state of shops and agents, for people who watch.
//!
//! Each message of the topic `live` is the latest value of its key, as JSON; the topic is compacted. It is best effort: nothing
//! final is ever computed from it, and what is lost is replaced by the next value. Keys are texts joined by 0x1F:
//!
//! | key | value | sent |
//! | --- | --- | --- |
//! | `shop` ␟ shop | [`ShopLive`] | every second, changed or not: it tells how old everything else is |
//! | `agent` ␟ shop ␟ agent | [`AgentLive`] | when it has changed |
//! | `detail` ␟ shop ␟ agent | [`AgentDetail`] | when it has changed, at most every 2 s |
//! | `curve` ␟ shop ␟ start of the hour (ms) | [`Curve`] | when it has changed |
//!
//! All times are milliseconds since the Unix epoch of log time, but for `sent_wall_ms`, which is the clock of the machine. An agent is what
//! the platform names a sub-account. Figures carry the names of the columns of `agent_windows` and `shop_windows`; those that
//! are 0 are left out, and so are those that are not defined.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Separates the parts of a key.
pub const KEY_SEPARATOR: char = '\u{1f}';

/// Figures by the names of their columns; an absent one is 0 (or, for `latency_max_ms`, percentiles: there is none).
pub type Figures = BTreeMap<String, i64>;

/// What a message is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LiveKey {
    /// A shop.
    Shop {
        /// Its id.
        shop: String,
    },
    /// An agent's figures.
    Agent {
        /// Shop.
        shop: String,
        /// Agent.
        agent: String,
    },
    /// An agent's day in detail.
    Detail {
        /// Shop.
        shop: String,
        /// Agent.
        agent: String,
    },
    /// The minutes of an hour of a shop.
    Curve {
        /// Shop.
        shop: String,
        /// Start of the hour (ms).
        hour: i64,
    },
}

impl LiveKey {
    /// The text of a message key. Ids hold no control characters, so that the separator is never part of one.
    pub fn encode(&self) -> String {
        match self {
            LiveKey::Shop { shop } => format!("shop\u{1f}{shop}"),
            LiveKey::Agent { shop, agent } => format!("agent\u{1f}{shop}\u{1f}{agent}"),
            LiveKey::Detail { shop, agent } => format!("detail\u{1f}{shop}\u{1f}{agent}"),
            LiveKey::Curve { shop, hour } => format!("curve\u{1f}{shop}\u{1f}{hour}"),
        }
    }

    /// Reads the text of a message key.
    pub fn decode(text: &str) -> Option<LiveKey> {
        let parts: Vec<&str> = text.split(KEY_SEPARATOR).collect();
        Some(match parts[..] {
            ["shop", shop] => LiveKey::Shop { shop: shop.into() },
            ["agent", shop, agent] => LiveKey::Agent {
                shop: shop.into(),
                agent: agent.into(),
            },
            ["detail", shop, agent] => LiveKey::Detail {
                shop: shop.into(),
                agent: agent.into(),
            },
            ["curve", shop, hour] => LiveKey::Curve {
                shop: shop.into(),
                hour: hour.parse().ok()?,
            },
            _ => return None,
        })
    }
}

/// Who waits now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Buyers with an open wait (for a shop: unassigned questions too).
    pub buyers: u32,
    /// Those of them who wait for 180 s or more.
    pub over_180s: u32,
    /// When the oldest of them began to wait; a running clock counts from here to the present log time.
    pub oldest_since: Option<i64>,
}

/// A shop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShopLive {
    /// Shop.
    pub shop_id: String,
    /// Log time of these figures.
    pub at: i64,
    /// Up to when everything is known.
    pub complete_until: Option<i64>,
    /// Whether the pipeline has caught up: the source partitions and the log are read to their ends.
    pub caught_up: bool,
    /// The machine's clock when this was sent.
    pub sent_wall_ms: i64,
    /// Business day of `figures`, YYYY-MM-DD.
    pub day: String,
    /// Its start.
    pub day_start: i64,
    /// Minutes by which local time is ahead of UTC.
    pub utc_offset_minutes: i32,
    /// Who waits now.
    pub waiting: Waiting,
    /// The shop's figures of the day so far.
    pub figures: Figures,
    /// Figures by hour of the day so far, ascending; hours without any are left out.
    pub hours: Vec<HourFigures>,
    /// The same of the day before, if it is known.
    pub yesterday: Vec<HourFigures>,
}

/// Figures of one hour.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourFigures {
    /// Start of the hour.
    pub start: i64,
    /// Its figures.
    pub figures: Figures,
}

/// An agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentLive {
    /// Shop.
    pub shop_id: String,
    /// Agent.
    pub agent_id: String,
    /// Log time of these figures.
    pub at: i64,
    /// The machine's clock when this was sent.
    #[serde(default)]
    pub sent_wall_ms: i64,
    /// Business day of `figures`, YYYY-MM-DD.
    pub day: String,
    /// Who waits for this agent now.
    pub waiting: Waiting,
    /// The agent's figures of the day so far.
    pub figures: Figures,
}

/// An agent's day in detail.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentDetail {
    /// Shop.
    pub shop_id: String,
    /// Agent.
    pub agent_id: String,
    /// Log time of this.
    pub at: i64,
    /// Business day, YYYY-MM-DD.
    pub day: String,
    /// Figures by hour of the day so far, ascending; hours without any are left out.
    pub hours: Vec<HourFigures>,
    /// The newest rounds of the day that were not answered within 180 s, newest first; at most 100.
    pub missed: Vec<MissedRound>,
    /// The newest orders of the day credited to the agent, newest first; at most 100.
    pub orders: Vec<CreditedOrder>,
}

/// A round that was not answered within 180 s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedRound {
    /// The buyer, as in the tables.
    pub buyer_key: String,
    /// When the buyer began to wait.
    pub t0: i64,
    /// When the agent's clock began.
    pub a0: i64,
    /// When it was answered or handed over.
    pub ended_at: Option<i64>,
    /// `replied`, `transferred`, `unanswered`.
    pub outcome: String,
}

/// An order credited to an agent, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreditedOrder {
    /// Order.
    pub order_id: String,
    /// The buyer, as in the tables.
    pub buyer_key: String,
    /// When it was created.
    pub created_at: i64,
    /// When it was paid.
    pub paid_at: Option<i64>,
    /// What was (or is to be) paid, in fen.
    pub amount_fen: Option<i64>,
    /// What was paid back, in fen.
    pub refunded_fen: i64,
    /// `before_order` or `before_payment`.
    pub rule: String,
    /// The deciding touch: the agent's last reply before.
    pub last_touch_at: Option<i64>,
    /// From that touch to the order (or payment), ms.
    pub lag_ms: Option<i64>,
    /// Who touched the buyer first.
    pub first_touch_agent: Option<String>,
    /// How many agents touched the buyer.
    pub touching_agents: i64,
    /// Brushed: counts for nothing.
    pub fake: bool,
}

/// The minutes of an hour of a shop that had anything, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Curve {
    /// Shop.
    pub shop_id: String,
    /// Start of the hour.
    pub hour: i64,
    /// Log time of this.
    pub at: i64,
    /// Minutes of the hour (0 to 59).
    pub minutes: Vec<CurvePoint>,
}

/// What one minute of a shop held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Minute of the hour.
    pub minute: u8,
    /// Buyers whose first message of the day came in it.
    pub consulting_buyers: i64,
    /// Messages of buyers.
    pub buyer_messages: i64,
    /// Orders paid.
    pub orders_paid: i64,
    /// What was paid, in fen.
    pub gross_fen: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lead_back() {
        let (shop, agent) = (String::from("s1"), String::from("店:阿一"));
        for key in [
            LiveKey::Shop { shop: shop.clone() },
            LiveKey::Agent {
                shop: shop.clone(),
                agent: agent.clone(),
            },
            LiveKey::Detail { shop: shop.clone(), agent },
            LiveKey::Curve { shop, hour: 7 },
        ] {
            assert_eq!(LiveKey::decode(&key.encode()), Some(key));
        }
        assert_eq!(LiveKey::decode("shop"), None);
        assert_eq!(LiveKey::decode("curve\u{1f}s\u{1f}x"), None);
    }
}
