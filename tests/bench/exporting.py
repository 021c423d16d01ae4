"""Exports of a million members, against PostgreSQL's own COPY of the same column; both take turns."""

import os
import resource
import statistics
import time
from pathlib import Path

from django.db import connection

from loyalty.exports.segment_files import write_segment
from loyalty.models import Consent, Segment, Site
from tests.bench.measuring import Row, in_child

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


def forms() -> list[Row]:
    """Measure each form of a segment file, in a process of its own."""
    _seed()
    return [row for form in ("attentive", "sftp", "spreadsheet") for row in in_child("exporting.form", form)]


def _seed() -> None:
    """Make one site whose members may all be texted."""
    site = Site.objects.create(site_id="1000001", client_name="Harbor Goods")
    Segment.objects.create(site=site, name="All", rules={})
    known = {"id", "site_id", "channel", "address", "state", "fence", "detail", "created_at", "updated_at"}
    empty = [f.column for f in Consent._meta.fields if f.column not in known and not f.null]
    with connection.cursor() as cursor:
        cursor.execute(_MEMBERS_SQL.format(site=site.pk, members=MEMBERS))
        cursor.execute(
            _CONSENTS_SQL.format(
                more_columns="".join(f", {column}" for column in empty), more_values=", ''" * len(empty)
            )
        )
        cursor.execute("VACUUM ANALYZE")


def form(name: str) -> list[Row]:
    """Export the segment in a form and copy its phones in turns; medians, and this process's peak of memory."""
    out = Path(os.environ["DATA_DIR"])
    segment = Segment.objects.select_related("site").get()
    copies, exports = [], []
    for _ in range(REPEATS):
        copies.append(_copy(segment.site_id, out / "copy.csv"))
        started = time.perf_counter()
        write_segment(segment, out / name, name)
        exports.append(time.perf_counter() - started)
    seconds = statistics.median(exports)
    ratio = seconds / statistics.median(copies)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    memory = Row(f"peak memory of the {name} export, MiB", peak, at_most=100, note=f"{seconds:.1f} s")
    if name == "spreadsheet":
        return [memory]
    measure = f"export {MEMBERS:,}, {name} form ÷ COPY TO of the phones"
    return [Row(measure, ratio, at_most=3, note=f"{seconds:.1f} s"), memory]


def _copy(site: int, path: Path) -> float:
    """Let PostgreSQL write the phones as fast as it can; return the seconds."""
    started = time.perf_counter()
    statement = f"COPY (SELECT phone FROM loyalty_member WHERE site_id = {site}) TO STDOUT"
    with connection.cursor() as cursor, cursor.copy(statement) as copy, path.open("wb") as file:
        for block in copy:
            file.write(block)
    return time.perf_counter() - started
