"""Figures per window: sums, distinct counts and latency spreads, by minute, hour and day, for agents and shops.

`Figures` only adds up; which event counts where is decided by the functions below it, one per section of the definitions.
"""

from __future__ import annotations

from collections import defaultdict

from chat import is_spam
from policy import DAY, HOUR, MINUTE, Calendar, Policy
from tables import AGENT_FIGURES, DAY_ONLY, LATENCY_SPREAD, NOT_BY_MINUTE, SHOP_FIGURES

WIDTHS = {"minute": MINUTE, "hour": HOUR, "day": DAY}
ALL_GRAINS = ("minute", "hour", "day")
HOUR_AND_DAY = ("hour", "day")
DAY_GRAIN = ("day",)
WITHIN = {"30s": 30_000, "60s": 60_000, "180s": 180_000, "300s": 300_000}
PERCENTILES = {"latency_p50_ms": 50, "latency_p90_ms": 90, "latency_p95_ms": 95, "latency_p99_ms": 99}


class Figures:
    """Accumulates by (shop, agent or None for the shop itself, grain, window start)."""

    def __init__(self, calendar: Calendar):
        self.calendar = calendar
        self.sums = defaultdict(lambda: defaultdict(int))
        self.sets = defaultdict(lambda: defaultdict(set))
        self.latencies = defaultdict(list)

    def _keys(self, shop, agent, t, grains):
        for grain in grains:
            yield shop, agent, grain, self.calendar.floor(t, WIDTHS[grain])

    def add(self, shop, agent, t, grains, **amounts):
        for key in self._keys(shop, agent, t, grains):
            sums = self.sums[key]
            for name, amount in amounts.items():
                sums[name] += amount

    def add_distinct(self, shop, agent, t, grains, name, item):
        for key in self._keys(shop, agent, t, grains):
            self.sets[key][name].add(item)

    def add_latency(self, shop, agent, t, latency):
        for key in self._keys(shop, agent, t, ALL_GRAINS):
            self.latencies[key].append(latency)

    def rows(self, of_agents: bool) -> list[dict]:
        """The rows in which some figure is not zero."""
        names = AGENT_FIGURES if of_agents else SHOP_FIGURES
        result = []
        for key in self.sums.keys() | self.sets.keys() | self.latencies.keys():
            shop, agent, grain, start = key
            if (agent is not None) != of_agents:
                continue
            figures = dict.fromkeys(names, 0)
            figures.update(dict.fromkeys(LATENCY_SPREAD))
            figures.update(self.sums.get(key, {}))
            figures.update({name: len(items) for name, items in self.sets.get(key, {}).items()})
            figures.update(_spread(self.latencies.get(key, [])))
            figures = {name: figures[name] for name in names}
            absent = {"minute": NOT_BY_MINUTE, "hour": DAY_ONLY, "day": ()}[grain]
            figures.update({name: None for name in names if name in absent})
            if any(figures.values()):
                row = {"shop_id": shop, "grain": grain, "window_start": start, **figures}
                if of_agents:
                    row["agent_id"] = agent
                result.append(row)
        return result


def _spread(latencies: list[int]) -> dict[str, int]:
    if not latencies:
        return {}
    ordered = sorted(latencies)
    spread = {name: ordered[(percent * len(ordered) + 99) // 100 - 1] for name, percent in PERCENTILES.items()}
    return {"latency_max_ms": ordered[-1], **spread}


def in_hours(hours: tuple[int, int], t: int, calendar: Calendar) -> bool:
    return hours[0] <= calendar.time_of_day(t) < hours[1]


def _count_latency(figures, shop, agent, t, outcome, latency, first, cap, assessed):
    replied = outcome == "replied"
    amounts = {
        "rounds": 1, outcome: 1, "latency_capped_sum_ms": min(latency, cap) if replied else cap,
        "first_rounds": int(first), "assessed_rounds": int(assessed),
    }
    if replied:
        amounts["latency_sum_ms"] = latency
        amounts["first_replied"] = int(first)
        amounts["first_latency_sum_ms"] = latency if first else 0
        for name, limit in WITHIN.items():
            hit = int(latency <= limit)
            amounts[f"replied_within_{name}"] = hit
            if name in ("180s", "300s"):
                amounts[f"assessed_replied_within_{name}"] = hit if assessed else 0
        figures.add_latency(shop, agent, t, latency)
    figures.add(shop, agent, t, ALL_GRAINS, **amounts)


def count_rounds(figures: Figures, shop: str, chat, policy: Policy):
    """Agents' rounds by a0, the shop's chains by t0."""
    calendar = figures.calendar
    for done in chat.rounds:
        if done.agent is not None and done.outcome != "moved":
            knobs = policy.on(calendar.day(done.t0))
            assessed = in_hours(knobs["assessed_hours"], done.a0, calendar)
            _count_latency(figures, shop, done.agent, done.a0, done.outcome, done.latency_agent, done.first, knobs["latency_cap"], assessed)
    for chain in chat.chains:
        knobs = policy.on(calendar.day(chain.t0))
        assessed = in_hours(knobs["assessed_hours"], chain.t0, calendar)
        _count_latency(figures, shop, None, chain.t0, chain.outcome, chain.latency, chain.first, knobs["latency_cap"], assessed)


def count_messages(figures: Figures, shop: str, buyer: str, events, chat):
    for t, agent in chat.messages:
        for whose in {None, agent}:
            figures.add(shop, whose, t, ALL_GRAINS, buyer_messages=1)
            figures.add_distinct(shop, whose, t, HOUR_AND_DAY, "consulting_buyers", buyer)
    for touch in chat.touches:
        for whose in (None, touch.agent):
            figures.add_distinct(shop, whose, touch.t, HOUR_AND_DAY, "received_buyers", buyer)
    for event in events:
        if event.kind == "AGENT_MESSAGE":
            for whose in (None, event.get("agent_id")):
                figures.add(shop, whose, event.t, ALL_GRAINS, agent_messages=1, assisted_messages=int(bool(event.get("assisted"))))
        elif event.kind == "ROBOT_MESSAGE":
            figures.add(shop, None, event.t, ALL_GRAINS, robot_messages=1)
        elif is_spam(event):
            figures.add(shop, None, event.t, ALL_GRAINS, spam_messages=1)


def count_ratings(figures: Figures, shop: str, chat):
    """The latest rating per agent and day of one buyer."""
    latest = {}
    for t, agent, rating in chat.ratings:
        latest[agent, figures.calendar.day(t)] = (t, rating)
    for (agent, _), (t, rating) in latest.items():
        for whose in (None, agent):
            figures.add(shop, whose, t, DAY_GRAIN, **{f"ratings_{rating}": 1})


def count_cohort(figures: Figures, cohort):
    name = "inquiry_buyers" if cohort.inquiry else "after_sale_buyers"
    for whose, flags in [(None, cohort.flags), *cohort.agents.items()]:
        figures.add(cohort.shop, whose, cohort.first, HOUR_AND_DAY, **{name: 1}, **{flag: int(is_set) for flag, is_set in flags.items()})


def count_order(figures: Figures, shop: str, order):
    """Sales by paid_at, creations and deposits by their own times; an order that is fake in the figures counts nowhere."""
    if order.fake_in_figures(figures.calendar):
        return
    credited = [None] if order.agent is None else [None, order.agent]
    by_order = credited if order.rule == "before_order" else [None]
    for whose in by_order:
        figures.add(shop, whose, order.created_at, HOUR_AND_DAY, orders_created=1)
        if order.deposit_at is not None:
            figures.add(shop, whose, order.deposit_at, HOUR_AND_DAY, deposits_paid=1, deposit_fen=order.deposit_fen)
    if order.paid_at is None:
        return
    back = min(order.refunded_fen, order.amount_fen)
    for whose in credited:
        figures.add(shop, whose, order.paid_at, HOUR_AND_DAY, orders_paid=1, items_paid=order.item_count, gross_fen=order.amount_fen)
        figures.add(shop, whose, order.paid_at, DAY_GRAIN, refunded_of_cohort_fen=back, net_fen=order.amount_fen - back)
        figures.add_distinct(shop, whose, order.paid_at, DAY_GRAIN, "paying_buyers", order.buyer)
    if order.rule == "silent":
        figures.add(shop, None, order.paid_at, HOUR_AND_DAY, silent_orders=1, silent_fen=order.amount_fen)
    elif order.rule == "robot_only":
        figures.add(shop, None, order.paid_at, HOUR_AND_DAY, robot_only_orders=1)


def count_refund(figures: Figures, shop: str, refund, policy: Policy):
    """Refunds by succeeded_at; the promise by requested_at, as it stands when time has run on."""
    calendar = figures.calendar
    order = refund.order
    if order is not None and order.fake_in_figures(calendar):
        return
    if refund.succeeded_at is not None:
        credited = [None] if order is None or order.agent is None else [None, order.agent]
        for whose in credited:
            figures.add(shop, whose, refund.succeeded_at, HOUR_AND_DAY, refunds=1, refund_fen=refund.amount_fen)
    if refund.requested_at is None:
        return
    promised = refund.requested_at + policy.on(calendar.day(refund.requested_at))["refund_promise"]
    kept = refund.succeeded_at is not None and refund.succeeded_at <= promised
    if refund.ended_at is not None and refund.ended_at <= promised and not kept:
        figures.add(shop, None, refund.requested_at, DAY_GRAIN, refund_requests_ended=1)
    else:
        figures.add(shop, None, refund.requested_at, DAY_GRAIN, refund_requests=1, refund_promise_decided=1, refunds_within_promise=int(kept))
