"""The comparison must find what is wrong, and nothing else: `python -m unittest discover -s tests/oracle`.

A dump made here goes through the oracle, its tables are laid out as the product would publish them, and one thing at a time is spoilt.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import io
import json
import os
import tempfile
import unittest

import pyarrow as pa
import pyarrow.parquet as pq

import compare
import oracle
from tables import KEYS, types_of

T = 1_762_790_400_000  # 2025-11-11 00:00 +08:00
LOCAL = datetime.timezone(datetime.timedelta(hours=8))


def _chat(offset, seconds, kind, **fields):
    event = {"event_id": f"c{offset}", "shop_id": "s", "buyer_id": "b", "kind": kind, "event_time": T + seconds * 1000, **fields}
    return {"partition": 0, "offset": offset, "timestamp_ms": T + max(seconds, 0) * 1000, "value": event}


def _order(offset, seconds, status, **fields):
    event = {"event_id": f"o{offset}", "shop_id": "s", "buyer_id": "b", "order_id": "o", "status": status, "event_time": T + seconds * 1000, **fields}
    return {"partition": 0, "offset": offset, "timestamp_ms": T + seconds * 1000, "value": event}


def write_dump(directory):
    bought = {"amount_fen": 9900, "item_count": 2}
    chat = [
        _chat(0, 10, "BUYER_MESSAGE", agent_id="a"), _chat(1, 35, "AGENT_MESSAGE", agent_id="a"), _chat(2, 3600, "BUYER_MESSAGE"),
        _chat(3, 3700, "RATING", agent_id="a", rating=5), _chat(4, -3600, "BUYER_MESSAGE"), _chat(5, 3800, "NO_SUCH_KIND"),
    ]
    orders = [_order(0, 60, "CREATED", **bought), _order(1, 120, "PAID", **bought)]
    refund = {**_order(0, 9000, "REQUESTED", amount_fen=9900, reason="SIZE", phase="AFTER_RECEIPT", refund_id="r")}
    for name, records in (("chat", chat), ("orders", orders), ("refunds", [refund])):
        with open(os.path.join(directory, f"{name}.ndjson"), "w", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)


def dt_of(table, row):
    if table == "buyer_days":
        return row["day"].isoformat()
    column = {"reply_rounds": "t0", "orders": "created_at", "refunds": "requested_at", "late_events": "event_time"}.get(table, "window_start")
    return datetime.datetime.fromtimestamp(row[column] / 1000, LOCAL).date().isoformat()


def publish(tables, directory):
    """Writes rows as the product does; each row is a dict with position, maturity and dt."""
    for table, rows in tables.items():
        by_dt = {}
        for row in rows:
            by_dt.setdefault(row.get("dt"), []).append({k: v for k, v in row.items() if k != "dt"})
        for dt, part in by_dt.items():
            where = os.path.join(directory, table, *([] if dt is None else [f"dt={dt}"]))
            os.makedirs(where)
            columns = {name: pa.array([row[name] for row in part]) for name in part[0]}
            for name, kind in types_of(table).items():
                if name.endswith("_at") or name in ("t0", "a0", "window_start"):
                    columns[name] = pa.array([row[name] for row in part], pa.timestamp("ms", "UTC"))
                elif kind == "text":
                    columns[name] = pa.array([row[name] for row in part], pa.string()).dictionary_encode()
            pq.write_table(pa.table(columns), os.path.join(where, "part.parquet"))


def as_published(directory):
    tables = {}
    offset = 0
    for table in KEYS:
        tables[table] = pq.read_table(os.path.join(directory, f"{table}.parquet")).to_pylist()
        for row in tables[table]:
            if table == "dead_letters":
                row.update(key=None, headers=None)
                continue
            offset += 1
            row.update(dt=dt_of(table, row), policy="default", maturity="final", published_at=T, log_partition=0, log_offset=offset, log_index=0)
    return tables


class CompareTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.expected = os.path.join(cls.scratch.name, "oracle")
        write_dump(cls.scratch.name)
        with contextlib.redirect_stdout(io.StringIO()):
            assert oracle.main([cls.scratch.name, cls.expected]) == 0
        cls.tables = as_published(cls.expected)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def run_compare(self, tables, *arguments):
        with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()) as printed:
            publish(tables, out)
            first = [self.expected] if not arguments else list(arguments)
            status = compare.main([*first, out])
        return status, printed.getvalue()

    def spoilt(self, table, spoil):
        tables = copy.deepcopy(self.tables)
        spoil(tables[table])
        status, printed = self.run_compare({table: tables[table]}, "--tables", table, "--", self.expected)
        self.assertEqual(status, 1, printed)
        return printed

    def test_every_table_has_rows(self):
        self.assertEqual([table for table, rows in self.tables.items() if not rows], [])

    def test_equal(self):
        status, printed = self.run_compare(self.tables)
        self.assertEqual(status, 0, printed)

    def test_a_wrong_value_in_any_column(self):
        def other(value):
            if isinstance(value, bool):
                return not value
            return value * 2 + 100 if isinstance(value, int) else "0" * 8 if isinstance(value, str) else None

        for table, rows in self.tables.items():
            columns = [name for name in types_of(table) if name not in KEYS[table]]
            filled = {name: next((i for i, row in enumerate(rows) if row[name] is not None), None) for name in columns}

            def spoil(rows, filled=filled):
                for name, at in filled.items():
                    if at is not None:
                        rows[at][name] = other(rows[at][name])

            printed = self.spoilt(table, spoil)
            for name, at in filled.items():
                if at is not None:
                    self.assertIn(f"differing in {name}: 1\n", printed, table)

    def test_missing_and_extra(self):
        self.assertIn("missing: 1", self.spoilt("orders", lambda rows: rows.pop()))
        self.assertIn("extra: 1", self.spoilt("orders", lambda rows: rows.append({**rows[0], "order_id": "other", "log_offset": 900})))

    def test_percentiles_have_some_tolerance(self):
        tables = copy.deepcopy(self.tables)
        row = next(row for row in tables["agent_windows"] if row["latency_p50_ms"])
        row["latency_p50_ms"] += row["latency_p50_ms"] // 60
        self.assertEqual(self.run_compare(tables)[0], 0)

    def test_earlier_rows_and_zero_rows_do_not_count(self):
        tables = copy.deepcopy(self.tables)
        row = tables["shop_windows"][0]
        early = {**row, "maturity": "open", "rounds": 77, "log_offset": 0, "log_index": 1}
        nothing = {name: 0 for name, kind in types_of("shop_windows").items() if kind == "int"}
        zeros = {**row, **nothing, "window_start": row["window_start"] + 60_000, "grain": "minute", "log_offset": 901}
        tables["shop_windows"] += [early, zeros]
        status, printed = self.run_compare(tables)
        self.assertEqual(status, 0, printed)

    def test_publication(self):
        again = {"log_offset": 950}
        cases = [
            ("reply_rounds", "published more than once", lambda rows: rows.append({**rows[0], **again})),
            ("late_events", "published more than once", lambda rows: rows.append({**rows[0], **again})),
            ("dead_letters", "published more than once", lambda rows: rows.append(dict(rows[0]))),
            ("orders", "positions that occur more than once", lambda rows: rows.append({**rows[0]})),
            ("orders", "more than one log partition", lambda rows: rows.append({**rows[0], **again, "log_partition": 1})),
            ("orders", "not final", lambda rows: rows[0].update(maturity="open")),
            ("buyer_days", "not final in the end", lambda rows: rows[0].update(maturity="open")),
            ("agent_windows", "open after a final row", lambda rows: rows.append({**rows[0], **again, "maturity": "open"})),
            ("agent_windows", "changed after a final row", lambda rows: rows.append({**rows[0], **again, "rounds": 9})),
            ("reply_rounds", "outside the dt", lambda rows: rows[0].update(dt="2025-11-12")),
            ("buyer_days", "outside the dt", lambda rows: rows[0].update(dt="2025-11-12")),
            ("late_events", "outside the dt", lambda rows: rows[0].update(dt="2025-11-11")),
            ("refunds", "without key, position", lambda rows: rows[0].update(policy=None)),
        ]
        for table, words, spoil in cases:
            with self.subTest(table=table, words=words):
                self.assertIn(words, self.spoilt(table, spoil))

    def test_two_products(self):
        with tempfile.TemporaryDirectory() as other:
            publish(self.tables, other)
            moved = copy.deepcopy(self.tables)
            moved["orders"][0]["log_offset"] += 5000
            self.assertEqual(self.run_compare(self.tables, "--products", other)[0], 0)
            self.assertEqual(self.run_compare(moved, "--products", other)[0], 1)
            self.assertEqual(self.run_compare(moved, "--products", "--ignore-position", other)[0], 0)
            moved["orders"][0]["rule"] = "none"
            self.assertEqual(self.run_compare(moved, "--products", "--ignore-position", other)[0], 1)
            moved["dead_letters"] *= 2
            moved["orders"][0]["rule"] = self.tables["orders"][0]["rule"]
            self.assertEqual(self.run_compare(moved, "--products", "--ignore-position", other)[0], 0)


if __name__ == "__main__":
    unittest.main()
