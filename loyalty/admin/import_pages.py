"""What the pages of an import say: how far it is, what was found, and in which words."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from attentive_integration.markup import number, pill, pill_for_state, state_pill
from loyalty.admin.waiting import duration
from loyalty.imports.rows import Dialect
from loyalty.imports.sniffing import DELIMITERS, ENCODINGS
from loyalty.imports.steps import Look
from loyalty.models import ImportJob
from loyalty.resources import DATA, EXTENDED, resource_for

State, Phase, Kind = ImportJob.State, ImportJob.Phase, ImportJob.Kind
_ENCODING_NAMES = {
    "cp1252": "Windows-1252",
    "latin-1": "Latin-1",
    "utf-16-le": "UTF-16 (LE)",
    "utf-16-be": "UTF-16 (BE)",
}
COUNTER_WORDS = {
    "created": gettext_lazy("New"),
    "updated": gettext_lazy("Updated"),
    "unchanged": gettext_lazy("Unchanged"),
    "duplicate": gettext_lazy("Duplicates"),
    "rejected": gettext_lazy("Rejected"),
}
_COUNTER_TONES = {"created": "good", "updated": "info", "unchanged": "", "duplicate": "warn", "rejected": "bad"}
_COUNTER_ICONS = {"created": "plus", "updated": "edit", "unchanged": "check", "duplicate": "copy", "rejected": "cross"}


def is_working(job: ImportJob) -> bool:
    """Tell whether a worker has the job, or should take it."""
    return job.phase != Phase.MAPPING and job.state in (State.PENDING, State.RUNNING)


def state_shown(job: ImportJob) -> SafeString:
    """Return the pill of how an import stands, its phase included."""
    if job.undone_at:
        return pill(_("Undone"), "calm", "history")
    if job.phase == Phase.MAPPING:
        return pill(_("Columns to match"), "info", "edit")
    if job.phase == Phase.CHECK:
        if job.state == State.COMPLETE:
            return pill(_("Checked, not imported"), "info", "question")
        if is_working(job):
            return pill(_("Checking"), "info", "refresh")
    if job.phase == Phase.UNDO and is_working(job):
        return pill(_("Being undone"), "info", "history")
    if job.state == State.COMPLETE and job.rejected:
        return pill(_("Complete, with rejects"), "warn", "warning")
    return pill_for_state(job)


def steps_of(job: ImportJob | None) -> list[dict[str, Any]]:
    """Return the wizard's four steps, with the one at hand marked."""
    at = 0
    if job is not None:
        at = {Phase.MAPPING: 1, Phase.CHECK: 2, Phase.IMPORT: 3, Phase.UNDO: 3}[Phase(job.phase)]
    words = (_("Upload"), _("Match columns"), _("Check"), _("Import"))
    return [{"word": word, "current": n == at, "done": n < at} for n, word in enumerate(words)]


@dataclass(frozen=True)
class Progress:
    """How far a running job is, in rows, and in words."""

    done: int
    total: int
    text: str

    def as_json(self, job: ImportJob) -> dict[str, Any]:
        return {"done": self.done, "total": self.total, "text": self.text, "finished": not is_working(job)}


def progress_of(job: ImportJob, ahead: ImportJob | None) -> Progress:
    """Return the progress of a job; `ahead` is the import of the site that it waits for."""
    if job.phase == Phase.UNDO:
        undone = job.findings.get("undone", {})
        total = max(job.created + job.updated, 1)
        return Progress(min(sum(undone.values()), total), total, _("The import is being undone."))
    total = max(Dialect.from_json(job.dialect).rows, job.read, 1)
    if job.state == State.PENDING and not job.read:
        if ahead is not None:
            waits = _("Waits for the import of %(file)s to end; two imports of a site never overlap.")
            return Progress(0, total, waits % {"file": ahead.file_name})
        return Progress(0, total, _("Waiting for a worker…"))
    words = [_("%(done)s of %(total)s rows") % {"done": number(job.read), "total": number(total)}]
    if job.cancel_asked_at:
        words.append(_("being cancelled"))
    elif job.started_at and job.read:
        seconds = max((timezone.now() - job.started_at).total_seconds(), 0.1)
        pace = job.read / seconds
        words.append(_("%(pace)s rows a second") % {"pace": number(round(pace))})
        words.append(_("about %(time)s left") % {"time": duration(max(0, total - job.read) / pace)})
    return Progress(min(job.read, total), total, " · ".join(words))


def counters_of(job: ImportJob) -> list[dict[str, Any]]:
    """Return the counters as figures; together they are the rows read."""
    return [
        {
            "label": _counter_word(job, name), "value": getattr(job, name), "icon": _COUNTER_ICONS[name],
            "tone": _COUNTER_TONES[name] if getattr(job, name) else "",
        }
        for name in COUNTER_WORDS
    ]  # fmt: skip


def _counter_word(job: ImportJob, name: str) -> str:
    if job.kind == Kind.SUBSCRIBERS and name == "updated":
        return _("Now subscribed")
    if job.kind == Kind.ACTIONS and name == "created":
        return _("Recorded")
    return str(COUNTER_WORDS[name])


def findings_of(job: ImportJob, *, whole: bool) -> list[dict[str, Any]]:
    """Return the groups of troublesome rows, most frequent first; values only for those who may see them."""
    groups = sorted(job.findings.get("groups", {}).values(), key=lambda group: -group["count"])
    looks = {"REJECTED": ("bad", "cross", _("Rejected")), "DUPLICATE": ("warn", "copy", _("Taken, later row wins"))}
    shown = []
    for group in groups:
        tone, icon_name, word = looks.get(group["kind"], ("info", "info", _("Taken, with a remark")))
        examples = [
            _("line %(line)s: %(value)s") % {"line": number(one["line"]), "value": one["value"]}
            if whole and one["value"]
            else _("line %(line)s") % {"line": number(one["line"])}
            for one in group["examples"]
        ]
        shown.append(
            {
                "count": group["count"], "sentence": _sentence_of(group), "pill": pill(word, tone, icon_name),
                "examples": examples, "field": field_label(job, group["field"]),
            }
        )  # fmt: skip
    return shown


def _sentence_of(group: dict[str, Any]) -> str:
    """Return the sentence of a group; that of a repeated phone names the line of one row, so it gets a general one."""
    if group["kind"] == "DUPLICATE":
        return _("The phone occurs more than once in the file; the last row wins.")
    return str(group["sentence"])


# --- Matching columns -------------------------------------------------------------------------------------------------


def field_label(job: ImportJob, name: str) -> str:
    """Return what a field is called; the key of one's own for an extended attribute."""
    for prefix in (EXTENDED, DATA):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    column = resource_for(job.kind, job.site).fields.get(name)
    return capfirst(str(column.label)) if column else name


def mapping_rows(job: ImportJob, look: Look, *, whole: bool) -> list[dict[str, Any]]:
    """Return each column of the file with its samples and the fields that it may be matched with."""
    fields = [(name, capfirst(str(column.label))) for name, column in resource_for(job.kind, job.site).fields.items()]
    own = {Kind.MEMBERS: EXTENDED, Kind.ACTIONS: DATA}.get(Kind(job.kind), "")
    rows = []
    for number_, column in enumerate(look.columns):
        choices = list(fields)
        if own:
            key = column.target.removeprefix(own) if column.target.startswith(own) else column.name[:100]
            choices.append((own + key, _("Keep as “%(key)s”") % {"key": key}))
        rows.append(
            {
                "input": f"column-{number_}", "name": column.name, "target": column.target, "choices": choices,
                "samples": column.samples if whole else ["•••"] * len(column.samples), "blank": column.blank,
            }
        )  # fmt: skip
    return rows


def look_rows(job: ImportJob, look: Look, *, whole: bool) -> list[tuple[Any, ...]]:
    """Return the check of the first rows as a table: column, field, good, blank, bad, what to do."""
    rows = []
    for column in look.columns:
        if not column.target:
            continue
        trouble = ""
        if column.bad:
            value = f" ({column.value})" if whole else ""
            trouble = _("Line %(line)s%(value)s: %(sentence)s") % {
                "line": number(column.line), "value": value, "sentence": column.sentence,
            }  # fmt: skip
        rows.append(
            (
                column.name, field_label(job, column.target), number(column.good), number(column.blank),
                state_pill("FAILED", number(column.bad)) if column.bad else number(0), trouble,
            )
        )  # fmt: skip
    return rows


def encodings() -> list[tuple[str, str]]:
    return [(name, _ENCODING_NAMES.get(name, name.upper())) for name in ENCODINGS]


def delimiters() -> list[tuple[str, str]]:
    return [(sign, capfirst(str(word))) for sign, word in DELIMITERS.items()]


def dialect_words(job: ImportJob) -> str:
    """Return what was detected, as one line."""
    dialect = Dialect.from_json(job.dialect)
    return " · ".join(
        (
            dict(encodings()).get(dialect.encoding, dialect.encoding),
            _("separated by %(sign)s") % {"sign": DELIMITERS.get(dialect.delimiter, dialect.delimiter)},
            _("with a header row") if dialect.has_header else _("without a header row"),
            ngettext("about %(n)s row", "about %(n)s rows", dialect.rows) % {"n": number(dialect.rows)},
        )
    )


def subscribe_hours(members: int) -> str:
    """Return how long asking so many members takes at the vendor's pace."""
    return duration(members / settings.RATE_LIMITS["SUBSCRIBE"])
