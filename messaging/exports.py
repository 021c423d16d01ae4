"""The message log as a spreadsheet, and the one way to run every kind of export job."""

from collections.abc import Iterator, Mapping
from datetime import datetime, time, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _

from attentive_integration.phones import spellings
from loyalty import exports
from loyalty.exports import ExportRefused
from loyalty.exports.files import publication, spreadsheet_header, spreadsheet_rows
from loyalty.exports.query_streams import in_zone, stream_rows
from loyalty.exports.segment_files import Progress
from loyalty.models import ExportJob, Site
from loyalty.models.scope import Someone
from messaging import reasons
from messaging.models import Message

# Column → where it comes from; times are told in the site's zone.
COLUMNS = {
    "created_at": "created_at",
    "campaign": "campaign__name",
    "action": "action__action_type__code",
    "activity_id": "action__activity_id",
    "external_id": "member__external_id",
    "to": "to",
    "text": "body",
    "state": "state",
    "reason": "reason",
    "attempts": "attempt_count",
    "due_at": "due_at",
    "expires_at": "expires_at",
    "sent_at": "sent_at",
    "confirmed_at": "confirmed_at",
}
FILTERS = ("state", "reason", "campaign", "phone", "from", "to")


def messages_of(site: Site, filters: Mapping[str, Any]) -> QuerySet[Message]:
    """Return the site's messages that the filters keep, the newest first.

    Filters: `state` and `reason` (a code or a list of them), `campaign` (id), `phone` (any spelling), `from` and `to`
    (days of the site's zone in which the message was made, such as 2026-11-01, both included). Raises `ExportRefused`
    with a sentence for others.
    """
    for name in filters:
        if name not in FILTERS:
            raise ExportRefused(
                _("Unknown filter “%(name)s”. Known are: %(known)s.")
                % {"name": str(name)[:60], "known": ", ".join(FILTERS)}
            )
    messages = Message.objects.filter(site=site)
    for name in ("state", "reason"):
        if wanted := filters.get(name):
            messages = messages.filter(**{f"{name}__in": _codes(name, wanted)})
    if campaign := filters.get("campaign"):
        messages = messages.filter(campaign_id=_number("campaign", campaign))
    if phone := filters.get("phone"):
        messages = messages.filter(to=spellings(str(phone), site.default_country) or "")
    if first := filters.get("from"):
        messages = messages.filter(created_at__gte=_start(site, "from", first))
    if last := filters.get("to"):
        messages = messages.filter(created_at__lt=_start(site, "to", last, days=1))
    return messages.order_by("-created_at")


def _codes(name: str, wanted: Any) -> list[str]:
    codes = wanted if isinstance(wanted, list) else [wanted]
    if not all(isinstance(code, str) and code.isprintable() for code in codes):
        raise ExportRefused(_("“%(name)s” must be a code or a list of codes.") % {"name": name})
    return codes


def _number(name: str, value: Any) -> int:
    if not str(value).isdecimal():
        raise ExportRefused(_("“%(name)s” must be a number.") % {"name": name})
    return int(value)


def _start(site: Site, name: str, day: Any, days: int = 0) -> datetime:
    try:
        parsed = parse_date(day) if isinstance(day, str) else None
    except ValueError:
        parsed = None
    if parsed is None:
        raise ExportRefused(_("“%(name)s” must be a day such as 2026-11-01.") % {"name": name})
    return datetime.combine(parsed + timedelta(days=days), time.min, ZoneInfo(site.time_zone))


def start_message_export(site: Site, filters: Mapping[str, Any] | None = None, by: Someone = None) -> ExportJob:
    """Make a PENDING job for the site's message log, narrowed by the filters of `messages_of`.

    Raises `ExportRefused`.
    """
    chosen = {name: value for name, value in (filters or {}).items() if value not in (None, "", [])}
    messages_of(site, chosen)
    return exports.start_export(site, kind=ExportJob.Kind.MESSAGES, options={"filters": chosen}, by=by)


def run_export(job: ExportJob) -> ExportJob:
    """Carry out an export job of any kind and return it as it ended, see `loyalty.exports.run_export`."""
    return exports.run_export(job, _write_messages_job if job.kind == ExportJob.Kind.MESSAGES else None)


def run_due() -> int:
    """Carry out the export jobs that wait, oldest first, delete the files whose time is over; return how many ran."""
    ran = 0
    for pk in list(exports.due_jobs().values_list("pk", flat=True)):
        job = ExportJob.objects.select_related("site", "segment").filter(pk=pk).first()
        if job is not None:
            run_export(job)
            ran += 1
    exports.delete_expired()
    return ran


def _write_messages_job(job: ExportJob, folder: Path, progress: Progress) -> dict[str, Any]:
    site, filters = job.site, job.options.get("filters", {})
    zone = ZoneInfo(site.time_zone)
    now = timezone.now().astimezone(zone)
    sql, parameters = messages_of(site, filters).values_list(*COLUMNS.values()).query.sql_with_params()
    stem = f"{site.site_id}_messages_{now:%Y%m%d}"
    names = (f"{stem}_{number}.csv" for number in count(1))
    with publication(folder, lambda _part: next(names), header=spreadsheet_header([*COLUMNS, "explanation"])) as target:
        for lines in spreadsheet_rows(_cells(stream_rows(sql, parameters), zone)):
            target.parts.add(lines)
            progress(target.parts.rows)
        facts = {
            "format": job.format,
            "site_id": site.site_id,
            "filters": filters,
            "made_at": now.isoformat(timespec="seconds"),
            "total": target.parts.rows,
            "left_out": {},
        }
        return target.show(facts, lambda _path: False)


def _cells(rows: Iterator[tuple[Any, ...]], zone: ZoneInfo) -> Iterator[list[object]]:
    reason = list(COLUMNS).index("reason")
    titles: dict[str, str] = {"": ""}
    for row in rows:
        cells: list[object] = [_local(cell, zone) if isinstance(cell, datetime) else cell for cell in row]
        code = row[reason]
        if code not in titles:
            titles[code] = reasons.explain(code).title
        yield [*cells, titles[code]]


def _local(moment: datetime, zone: ZoneInfo) -> str:
    return in_zone(moment, zone).isoformat(sep=" ", timespec="seconds")
