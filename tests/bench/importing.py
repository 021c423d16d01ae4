"""Importing members on PostgreSQL, against COPY and one upsert of the same rows, clean, into an identical table.

Both take turns on the same server; each measure is the median of three.
"""

import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from django.core.management import call_command
from django.db import connection

from loyalty.models import Site
from tests.bench.measuring import Row

MEMBERS = 200_000
REPEATS = 3
_COLUMNS = ("phone", "email", "external_id", "first_name", "last_name", "tier", "points", "birth_date", "opt_in_status")
_AREAS = ("212", "305", "312", "404", "415", "617", "206", "770")


def _people(members: int, run: int) -> Iterator[list[str]]:
    for number in range(members):
        area = _AREAS[(number + run) % len(_AREAS)]
        phone = f"+1{area}{2_000_000 + run * members + number:07d}"
        yield [phone, f"member{run}.{number}@example.com", f"M{run}-{number}", "Ada", "Example", "Gold",
               str(number % 5000), "1990-12-10", "YES"]  # fmt: skip


def new_members() -> list[Row]:
    """Upsert and import fresh people in turns; medians, and this process's peak of memory."""
    out = Path(os.environ["DATA_DIR"])
    site = Site.objects.create(site_id="1000001", client_name="Harbor Goods")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bare (LIKE loyalty_member INCLUDING ALL)")
        cursor.execute(f"CREATE UNLOGGED TABLE staged AS SELECT {', '.join(_COLUMNS)} FROM loyalty_member LIMIT 0")
    upserts, imports = [], []
    for run in range(REPEATS):
        path = out / f"members-{run}.csv"
        with path.open("w") as file:
            file.write(",".join(_COLUMNS) + "\n")
            file.writelines(",".join(person) + "\n" for person in _people(MEMBERS, run))
        upserts.append(_upsert(site.pk, path))
        started = time.perf_counter()
        call_command("import_members", "--site", site.site_id, str(path), stdout=sys.stderr)
        imports.append(time.perf_counter() - started)
    seconds = statistics.median(imports)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    measure = f"import {MEMBERS:,} new members ÷ COPY + upsert of the same rows"
    return [
        Row(measure, seconds / statistics.median(upserts), at_most=1.5, note=f"{seconds:.1f} s"),
        Row("peak memory of the import, MiB", peak, at_most=150),
    ]


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
