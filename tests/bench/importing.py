"""Importing members on PostgreSQL, against COPY and one upsert of the same rows, clean, into an identical table.

Both take turns on the same server; each measure is the median of three. `python -m tests.bench.importing`.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command
from django.db import connection

from tests.postgres import PostgresCluster

ROOT = Path(__file__).resolve().parent.parent.parent
MEMBERS = 200_000
REPEATS = 3
_COLUMNS = ("phone", "email", "external_id", "first_name", "last_name", "tier", "points", "birth_date", "opt_in_status")
_AREAS = ("212", "305", "312", "404", "415", "617", "206", "770")


def rows(members: int = MEMBERS) -> list[dict[str, Any]]:
    """Return the measures of importing so many members: what was measured, the value, and what it may be at most."""
    with tempfile.TemporaryDirectory(prefix="loyalty-sms-bench-") as folder, PostgresCluster(durable=True) as cluster:
        environment = {
            **os.environ,
            "DATABASE_URL": cluster.url,
            "DATA_DIR": folder,
            "SECRET_KEY": "for-benches-only-" * 4,
            "FIELD_ENCRYPTION_KEYS": "A" * 43 + "=",
            "DJANGO_SETTINGS_MODULE": "attentive_integration.settings",
        }
        command = [sys.executable, "-m", "tests.bench.importing", "measure", "--members", str(members), "--out", folder]
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
    return [
        {
            "measure": f"import {members:,} new members ÷ COPY + upsert of the same rows",
            "value": round(found["ratio"], 2),
            "at_most": 1.5,
            "note": f"{found['import_seconds']:.1f} s",
        },
        {
            "measure": "peak memory of the import, MiB",
            "value": round(found["peak_mib"], 1),
            "at_most": 150.0,
            "note": "",
        },
    ]


def _people(members: int, run: int) -> Iterator[list[str]]:
    for number in range(members):
        area = _AREAS[(number + run) % len(_AREAS)]
        phone = f"+1{area}{2_000_000 + run * members + number:07d}"
        yield [phone, f"member{run}.{number}@example.com", f"M{run}-{number}", "Ada", "Example", "Gold",
               str(number % 5000), "1990-12-10", "YES"]  # fmt: skip


def measure(members: int, out: Path) -> dict[str, float]:
    """Upsert and import fresh people in turns; medians in seconds, and this process's peak in MiB."""
    from loyalty.models import Site  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    site = Site.objects.create(site_id="1000001", client_name="Harbor Goods")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bare (LIKE loyalty_member INCLUDING ALL)")
        cursor.execute(f"CREATE UNLOGGED TABLE staged AS SELECT {', '.join(_COLUMNS)} FROM loyalty_member LIMIT 0")
    upserts, imports = [], []
    for run in range(REPEATS):
        path = out / f"members-{run}.csv"
        with path.open("w") as file:
            file.write(",".join(_COLUMNS) + "\n")
            file.writelines(",".join(person) + "\n" for person in _people(members, run))
        upserts.append(_upsert(site.pk, path))
        started = time.perf_counter()
        call_command("import_members", "--site", site.site_id, str(path), stdout=sys.stderr)
        imports.append(time.perf_counter() - started)
    return {
        "ratio": statistics.median(imports) / statistics.median(upserts),
        "import_seconds": statistics.median(imports),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _upsert(site: int, path: Path) -> float:
    """Let PostgreSQL copy and upsert the rows as fast as it can; return the seconds."""
    names = ", ".join(_COLUMNS)
    changes = ", ".join(f"{name} = EXCLUDED.{name}" for name in _COLUMNS if name != "phone")
    started = time.perf_counter()
    with connection.cursor() as cursor, path.open("rb") as file:
        cursor.execute("TRUNCATE staged")
        with cursor.copy(f"COPY staged ({names}) FROM STDIN WITH (FORMAT csv, HEADER)") as copy:
            while block := file.read(1 << 20):
                copy.write(block)
        cursor.execute(
            f"INSERT INTO bare (site_id, {names}, time_zone, state, extended_attributes, joined_at, created_at,"
            f" updated_at) SELECT {site}, {names}, '', '', '{{}}', now(), now(), now() FROM staged"
            f" ON CONFLICT (site_id, phone) DO UPDATE SET {changes}"
        )
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", nargs="?", default="rows", choices=["rows", "measure"])
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.task == "rows":
        for row in rows(options.members):
            print(f"{row['measure']:<62} {row['value']:>8} (at most {row['at_most']})  {row['note']}")
        return
    django.setup()
    print(json.dumps(measure(options.members, options.out)))


if __name__ == "__main__":
    main()
