"""Names, keys and types of the published tables, shared by the oracle and the comparison.

A column's type is one of `text`, `int` (times in ms, money in fen, counts), `bool`, `day` and `bytes`. Policy, maturity, publication
time and log position are no part of this: they belong to the product's way of publishing.
"""

from __future__ import annotations

import pyarrow as pa

FLAG_COLUMNS = [f"{what}_{k}d" for what in ("ordered", "paid", "deposit") for k in (1, 2, 3)] + ["net_paid_3d"]

_LATENCY_COUNTS = [
    "replied_within_30s", "replied_within_60s", "replied_within_180s", "replied_within_300s", "latency_sum_ms", "latency_capped_sum_ms",
    "first_rounds", "first_replied", "first_latency_sum_ms", "assessed_rounds", "assessed_replied_within_180s", "assessed_replied_within_300s",
]
LATENCY_SPREAD = ["latency_max_ms", "latency_p50_ms", "latency_p90_ms", "latency_p95_ms", "latency_p99_ms"]
_COHORT = ["inquiry_buyers", "after_sale_buyers", *FLAG_COLUMNS]
_RATINGS = [f"ratings_{n}" for n in range(1, 6)]
_SALES = ["orders_paid", "items_paid", "gross_fen"]
_PROMISE = ["refund_requests", "refunds_within_promise", "refund_promise_decided", "refund_requests_ended"]

AGENT_FIGURES = [
    "rounds", "replied", "transferred", "unanswered", *_LATENCY_COUNTS, *LATENCY_SPREAD,
    "buyer_messages", "agent_messages", "assisted_messages", "consulting_buyers", "received_buyers", *_COHORT, *_SALES, "paying_buyers",
    "orders_created", "deposits_paid", "deposit_fen", "refunds", "refund_fen", "refunded_of_cohort_fen", "net_fen", *_RATINGS,
]
SHOP_FIGURES = [
    "rounds", "replied", "unanswered", *_LATENCY_COUNTS, *LATENCY_SPREAD,
    "buyer_messages", "agent_messages", "assisted_messages", "robot_messages", "spam_messages", "consulting_buyers", "received_buyers",
    *_COHORT, *_SALES, "paying_buyers", "silent_orders", "silent_fen", "robot_only_orders", "orders_created", "deposits_paid", "deposit_fen",
    "refunds", "refund_fen", "refunded_of_cohort_fen", "net_fen", *_PROMISE, *_RATINGS,
]
# Figures that a grain does not have; they are null there.
DAY_ONLY = {"paying_buyers", "refunded_of_cohort_fen", "net_fen", *_PROMISE, *_RATINGS}
NOT_BY_MINUTE = DAY_ONLY | {
    "consulting_buyers", "received_buyers", *_COHORT, *_SALES, "silent_orders", "silent_fen", "robot_only_orders", "orders_created",
    "deposits_paid", "deposit_fen", "refunds", "refund_fen",
}

SOURCE_POSITION = {"topic": "text", "partition": "int", "generation": "int", "offset": "int"}

KEYS = {
    "reply_rounds": {"shop_id": "text", "buyer_key": "text", "t0": "int", "seq": "int"},
    "orders": {"shop_id": "text", "order_id": "text"},
    "refunds": {"shop_id": "text", "refund_id": "text"},
    "buyer_days": {"shop_id": "text", "buyer_key": "text", "day": "day"},
    "agent_windows": {"shop_id": "text", "agent_id": "text", "grain": "text", "window_start": "int"},
    "shop_windows": {"shop_id": "text", "grain": "text", "window_start": "int"},
    "late_events": SOURCE_POSITION,
    "dead_letters": SOURCE_POSITION,
}

COLUMNS: dict[str, dict[str, str]] = {
    "reply_rounds": {
        "agent_id": "text", "a0": "int", "ended_at": "int", "outcome": "text", "buyer_messages": "int", "latency_customer_ms": "int",
        "latency_agent_ms": "int", "first_in_session": "bool", "assessed": "bool", "day": "day",
    },
    "orders": {
        "buyer_key": "text", "created_at": "int", "deposit_at": "int", "deposit_fen": "int", "paid_at": "int", "closed_at": "int",
        "amount_fen": "int", "item_count": "int", "fake": "bool", "rule": "text", "agent_id": "text", "first_touch_agent": "text",
        "touching_agents": "int", "last_touch_at": "int", "lag_ms": "int", "refunded_fen": "int", "created_event_time": "int",
        "paid_event_time": "int", "closed_event_time": "int",
    },
    "refunds": {
        "order_id": "text", "buyer_key": "text", "agent_id": "text", "requested_at": "int", "succeeded_at": "int", "ended_at": "int",
        "requested_fen": "int", "amount_fen": "int", "reason": "text", "phase": "text", "requested_event_time": "int", "succeeded_event_time": "int",
    },
    "buyer_days": {"first_at": "int", "open_after_sale": "bool", "class": "text", **dict.fromkeys(FLAG_COLUMNS, "bool")},
    "agent_windows": dict.fromkeys(AGENT_FIGURES, "int"),
    "shop_windows": dict.fromkeys(SHOP_FIGURES, "int"),
    "late_events": {"reason": "text", "shop_id": "text", "event_id": "text", "kind": "text", "event_time": "int", "clock": "int"},
    "dead_letters": {"reason": "text", "value": "bytes"},
}

ARROW_TYPES = {"text": pa.string(), "int": pa.int64(), "bool": pa.bool_(), "day": pa.date32(), "bytes": pa.binary()}


def types_of(table: str) -> dict[str, str]:
    """Columns of a table, key first, with their types."""
    return {**KEYS[table], **COLUMNS[table]}
