"""Business time and dated policies for the batch oracle.

All times are integer milliseconds since the Unix epoch; a business day is named by its ordinal, the number of days
since 1970-01-01 in local time. Only the knobs that the final tables depend on are kept; those of alerts are skipped.
"""

from __future__ import annotations

import datetime
import tomllib

SECOND = 1_000
MINUTE = 60_000
HOUR = 3_600_000
DAY = 86_400_000

LATENESS_CHAT = 15 * MINUTE
LATENESS_MONEY = 24 * HOUR
FUTURE_SKEW = 5 * MINUTE
ORDER_RETENTION = 45 * DAY

DEFAULT_KNOBS = {
    "session_gap": 10 * MINUTE,
    "latency_cap": 600 * SECOND,
    "close_of_day": 60 * MINUTE,
    "assessed_hours": (8 * HOUR, 23 * HOUR),
    "attribution_window": 72 * HOUR,
    "after_sale_lookback": 21 * DAY,
    "refund_promise": 24 * HOUR,
}

_UNITS = {"ms": 1, "s": SECOND, "m": MINUTE, "min": MINUTE, "h": HOUR, "d": DAY}


class PolicyError(Exception):
    """The policy file cannot be used as it is."""


def parse_duration(text: str) -> int:
    """`10m`, `600 s`, `72h`, `21d` in milliseconds."""
    digits = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text.strip()[len(digits):].strip()
    if not digits.isdigit() or unit not in _UNITS:
        raise PolicyError(f"not a duration: {text!r}; write a whole number and one of {', '.join(_UNITS)}")
    return int(digits) * _UNITS[unit]


def _parse_clock(text: str) -> int:
    hours, _, minutes = text.strip().partition(":")
    if not (hours.isdigit() and minutes.isdigit()):
        raise PolicyError(f"not a time of day: {text!r}")
    return int(hours) * HOUR + int(minutes) * MINUTE


def parse_hours(text: str) -> tuple[int, int]:
    """`09:00-24:00` as two times of day in milliseconds, the second one exclusive."""
    first, _, second = text.replace("–", "-").partition("-")
    start, end = _parse_clock(first), _parse_clock(second)
    if not 0 <= start < end <= DAY:
        raise PolicyError(f"not hours of a day: {text!r}")
    return start, end


def parse_utc_offset(text: str) -> int:
    """`+08:00` in milliseconds."""
    if len(text) != 6 or text[0] not in "+-" or text[3] != ":":
        raise PolicyError(f"not an offset: {text!r}; write it as +08:00")
    size = _parse_clock(text[1:])
    return size if text[0] == "+" else -size


class Calendar:
    """Business days, hours and minutes at one fixed offset."""

    def __init__(self, utc_offset: int):
        self.offset = utc_offset

    def day(self, t: int) -> int:
        return (t + self.offset) // DAY

    def start(self, day: int) -> int:
        return day * DAY - self.offset

    def end(self, day: int) -> int:
        return (day + 1) * DAY - self.offset

    def time_of_day(self, t: int) -> int:
        return (t + self.offset) % DAY

    def floor(self, t: int, width: int) -> int:
        """Start of the local window of that width which holds t."""
        return t - (t + self.offset) % width


class Policy:
    """The knobs in force on each business day."""

    def __init__(self, versions: list[tuple[int | None, dict]] = ()):
        self.first = dict(DEFAULT_KNOBS)
        self.later: list[tuple[int, dict]] = []
        knobs = self.first
        for since, changes in versions:
            knobs = {**knobs, **changes}
            if since is None:
                self.first = knobs
            else:
                self.later.append((since, knobs))
        self._by_day: dict[int, dict] = {}

    def on(self, day: int) -> dict:
        knobs = self._by_day.get(day)
        if knobs is None:
            knobs = self.first
            for since, candidate in self.later:
                if day >= since:
                    knobs = candidate
            self._by_day[day] = knobs
        return knobs

    def longest(self, knob: str) -> int:
        return max(knobs[knob] for knobs in [self.first, *(k for _, k in self.later)])


def _day_ordinal(value) -> int:
    day = value if isinstance(value, datetime.date) else datetime.date.fromisoformat(value)
    return (day - datetime.date(1970, 1, 1)).days


def read_policy(path: str | None) -> Policy:
    """The policy of a TOML file (`profile`, `[[version]]` tables in order of `from`), or the default one."""
    if path is None:
        return Policy()
    with open(path, "rb") as file:
        document = tomllib.load(file)
    versions = []
    for index, table in enumerate(document.get("version", [])):
        since = table.pop("from", None)
        if since is None and index > 0:
            raise PolicyError(f"{path}: version {index + 1} has no `from`; only the first may leave it out")
        changes = {}
        for knob, text in _flat(table):
            if knob == "assessed_hours":
                changes[knob] = parse_hours(text)
            elif knob in DEFAULT_KNOBS:
                changes[knob] = parse_duration(text)
        versions.append((None if since is None else _day_ordinal(since), changes))
    return Policy(versions)


def _flat(table: dict, prefix: str = ""):
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
