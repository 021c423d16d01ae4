"""Members from files and from the API: upload, sniff, match columns, check, run, undo.

A file becomes an `ImportJob`: MAPPING (columns are matched) → CHECK (exact counts, nothing written) → IMPORT
→ UNDO, if staff want that. Within a phase the job is PENDING → RUNNING → COMPLETE | FAILED | CANCELLED. `imports.run`
does the work slice by slice.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from loyalty import audit
from loyalty.cells import CLEAR, CellError, PhoneCell
from loyalty.imports.cleaning import Cleaned, PhoneCleaner
from loyalty.imports.files import delete_expired, delete_stored, open_upload, store_upload
from loyalty.imports.rows import MAX_CELL, Dialect, ImportRefused, Slice, slices
from loyalty.imports.run import check_import, due_jobs, job_ahead, run_import
from loyalty.imports.sniffing import survey
from loyalty.imports.undo import undo_import
from loyalty.imports.work import breaks, last_given, merge_repeats, superseded, without_erased, work_for
from loyalty.member_upsert import FIELDS, MemberUpsert
from loyalty.models import ImportIssue, ImportJob, Site
from loyalty.models.scope import Someone, known_user
from loyalty.resources import MEMBER_FIELDS, recognise, resource_for
from loyalty.retrying import retrying

__all__ = [
    "MEMBER_FIELDS",
    "ImportRefused",
    "Outcome",
    "ask_cancel",
    "check_import",
    "delete_expired",
    "discard",
    "due_jobs",
    "job_ahead",
    "propose_mapping",
    "run_import",
    "set_mapping",
    "start_import",
    "undo_import",
    "upsert_members",
]

State = ImportJob.State
Phase = ImportJob.Phase
# Rows that are looked at to guess the columns of a file without header.
_SAMPLE = 50
# How a time of the API says what its zone is.
_OFFSET = re.compile(r"(?:Z|[+-]\d\d:?\d\d)\s*$", re.IGNORECASE | re.ASCII)


def start_import(
    site: Site,
    file: Any,
    file_name: str,
    *,
    kind: str = ImportJob.Kind.MEMBERS,
    by: Someone = None,
    options: Mapping[str, Any] | None = None,
    has_header: bool | None = None,
    resume: bool = False,
) -> ImportJob:
    """Look a file over, store it, and return its job in the phase MAPPING; raises `ImportRefused`.

    `file` is a seekable binary file or an upload. Options: `subscribe` (members: mark new ones TO_ASK), `on_conflict`
    (members: "update", the default, or "reject" where a phone has another loyalty ID), `evidence` (subscribers),
    `trigger` (actions: campaigns may text). Whether there is a header is found out, unless `has_header` tells. With
    `resume`, the job of the same file and options that its process left unfinished is returned instead.
    """
    resource = resource_for(kind, site)
    seen = survey(file, partial(recognise, resource), has_header=has_header)
    if resume and (left := _left_unfinished(site, kind, seen.sha256, dict(options or {}))):
        return left
    job = ImportJob(
        site=site, kind=kind, created_by=known_user(by), file_name=file_name[:255], sha256=seen.sha256, size=seen.size,
        dialect=seen.dialect.as_json(), options=dict(options or {}),
    )  # fmt: skip
    store_upload(job, file)
    job.save()
    audit.record("import.started", site=site, user=by, target=job.file_name)
    return job


def _left_unfinished(site: Site, kind: str, sha256: str, options: dict[str, Any]) -> ImportJob | None:
    running = ImportJob.objects.filter(site=site, kind=kind, sha256=sha256, phase=Phase.IMPORT, state=State.RUNNING)
    return next((job for job in running.order_by("-pk") if job.options == options), None)


def discard(job: ImportJob, *, keep_rejects: bool = False) -> None:
    """Forget a job that has written nothing, with its files; with `keep_rejects` for whoever was told their path."""
    delete_stored(job.file.name)
    if not keep_rejects:
        delete_stored(job.rejects_file.name)
    job.delete()


def propose_mapping(job: ImportJob) -> dict[str, str]:
    """Return file column → field: as matched in the site's last file with the same columns, else by the headers.

    A file without header is matched by what its cells look like; what was matched by hand before joins that where the
    phone and the e-mail stand in the same columns.
    """
    dialect = Dialect.from_json(job.dialect)
    resource = resource_for(job.kind, job.site)
    by_content = {} if dialect.has_header else _by_content(job, dialect)
    if not dialect.has_header and not by_content:
        return {}
    earlier = ImportJob.objects.filter(site=job.site, kind=job.kind).exclude(pk=job.pk).exclude(mapping={})
    columns = dialect.columns_of_theirs
    for known, mapping in earlier.order_by("-pk").values_list("dialect", "mapping")[:20]:
        if Dialect.from_json(known).columns_of_theirs == columns and by_content.items() <= mapping.items():
            return {name: field for name, field in mapping.items() if name in columns}
    return recognise(resource, columns) if dialect.has_header else by_content


def set_mapping(job: ImportJob, mapping: Mapping[str, str]) -> None:
    """Match the file's columns with fields; columns left out are not imported. Raises `ImportRefused`."""
    dialect = Dialect.from_json(job.dialect)
    unknown = [name for name in mapping if name not in dialect.columns]
    if unknown:
        raise ImportRefused(
            _("The file has no column “%(column)s”. It has: %(columns)s.")
            % {"column": unknown[0], "columns": ", ".join(dialect.columns)}
        )
    job.mapping = {name: field for name, field in mapping.items() if field}
    work_for(job).close()
    job.phase, job.state, job.checkpoint = Phase.MAPPING, State.PENDING, {}
    job.save(update_fields=["mapping", "phase", "state", "checkpoint"])


def ask_cancel(job: ImportJob) -> None:
    """Ask the worker to stop after its slice; what was written is kept. A job that nobody works on ends at once."""
    now = timezone.now()
    ImportJob.objects.filter(pk=job.pk, state__in=(State.PENDING, State.RUNNING)).update(cancel_asked_at=now)
    ImportJob.objects.filter(pk=job.pk, state=State.PENDING).update(
        state=State.CANCELLED, ended_at=now, lease_until=None
    )
    job.refresh_from_db()


def _by_content(job: ImportJob, dialect: Dialect) -> dict[str, str]:
    """Match the columns of a file without header: the first that holds phones, and the first that holds e-mails."""
    resource = resource_for(job.kind, job.site)
    with open_upload(job) as file:
        rows = slices(file, dialect, offset=dialect.body, line=dialect.body_line, size=_SAMPLE)
        piece = next(rows, Slice())
    found: dict[str, str] = {}
    for target in ("phone", "email"):
        column = resource.fields.get(target)
        if column is None:
            continue
        cell = column.cell if target == "email" else PhoneCell("", job.site.default_country, job.site.allowed_countries)
        shares = {
            name: sum(_is_clean(cell, row[index]) for row in piece.rows if index < len(row))
            for index, name in enumerate(dialect.columns)
            if name not in found
        }
        best = max(shares, key=lambda name: shares[name], default="")
        if best and shares[best] * 2 > len(piece.rows):
            found[best] = target
    return found


def _is_clean(cell: Any, text: str) -> bool:
    try:
        return bool(text.strip()) and bool(cell.clean_text(text.strip()))
    except CellError:
        return False


# --- Members one by one, for the API ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of one item: created, updated, unchanged, duplicate or rejected (then `error` is a sentence)."""

    status: str
    error: str | None = None


def upsert_members(site: Site, items: Sequence[Any], *, source: str) -> list[Outcome]:
    """Create or update up to a few thousand members, given as objects with MEMBER_FIELDS, and answer each in order.

    The rules are those of files: the phone is the member, what is absent, null or empty stays as it is, `--` empties a
    field, and of several items with one phone the later ones win.
    """
    columns = list(MEMBER_FIELDS)
    cleaner = PhoneCleaner(
        resource_for(ImportJob.Kind.MEMBERS, site), columns, dict(zip(columns, columns, strict=True)), order=FIELDS
    )
    outcomes: dict[int, Outcome] = {}
    piece = Slice()
    for position, item in enumerate(items):
        try:
            cells = _cells(item)
        except CellError as error:
            outcomes[position] = Outcome("rejected", error.sentence)
        else:
            piece.lines.append(position)
            piece.rows.append(cells)
    cleaned = cleaner.clean(piece)
    parts = []
    for part in cleaned.split(breaks(cleaned, cleaner.fields)):
        merge_repeats(part, last_given)
        parts.append(without_erased(site, part, email_at=cleaner.fields.index("email")))
    for issue in chain.from_iterable(part.issues for part in parts):
        status = "duplicate" if issue.kind == ImportIssue.Kind.DUPLICATE else "rejected"
        outcomes[issue.line] = Outcome(status, issue.reason if status == "rejected" else None)
    outcomes.update(retrying(site.pk, lambda: _upsert(site, cleaner, parts)))
    return [outcomes[position] for position in range(len(items))]


@transaction.atomic
def _upsert(site: Site, cleaner: PhoneCleaner, parts: Sequence[Cleaned]) -> dict[int, Outcome]:
    upsert = MemberUpsert(site.pk, cleaner.fields)
    outcomes: dict[int, Outcome] = {}
    met: set[str] = set()
    for part in parts:
        upsert.stage(part.lines, part.rows)
        merged = upsert.match()
        for line, phone, _pk, _ours, status in upsert.outcomes():
            outcomes[line] = Outcome("duplicate" if phone in met else status)
            met.add(phone)
        upsert.write(merged, superseded=superseded(part, cleaner.fields), now=timezone.now())
    return outcomes


def _cells(item: Any) -> list[str]:
    """Return the cells of an item in the order of MEMBER_FIELDS; raises `CellError`."""
    if not isinstance(item, Mapping):
        raise CellError("NOT_AN_OBJECT", _("A member must be a JSON object."))
    unknown = sorted(str(name) for name in set(item) - set(MEMBER_FIELDS))
    if unknown:
        raise CellError(
            "UNKNOWN_FIELD",
            _("Unknown field “%(field)s”. A member may have: %(known)s.")
            % {"field": unknown[0][:60], "known": ", ".join(MEMBER_FIELDS)},
        )
    return [_cell(name, item.get(name)) for name in MEMBER_FIELDS]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) and name == "opt_in_status":
        return "YES" if value else "NO"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) <= 10**30 else "9" * 31
    if not isinstance(value, str) or len(value) > MAX_CELL:
        raise CellError("TYPE", _("“%(field)s” must be text or a whole number.") % {"field": name})
    if name == "joined_at" and value.strip() not in ("", CLEAR) and not _OFFSET.search(value):
        raise CellError("OFFSET", _("“joined_at” has no offset. Write for instance 2026-11-01T10:00:00Z or …-05:00."))
    return value
