"""The steps of an import that a person walks through: look at the columns, change what was detected, ask for the work.

Asking only notes in the job what is wanted; a worker (`imports.run.due_jobs`) does it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.utils.translation import gettext as _

from loyalty.cells import CLEAR, CellError
from loyalty.imports.files import delete_stored, open_upload
from loyalty.imports.rows import Dialect, ImportRefused, slices
from loyalty.imports.run import COUNTERS, ENDED
from loyalty.imports.sniffing import MARKS, describe, note_summary
from loyalty.imports.undo import may_undo
from loyalty.models import ImportJob
from loyalty.resources import column_of, recognise, resource_for
from loyalty.spreadsheets import typed

State, Phase, Kind = ImportJob.State, ImportJob.Phase, ImportJob.Kind

# Rows that are looked at while the columns are matched, and values that are shown of each column.
LOOKED_AT = 1_000
_SAMPLES = 3


@dataclass
class ColumnLook:
    """What the first rows hold in one column: values to show, and how many cells are good, bad or blank."""

    name: str
    target: str = ""
    samples: list[str] = field(default_factory=list)
    good: int = 0
    bad: int = 0
    blank: int = 0
    # The first bad cell: its line, its text, and the sentence that says what to do.
    line: int = 0
    value: str = ""
    sentence: str = ""


@dataclass
class Look:
    """What the first rows of a file look like under a mapping."""

    rows: int
    columns: list[ColumnLook]

    @property
    def bad(self) -> list[ColumnLook]:
        return [column for column in self.columns if column.bad]


def look_ahead(job: ImportJob, mapping: Mapping[str, str]) -> Look:
    """Check the first LOOKED_AT rows, column by column. Raises `ImportRefused` for a file that cannot be read."""
    dialect = Dialect.from_json(job.dialect)
    resource = resource_for(job.kind, job.site)
    looks = [ColumnLook(name, mapping.get(name, "")) for name in dialect.columns]
    checks = []
    for look in looks:
        column = column_of(resource, look.target) if look.target else None
        checks.append(column.cell.clean_text if column else None)
    with open_upload(job) as file:
        piece = next(slices(file, dialect, offset=dialect.body, line=dialect.body_line, size=LOOKED_AT), None)
    rows = piece.rows if piece else []
    for line, cells in zip(piece.lines if piece else [], rows, strict=True):
        for at, (look, check) in enumerate(zip(looks, checks, strict=True)):
            _look_at(look, check, line, cells[at].strip() if at < len(cells) else "")
    return Look(len(rows), looks)


def _look_at(look: ColumnLook, check: Any, line: int, text: str) -> None:
    if not text:
        look.blank += 1
        return
    if len(look.samples) < _SAMPLES:
        look.samples.append(text[:60])
    if check is None:
        return
    text = typed(text)
    try:
        if text != CLEAR:
            check(text)
    except CellError as error:
        look.bad += 1
        if not look.line:
            look.line, look.value, look.sentence = line, text[:60], error.sentence
    else:
        look.good += 1


def change_dialect(job: ImportJob, *, encoding: str, delimiter: str, has_header: bool, has_summary: bool) -> None:
    """Read the file in another way than was detected, and forget the mapping. Raises `ImportRefused`."""
    if not _is_open(job):
        raise ImportRefused(_("The import has begun; how its file is read cannot be changed any more."))
    resource = resource_for(job.kind, job.site)
    known = Dialect.from_json(job.dialect)
    with open_upload(job) as file:
        head = file.read(4)
        start = next((len(mark) for mark, name in MARKS if head.startswith(mark) and name == encoding), 0)
        dialect = describe(
            file, encoding, known=partial(recognise, resource), start=start, delimiter=delimiter, has_header=has_header,
        )  # fmt: skip
    dialect.lines, dialect.last_line = known.lines, known.last_line
    dialect.summary_line = known.last_line if has_summary and known.last_line > dialect.body_line else None
    note_summary(dialect)
    job.dialect, job.mapping, job.phase, job.state, job.checkpoint = (
        dialect.as_json(),
        {},
        Phase.MAPPING,
        State.PENDING,
        {},
    )
    job.save(update_fields=["dialect", "mapping", "phase", "state", "checkpoint"])


def _is_open(job: ImportJob) -> bool:
    """Tell whether nothing of the file was written yet, and nobody works on it."""
    return job.phase == Phase.MAPPING or (job.phase == Phase.CHECK and job.state not in (State.PENDING, State.RUNNING))


def imported_before(job: ImportJob) -> ImportJob | None:
    """Return the latest import of the very same file into this site, None when there was none."""
    same = ImportJob.objects.filter(site=job.site_id, kind=job.kind, sha256=job.sha256, phase=Phase.IMPORT)
    return same.exclude(pk=job.pk).exclude(read=0).select_related("created_by").order_by("-pk").first()


def ask_check(job: ImportJob) -> None:
    """Ask for the full check of a file whose columns are matched; it begins from the first row."""
    _ask(job, Phase.CHECK, ImportJob.objects.filter(phase__in=(Phase.MAPPING, Phase.CHECK)), from_the_start=True)


def ask_import(job: ImportJob, options: Mapping[str, Any]) -> None:
    """Ask for the import of a checked file; `options` (see `start_import`) join those that it has."""
    job.options = {**job.options, **options}
    checked = ImportJob.objects.filter(phase=Phase.CHECK, state=State.COMPLETE)
    _ask(job, Phase.IMPORT, checked, from_the_start=True, options=job.options)


def ask_again(job: ImportJob) -> None:
    """Ask to go on with an import that was cancelled or broke off, from its last slice."""
    stopped = ImportJob.objects.filter(phase=Phase.IMPORT, state__in=(State.CANCELLED, State.FAILED), undone_at=None)
    _ask(job, Phase.IMPORT, stopped, from_the_start=False)


def ask_undo(job: ImportJob) -> None:
    """Ask to undo an import of members that has written, whole or in part."""
    if not may_undo(job):
        raise ImportRefused(_("Nothing of this import can be undone."))
    written = ImportJob.objects.filter(phase=Phase.IMPORT, state__in=ENDED, undone_at=None)
    _ask(job, Phase.UNDO, written, from_the_start=True)


def _ask(job: ImportJob, phase: str, allowed: Any, *, from_the_start: bool, **fields: Any) -> None:
    if from_the_start:
        fields["checkpoint"] = {}
    if from_the_start and phase != Phase.UNDO:
        # The figures of a phase are its own: none of a check is shown as if it had been written.
        fields |= dict.fromkeys(("read", *COUNTERS, "bytes_done"), 0) | {"findings": {}, "rejects_file": ""}
    rejects_file = job.rejects_file.name
    idle = allowed.filter(pk=job.pk).exclude(state=State.RUNNING)
    if not idle.update(phase=phase, state=State.PENDING, cancel_asked_at=None, ended_at=None, error="", **fields):
        raise ImportRefused(_("This import has gone on meanwhile. Nothing was changed; look at its page."))
    if "rejects_file" in fields:
        delete_stored(rejects_file)
    job.refresh_from_db()


def sample_of(kind: str) -> tuple[str, list[list[str]]]:
    """Return the name and the rows of a small file of a kind as it should be, its header first."""
    if kind == Kind.SUBSCRIBERS:
        return "subscribers.csv", [
            ["phone", "subscribed_at"],
            ["+17705550101", "2026-03-14 09:26"],
            ["+14045550102", "2026-05-02 18:00"],
        ]
    if kind == Kind.ACTIONS:
        return "actions.csv", [
            ["activity_id", "action", "phone", "points", "points_delta", "occurred_at"],
            ["a-1001", "109", "+17705550101", "1320", "120", "2026-03-14 09:26"],
            ["a-1002", "BIRTHDAY", "+14045550102", "540", "", "2026-05-02 18:00"],
        ]
    return "members.csv", [
        ["phone", "email", "external_id", "first_name", "last_name", "tier", "points", "birth_date", "opt_in_status"],
        ["+17705550101", "ada@example.com", "M1001", "Ada", "Lovelace", "Gold", "1320", "1990-12-10", "YES"],
        ["+14045550102", "grace@example.com", "M1002", "Grace", "Hopper", "Silver", "540", "", "NO"],
    ]
