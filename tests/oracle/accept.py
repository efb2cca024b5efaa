"""Acceptance: which records of a dump are events, and with which effective time.

Reads `chat.ndjson`, `orders.ndjson` and `refunds.ndjson` and sorts every record into accepted, late, duplicate or dead.
A partition's lines are taken in file order, which is its offset order. Nothing here depends on how partitions interleave:
lateness looks at the record's own partition only, and of duplicates the least by (clock, partition, generation, offset) stays.
A line that is not a JSON object with the fields of a dump is an error, not a dead letter.
"""

from __future__ import annotations

import base64
import binascii
import json
import os

from xxhash import xxh3_64_intdigest

from policy import FUTURE_SKEW, LATENESS_CHAT, LATENESS_MONEY, ORDER_RETENTION

RECORD_LIMIT_BYTES = 1 << 20
ID_LIMIT_BYTES = 256
FEN_LIMIT = 10**12
ITEMS_LIMIT = 10**6
I64_LEAST, I64_MOST = -(2**63), 2**63 - 1

CHAT_RANKS = {"BUYER_MESSAGE": 0, "ROBOT_MESSAGE": 1, "AGENT_MESSAGE": 2, "TRANSFER": 3, "RATING": 4}
ORDER_RANKS = {"CREATED": 10, "DEPOSIT_PAID": 11, "PAID": 12, "SHIPPED": 13, "COMPLETED": 14, "CLOSED": 15}
REFUND_RANKS = {"REQUESTED": 20, "AGREED": 21, "REFUSED": 22, "SUCCEEDED": 23, "CLOSED": 24}
RANKS = {"chat": CHAT_RANKS, "orders": ORDER_RANKS, "refunds": REFUND_RANKS}
ROBOT_KINDS = {"WELCOME", "KEYWORD", "FULL"}
REASONS = {"QUALITY", "NOT_AS_DESCRIBED", "OUT_OF_STOCK", "SIZE", "NO_REASON", "OTHER"}
PHASES = {"BEFORE_SHIPMENT", "AFTER_SHIPMENT", "AFTER_RECEIPT"}


class DumpError(Exception):
    """The dump is damaged: file, line and what is wrong."""


class Event:
    """An accepted event: its fields, its effective time `t`, its clock, its source position and its place in the order of events."""

    __slots__ = ("fields", "kind", "t", "true_time", "clock", "partition", "generation", "offset", "order")

    def __init__(self, fields, kind, rank, t, clock, position):
        self.fields = fields
        self.kind = kind
        self.t = t
        self.true_time = fields["event_time"]
        self.clock = clock
        self.partition, self.generation, self.offset = position
        event_id = fields["event_id"].encode()
        self.order = (t, rank, xxh3_64_intdigest(event_id), event_id, *position)

    def get(self, name):
        return self.fields.get(name)


class Accepted:
    """The accepted events of a dump, per topic in the order of events, with its late events and dead letters as rows."""

    def __init__(self):
        self.chat: list[Event] = []
        self.orders: list[Event] = []
        self.refunds: list[Event] = []
        self.late_events: list[dict] = []
        self.dead_letters: list[dict] = []


def _is_integer(value) -> bool:
    return type(value) is int and I64_LEAST <= value <= I64_MOST


def _id_problem(value) -> str | None:
    """Why a value cannot be an id: `bad_id`, or `bad_value` for what is no text at all."""
    if value is None:
        return "bad_id"
    if not isinstance(value, str):
        return "bad_value"
    data = value.encode()
    if not 1 <= len(data) <= ID_LIMIT_BYTES or min(data) < 0x20:
        return "bad_id"
    return None


def _required_ids(topic: str, value: dict) -> list[str]:
    names = ["event_id", "shop_id", "buyer_id"]
    if topic == "orders":
        names.append("order_id")
    elif topic == "refunds":
        names += ["order_id", "refund_id"]
    elif value.get("kind") in ("AGENT_MESSAGE", "RATING"):
        names.append("agent_id")
    return names


def _bad_ids(topic: str, value: dict) -> set[str]:
    """The problems of all ids of a record; an id of a wrong type is a matter of values, tested later."""
    problems = {_id_problem(value.get(name)) for name in _required_ids(topic, value)}
    if topic == "chat":
        agents = [value[n] for n in ("agent_id", "to_agent_id") if value.get(n) is not None]
        problems |= {_id_problem(agent) for agent in agents}
        if value.get("kind") == "TRANSFER" and not agents:
            problems.add("bad_id")
    return problems


def _required_fields(topic: str, kind) -> list[str]:
    if topic == "chat":
        return ["kind", "event_time"] + (["rating"] if kind == "RATING" else [])
    names = ["status", "event_time"]
    if topic == "orders":
        if kind in ("CREATED", "PAID"):
            names += ["amount_fen", "item_count"]
        elif kind == "DEPOSIT_PAID":
            names.append("amount_fen")
    elif kind == "REQUESTED":
        names += ["amount_fen", "reason", "phase"]
    elif kind == "SUCCEEDED":
        names.append("amount_fen")
    return names


def _is_text(value) -> bool:
    return isinstance(value, str)


def _is_boolean(value) -> bool:
    return isinstance(value, bool)


def _one_of(symbols):
    return lambda value: isinstance(value, str) and value in symbols


def _between(least, most):
    return lambda value: _is_integer(value) and least <= value <= most


def _is_text_list(value) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_FEN = _between(0, FEN_LIMIT)
_ITEMS = _between(0, ITEMS_LIMIT)


def _value_tests(topic: str, kind: str) -> list[tuple[str, object]]:
    """The fields that this kind uses, with what their values must be."""
    tests = [("event_time", _is_integer)]
    if topic == "chat":
        tests += [("text", _is_text), ("sku_id", _is_text), ("source", _is_text)]
        tests += {
            "BUYER_MESSAGE": [("spam", _is_boolean)],
            "ROBOT_MESSAGE": [("robot_kind", _one_of(ROBOT_KINDS))],
            "AGENT_MESSAGE": [("assisted", _is_boolean)],
            "RATING": [("rating", _between(1, 5))],
        }.get(kind, [])
    elif topic == "orders":
        tests += [("order_created_at", _is_integer), ("sku_ids", _is_text_list), ("fake", _is_boolean), ("source", _is_text)]
        if kind in ("CREATED", "PAID"):
            tests += [("amount_fen", _FEN), ("item_count", _ITEMS)]
        elif kind == "DEPOSIT_PAID":
            tests.append(("amount_fen", _FEN))
    else:
        tests += [("reason", _one_of(REASONS)), ("phase", _one_of(PHASES))]
        if kind in ("REQUESTED", "SUCCEEDED"):
            tests.append(("amount_fen", _FEN))
    return tests


VALUE_TESTS = {(topic, kind): _value_tests(topic, kind) for topic, ranks in RANKS.items() for kind in ranks}
KIND_FIELD = {"chat": "kind", "orders": "status", "refunds": "status"}


def _undecodable(record: dict, line: str) -> bool:
    value = record.get("value")
    if not isinstance(value, dict):
        return True
    if len(line) * 4 <= RECORD_LIMIT_BYTES and "\\u" not in line:
        return False
    try:
        compact = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return len(compact) > RECORD_LIMIT_BYTES


def dead_reason(topic: str, record: dict, line: str, clock: int | None) -> str | None:
    """Why a record is a dead letter, or None. `clock` already counts the record itself."""
    timestamp = record.get("timestamp_ms")
    if timestamp is None or timestamp < 0:
        return "bad_timestamp"
    if _undecodable(record, line):
        return "undecodable"
    value = record["value"]
    id_problems = _bad_ids(topic, value)
    if "bad_id" in id_problems:
        return "bad_id"
    kind = value.get(KIND_FIELD[topic])
    if any(value.get(name) is None for name in _required_fields(topic, kind)):
        return "missing_field"
    if "bad_value" in id_problems or not isinstance(kind, str) or kind not in RANKS[topic]:
        return "bad_value"
    for name, test in VALUE_TESTS[topic, kind]:
        field = value.get(name)
        if field is not None and not test(field):
            return "bad_value"
    if value["event_time"] > clock + FUTURE_SKEW:
        return "future"
    if value["event_time"] < clock - ORDER_RETENTION:
        return "too_old"
    return None


def _read_records(path: str):
    with open(path, encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                position = (record["partition"], record.get("generation", 1), record["offset"])
                if type(record.get("timestamp_ms")) not in (int, type(None)):
                    raise TypeError("timestamp_ms is not an integer")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DumpError(f"{path}:{number}: not a record of a dump: {error}") from error
            yield record, position, line


def _value_bytes(record: dict) -> bytes | None:
    """The record's value as bytes: those of `raw`, or `value` as compact JSON (with the original spacing and escapes lost)."""
    if "raw" in record:
        try:
            return base64.b64decode(record["raw"], validate=True)
        except (binascii.Error, TypeError) as error:
            raise DumpError(f"raw of partition {record['partition']} offset {record['offset']} is not base64: {error}") from error
    value = record.get("value")
    return None if value is None else json.dumps(value, separators=(",", ":")).encode()


def _late_row(topic, reason, event: Event) -> dict:
    return {
        "topic": topic, "partition": event.partition, "generation": event.generation, "offset": event.offset, "reason": reason,
        "shop_id": event.get("shop_id"), "event_id": event.get("event_id"), "kind": event.kind, "event_time": event.true_time, "clock": event.clock,
    }


def _accept_topic(topic: str, path: str, accepted: Accepted) -> list[Event]:
    clocks: dict[int, int] = {}
    events: list[Event] = []
    for record, position, line in _read_records(path):
        timestamp = record.get("timestamp_ms")
        partition = position[0]
        if timestamp is not None and timestamp >= 0:
            clocks[partition] = max(timestamp, clocks.get(partition, 0))
        clock = clocks.get(partition)
        reason = dead_reason(topic, record, line, clock)
        if reason is not None:
            place = {"topic": topic, "partition": partition, "generation": position[1], "offset": position[2]}
            accepted.dead_letters.append({**place, "reason": reason, "value": _value_bytes(record)})
            continue
        fields = record["value"]
        kind = fields[KIND_FIELD[topic]]
        time = fields["event_time"]
        if topic == "chat":
            event = Event(fields, kind, RANKS[topic][kind], time, clock, position)
            if clock - time > LATENESS_CHAT:
                accepted.late_events.append(_late_row(topic, "late", event))
                continue
        else:
            event = Event(fields, kind, RANKS[topic][kind], max(time, clock - LATENESS_MONEY), clock, position)
            if event.t > time:
                accepted.late_events.append(_late_row(topic, "raised", event))
        events.append(event)
    return events


def _without_duplicates(events: list[Event]) -> list[Event]:
    kept: dict[tuple[str, str], Event] = {}
    for event in events:
        key = (event.get("shop_id"), event.get("event_id"))
        other = kept.get(key)
        if other is None or (event.clock, event.partition, event.generation, event.offset) < (other.clock, other.partition, other.generation, other.offset):
            kept[key] = event
    return list(kept.values())


def read_dump(directory: str) -> Accepted:
    """All events of a dump. A missing file is an error; an empty one is an empty topic."""
    accepted = Accepted()
    topics = {}
    for topic in RANKS:
        topics[topic] = _accept_topic(topic, os.path.join(directory, f"{topic}.ndjson"), accepted)
    topics["chat"] = _without_duplicates(topics["chat"])
    for events in topics.values():
        events.sort(key=lambda event: event.order)
    accepted.chat, accepted.orders, accepted.refunds = topics["chat"], topics["orders"], topics["refunds"]
    return accepted
