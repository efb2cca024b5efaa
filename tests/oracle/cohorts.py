"""Inquiry, after-sale and conversion: what became of each buyer who wrote on a day.

One `BuyerDay` per (shop, buyer, business day) with a valid message. Shop figures count buyer-days; an agent's count those it
served, with the orders credited to it.
"""

from __future__ import annotations

from bisect import bisect_left

from policy import Calendar, Policy

FLAGS = [f"{what}_{k}d" for what in ("ordered", "paid", "deposit") for k in (1, 2, 3)] + ["net_paid_3d"]


class BuyerDay:
    """A buyer's day: `flags` of the shop, and per serving agent its own."""

    __slots__ = ("shop", "buyer", "day", "first", "open_after_sale", "inquiry", "flags", "agents")

    def __init__(self, shop, buyer, day, first):
        self.shop, self.buyer, self.day, self.first = shop, buyer, day, first
        self.open_after_sale = self.inquiry = False
        self.flags = dict.fromkeys(FLAGS, False)
        self.agents: dict[str, dict[str, bool]] = {}


def _is_open_after_sale(order, first: int, lookback: int) -> bool:
    money_at = [t for t in (order.paid_at, order.deposit_at) if t is not None and t < first]
    if not money_at or first - max(money_at) > lookback:
        return False
    closed = order.closed_at is not None and order.closed_at < first
    return not closed and not order.fully_refunded(before=first)


def _flags(orders, first: int, day: int, calendar: Calendar, agent: str | None) -> dict[str, bool]:
    """The shop's flags (agent None), or those of an agent: by the orders credited to it."""
    flags = dict.fromkeys(FLAGS, False)
    for order in orders:
        if agent is not None and order.agent != agent:
            continue
        by_order = agent is None or order.rule == "before_order"
        for k in range(3):
            end = calendar.end(day + k)
            paid = order.paid_at is not None and first <= order.paid_at < end
            created = first <= order.created_at < end
            deposit = order.deposit_at is not None and first <= order.deposit_at < end
            flags[f"paid_{k + 1}d"] |= paid
            flags[f"ordered_{k + 1}d"] |= paid or (created and by_order)
            flags[f"deposit_{k + 1}d"] |= deposit and by_order
            if k == 2 and paid and not order.fully_refunded():
                flags["net_paid_3d"] = True
    return flags


def _serving_agents(touches, times, first: int, day: int, calendar: Calendar) -> set[str]:
    """Who touched the buyer on the day after its first message, or if nobody did, on the next day."""
    end, next_end = calendar.end(day), calendar.end(day + 1)
    same_day = {t.agent for t in touches[bisect_left(times, first):bisect_left(times, end)]}
    return same_day or {t.agent for t in touches[bisect_left(times, end):bisect_left(times, next_end)]}


def buyer_days(shop: str, buyer: str, chat, orders, policy: Policy, calendar: Calendar) -> list[BuyerDay]:
    """All days of one buyer. `orders` are all existing beginnings of the buyer's orders, fake ones too."""
    days: dict[int, int] = {}
    for t, _ in chat.messages:
        days.setdefault(calendar.day(t), t)
    touch_times = [touch.t for touch in chat.touches]
    result = []
    for day, first in days.items():
        lookback = policy.on(day)["after_sale_lookback"]
        real = [order for order in orders if not order.fake_in_cohort(day, calendar)]
        cohort = BuyerDay(shop, buyer, day, first)
        cohort.open_after_sale = any(_is_open_after_sale(order, first, lookback) for order in real)
        soon = calendar.end(day + 1)
        bought = any(first <= order.created_at < soon or (order.paid_at is not None and first <= order.paid_at < soon) for order in real)
        cohort.inquiry = bought or not cohort.open_after_sale
        agents = _serving_agents(chat.touches, touch_times, first, day, calendar)
        if cohort.inquiry:
            cohort.flags = _flags(real, first, day, calendar, None)
        for agent in agents:
            cohort.agents[agent] = _flags(real, first, day, calendar, agent) if cohort.inquiry else dict.fromkeys(FLAGS, False)
        result.append(cohort)
    return result
