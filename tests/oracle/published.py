"""The product's tables as they lie on disk, in DuckDB, and what must hold of the way they were published.

A table is `DIR/<table>/dt=YYYY-MM-DD/*.parquet` (dead letters: `DIR/dead_letters/*.parquet`). `load` brings all its rows into
one DuckDB table with the columns of the definitions in plain types, whatever representation the files chose: dictionaries are
decoded, timestamps become milliseconds, binary ids hex. How rows were published is checked by `publication_problems`; whether
they are right is `compare.py`'s business.
"""

from __future__ import annotations

import glob
import os

from tables import COLUMNS, KEYS, types_of

POSITION = ("log_partition", "log_offset", "log_index")
DAY_MS = 86_400_000
# The column whose business day is the dt; orders and refunds may keep the dt of an earlier state and are not checked.
DAY_OF = {"reply_rounds": "t0", "buyer_days": "day", "agent_windows": "window_start", "shop_windows": "window_start", "late_events": "event_time"}
ONCE = ("reply_rounds", "late_events")
MATURING = ("buyer_days", "agent_windows", "shop_windows")
RESTATED = {
    "net_paid_3d", "refunds", "refund_fen", "refunded_of_cohort_fen", "net_fen", "refund_requests", "refunds_within_promise",
    "refund_promise_decided", "refund_requests_ended",
}


class Unreadable(Exception):
    """The files of a table cannot be read as that table."""


def quoted(names) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _as(name: str, kind: str, have: str) -> str:
    """SQL for a column of a file, in the plain type of the definitions."""
    column = f'"{name}"'
    if kind == "int" and have.startswith("TIMESTAMP"):
        return f"epoch_ms({column})"
    if kind == "text" and have == "BLOB":
        return f"lower(hex({column}))" if name == "buyer_key" else f"decode({column})"
    if kind == "bytes" and have == "VARCHAR":
        return f"encode({column})"
    target = {"int": "BIGINT", "text": "VARCHAR", "bool": "BOOLEAN", "day": "DATE", "bytes": "BLOB"}[kind]
    return f"CAST({column} AS {target})"


def load_expected(con, directory: str, table: str):
    """Table `expected`, from what the oracle wrote."""
    path = os.path.join(directory, f"{table}.parquet")
    if not os.path.exists(path):
        raise Unreadable(f"{path} does not exist; run oracle.py first")
    con.execute(f"CREATE OR REPLACE TEMP TABLE expected AS SELECT {quoted(types_of(table))} FROM read_parquet(?)", [path])


def load(con, directory: str, table: str, name: str):
    """A DuckDB table `name` with all rows ever published, with `dt`, position, maturity, policy and publication time."""
    kinds = dict(types_of(table))
    extra = []
    where = os.path.join(glob.escape(directory), table)
    if table == "dead_letters":
        files = glob.glob(os.path.join(where, "*.parquet"))
        extra = ["key", "headers"]
    else:
        files = glob.glob(os.path.join(where, "dt=*", "**", "*.parquet"), recursive=True)
        kinds.update({**dict.fromkeys(POSITION, "int"), "maturity": "text", "policy": "text", "published_at": "int"})
    if not files:
        empty = [f"{_as_empty(kind)} AS \"{column}\"" for column, kind in kinds.items()] + [f'NULL AS "{c}"' for c in [*extra, "dt"]]
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT {', '.join(empty)} WHERE false")
        return
    options = "union_by_name = true, hive_partitioning = false, filename = true"
    source = f"read_parquet(?, {options})"
    have = {row[0]: row[1] for row in con.execute(f"DESCRIBE SELECT * FROM {source}", [sorted(files)]).fetchall()}
    missing = [column for column in [*kinds, *extra] if column not in have]
    if missing:
        raise Unreadable(f"columns missing: {', '.join(missing)}")
    columns = [f"{_as(column, kind, have[column])} AS \"{column}\"" for column, kind in kinds.items()]
    columns += [f'CAST("{column}" AS VARCHAR) AS "{column}"' for column in extra]
    columns.append("regexp_extract(filename, 'dt=([^/]*)', 1) AS dt")
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT {', '.join(columns)} FROM {source}", [sorted(files)])


def _as_empty(kind: str) -> str:
    return f"CAST(NULL AS { {'int': 'BIGINT', 'text': 'VARCHAR', 'bool': 'BOOLEAN', 'day': 'DATE', 'bytes': 'BLOB'}[kind] })"


def make_current(con, table: str, source: str, name: str):
    """Table `name` with the current row of every key. Of dead letters, which have no position, any of equal rows."""
    order = "1" if table == "dead_letters" else "log_offset DESC, log_index DESC"
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM {source} "
        f"QUALIFY row_number() OVER (PARTITION BY {quoted(KEYS[table])} ORDER BY {order}) = 1"
    )


def drop_zero_windows(con, table: str, name: str):
    """Removes the rows that say what no row says."""
    some = " OR ".join(f'coalesce("{figure}", 0) <> 0' for figure in COLUMNS[table])
    con.execute(f"DELETE FROM {name} WHERE NOT ({some})")


def publication_problems(table: str, source: str, current: str, utc_offset_ms: int) -> dict[str, str]:
    """What can be wrong with published rows: a title and the query that finds it."""
    key = quoted(KEYS[table])
    if table == "dead_letters":
        return {"published more than once": f"SELECT {key}, count(*) AS times FROM {source} GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL"}
    position = quoted(POSITION)
    nulls = " OR ".join(f'"{name}" IS NULL' for name in [*KEYS[table], *POSITION, "maturity", "policy", "published_at"])
    problems = {
        "without key, position, maturity, policy or publication time": f"SELECT {key}, {position} FROM {source} WHERE {nulls} ORDER BY ALL",
        "positions that occur more than once": f"SELECT {position}, count(*) AS times FROM {source} GROUP BY {position} HAVING count(*) > 1 ORDER BY ALL",
        "keys in more than one log partition":
            f"SELECT {key} FROM {source} GROUP BY {key} HAVING count(DISTINCT log_partition) > 1 ORDER BY ALL",
        "neither open nor final": f"SELECT {key}, maturity FROM {source} WHERE maturity NOT IN ('open', 'final') ORDER BY ALL",
    }
    if table in DAY_OF:
        column = DAY_OF[table]
        ms = f'"{column}" + {utc_offset_ms}'
        day = f'"{column}"' if column == "day" else f"DATE '1970-01-01' + CAST(({ms} - (({ms}) % {DAY_MS} + {DAY_MS}) % {DAY_MS}) // {DAY_MS} AS INTEGER)"
        problems["outside the dt of their business day"] = f"SELECT {key}, dt FROM {source} WHERE CAST({day} AS VARCHAR) <> dt ORDER BY ALL"
    if table in ONCE:
        problems["published more than once"] = f"SELECT {key}, count(*) AS times FROM {source} GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL"
    if table not in MATURING:
        problems["not final"] = f"SELECT {key} FROM {source} WHERE maturity <> 'final' ORDER BY ALL"
        return problems
    problems["not final in the end"] = f"SELECT {key} FROM {current} WHERE maturity <> 'final' ORDER BY ALL"
    same = " AND ".join(f'a."{name}" = b."{name}"' for name in KEYS[table])
    first_final = f"(SELECT * FROM {source} WHERE maturity = 'final' QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY log_offset, log_index) = 1)"
    after = f"FROM {source} a JOIN {first_final} b ON {same} AND (a.log_offset, a.log_index) > (b.log_offset, b.log_index)"
    key_of_a = ", ".join(f'a."{name}"' for name in KEYS[table])
    changed = " OR ".join(f'a."{name}" IS DISTINCT FROM b."{name}"' for name in COLUMNS[table] if name not in RESTATED)
    problems["open after a final row"] = f"SELECT {key_of_a} {after} WHERE a.maturity = 'open' ORDER BY ALL"
    problems["changed after a final row, in other than restated figures"] = f"SELECT {key_of_a} {after} WHERE {changed} ORDER BY ALL"
    return problems
