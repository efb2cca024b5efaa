//! Validated events: what intake lets through, and the only thing the scorer ever reads.
//!
//! An [`Event`] borrows its texts, either from the record intake has just decoded or from the Arrow batch of a frame, so
//! that no event on the hot path owns a string. Whatever is in an `Event` has passed the dead-letter tests: ids are not
//! empty, amounts are in range, enum values are known.

use crate::position::SourcePosition;
use smallvec::SmallVec;

/// A buyer, as it is known behind intake: the first 16 bytes of a keyed BLAKE3 hash over `shop_id 0x1F buyer_id`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct BuyerKey(pub [u8; 16]);

impl BuyerKey {
    /// Hashes a buyer id; `key` is the deployment's secret.
    pub fn new(key: &[u8; 32], shop_id: &str, buyer_id: &str) -> Self {
        // In one piece: a hasher that is fed piece by piece costs three times as much.
        let mut text: SmallVec<[u8; 64]> = SmallVec::from_slice(shop_id.as_bytes());
        text.push(0x1f);
        text.extend_from_slice(buyer_id.as_bytes());
        let mut out = [0; 16];
        out.copy_from_slice(&blake3::keyed_hash(key, &text).as_bytes()[..16]);
        BuyerKey(out)
    }

    /// Lower-case hexadecimal, 32 characters: the form in which it is published.
    pub fn to_hex(self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(32);
        for b in self.0 {
            text.push(DIGITS[usize::from(b >> 4)] as char);
            text.push(DIGITS[usize::from(b & 15)] as char);
        }
        text
    }
}

impl std::fmt::Debug for BuyerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// The kind of a chat event, the status of an order event or the status of a refund event; the number is its rank in the
/// order of events, and its code in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    BuyerMessage = 0,
    RobotMessage = 1,
    AgentMessage = 2,
    Transfer = 3,
    Rating = 4,
    OrderCreated = 10,
    OrderDepositPaid = 11,
    OrderPaid = 12,
    OrderShipped = 13,
    OrderCompleted = 14,
    OrderClosed = 15,
    RefundRequested = 20,
    RefundAgreed = 21,
    RefundRefused = 22,
    RefundSucceeded = 23,
    RefundClosed = 24,
}

impl Kind {
    /// All kinds, in order of rank.
    pub const ALL: [Kind; 16] = [
        Kind::BuyerMessage,
        Kind::RobotMessage,
        Kind::AgentMessage,
        Kind::Transfer,
        Kind::Rating,
        Kind::OrderCreated,
        Kind::OrderDepositPaid,
        Kind::OrderPaid,
        Kind::OrderShipped,
        Kind::OrderCompleted,
        Kind::OrderClosed,
        Kind::RefundRequested,
        Kind::RefundAgreed,
        Kind::RefundRefused,
        Kind::RefundSucceeded,
        Kind::RefundClosed,
    ];

    /// The code used in frames, if it is one.
    pub fn from_code(code: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| *k as u8 == code)
    }

    /// The name in the input (`kind` of chat, `status` of orders and refunds).
    pub fn name(self) -> &'static str {
        match self {
            Kind::BuyerMessage => "BUYER_MESSAGE",
            Kind::RobotMessage => "ROBOT_MESSAGE",
            Kind::AgentMessage => "AGENT_MESSAGE",
            Kind::Transfer => "TRANSFER",
            Kind::Rating => "RATING",
            Kind::OrderCreated => "CREATED",
            Kind::OrderDepositPaid => "DEPOSIT_PAID",
            Kind::OrderPaid => "PAID",
            Kind::OrderShipped => "SHIPPED",
            Kind::OrderCompleted => "COMPLETED",
            Kind::OrderClosed => "CLOSED",
            Kind::RefundRequested => "REQUESTED",
            Kind::RefundAgreed => "AGREED",
            Kind::RefundRefused => "REFUSED",
            Kind::RefundSucceeded => "SUCCEEDED",
            Kind::RefundClosed => "CLOSED",
        }
    }

    /// Chat events: messages, transfers, ratings.
    pub fn is_chat(self) -> bool {
        (self as u8) < 10
    }

    /// Order events.
    pub fn is_order(self) -> bool {
        (10..20).contains(&(self as u8))
    }

    /// Refund events.
    pub fn is_refund(self) -> bool {
        (self as u8) >= 20
    }
}

/// What a robot said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum RobotKind {
    /// A greeting: answers nothing.
    Welcome = 0,
    /// A canned answer to a keyword: answers nothing.
    Keyword = 1,
    /// A full answer: ends an unanswered wait that no human holds.
    #[default]
    Full = 2,
}

/// Why a refund was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum RefundReason {
    Quality = 0,
    NotAsDescribed = 1,
    OutOfStock = 2,
    Size = 3,
    NoReason = 4,
    Other = 5,
}

/// At what stage of the order a refund was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum RefundPhase {
    BeforeShipment = 0,
    AfterShipment = 1,
    AfterReceipt = 2,
}

macro_rules! coded {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// The value with this code (as in frames), if there is one.
            pub fn from_code(code: u8) -> Option<Self> {
                [$($type::$variant),+].into_iter().find(|v| *v as u8 == code)
            }

            /// The value with this name (as in the input), if there is one.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some($type::$variant),)+
                    _ => None,
                }
            }

            /// The name in the input and in the tables.
            pub fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)+
                }
            }
        }
    };
}

coded!(RobotKind { Welcome = "WELCOME", Keyword = "KEYWORD", Full = "FULL" });
coded!(RefundReason {
    Quality = "QUALITY",
    NotAsDescribed = "NOT_AS_DESCRIBED",
    OutOfStock = "OUT_OF_STOCK",
    Size = "SIZE",
    NoReason = "NO_REASON",
    Other = "OTHER",
});
coded!(RefundPhase {
    BeforeShipment = "BEFORE_SHIPMENT",
    AfterShipment = "AFTER_SHIPMENT",
    AfterReceipt = "AFTER_RECEIPT",
});

/// One validated event. Which of the optional fields are set follows from `kind`: intake sets those the kind uses
/// and leaves the rest at their defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Where it was read.
    pub source: SourcePosition,
    /// The running maximum of arrival times of its source partition, this record included (ms).
    pub clock: i64,
    /// When it happened, as the producer says (ms).
    pub event_time: i64,
    /// Kind or status.
    pub kind: Kind,
    /// The shop.
    pub shop_id: &'a str,
    /// Unique within the shop, but for redelivery.
    pub event_id: &'a str,
    /// The buyer.
    pub buyer: BuyerKey,
    /// Chat: addressee, sender, giver or rated agent.
    pub agent_id: Option<&'a str>,
    /// TRANSFER: receiver.
    pub to_agent_id: Option<&'a str>,
    /// BUYER_MESSAGE: to be ignored.
    pub spam: bool,
    /// AGENT_MESSAGE: written by a robot for a human.
    pub assisted: bool,
    /// RATING: 1 to 5, else 0.
    pub rating: u8,
    /// ROBOT_MESSAGE: what it was.
    pub robot_kind: RobotKind,
    /// Order and refund events.
    pub order_id: Option<&'a str>,
    /// Refund events.
    pub refund_id: Option<&'a str>,
    /// CREATED, DEPOSIT_PAID, PAID; REQUESTED, SUCCEEDED. In fen.
    pub amount_fen: Option<i64>,
    /// CREATED, PAID.
    pub item_count: Option<i64>,
    /// Any order event that gives it (ms).
    pub order_created_at: Option<i64>,
    /// Any order event: brushing.
    pub fake: bool,
    /// Any refund event that gives it.
    pub reason: Option<RefundReason>,
    /// Any refund event that gives it.
    pub phase: Option<RefundPhase>,
}

impl<'a> Event<'a> {
    /// An event with the fields every kind has, all others at their defaults.
    pub fn new(
        source: SourcePosition,
        clock: i64,
        event_time: i64,
        kind: Kind,
        shop_id: &'a str,
        event_id: &'a str,
        buyer: BuyerKey,
    ) -> Self {
        Event {
            source,
            clock,
            event_time,
            kind,
            shop_id,
            event_id,
            buyer,
            agent_id: None,
            to_agent_id: None,
            spam: false,
            assisted: false,
            rating: 0,
            robot_kind: RobotKind::Full,
            order_id: None,
            refund_id: None,
            amount_fen: None,
            item_count: None,
            order_created_at: None,
            fake: false,
            reason: None,
            phase: None,
        }
    }
}

/// Why a record became a dead letter, in the order in which the tests are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum DeadReason {
    BadTimestamp,
    Undecodable,
    BadId,
    MissingField,
    BadValue,
    Future,
    TooOld,
}

impl DeadReason {
    /// All reasons, in the order of the tests.
    pub const ALL: [DeadReason; 7] = [
        DeadReason::BadTimestamp,
        DeadReason::Undecodable,
        DeadReason::BadId,
        DeadReason::MissingField,
        DeadReason::BadValue,
        DeadReason::Future,
        DeadReason::TooOld,
    ];

    /// The name in the `dead_letters` table and in the dead-letter topic's headers.
    pub fn name(self) -> &'static str {
        match self {
            DeadReason::BadTimestamp => "bad_timestamp",
            DeadReason::Undecodable => "undecodable",
            DeadReason::BadId => "bad_id",
            DeadReason::MissingField => "missing_field",
            DeadReason::BadValue => "bad_value",
            DeadReason::Future => "future",
            DeadReason::TooOld => "too_old",
        }
    }
}
