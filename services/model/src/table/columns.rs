//! Rows into Arrow columns, a function per table.

use super::{BuyerDayRow, DAY_FLAGS, FIGURES, LateRow, NULL, OrderRow, RefundRow, RoundRow, Stamp, WindowRow};
use crate::alert::AlertRow;
use crate::event::BuyerKey;
use crate::time::Day;
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array,
};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use std::sync::Arc;

/// Columns under construction.
pub(super) struct Columns {
    pub(super) fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    fn new() -> Self {
        Columns {
            fields: Vec::new(),
            arrays: Vec::new(),
        }
    }

    fn push(&mut self, name: &str, nullable: bool, array: ArrayRef) {
        self.fields.push(Field::new(name, array.data_type().clone(), nullable));
        self.arrays.push(array);
    }

    fn text<'a>(&mut self, name: &str, values: impl Iterator<Item = &'a str>) {
        self.push(name, false, Arc::new(StringArray::from_iter_values(values)));
    }

    fn text_or_null<'a>(&mut self, name: &str, values: impl Iterator<Item = Option<&'a str>>) {
        self.push(name, true, Arc::new(StringArray::from_iter(values)));
    }

    fn time(&mut self, name: &str, values: impl Iterator<Item = i64>) {
        self.push(
            name,
            false,
            Arc::new(TimestampMillisecondArray::from_iter_values(values).with_timezone("UTC")),
        );
    }

    fn time_or_null(&mut self, name: &str, values: impl Iterator<Item = Option<i64>>) {
        self.push(
            name,
            true,
            Arc::new(TimestampMillisecondArray::from_iter(values).with_timezone("UTC")),
        );
    }

    fn int(&mut self, name: &str, values: impl Iterator<Item = i64>) {
        self.push(name, false, Arc::new(Int64Array::from_iter_values(values)));
    }

    fn int_or_null(&mut self, name: &str, values: impl Iterator<Item = Option<i64>>) {
        self.push(name, true, Arc::new(Int64Array::from_iter(values)));
    }

    fn flag(&mut self, name: &str, values: impl Iterator<Item = bool>) {
        self.push(name, false, Arc::new(BooleanArray::from_iter(values.map(Some))));
    }

    fn date(&mut self, name: &str, values: impl Iterator<Item = Day>) {
        self.push(name, false, Arc::new(Date32Array::from_iter_values(values)));
    }

    fn small(&mut self, name: &str, values: impl Iterator<Item = i32>) {
        self.push(name, false, Arc::new(Int32Array::from_iter_values(values)));
    }

    fn stamp<'a>(&mut self, stamps: impl Iterator<Item = &'a Stamp> + Clone, log_partition: i32) {
        self.text("policy", stamps.clone().map(|s| &*s.policy));
        self.text("maturity", stamps.clone().map(|s| if s.is_final { "final" } else { "open" }));
        self.time("published_at", stamps.clone().map(|s| s.published_at));
        self.small("log_partition", stamps.clone().map(|_| log_partition));
        self.int("log_offset", stamps.clone().map(|s| s.position.offset));
        self.push(
            "log_index",
            false,
            Arc::new(UInt32Array::from_iter_values(stamps.clone().map(|s| s.position.index))),
        );
        self.date("dt", stamps.map(|s| s.dt));
    }

    pub(super) fn finish(self) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.arrays)
    }
}

fn hex_column(columns: &mut Columns, keys: impl Iterator<Item = BuyerKey>) {
    columns.push(
        "buyer_key",
        false,
        Arc::new(StringArray::from_iter_values(keys.map(BuyerKey::to_hex))),
    );
}

pub(super) fn rounds(rows: &[RoundRow], log_partition: i32) -> Columns {
    let mut c = Columns::new();
    c.text("shop_id", rows.iter().map(|r| &*r.shop_id));
    hex_column(&mut c, rows.iter().map(|r| r.buyer));
    c.time("t0", rows.iter().map(|r| r.t0));
    c.int("seq", rows.iter().map(|r| i64::from(r.seq)));
    c.text_or_null("agent_id", rows.iter().map(|r| r.agent_id.as_deref()));
    c.time("a0", rows.iter().map(|r| r.a0));
    c.time_or_null("ended_at", rows.iter().map(|r| r.ended_at));
    c.text("outcome", rows.iter().map(|r| r.outcome.name()));
    c.int("buyer_messages", rows.iter().map(|r| r.buyer_messages));
    c.int_or_null("latency_customer_ms", rows.iter().map(|r| r.latency_customer_ms));
    c.int_or_null("latency_agent_ms", rows.iter().map(|r| r.latency_agent_ms));
    c.flag("first_in_session", rows.iter().map(|r| r.first_in_session));
    c.flag("assessed", rows.iter().map(|r| r.assessed));
    c.date("day", rows.iter().map(|r| r.day));
    c.stamp(rows.iter().map(|r| &r.stamp), log_partition);
    c
}

pub(super) fn orders(rows: &[OrderRow], log_partition: i32) -> Columns {
    let mut c = Columns::new();
    c.text("shop_id", rows.iter().map(|r| &*r.shop_id));
    c.text("order_id", rows.iter().map(|r| &*r.order_id));
    hex_column(&mut c, rows.iter().map(|r| r.buyer));
    c.time("created_at", rows.iter().map(|r| r.created_at));
    c.time_or_null("deposit_at", rows.iter().map(|r| r.deposit_at));
    c.int_or_null("deposit_fen", rows.iter().map(|r| r.deposit_fen));
    c.time_or_null("paid_at", rows.iter().map(|r| r.paid_at));
    c.time_or_null("closed_at", rows.iter().map(|r| r.closed_at));
    c.int_or_null("amount_fen", rows.iter().map(|r| r.amount_fen));
    c.int_or_null("item_count", rows.iter().map(|r| r.item_count));
    c.flag("fake", rows.iter().map(|r| r.fake));
    c.text("rule", rows.iter().map(|r| r.rule.name()));
    c.text_or_null("agent_id", rows.iter().map(|r| r.agent_id.as_deref()));
    c.text_or_null("first_touch_agent", rows.iter().map(|r| r.first_touch_agent.as_deref()));
    c.int("touching_agents", rows.iter().map(|r| r.touching_agents));
    c.time_or_null("last_touch_at", rows.iter().map(|r| r.last_touch_at));
    c.int_or_null("lag_ms", rows.iter().map(|r| r.lag_ms));
    c.int("refunded_fen", rows.iter().map(|r| r.refunded_fen));
    c.time_or_null("created_event_time", rows.iter().map(|r| r.created_event_time));
    c.time_or_null("paid_event_time", rows.iter().map(|r| r.paid_event_time));
    c.time_or_null("closed_event_time", rows.iter().map(|r| r.closed_event_time));
    c.stamp(rows.iter().map(|r| &r.stamp), log_partition);
    c
}

pub(super) fn refunds(rows: &[RefundRow], log_partition: i32) -> Columns {
    let mut c = Columns::new();
    c.text("shop_id", rows.iter().map(|r| &*r.shop_id));
    c.text("refund_id", rows.iter().map(|r| &*r.refund_id));
    c.text("order_id", rows.iter().map(|r| &*r.order_id));
    hex_column(&mut c, rows.iter().map(|r| r.buyer));
    c.text_or_null("agent_id", rows.iter().map(|r| r.agent_id.as_deref()));
    c.time_or_null("requested_at", rows.iter().map(|r| r.requested_at));
    c.time_or_null("succeeded_at", rows.iter().map(|r| r.succeeded_at));
    c.time_or_null("ended_at", rows.iter().map(|r| r.ended_at));
    c.int_or_null("requested_fen", rows.iter().map(|r| r.requested_fen));
    c.int_or_null("amount_fen", rows.iter().map(|r| r.amount_fen));
    c.text_or_null("reason", rows.iter().map(|r| r.reason));
    c.text_or_null("phase", rows.iter().map(|r| r.phase));
    c.time_or_null("requested_event_time", rows.iter().map(|r| r.requested_event_time));
    c.time_or_null("succeeded_event_time", rows.iter().map(|r| r.succeeded_event_time));
    c.stamp(rows.iter().map(|r| &r.stamp), log_partition);
    c
}

pub(super) fn buyer_days(rows: &[BuyerDayRow], log_partition: i32) -> Columns {
    let mut c = Columns::new();
    c.text("shop_id", rows.iter().map(|r| &*r.shop_id));
    hex_column(&mut c, rows.iter().map(|r| r.buyer));
    c.date("day", rows.iter().map(|r| r.day));
    c.time("first_at", rows.iter().map(|r| r.first_at));
    c.flag("open_after_sale", rows.iter().map(|r| r.open_after_sale));
    c.text("class", rows.iter().map(|r| if r.is_inquiry { "INQUIRY" } else { "AFTERSALE" }));
    for (i, name) in DAY_FLAGS.iter().enumerate() {
        c.flag(name, rows.iter().map(|r| r.flags[i]));
    }
    c.stamp(rows.iter().map(|r| &r.stamp), log_partition);
    c
}

pub(super) fn windows(rows: &[WindowRow], shop: bool, log_partition: i32) -> Columns {
    let mut c = Columns::new();
    c.text("shop_id", rows.iter().map(|r| &*r.shop_id));
    if !shop {
        c.text("agent_id", rows.iter().map(|r| r.agent_id.as_deref().unwrap_or("")));
    }
    c.text("grain", rows.iter().map(|r| r.grain.name()));
    c.time("window_start", rows.iter().map(|r| r.window_start));
    for (i, (name, scope)) in FIGURES.iter().enumerate() {
        if scope.covers(shop) {
            c.int_or_null(name, rows.iter().map(|r| Some(r.values[i]).filter(|v| *v != NULL)));
        }
    }
    c.stamp(rows.iter().map(|r| &r.stamp), log_partition);
    c
}

pub(super) fn late(rows: &[LateRow], log_partition: i32) -> Columns {
    let mut c = Columns::new();
    c.text("topic", rows.iter().map(|r| r.topic));
    c.small("partition", rows.iter().map(|r| r.partition));
    c.small("generation", rows.iter().map(|r| r.generation));
    c.int("offset", rows.iter().map(|r| r.offset));
    c.text("reason", rows.iter().map(|r| r.reason));
    c.text("shop_id", rows.iter().map(|r| &*r.shop_id));
    c.text("event_id", rows.iter().map(|r| &*r.event_id));
    c.text("kind", rows.iter().map(|r| r.kind));
    c.time("event_time", rows.iter().map(|r| r.event_time));
    c.time("clock", rows.iter().map(|r| r.clock));
    c.stamp(rows.iter().map(|r| &r.stamp), log_partition);
    c
}

pub(super) fn alerts(rows: &[AlertRow], log_partition: i32) -> Columns {
    let mut c = Columns::new();
    c.text("alert_id", rows.iter().map(|r| &*r.alert_id));
    c.small("transition", rows.iter().map(|r| r.transition as i32));
    c.text("kind", rows.iter().map(|r| r.kind.name()));
    c.text("rule", rows.iter().map(|r| r.rule.name()));
    c.text("shop_id", rows.iter().map(|r| &*r.shop_id));
    c.text_or_null("agent_id", rows.iter().map(|r| r.agent_id.as_deref()));
    c.text("severity", rows.iter().map(|r| r.severity.name()));
    c.int("value_num", rows.iter().map(|r| r.value_num));
    c.int("value_den", rows.iter().map(|r| r.value_den));
    c.time("onset", rows.iter().map(|r| r.onset));
    c.time("at", rows.iter().map(|r| r.at));
    c.text("evidence", rows.iter().map(|r| &*r.evidence));
    c.stamp(rows.iter().map(|r| &r.stamp), log_partition);
    c
}
