"""Writes the file of rejected rows: their original cells with line and reason, to mend and import again."""

import csv
import io
import re
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.utils.translation import gettext as _

from loyalty.imports.files import reason_of, rejects_folder, save_whole
from loyalty.imports.rows import Dialect
from loyalty.models import ImportIssue, ImportJob
from loyalty.spreadsheets import defuse

# The columns that we add; an import passes over them.
_ADDED = ("line", "reason")
_SENTENCE = re.compile(r"\S+ .*[.)]", re.DOTALL)


def added_columns(columns: Sequence[str]) -> tuple[str, str]:
    """Return the names of the two columns that we add to these, which have names of their own."""
    taken = {name.casefold() for name in columns}
    for number in count(1):
        line, reason = (name if number == 1 else f"reject_{name}" + f"_{number - 1}" * (number > 2) for name in _ADDED)
        if not taken & {line, reason}:
            break
    return line, reason


def are_named_as_ours(columns: Sequence[str]) -> bool:
    """Tell whether the last two columns have the names that we would give to ours."""
    return [name.casefold() for name in columns[-2:]] == list(added_columns(columns[:-2]))


def ours_among(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return which of columns named as ours we have added, as told by what some rows hold: both, or none."""
    at = len(columns) - 2
    texts = [(row[at].strip(), row[at + 1].strip()) for row in rows if len(row) > at + 1]
    # People who mend a file add rows of their own, and leave both blank.
    given = [(line, reason) for line, reason in texts if line or reason]
    is_ours = given and all(line.isdecimal() and _SENTENCE.fullmatch(reason) for line, reason in given)
    return list(columns[-2:]) if is_ours else []


def write_rejects(job: ImportJob) -> None:
    """Write the job's rejected rows to storage and note the file; nothing is written when none was rejected.

    A disk that refuses the file undoes nothing: `findings["rejects_error"]` says so, and the rows
    stay to be downloaded.
    """
    rejected = job.issues.filter(kind=ImportIssue.Kind.REJECTED).order_by("pk")
    if not rejected.exists():
        return
    name = f"{rejects_folder(job.site_id)}/{job.phase.lower()}-{job.pk}.csv"
    mine = ImportJob.objects.filter(pk=job.pk, fence=job.fence)
    try:
        stored = _stored(name, job, rejected)
    except OSError as error:
        sentence = _(
            "The file of the rejected rows could not be written: %(why)s. Everything else is done. Make room; the "
            "import's page makes the file anew for each download."
        ) % {"why": reason_of(error)}
        mine.update(findings={**mine.values_list("findings", flat=True).get(), "rejects_error": sentence})
        return
    mine.update(rejects_file=stored)
    job.rejects_file = stored


def _stored(name: str, job: ImportJob, rejected: Any) -> str:
    with tempfile.TemporaryFile("w+b") as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        try:
            write_issues(text, job, rejected)
            text.flush()
            file.seek(0)
            # A worker that died here has left the file behind; it is the same file.
            default_storage.delete(name)
            return save_whole(name, File(file))
        finally:
            text.detach()


def write_issues(text: Any, job: ImportJob, issues: Any) -> None:
    """Write issues as CSV: the original columns, line and reason; no cell runs as a formula in a spreadsheet."""
    dialect = Dialect.from_json(job.dialect)
    columns = dialect.columns_of_theirs
    skipped = [index for index, name in enumerate(dialect.columns) if name in dialect.ours]
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([*map(defuse, columns), *added_columns(columns)])
    rows = issues.values_list("cells", "line", "reason").iterator(chunk_size=2000)
    for cells, line, reason in rows:
        kept = [defuse(cell) for index, cell in enumerate(cells) if index not in skipped]
        kept += [""] * (len(columns) - len(kept))
        # Cells beyond the header come last, so that line and reason stand under their names.
        writer.writerow([*kept[: len(columns)], line, reason, *kept[len(columns) :]])


def local_path(job: ImportJob) -> str | None:
    """Return a path on this host's disk where the rejects file can be opened; None when nothing was rejected."""
    name = job.rejects_file.name
    if not name:
        return None
    try:
        return default_storage.path(name)
    except NotImplementedError:
        # Storage elsewhere: a copy is laid down here.
        folder = Path(settings.DATA_DIR) / "rejects"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / Path(name).name
        with default_storage.open(name, "rb") as source, path.open("wb") as target:
            for chunk in source.chunks():
                target.write(chunk)
        return str(path)
