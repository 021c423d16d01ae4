"""Importing members, against what the database does with the same rows when they are clean, and against the stock tool.

The bare rows go into an identical table of the same database: by COPY and one upsert on PostgreSQL, by `executemany` of
an upsert on SQLite. All take turns, and each measure is the median of three.
"""

import csv
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import tablib
from django.core.management import call_command
from django.db import connection, transaction
from import_export.fields import Field
from import_export.resources import ModelResource
from import_export.widgets import ForeignKeyWidget

from loyalty.models import Member, Site
from tests.bench.measuring import Row, in_child

MEMBERS = 1_000_000
# The sizes whose time per row and whose peak of memory are compared.
SMALL, MIDDLE, LARGE = 100_000, 500_000, 5_000_000
STOCK_MEMBERS = 20_000
REPEATS = 3
_COLUMNS = ("phone", "email", "external_id", "first_name", "last_name", "tier", "points", "birth_date", "opt_in_status")
_AREAS = ("212", "305", "312", "404", "415", "617", "206", "770")
_CHANGED_OF = 20


def members(count: str = str(MEMBERS)) -> list[Row]:
    """Upsert and import so many fresh people in turns, then the same files again with 5 % of the rows changed."""
    size = int(count)
    site = _site("1000001")
    is_sqlite = connection.vendor == "sqlite"
    upsert = _executemany if is_sqlite else _copy_and_upsert
    _create_bare_table()
    new, changed = [], []
    for run in range(REPEATS):
        path = _file(f"members-{run}.csv", _people(size, run))
        new.append((_import(site, path), upsert(site, path)))
        path = _file(f"changed-{run}.csv", _people(size, run, changed=True))
        changed.append((_import(site, path), upsert(site, path)))
    baseline = "bare executemany upsert on SQLite" if is_sqlite else "COPY + upsert"
    return [
        _ratio(f"import {size:,} new members ÷ {baseline}", new, at_most=1.8 if is_sqlite else 1.5),
        _ratio(f"the same with 5 % changed ÷ {baseline}", changed, at_most=1.8 if is_sqlite else 1.5),
    ]


def sizes(small: str = str(SMALL), middle: str = str(MIDDLE), large: str = str(LARGE)) -> list[Row]:
    """Compare imports of three sizes, each in a process of its own."""
    found = {}
    for number, size in enumerate((small, middle, large)):
        seconds, peak = in_child("importing.one_import", str(1_000_001 + number), size)
        found[size] = (seconds.value, peak.value)
    per_row = (found[large][0] / int(large)) / (found[middle][0] / int(middle))
    seconds, peak = found[large]
    return [
        Row(f"time per row, import of {int(large):,} ÷ {int(middle):,}", per_row, at_most=1.3, note=f"{seconds:.0f} s"),
        Row(f"peak memory, {int(large):,} rows ÷ {int(small):,}", peak / found[small][1], at_most=1.1),
        Row(f"peak memory of the import of {int(large):,} rows, MiB", peak, at_most=150),
    ]


def one_import(site_id: str, size: str) -> list[Row]:
    """Import so many people into a new site; the seconds, and this process's peak of memory in MiB."""
    seconds = _import(_site(site_id), _file(f"{site_id}.csv", _people(int(size), 0)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [Row("seconds", seconds, at_least=0), Row("peak memory, MiB", peak, at_least=0)]


def against_stock(count: str = str(STOCK_MEMBERS)) -> list[Row]:
    """Import people as we do, and then others as django-import-export's admin does: a dry run, and the import.

    The stock import comes last: its savepoint for each row leaves a trail on the site's row that slows later writers.
    """
    size = int(count)
    site = _site("1000001")
    ours = [_import(site, _file(f"members-{run}.csv", _people(size, run))) for run in range(1, REPEATS + 1)]
    dataset = tablib.Dataset(*([site.site_id, *person] for person in _people(size, 0)), headers=["site", *_COLUMNS])
    started = time.perf_counter()
    for dry_run in (True, False):
        result = _StockResource().import_data(dataset, dry_run=dry_run)
        assert not result.has_errors()
    stock = time.perf_counter() - started
    seconds = statistics.median(ours)
    measure = f"django-import-export ÷ import of {size:,} members on {connection.vendor}"
    return [Row(measure, stock / seconds, at_least=100, note=f"{stock:.1f} ÷ {seconds:.2f} s")]


class _StockResource(ModelResource):
    site = Field("site", "site", ForeignKeyWidget(Site, "site_id"))

    class Meta:
        model = Member
        fields: ClassVar = ("site", *_COLUMNS)
        import_id_fields = ("site", "phone")


def _site(site_id: str) -> Site:
    return Site.objects.create(site_id=site_id, client_name="Harbor Goods")


def _people(count: int, run: int, *, changed: bool = False) -> Iterator[list[str]]:
    """Yield the people of a run, always the same; `changed` gives each twentieth of them other points."""
    for number in range(count):
        area = _AREAS[(number + run) % len(_AREAS)]
        phone = f"+1{area}{2_000_000 + run * count + number:07d}"
        points = 5000 if changed and not number % _CHANGED_OF else number % 5000
        yield [phone, f"member{run}.{number}@example.com", f"M{run}-{number}", "Ada", "Example", "Gold",
               str(points), "1990-12-10", "YES"]  # fmt: skip


def _file(name: str, people: Iterator[list[str]]) -> Path:
    path = Path(os.environ["DATA_DIR"]) / name
    with path.open("w") as file:
        file.write(",".join(_COLUMNS) + "\n")
        file.writelines(",".join(person) + "\n" for person in people)
    return path


def _import(site: Site, path: Path) -> float:
    return _seconds(lambda: call_command("import_members", "--site", site.site_id, str(path), stdout=sys.stderr))


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _ratio(measure: str, pairs: list[tuple[float, float]], *, at_most: float) -> Row:
    ours, bare = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    return Row(measure, ours / bare, at_most=at_most, note=f"{ours:.1f} ÷ {bare:.1f} s")


# --- What the databases do by themselves ------------------------------------------------------------------------------

_NAMES = ", ".join(_COLUMNS)
_CHANGES = ", ".join(f"{name} = EXCLUDED.{name}" for name in _COLUMNS if name != "phone")
_UPSERT = (
    f"INSERT INTO bare (site_id, {_NAMES}, time_zone, state, extended_attributes, joined_at, created_at, updated_at)"
    f" {{rows}} ON CONFLICT (site_id, phone) DO UPDATE SET {_CHANGES}"
)


def _create_bare_table() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("CREATE TABLE bare (LIKE loyalty_member INCLUDING ALL)")
            cursor.execute(f"CREATE UNLOGGED TABLE staged AS SELECT {_NAMES} FROM loyalty_member LIMIT 0")
            return
        cursor.execute("SELECT sql FROM sqlite_master WHERE tbl_name = 'loyalty_member' AND sql IS NOT NULL")
        for number, (statement,) in enumerate(cursor.fetchall()):
            kind, _name, rest = statement.split('"', 2)
            name = "bare" if kind == "CREATE TABLE " else f"bare_{number}"
            cursor.execute(f'{kind}"{name}"{rest}'.replace('"loyalty_member"', '"bare"'))


def _copy_and_upsert(site: Site, path: Path) -> float:
    """Let PostgreSQL copy and upsert the rows as fast as it can; return the seconds."""
    started = time.perf_counter()
    with connection.cursor() as cursor, path.open("rb") as file:
        cursor.execute("TRUNCATE staged")
        with cursor.copy(f"COPY staged ({_NAMES}) FROM STDIN WITH (FORMAT csv, HEADER)") as copy:
            while block := file.read(1 << 20):
                copy.write(block)
        cursor.execute(
            _UPSERT.format(rows=f"SELECT {site.pk}, {_NAMES}, '', '', '{{}}', now(), now(), now() FROM staged")
        )
    return time.perf_counter() - started


def _executemany(site: Site, path: Path) -> float:
    """Let SQLite upsert the rows as fast as it can, in one transaction; return the seconds."""
    now = "2026-11-01 10:00:00"
    marks = ", ".join("?" * len(_COLUMNS))
    values = f"VALUES ({site.pk}, {marks}, '', '', '{{}}', '{now}', '{now}', '{now}')"
    started = time.perf_counter()
    with path.open(newline="") as file, transaction.atomic():
        rows = csv.reader(file)
        next(rows)
        assert connection.connection is not None
        connection.connection.executemany(_UPSERT.format(rows=values), rows)
    return time.perf_counter() - started
