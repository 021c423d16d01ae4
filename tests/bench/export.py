"""Exports of a million members, against PostgreSQL's own COPY of the same column: `python -m tests.bench.export`.

Each measure is taken in a process of its own, so that its peak memory is the export's; baseline and export take turns.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command
from django.db import connection

from tests.postgres import PostgresCluster

ROOT = Path(__file__).resolve().parent.parent.parent
MEMBERS = 1_000_000
REPEATS = 3

_MEMBERS_SQL = """
INSERT INTO loyalty_member (site_id, phone, email, external_id, first_name, last_name, tier, points, opt_in_status,
    time_zone, state, extended_attributes, joined_at, created_at, updated_at)
SELECT {site}, '+1' || (ARRAY['770','404','212','312','415','206','617','305'])[1 + i % 8] || lpad((2000000 + i)::text,
    7, '0'), 'member' || i || '@example.com', 'M' || i, 'Ada', 'Example', (ARRAY['Gold','Silver','Bronze'])[1 + i % 3],
    i % 5000, 'YES', '', '', '{{}}', now() - (i % 700) * interval '1 day', now(), now()
FROM generate_series(1, {members}) i
"""
_CONSENTS_SQL = """
INSERT INTO loyalty_consent (site_id, channel, address, state, fence, detail, created_at, updated_at{more_columns})
SELECT site_id, 'TEXT', phone, 'SUBSCRIBED', 0, '', now(), now(){more_values} FROM loyalty_member
"""


def rows(members: int = MEMBERS) -> list[dict[str, Any]]:
    """Return the measures of exporting so many members: what was measured, the value, and what it may be at most."""
    with tempfile.TemporaryDirectory(prefix="loyalty-sms-bench-") as folder, PostgresCluster() as cluster:
        environment = {
            **os.environ,
            "DATABASE_URL": cluster.url,
            "DATA_DIR": folder,
            "SECRET_KEY": "for-tests-only-" * 4,
            "FIELD_ENCRYPTION_KEYS": "A" * 43 + "=",
            "DJANGO_SETTINGS_MODULE": "attentive_integration.settings",
        }

        def child(task: str) -> dict[str, Any]:
            command = [sys.executable, "-m", "tests.bench.export", task, "--members", str(members), "--out", folder]
            done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            return json.loads(done.stdout.splitlines()[-1])

        child("seed")
        measured = {form: child(form) for form in ("attentive", "sftp", "spreadsheet")}
    table = []
    for form, found in measured.items():
        seconds = found["export_seconds"]
        if form != "spreadsheet":
            table.append(_row(f"export {members:,}, {form} form ÷ COPY TO of the phones", found["ratio"], 3.0, seconds))
        table.append(_row(f"peak memory of the {form} export, MiB", found["peak_mib"], 100.0, seconds))
    return table


def _row(measure: str, value: float, at_most: float, seconds: float) -> dict[str, Any]:
    return {"measure": measure, "value": round(value, 2), "at_most": at_most, "note": f"{seconds:.1f} s"}


# --- In a child process -----------------------------------------------------------------------------------------------


def seed(members: int) -> None:
    """Fill an empty database with one site whose members may all be texted."""
    from loyalty.models import Consent, Segment, Site  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    site = Site.objects.create(site_id="1000001", client_name="Harbor Goods")
    Segment.objects.create(site=site, name="All", rules={})
    known = {"id", "site_id", "channel", "address", "state", "fence", "detail", "created_at", "updated_at"}
    empty = [f.column for f in Consent._meta.fields if f.column not in known and not f.null]
    with connection.cursor() as cursor:
        cursor.execute(_MEMBERS_SQL.format(site=site.pk, members=members))
        cursor.execute(
            _CONSENTS_SQL.format(
                more_columns="".join(f", {column}" for column in empty), more_values=", ''" * len(empty)
            )
        )
        cursor.execute("VACUUM ANALYZE")


def measure(form: str, out: Path) -> dict[str, float]:
    """Export the segment and copy its phones in turns; medians in seconds, and this process's peak in MiB."""
    from loyalty.exports.segment_files import write_segment  # noqa: PLC0415
    from loyalty.models import Segment  # noqa: PLC0415

    segment = Segment.objects.select_related("site").get()
    copies, exports = [], []
    for _ in range(REPEATS):
        copies.append(_copy(segment.site_id, out / "copy.csv"))
        started = time.perf_counter()
        write_segment(segment, out / form, form)
        exports.append(time.perf_counter() - started)
    return {
        "ratio": statistics.median(exports) / statistics.median(copies),
        "export_seconds": statistics.median(exports),
        "copy_seconds": statistics.median(copies),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _copy(site: int, path: Path) -> float:
    """Let PostgreSQL write the phones as fast as it can; return the seconds."""
    started = time.perf_counter()
    statement = f"COPY (SELECT phone FROM loyalty_member WHERE site_id = {site}) TO STDOUT"
    with connection.cursor() as cursor, cursor.copy(statement) as copy, path.open("wb") as file:
        for block in copy:
            file.write(block)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", nargs="?", default="rows", choices=["rows", "seed", "attentive", "sftp", "spreadsheet"])
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.task == "rows":
        for row in rows(options.members):
            print(f"{row['measure']:<62} {row['value']:>8} (at most {row['at_most']})  {row['note']}")
        return
    django.setup()
    if options.task == "seed":
        seed(options.members)
        print("{}")
    else:
        print(json.dumps(measure(options.task, options.out)))


if __name__ == "__main__":
    main()
