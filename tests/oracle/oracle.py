#!/usr/bin/env python3
"""The batch oracle: recomputes the final tables of a dump, straight from the metric definitions.

    python oracle.py INPUT_DIR OUT_DIR [--policy FILE] [--buyer-key-hex 64hex] [--utc-offset +08:00]

INPUT_DIR holds `chat.ndjson`, `orders.ndjson` and `refunds.ndjson` as `dump` and the simulator write them. OUT_DIR gets one
Parquet file per table (all but alerts) with the rows current once every horizon has passed, columns as published: times and
money as int64, buyers as keyed hashes. It exists to check the product, so it shares no code with it and has neither streaming
nor state: every table is a function of the set of accepted events, all of it in memory (half a million records take about a minute and 3 GB).

It does not compute alerts, open rows or corrections, nor anything about how rows are published; `compare.py` checks that.
Modules: accept (records to events), chat (rounds), money (orders, refunds, credit), cohorts (conversion), windows (figures).
"""

from __future__ import annotations

import argparse
import datetime
import gc
import os
import sys
from collections import defaultdict

import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

import windows
from accept import DumpError, read_dump
from chat import BuyerChat
from cohorts import buyer_days
from money import Money, credit
from policy import LATENESS_MONEY, Calendar, Policy, PolicyError, parse_utc_offset, read_policy
from tables import ARROW_TYPES, KEYS, types_of

DEVELOPMENT_KEY = bytes(range(32))


class BuyerKeys:
    """Hashes of buyer ids, as they are published."""

    def __init__(self, key: bytes):
        self.key = key
        self.known: dict[tuple[str, str], str] = {}

    def of(self, shop: str, buyer: str) -> str:
        found = self.known.get((shop, buyer))
        if found is None:
            found = blake3(shop.encode() + b"\x1f" + buyer.encode(), key=self.key).digest(length=16).hex()
            self.known[shop, buyer] = found
        return found


def _date(day: int) -> datetime.date:
    return datetime.date(1970, 1, 1) + datetime.timedelta(days=day)


def _round_row(shop, buyer_key, done, policy: Policy, calendar: Calendar) -> dict:
    day = calendar.day(done.t0)
    return {
        "shop_id": shop, "buyer_key": buyer_key, "t0": done.t0, "seq": done.seq, "agent_id": done.agent, "a0": done.a0,
        "ended_at": done.ended_at, "outcome": done.outcome, "buyer_messages": done.messages, "latency_customer_ms": done.latency_customer,
        "latency_agent_ms": done.latency_agent, "first_in_session": done.first,
        "assessed": windows.in_hours(policy.on(day)["assessed_hours"], done.a0, calendar), "day": _date(day),
    }


def _order_row(shop, order_id, order, keys: BuyerKeys) -> dict:
    return {
        "shop_id": shop, "order_id": order_id, "buyer_key": keys.of(shop, order.buyer), "created_at": order.created_at,
        "deposit_at": order.deposit_at, "deposit_fen": order.deposit_fen, "paid_at": order.paid_at, "closed_at": order.closed_at,
        "amount_fen": order.amount_fen, "item_count": order.item_count, "fake": order.fake_at is not None, "rule": order.rule,
        "agent_id": order.agent, "first_touch_agent": order.first_touch_agent, "touching_agents": order.touching_agents,
        "last_touch_at": order.last_touch_at, "lag_ms": order.lag, "refunded_fen": order.refunded_fen,
        "created_event_time": order.true_time("CREATED"), "paid_event_time": order.true_time("PAID"), "closed_event_time": order.true_time("CLOSED"),
    }


def _refund_row(shop, refund_id, refund, keys: BuyerKeys) -> dict:
    return {
        "shop_id": shop, "refund_id": refund_id, "order_id": refund.first_of("order_id"), "buyer_key": keys.of(shop, refund.first_of("buyer_id")),
        "agent_id": refund.order.agent if refund.order else None, "requested_at": refund.requested_at, "succeeded_at": refund.succeeded_at,
        "ended_at": refund.ended_at, "requested_fen": refund.requested_fen, "amount_fen": refund.amount_fen, "reason": refund.first_of("reason"),
        "phase": refund.first_of("phase"), "requested_event_time": refund.true_time("REQUESTED"), "succeeded_event_time": refund.true_time("SUCCEEDED"),
    }


def _buyer_day_row(cohort, keys: BuyerKeys) -> dict:
    return {
        "shop_id": cohort.shop, "buyer_key": keys.of(cohort.shop, cohort.buyer), "day": _date(cohort.day), "first_at": cohort.first,
        "open_after_sale": cohort.open_after_sale, "class": "INQUIRY" if cohort.inquiry else "AFTERSALE", **cohort.flags,
    }


def compute(accepted, policy: Policy, calendar: Calendar, keys: BuyerKeys) -> dict[str, list[dict]]:
    """The rows of every table."""
    figures = windows.Figures(calendar)
    rows = {table: [] for table in KEYS}
    rows["late_events"], rows["dead_letters"] = accepted.late_events, accepted.dead_letters

    events_of = defaultdict(list)
    for event in accepted.chat:
        events_of[event.get("shop_id"), event.get("buyer_id")].append(event)
    chats = {key: BuyerChat(events, policy, calendar) for key, events in events_of.items()}

    money = Money(accepted.orders, accepted.refunds, policy, calendar, LATENESS_MONEY)
    orders_of = defaultdict(list)
    for shop, order in money.all_orders():
        credit(order, chats.get((shop, order.buyer)), policy, calendar)
        orders_of[shop, order.buyer].append(order)
        windows.count_order(figures, shop, order)

    for (shop, buyer), chat in chats.items():
        rows["reply_rounds"] += [_round_row(shop, keys.of(shop, buyer), done, policy, calendar) for done in chat.rounds]
        windows.count_rounds(figures, shop, chat, policy)
        windows.count_messages(figures, shop, buyer, events_of[shop, buyer], chat)
        windows.count_ratings(figures, shop, chat)
        for cohort in buyer_days(shop, buyer, chat, orders_of.get((shop, buyer), []), policy, calendar):
            rows["buyer_days"].append(_buyer_day_row(cohort, keys))
            windows.count_cohort(figures, cohort)

    for (shop, order_id), beginnings in money.orders.items():
        published = [order for order in beginnings if order.created_at is not None]
        rows["orders"] += [_order_row(shop, order_id, order, keys) for order in published[-1:]]
    for (shop, refund_id), beginnings in money.refunds.items():
        published = [refund for refund in beginnings if refund.anchor is not None]
        rows["refunds"] += [_refund_row(shop, refund_id, refund, keys) for refund in published[-1:]]
        for refund in published:
            windows.count_refund(figures, shop, refund, policy)

    rows["agent_windows"], rows["shop_windows"] = figures.rows(of_agents=True), figures.rows(of_agents=False)
    return rows


def write_tables(rows: dict[str, list[dict]], directory: str):
    os.makedirs(directory, exist_ok=True)
    for table, table_rows in rows.items():
        schema = pa.schema([(name, ARROW_TYPES[kind]) for name, kind in types_of(table).items()])
        columns = [pa.array([row[field.name] for row in table_rows], field.type) for field in schema]
        written = pa.table(columns, schema=schema).sort_by([(name, "ascending") for name in KEYS[table]])
        pq.write_table(written, os.path.join(directory, f"{table}.parquet"), compression="zstd")


def _key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != 32:
        raise argparse.ArgumentTypeError(f"{len(key)} bytes; the key of buyer hashes has 32")
    return key


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Recomputes the final tables of a dump.")
    parser.add_argument("input_dir")
    parser.add_argument("out_dir")
    parser.add_argument("--policy", metavar="FILE")
    parser.add_argument("--buyer-key-hex", type=_key, default=DEVELOPMENT_KEY, metavar="64HEX")
    parser.add_argument("--utc-offset", default="+08:00", metavar="+HH:MM")
    args = parser.parse_args(argv)
    gc.disable()  # nothing here is cyclic, and millions of objects live to the end
    try:
        policy, calendar = read_policy(args.policy), Calendar(parse_utc_offset(args.utc_offset))
        accepted = read_dump(args.input_dir)
    except (DumpError, PolicyError, OSError) as error:
        print(f"oracle: {error}", file=sys.stderr)
        return 2
    rows = compute(accepted, policy, calendar, BuyerKeys(args.buyer_key_hex))
    write_tables(rows, args.out_dir)
    print(", ".join(f"{table} {len(table_rows)}" for table, table_rows in rows.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
