#!/usr/bin/env python3
"""Compares the product's Parquet with the oracle's tables, or two outputs of the product with each other.

    python compare.py ORACLE_OUT PRODUCT_OUT [--tables T ...] [--utc-offset +08:00] [--examples 5]
    python compare.py --products OUT1 OUT2 [--ignore-position] [--ignore COLUMN ...]

Against the oracle, the current row of every key (highest log offset, then index) must equal the expected row in every column;
latency percentiles within 2 % or 2 ms; a window row whose figures are all zero or null is as good as none. How rows were
published is checked too (`published.py`). A table without any row needs no directory.

Two products: the current rows must be equal in every column, policy and maturity too, and unless --ignore-position also in log
position and publication time. Late events and dead letters are compared as sets of what they say, without either.

Prints a line per table and examples of what is wrong. Exit status 0 equal, 1 different, 2 unusable arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

import duckdb

import published
from policy import PolicyError, parse_utc_offset
from published import POSITION, Unreadable, quoted
from tables import COLUMNS, KEYS, LATENCY_SPREAD, types_of

RELATIVE, ABSOLUTE_MS = 0.02, 2
WINDOWS = ("agent_windows", "shop_windows")
SETS = ("late_events", "dead_letters")
PERCENTILES = [name for name in LATENCY_SPREAD if name != "latency_max_ms"]


class Report:
    """Prints what is wrong and remembers that something was."""

    def __init__(self, examples: int):
        self.examples = examples
        self.failed = False
        self.compared = 0

    def problem(self, what: str, count: int, lines):
        if count:
            self.failed = True
            print(f"  {what}: {count}")
            for line in lines:
                print(f"    {line}")

    def query(self, con, what: str, sql: str):
        """Every row that the query finds is a problem."""
        names, rows = _query(con, sql)
        self.problem(what, len(rows), [_show(names, row) for row in rows[: self.examples]])


def _show(names, row) -> str:
    return ", ".join(f"{name}={value}" for name, value in zip(names, row))


def _query(con, sql: str) -> tuple[list[str], list[tuple]]:
    cursor = con.execute(sql)
    return [column[0] for column in cursor.description], cursor.fetchall()


def _count(con, relation: str) -> int:
    return _query(con, f"SELECT count(*) FROM {relation}")[1][0][0]


def _differs(column: str, tolerant: bool) -> str:
    e, f = f'e."{column}"', f'f."{column}"'
    if tolerant and column in PERCENTILES:
        return f"(({e} IS NULL) <> ({f} IS NULL) OR coalesce(abs({e} - {f}) > greatest({ABSOLUTE_MS}, {RELATIVE} * abs({e})), false))"
    return f"({e} IS DISTINCT FROM {f})"


def same_bytes(one: bytes | None, other: bytes | None) -> bool:
    """Equal, or two spellings of one JSON value: a dump does not keep spacing and escapes. `null` is as good as no value."""
    if one == other:
        return True
    try:
        return json.loads(one or b"null") == json.loads(other or b"null")
    except ValueError:
        return False


def join_tables(con, table: str, columns: list[str], tolerant: bool, published_count: int, report: Report):
    """Compares `expected` and `found`, a row per key each, and prints the table's line."""
    same = " AND ".join(f'e."{name}" = f."{name}"' for name in KEYS[table])
    key = ", ".join(f'e."{name}"' for name in KEYS[table])
    only = "SELECT {key} FROM {a} ANTI JOIN {b} USING ({key}) ORDER BY ALL"
    missing = only.format(key=quoted(KEYS[table]), a="expected", b="found")
    extra = only.format(key=quoted(KEYS[table]), a="found", b="expected")
    joined = f"FROM expected e JOIN found f ON {same}"
    tests = {name: _differs(name, tolerant) for name in columns}
    any_test = " OR ".join(tests.values())
    totals = ", ".join(f"count(*) FILTER ({test})" for test in [any_test, *tests.values()])
    counts = _query(con, f"SELECT {totals} {joined}")[1][0]
    expected_count = _count(con, "expected")
    report.compared += expected_count
    print(f"{table}: expected {expected_count}, found {_count(con, 'found')} (of {published_count} published), "
          f"missing {_count(con, f'({missing})')}, extra {_count(con, f'({extra})')}, differing {counts[0]}")
    report.query(con, "missing", missing)
    report.query(con, "extra", extra)
    by_column = {name: count for name, count in zip(columns, counts[1:]) if count}
    for name, count in sorted(by_column.items(), key=lambda item: -item[1]):
        sql = f'SELECT {key}, e."{name}" AS expected, f."{name}" AS found {joined} WHERE {tests[name]} ORDER BY ALL LIMIT {report.examples}'
        names, rows = _query(con, sql)
        report.problem(f"differing in {name}", count, [_show(names, row) for row in rows])


def compare_values(con, report: Report):
    """The original bytes of dead letters, where both sides have the row."""
    key = KEYS["dead_letters"]
    rows = _query(con, f"SELECT {quoted(key)}, expected.value, found.value FROM expected JOIN found USING ({quoted(key)}) ORDER BY ALL")[1]
    unlike = [row for row in rows if not same_bytes(row[-2], row[-1])]
    names = [*key, "expected", "found"]
    report.problem("differing in value", len(unlike), [_show(names, row) for row in unlike[: report.examples]])


def _load_found(con, directory: str, table: str, name: str):
    """Tables `rows` (all that was published), `current` and, without rows that say nothing, `name`."""
    published.load(con, directory, table, "rows")
    published.make_current(con, table, "rows", "current")
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM current")
    if table in WINDOWS:
        published.drop_zero_windows(con, table, name)


def compare_with_oracle(con, table: str, oracle: str, product: str, utc_offset: int, report: Report):
    published.load_expected(con, oracle, table)
    _load_found(con, product, table, "found")
    join_tables(con, table, [name for name in COLUMNS[table] if name != "value"], True, _count(con, "rows"), report)
    if table == "dead_letters":
        compare_values(con, report)
    for what, sql in published.publication_problems(table, "rows", "current", utc_offset).items():
        report.query(con, what, sql)


def compare_products(con, table: str, one: str, other: str, ignored: set[str], with_position: bool, report: Report):
    _load_found(con, one, table, "expected")
    _load_found(con, other, table, "found")
    columns = [name for name in COLUMNS[table] if name != "value"]
    if table == "dead_letters":
        columns += ["key", "headers"]
    elif table not in SETS:
        columns += ["policy", "maturity"] + ([*POSITION, "published_at"] if with_position else [])
    join_tables(con, table, [name for name in columns if name not in ignored], False, _count(con, "rows"), report)
    if table == "dead_letters" and "value" not in ignored:
        compare_values(con, report)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compares the product's tables with the oracle's, or with another output of the product.")
    parser.add_argument("first", help="what oracle.py wrote; with --products, an output of the product")
    parser.add_argument("second", help="the output of the product to check")
    parser.add_argument("--products", action="store_true", help="both are outputs of the product")
    parser.add_argument("--ignore-position", action="store_true", help="with --products: log positions and publication times may differ")
    parser.add_argument("--ignore", nargs="+", default=[], metavar="COLUMN", help="with --products: columns that may differ")
    parser.add_argument("--tables", nargs="+", default=list(KEYS), choices=list(KEYS), metavar="TABLE")
    parser.add_argument("--utc-offset", default="+08:00", metavar="+HH:MM")
    parser.add_argument("--examples", type=int, default=5)
    args = parser.parse_args(argv)
    known = {name for table in KEYS for name in types_of(table)} | {*POSITION, "policy", "maturity", "published_at", "key", "headers"}
    if unknown := set(args.ignore) - known:
        parser.error(f"--ignore: no such column: {', '.join(sorted(unknown))}")
    for directory in (args.first, args.second):
        if not os.path.isdir(directory):
            parser.error(f"{directory} is not a directory")
    try:
        utc_offset = parse_utc_offset(args.utc_offset)
    except PolicyError as error:
        parser.error(str(error))

    report = Report(args.examples)
    con = duckdb.connect()
    for table in args.tables:
        try:
            if args.products:
                compare_products(con, table, args.first, args.second, set(args.ignore), not args.ignore_position, report)
            else:
                compare_with_oracle(con, table, args.first, args.second, utc_offset, report)
        except (Unreadable, duckdb.Error) as error:
            report.problem(f"{table}: unreadable", 1, [str(error)])
    if not report.compared:
        report.problem("nothing to compare: no table has an expected row", 1, [])
    print("NOT equal" if report.failed else "equal")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
