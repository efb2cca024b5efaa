"""Orders and refunds: their beginnings, final facts and credit.

Order and refund events of a shop are read together in the order of events, because how long an order or a refund is kept
decides whether a late event belongs to it or starts it anew. An `Order` or `Refund` here is one such beginning; figures use
all of them, the published row of an id is that of the last beginning that has one.
"""

from __future__ import annotations

from bisect import bisect_right

from policy import ORDER_RETENTION, Calendar, Policy

EXISTENCE = ("CREATED", "DEPOSIT_PAID", "PAID")


class Order:
    """One beginning of an order."""

    def __init__(self):
        self.events = []  # in the order of events
        self.status: dict[str, object] = {}  # the event that counts, by status
        self.refunds: list[Refund] = []
        self.fake_at: int | None = None  # earliest flagging event
        self.created_at: int | None = None  # None until the order exists
        self.rule = "none"
        self.agent = self.first_touch_agent = self.last_touch_at = self.lag = None
        self.touching_agents = 0

    def add(self, event, lateness_floor: int):
        self.events.append(event)
        self.status.setdefault(event.kind, event)
        if event.get("fake") and self.fake_at is None:
            self.fake_at = event.t
        if any(kind in self.status for kind in EXISTENCE):
            times = [self.status[kind].t for kind in EXISTENCE if kind in self.status]
            times += [max(e.get("order_created_at"), e.clock - lateness_floor) for e in self.events if e.get("order_created_at") is not None]
            self.created_at = min(times)

    def forget_waiting(self, now: int):
        """Drops the statuses that have waited too long for the order to exist."""
        if self.created_at is None:
            kept = [e for e in self.events if now <= e.t + ORDER_RETENTION]
            if len(kept) != len(self.events):
                self.events, self.status, self.fake_at = [], {}, None
                for event in kept:
                    self.add(event, 0)

    @property
    def exists_since(self) -> int:
        return min(self.status[kind].t for kind in EXISTENCE if kind in self.status)

    def _time(self, status):
        event = self.status.get(status)
        return None if event is None else event.t

    @property
    def deposit_at(self):
        return self._time("DEPOSIT_PAID")

    @property
    def paid_at(self):
        return self._time("PAID")

    @property
    def closed_at(self):
        return self._time("CLOSED")

    @property
    def deposit_fen(self):
        event = self.status.get("DEPOSIT_PAID")
        return None if event is None else event.get("amount_fen")

    def _from_paid_else_created(self, field):
        event = self.status.get("PAID") or self.status.get("CREATED")
        return None if event is None else event.get(field)

    @property
    def amount_fen(self):
        return self._from_paid_else_created("amount_fen")

    @property
    def item_count(self):
        return self._from_paid_else_created("item_count")

    @property
    def buyer(self):
        return self.events[0].get("buyer_id")

    def true_time(self, status):
        event = self.status.get(status)
        return None if event is None else event.true_time

    def kept_until(self, policy: Policy, calendar: Calendar) -> int:
        """First moment at which an existing order is forgotten, as far as its events are known now."""
        lookback = policy.longest("after_sale_lookback")
        ends = [self.created_at + ORDER_RETENTION]
        ends += [t + lookback for t in (self.deposit_at, self.paid_at) if t is not None]
        return calendar.end(calendar.day(max(ends)) + 2)

    def fake_in_figures(self, calendar: Calendar) -> bool:
        return self.fake_at is not None and self.fake_at < calendar.end(calendar.day(self.created_at) + 2)

    def fake_in_cohort(self, day: int, calendar: Calendar) -> bool:
        return self.fake_at is not None and self.fake_at < calendar.end(day + 2)

    def fully_refunded(self, before: int | None = None) -> bool:
        """By the refunds that succeeded before a time; None asks for all of them."""
        done = [r.amount_fen for r in self.refunds if r.succeeded_at is not None and (before is None or r.succeeded_at < before)]
        paid = self.paid_at is not None and (before is None or self.paid_at < before)
        return bool(done) and sum(done) >= (self.amount_fen if paid else self.deposit_fen)

    @property
    def refunded_fen(self) -> int:
        return sum(r.amount_fen for r in self.refunds if r.succeeded_at is not None)


class Refund:
    """One beginning of a refund."""

    def __init__(self):
        self.events = []
        self.status: dict[str, object] = {}
        self.beginning: tuple[tuple[str, str], int] | None = None  # of its order: (shop, order id) and which
        self.order: Order | None = None  # the order it is credited to in the end

    def add(self, event):
        """A further event of a status is without effect, so that only the first of each is kept."""
        if event.kind not in self.status:
            self.events.append(event)
            self.status[event.kind] = event

    def _time(self, status):
        event = self.status.get(status)
        return None if event is None else event.t

    @property
    def requested_at(self):
        return self._time("REQUESTED")

    @property
    def succeeded_at(self):
        return self._time("SUCCEEDED")

    @property
    def ended_at(self):
        return min((self.status[s].t for s in ("REFUSED", "CLOSED") if s in self.status), default=None)

    @property
    def anchor(self):
        """The time its row is filed under; None while it has no row."""
        return next((t for t in (self.requested_at, self.succeeded_at, self.ended_at) if t is not None), None)

    @property
    def amount_fen(self):
        event = self.status.get("SUCCEEDED")
        return None if event is None else event.get("amount_fen")

    @property
    def requested_fen(self):
        event = self.status.get("REQUESTED")
        return None if event is None else event.get("amount_fen")

    def true_time(self, status):
        event = self.status.get(status)
        return None if event is None else event.true_time

    def first_of(self, field):
        return next((e.get(field) for e in self.events if e.get(field) is not None), None)

    def belongs_to(self, order: Order | None, calendar: Calendar) -> bool:
        if order is None or order.created_at is None or self.anchor is None:
            return False
        if order.exists_since >= self.events[0].t + ORDER_RETENTION:
            return False  # the refund was forgotten before it had an order
        return order.created_at < calendar.end(calendar.day(self.anchor) + 2)


class Money:
    """All beginnings of all orders and refunds, by (shop, id) in time order."""

    def __init__(self, order_events, refund_events, policy: Policy, calendar: Calendar, lateness: int):
        self.policy, self.calendar, self.lateness = policy, calendar, lateness
        self.orders: dict[tuple[str, str], list[Order]] = {}
        self.refunds: dict[tuple[str, str], list[Refund]] = {}
        events = [(e, True) for e in order_events] + [(e, False) for e in refund_events]
        events.sort(key=lambda pair: pair[0].order)
        for event, is_order in events:
            if is_order:
                self._read_order(event)
            else:
                self._read_refund(event)
        for refund in self.all_refunds():
            order = self._order_of(refund)
            if refund.belongs_to(order, calendar):
                refund.order = order
                order.refunds.append(refund)

    def all_orders(self):
        """Every beginning that exists as an order, with its shop."""
        for (shop, _), beginnings in self.orders.items():
            for order in beginnings:
                if order.created_at is not None:
                    yield shop, order

    def all_refunds(self):
        for beginnings in self.refunds.values():
            yield from beginnings

    def _order_of(self, refund: Refund) -> Order | None:
        key, index = refund.beginning
        beginnings = self.orders.get(key, [])
        return beginnings[index] if index < len(beginnings) else None

    def _forgotten(self, order: Order, t: int) -> bool:
        return order.created_at is not None and t >= order.kept_until(self.policy, self.calendar)

    def _read_order(self, event):
        beginnings = self.orders.setdefault((event.get("shop_id"), event.get("order_id")), [])
        if not beginnings or self._forgotten(beginnings[-1], event.t):
            beginnings.append(Order())
        beginnings[-1].forget_waiting(event.t)
        beginnings[-1].add(event, self.lateness)

    def _refund_kept_until(self, refund: Refund) -> int:
        order = self._order_of(refund)
        if refund.belongs_to(order, self.calendar):
            return order.kept_until(self.policy, self.calendar)
        return refund.events[0].t + ORDER_RETENTION

    def _read_refund(self, event):
        shop = event.get("shop_id")
        beginnings = self.refunds.setdefault((shop, event.get("refund_id")), [])
        if not beginnings or event.t >= self._refund_kept_until(beginnings[-1]):
            refund = Refund()
            order_key = (shop, event.get("order_id"))
            orders = self.orders.get(order_key, [])
            index = len(orders) - 1 if orders and not self._forgotten(orders[-1], event.t) else len(orders)
            refund.beginning = (order_key, index)
            beginnings.append(refund)
        beginnings[-1].add(event)


def credit(order: Order, chat, policy: Policy, calendar: Calendar):
    """Fills in whom an order is credited to, from its buyer's chat (None if the buyer never chatted)."""
    window = policy.on(calendar.day(order.created_at))["attribution_window"]
    touches = chat.touches if chat else []
    times = [touch.t for touch in touches]
    earliest = order.created_at - window
    before = touches[_first_at_or_after(times, earliest):bisect_right(times, order.created_at)]
    if before:
        order.rule, order.agent = "before_order", before[-1].agent
        order.first_touch_agent, order.touching_agents = before[0].agent, len({touch.agent for touch in before})
        order.last_touch_at, order.lag = before[-1].t, order.created_at - before[-1].t
        return
    if order.paid_at is not None:
        after = max(order.created_at, order.paid_at - window)
        late = touches[bisect_right(times, after):bisect_right(times, order.paid_at)]
        if late:
            order.rule, order.agent, order.last_touch_at = "before_payment", late[-1].agent, late[-1].t
            return
    if chat and any(earliest <= t <= order.created_at for t in chat.robot_full):
        order.rule = "robot_only"
    elif order.paid_at is not None:
        order.rule = "silent"


def _first_at_or_after(times: list[int], t: int) -> int:
    return bisect_right(times, t - 1)
