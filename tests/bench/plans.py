"""Which queries read much of a large table, whatever they return: PostgreSQL is asked to explain them."""

from typing import Any

from django.db import connection, transaction

from tests.bench.seeding import LARGE

# Lists and figures stop at ten thousand rows; who reads ten times as many of a large table scans it, index or not.
MOST_ROWS = 100_000


def large_reads(queries: list[tuple[str, Any]]) -> list[str]:
    """Run these queries again, without effect, and say which read more than MOST_ROWS rows of a large table."""
    large = {model._meta.db_table for model in LARGE}
    reads = []
    for sql, params in queries:
        if not sql.lstrip("( ").startswith(("SELECT", "WITH", "UPDATE")):
            continue
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}", params)
            plan = cursor.fetchone()[0][0]
            transaction.set_rollback(True)
        waiting = [plan["Plan"]]
        while waiting:
            node = waiting.pop()
            waiting += node.get("Plans", [])
            removed = sum(value for key, value in node.items() if key.startswith("Rows Removed by"))
            read = round((node["Actual Rows"] + removed) * node["Actual Loops"])
            if node.get("Relation Name") in large and read > MOST_ROWS:
                what = f"{node['Node Type']} of {read:,} rows of {node['Relation Name']}"
                reads.append(f"{what}, {plan['Execution Time']:.0f} ms: …{sql[-300:]}")
    return reads
