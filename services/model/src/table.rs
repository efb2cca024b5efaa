//! The published tables: their rows, and the Arrow schema and batch of each.
//!
//! Every row carries a [`Stamp`]: under which policy it was computed, whether it is final, when (log time) and where in the log it
//! was published. The row with the highest log position per key is the current one; nothing is ever overwritten.
//!
//! Column names and types are those of `schemas/tables.md`; a golden test there holds them in place.

use crate::alert::AlertRow;
use crate::event::BuyerKey;
use crate::position::LogPosition;
use crate::time::Day;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use columns::{Columns, alerts, buyer_days, late, orders, refunds, rounds, windows};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

mod columns;

/// The tables the scorer fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// One row per reply round.
    ReplyRounds,
    /// One row per order.
    Orders,
    /// One row per refund.
    Refunds,
    /// One row per buyer and day with a valid message.
    BuyerDays,
    /// Figures of an agent per minute, hour and day.
    AgentWindows,
    /// Figures of a shop per minute, hour and day.
    ShopWindows,
    /// Events that came late, were raised, or found their time sealed.
    LateEvents,
    /// Transitions of alerts.
    Alerts,
}

impl Table {
    /// All tables.
    pub const ALL: [Table; 8] = [
        Table::ReplyRounds,
        Table::Orders,
        Table::Refunds,
        Table::BuyerDays,
        Table::AgentWindows,
        Table::ShopWindows,
        Table::LateEvents,
        Table::Alerts,
    ];

    /// Directory and table name.
    pub fn name(self) -> &'static str {
        match self {
            Table::ReplyRounds => "reply_rounds",
            Table::Orders => "orders",
            Table::Refunds => "refunds",
            Table::BuyerDays => "buyer_days",
            Table::AgentWindows => "agent_windows",
            Table::ShopWindows => "shop_windows",
            Table::LateEvents => "late_events",
            Table::Alerts => "alerts",
        }
    }

    /// The columns by which rows of a file are sorted: the key, then the log position.
    pub fn sort_key(self) -> &'static [&'static str] {
        match self {
            Table::ReplyRounds => &["shop_id", "buyer_key", "t0", "seq", "log_offset", "log_index"],
            Table::Orders => &["shop_id", "order_id", "log_offset", "log_index"],
            Table::Refunds => &["shop_id", "refund_id", "log_offset", "log_index"],
            Table::BuyerDays => &["shop_id", "buyer_key", "day", "log_offset", "log_index"],
            Table::AgentWindows => &["shop_id", "agent_id", "grain", "window_start", "log_offset", "log_index"],
            Table::ShopWindows => &["shop_id", "grain", "window_start", "log_offset", "log_index"],
            Table::LateEvents => &["topic", "partition", "generation", "offset", "log_offset", "log_index"],
            Table::Alerts => &["shop_id", "alert_id", "transition", "log_offset", "log_index"],
        }
    }
}

/// What every published row carries besides its figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Profile, and the day from which its version holds, if any: `default` or `peak@2025-11-01`.
    pub policy: Arc<str>,
    /// Whether only corrections can change it; else it is open.
    pub is_final: bool,
    /// Log time at which it was published (ms).
    pub published_at: i64,
    /// The business day under which it is filed.
    pub dt: Day,
    /// Where in the log.
    pub position: LogPosition,
}

/// How a reply round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Outcome {
    Replied,
    Transferred,
    Moved,
    Unanswered,
}

impl Outcome {
    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Replied => "replied",
            Outcome::Transferred => "transferred",
            Outcome::Moved => "moved",
            Outcome::Unanswered => "unanswered",
        }
    }
}

/// A row of `reply_rounds`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RoundRow {
    pub stamp: Stamp,
    pub shop_id: Arc<str>,
    pub buyer: BuyerKey,
    pub t0: i64,
    pub seq: u32,
    pub agent_id: Option<Arc<str>>,
    pub a0: i64,
    pub ended_at: Option<i64>,
    pub outcome: Outcome,
    pub buyer_messages: i64,
    pub latency_customer_ms: Option<i64>,
    pub latency_agent_ms: Option<i64>,
    pub first_in_session: bool,
    pub assessed: bool,
    pub day: Day,
}

/// By which rule an order was credited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum CreditRule {
    BeforeOrder,
    BeforePayment,
    RobotOnly,
    Silent,
    None,
}

impl CreditRule {
    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            CreditRule::BeforeOrder => "before_order",
            CreditRule::BeforePayment => "before_payment",
            CreditRule::RobotOnly => "robot_only",
            CreditRule::Silent => "silent",
            CreditRule::None => "none",
        }
    }
}

/// A row of `orders`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct OrderRow {
    pub stamp: Stamp,
    pub shop_id: Arc<str>,
    pub order_id: Arc<str>,
    pub buyer: BuyerKey,
    pub created_at: i64,
    pub deposit_at: Option<i64>,
    pub deposit_fen: Option<i64>,
    pub paid_at: Option<i64>,
    pub closed_at: Option<i64>,
    pub amount_fen: Option<i64>,
    pub item_count: Option<i64>,
    pub fake: bool,
    pub rule: CreditRule,
    pub agent_id: Option<Arc<str>>,
    pub first_touch_agent: Option<Arc<str>>,
    pub touching_agents: i64,
    pub last_touch_at: Option<i64>,
    pub lag_ms: Option<i64>,
    pub refunded_fen: i64,
    pub created_event_time: Option<i64>,
    pub paid_event_time: Option<i64>,
    pub closed_event_time: Option<i64>,
}

/// A row of `refunds`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RefundRow {
    pub stamp: Stamp,
    pub shop_id: Arc<str>,
    pub refund_id: Arc<str>,
    pub order_id: Arc<str>,
    pub buyer: BuyerKey,
    pub agent_id: Option<Arc<str>>,
    pub requested_at: Option<i64>,
    pub succeeded_at: Option<i64>,
    pub ended_at: Option<i64>,
    pub requested_fen: Option<i64>,
    pub amount_fen: Option<i64>,
    pub reason: Option<&'static str>,
    pub phase: Option<&'static str>,
    pub requested_event_time: Option<i64>,
    pub succeeded_event_time: Option<i64>,
}

/// A row of `buyer_days`. `flags` are ordered_1d..3d, paid_1d..3d, deposit_1d..3d, net_paid_3d.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BuyerDayRow {
    pub stamp: Stamp,
    pub shop_id: Arc<str>,
    pub buyer: BuyerKey,
    pub day: Day,
    pub first_at: i64,
    pub open_after_sale: bool,
    pub is_inquiry: bool,
    pub flags: [bool; 10],
}

/// The length of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Grain {
    Minute,
    Hour,
    Day,
}

impl Grain {
    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Grain::Minute => "minute",
            Grain::Hour => "hour",
            Grain::Day => "day",
        }
    }
}

/// Stands for null among the figures of a [`WindowRow`].
pub const NULL: i64 = i64::MIN;

/// A row of `agent_windows` (with an agent) or `shop_windows` (without).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct WindowRow {
    pub stamp: Stamp,
    pub shop_id: Arc<str>,
    pub agent_id: Option<Arc<str>>,
    pub grain: Grain,
    pub window_start: i64,
    /// One value per name of [`FIGURES`]; [`NULL`] where the figure is not defined.
    pub values: Box<[i64; FIGURES.len()]>,
}

/// Figures of a window, in the order of [`WindowRow::values`]; the scope for which each is published.
pub const FIGURES: [(&str, Scope); 63] = {
    use Scope::{Both, Shop};
    [
        ("rounds", Both),
        ("replied", Both),
        ("transferred", Scope::Agent),
        ("unanswered", Both),
        ("replied_within_30s", Both),
        ("replied_within_60s", Both),
        ("replied_within_180s", Both),
        ("replied_within_300s", Both),
        ("latency_sum_ms", Both),
        ("latency_capped_sum_ms", Both),
        ("first_rounds", Both),
        ("first_replied", Both),
        ("first_latency_sum_ms", Both),
        ("assessed_rounds", Both),
        ("assessed_replied_within_180s", Both),
        ("assessed_replied_within_300s", Both),
        ("latency_max_ms", Both),
        ("latency_p50_ms", Both),
        ("latency_p90_ms", Both),
        ("latency_p95_ms", Both),
        ("latency_p99_ms", Both),
        ("buyer_messages", Both),
        ("agent_messages", Both),
        ("assisted_messages", Both),
        ("robot_messages", Shop),
        ("spam_messages", Shop),
        ("consulting_buyers", Both),
        ("received_buyers", Both),
        ("inquiry_buyers", Both),
        ("after_sale_buyers", Both),
        ("ordered_1d", Both),
        ("ordered_2d", Both),
        ("ordered_3d", Both),
        ("paid_1d", Both),
        ("paid_2d", Both),
        ("paid_3d", Both),
        ("deposit_1d", Both),
        ("deposit_2d", Both),
        ("deposit_3d", Both),
        ("net_paid_3d", Both),
        ("orders_paid", Both),
        ("items_paid", Both),
        ("gross_fen", Both),
        ("silent_orders", Shop),
        ("silent_fen", Shop),
        ("robot_only_orders", Shop),
        ("orders_created", Both),
        ("deposits_paid", Both),
        ("deposit_fen", Both),
        ("refunds", Both),
        ("refund_fen", Both),
        ("paying_buyers", Both),
        ("refunded_of_cohort_fen", Both),
        ("net_fen", Both),
        ("refund_requests", Shop),
        ("refunds_within_promise", Shop),
        ("refund_promise_decided", Shop),
        ("refund_requests_ended", Shop),
        ("ratings_1", Both),
        ("ratings_2", Both),
        ("ratings_3", Both),
        ("ratings_4", Both),
        ("ratings_5", Both),
    ]
};

/// Where a figure is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Agents only.
    Agent,
    /// The shop only.
    Shop,
    /// Both.
    Both,
}

impl Scope {
    /// Whether a figure of this scope is a column of the shop's (else the agents') table.
    pub fn covers(self, shop: bool) -> bool {
        match self {
            Scope::Both => true,
            Scope::Shop => shop,
            Scope::Agent => !shop,
        }
    }
}

/// A row of `late_events`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LateRow {
    pub stamp: Stamp,
    pub topic: &'static str,
    pub partition: i32,
    pub generation: i32,
    pub offset: i64,
    pub reason: &'static str,
    pub shop_id: Arc<str>,
    pub event_id: Arc<str>,
    pub kind: &'static str,
    pub event_time: i64,
    pub clock: i64,
}

/// Rows of all tables, in the order in which they were published.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Rows {
    pub reply_rounds: Vec<RoundRow>,
    pub orders: Vec<OrderRow>,
    pub refunds: Vec<RefundRow>,
    pub buyer_days: Vec<BuyerDayRow>,
    pub agent_windows: Vec<WindowRow>,
    pub shop_windows: Vec<WindowRow>,
    pub late_events: Vec<LateRow>,
    pub alerts: Vec<AlertRow>,
}

impl Rows {
    /// Number of rows of all tables.
    pub fn len(&self) -> usize {
        self.reply_rounds.len()
            + self.orders.len()
            + self.refunds.len()
            + self.buyer_days.len()
            + self.agent_windows.len()
            + self.shop_windows.len()
            + self.late_events.len()
            + self.alerts.len()
    }

    /// No row at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds another's rows behind these.
    pub fn append(&mut self, mut other: Rows) {
        self.reply_rounds.append(&mut other.reply_rounds);
        self.orders.append(&mut other.orders);
        self.refunds.append(&mut other.refunds);
        self.buyer_days.append(&mut other.buyer_days);
        self.agent_windows.append(&mut other.agent_windows);
        self.shop_windows.append(&mut other.shop_windows);
        self.late_events.append(&mut other.late_events);
        self.alerts.append(&mut other.alerts);
    }

    /// Turns the rows into one batch per table that has any; `log_partition` is the partition they came from.
    pub fn to_batches(&self, log_partition: i32) -> Result<Vec<(Table, RecordBatch)>, ArrowError> {
        let mut out = Vec::new();
        let mut add = |table: Table, len: usize, columns: Columns| -> Result<(), ArrowError> {
            if len > 0 {
                out.push((table, columns.finish()?));
            }
            Ok(())
        };
        add(
            Table::ReplyRounds,
            self.reply_rounds.len(),
            rounds(&self.reply_rounds, log_partition),
        )?;
        add(Table::Orders, self.orders.len(), orders(&self.orders, log_partition))?;
        add(Table::Refunds, self.refunds.len(), refunds(&self.refunds, log_partition))?;
        add(Table::BuyerDays, self.buyer_days.len(), buyer_days(&self.buyer_days, log_partition))?;
        add(
            Table::AgentWindows,
            self.agent_windows.len(),
            windows(&self.agent_windows, false, log_partition),
        )?;
        add(
            Table::ShopWindows,
            self.shop_windows.len(),
            windows(&self.shop_windows, true, log_partition),
        )?;
        add(Table::LateEvents, self.late_events.len(), late(&self.late_events, log_partition))?;
        add(Table::Alerts, self.alerts.len(), alerts(&self.alerts, log_partition))?;
        Ok(out)
    }
}

/// The schema of a table as it travels and as it lies in Parquet (there without `dt`, which is the directory).
pub fn schema(table: Table) -> SchemaRef {
    let columns = match table {
        Table::ReplyRounds => rounds(&[], 0),
        Table::Orders => orders(&[], 0),
        Table::Refunds => refunds(&[], 0),
        Table::BuyerDays => buyer_days(&[], 0),
        Table::AgentWindows => windows(&[], false, 0),
        Table::ShopWindows => windows(&[], true, 0),
        Table::LateEvents => late(&[], 0),
        Table::Alerts => alerts(&[], 0),
    };
    Arc::new(Schema::new(columns.fields))
}

/// The flags of a buyer's day, in the order of [`BuyerDayRow::flags`].
pub const DAY_FLAGS: [&str; 10] = [
    "ordered_1d",
    "ordered_2d",
    "ordered_3d",
    "paid_1d",
    "paid_2d",
    "paid_3d",
    "deposit_1d",
    "deposit_2d",
    "deposit_3d",
    "net_paid_3d",
];
