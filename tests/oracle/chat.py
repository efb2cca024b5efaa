"""Reply rounds, chains, messages and touches of one buyer in one shop, from the buyer's accepted chat events in order.

The state machine of the metric definitions, written as they put it; it knows nothing of windows or of other buyers.
"""

from __future__ import annotations

from policy import Calendar, Policy


class Round:
    """One reply round; times in ms, `agent` None where nobody held the buyer."""

    __slots__ = ("t0", "a0", "seq", "agent", "ended_at", "outcome", "messages", "latency_customer", "latency_agent", "first")

    def __init__(self, t0, a0, agent, messages, first, outcome, ended_at):
        self.t0, self.a0, self.agent, self.messages, self.first = t0, a0, agent, messages, first
        self.outcome, self.ended_at = outcome, ended_at
        replied = outcome == "replied"
        self.latency_customer = ended_at - t0 if replied else None
        self.latency_agent = ended_at - a0 if replied else None
        self.seq = 0


class Chain:
    """The rounds with one t0 up to the one that ended them: what the buyer saw."""

    __slots__ = ("t0", "outcome", "latency", "first")

    def __init__(self, t0, outcome, latency, first):
        self.t0, self.outcome, self.latency, self.first = t0, outcome, latency, first


class Touch:
    """An agent's message to a buyer who had written within the attribution window."""

    __slots__ = ("t", "agent")

    def __init__(self, t, agent):
        self.t, self.agent = t, agent


class _Wait:
    __slots__ = ("t0", "a0", "owner", "n", "first")

    def __init__(self, t0, a0, owner, n, first):
        self.t0, self.a0, self.owner, self.n, self.first = t0, a0, owner, n, first


class _Machine:
    def __init__(self, policy: Policy, calendar: Calendar):
        self.policy, self.calendar = policy, calendar
        self.rounds: list[Round] = []
        self.holder = None
        self.wait: _Wait | None = None
        self.q0 = self.qa = None
        self.qn = 0
        self.asked = False
        self.last = None
        self.fresh = True

    def _clear_q0(self):
        self.q0 = self.qa = None
        self.qn = 0

    def _take_fresh(self) -> bool:
        first, self.fresh = self.fresh, False
        return first

    def _deadline(self, t0, a0) -> int:
        day = self.calendar.day(t0)
        close_of_day = self.policy.on(day)["close_of_day"]
        return min(max(self.calendar.end(day), a0) + close_of_day, self.calendar.end(day + 1))

    def _emit(self, t0, a0, agent, n, first, outcome, ended_at):
        done = Round(t0, a0, agent, n, first, outcome, ended_at)
        done.seq = sum(1 for earlier in self.rounds if earlier.t0 == t0)
        self.rounds.append(done)

    def _close(self, outcome, ended_at, agent):
        w = self.wait
        self._emit(w.t0, w.a0, agent, w.n, w.first, outcome, ended_at)
        self.wait = None

    def _hand_over(self, outcome, t, owner, n):
        old = self.wait
        self._close(outcome, t, old.owner)
        self.wait = _Wait(old.t0, t, owner, n, old.first)

    def expire(self, t):
        """Step 1; `t` None stands for the end of all time."""
        if self.wait and (t is None or t > self._deadline(self.wait.t0, self.wait.a0)):
            self._close("unanswered", None, self.wait.owner)
        if self.q0 is not None and (t is None or t > self._deadline(self.q0, self.qa)):
            self._emit(self.q0, self.qa, None, self.qn, self._take_fresh(), "unanswered", None)
            self._clear_q0()

    def before(self, t):
        """Steps 1 to 3."""
        self.expire(t)
        gap = self.policy.on(self.calendar.day(t))["session_gap"]
        if self.last is not None and t - self.last >= gap and self.wait is None and self.q0 is None:
            self.holder, self.fresh, self.asked = None, True, False
        self.last = t

    def buyer_message(self, t, to):
        if to is not None:
            if self.wait and self.wait.owner == to:
                self.wait.n += 1
            elif self.wait:
                cap = self.policy.on(self.calendar.day(self.wait.t0))["latency_cap"]
                self._hand_over("transferred" if t - self.wait.a0 > cap else "moved", t, to, self.wait.n + 1)
            else:
                self.wait = _Wait(t if self.q0 is None else self.q0, t, to, self.qn + 1, self._take_fresh())
            self.holder = to
            self._clear_q0()
        elif self.wait:
            self.wait.n += 1
        elif self.holder is not None:
            self.wait = _Wait(t, t, self.holder, 1, self._take_fresh())
        else:
            if self.q0 is None:
                self.q0 = self.qa = t
            self.qn += 1
        self.asked = True

    def agent_message(self, t, agent):
        if self.wait:
            self._close("replied", t, agent)
        elif self.q0 is not None:
            self._emit(self.q0, self.qa, agent, self.qn, self._take_fresh(), "replied", t)
        self.holder = agent
        self._clear_q0()
        self.asked = False

    def robot_message(self, kind):
        if not self.wait and kind == "FULL":
            self._clear_q0()

    def transfer(self, t, source, target):
        if target is None:
            if self.wait:
                t0, n = self.wait.t0, self.wait.n
                self._close("transferred", t, self.wait.owner)
                self.q0, self.qa, self.qn = t0, t, n
            self.holder = None
            return
        if self.wait:
            if self.wait.owner != target:
                self._hand_over("transferred", t, target, self.wait.n)
        elif self.q0 is not None or (source is None and self.asked):
            self.wait = _Wait(t if self.q0 is None else self.q0, t, target, self.qn, self._take_fresh())
        self.holder = target
        self._clear_q0()


def robot_kind(event) -> str:
    return event.get("robot_kind") or "FULL"


def is_spam(event) -> bool:
    return event.kind == "BUYER_MESSAGE" and bool(event.get("spam"))


class BuyerChat:
    """Everything later rules ask of one buyer's chat.

    `messages`: (time, agent or None) of the valid messages, the agent as message figures count it. `touches`: in the order
    of events. `robot_full`: times of full robot answers. `ratings`: (time, agent, rating) in the order of events.
    """

    def __init__(self, events, policy: Policy, calendar: Calendar):
        self.messages: list[tuple[int, str | None]] = []
        self.touches: list[Touch] = []
        self.robot_full: list[int] = []
        self.ratings: list[tuple[int, str, int]] = []
        machine = _Machine(policy, calendar)
        last_valid = None
        for event in events:
            t = event.t
            if event.kind == "RATING":
                self.ratings.append((t, event.get("agent_id"), event.get("rating")))
                continue
            if is_spam(event):
                continue
            machine.before(t)
            if event.kind == "BUYER_MESSAGE":
                to = event.get("agent_id")
                self.messages.append((t, machine.holder if to is None else to))
                last_valid = t
                machine.buyer_message(t, to)
            elif event.kind == "AGENT_MESSAGE":
                window = policy.on(calendar.day(t))["attribution_window"]
                if last_valid is not None and last_valid > t - window:
                    self.touches.append(Touch(t, event.get("agent_id")))
                machine.agent_message(t, event.get("agent_id"))
            elif event.kind == "ROBOT_MESSAGE":
                if robot_kind(event) == "FULL":
                    self.robot_full.append(t)
                machine.robot_message(robot_kind(event))
            else:
                machine.transfer(t, event.get("agent_id"), event.get("to_agent_id"))
        machine.expire(None)
        self.rounds = machine.rounds
        self.chains = _chains(machine.rounds)


def _chains(rounds: list[Round]) -> list[Chain]:
    """A chain that a robot ended has no last round and is not among them."""
    chains = []
    first_of: dict[int, bool] = {}
    for done in rounds:
        first = first_of.pop(done.t0, False) or done.first
        if done.outcome in ("replied", "unanswered"):
            chains.append(Chain(done.t0, done.outcome, done.latency_customer, first))
        else:
            first_of[done.t0] = first
    return chains
