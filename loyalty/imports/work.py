"""What each kind of import does with a slice: prepared without the database, applied in the slice's transaction."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from django.db import transaction
from django.utils.translation import gettext as _

from loyalty import actions, consent
from loyalty.cells import CLEAR
from loyalty.imports.cleaning import Cleaned, Issue, PhoneCleaner, RowCleaner
from loyalty.imports.duplicates import SeenIds, SeenPhones
from loyalty.imports.rows import Dialect, ImportRefused, Slice
from loyalty.imports.suspicions import Suspicions
from loyalty.member_upsert import FIELDS, MemberUpsert, Merged, Superseded
from loyalty.models import ConsentEvent, ImportIssue, ImportJob, Site
from loyalty.resources import DATA, resource_for

Kind = ImportIssue.Kind


@dataclass
class Prepared:
    """A slice ready to be applied."""

    piece: Slice
    cleaned: Cleaned
    # The rows in the form in which the database takes them.
    text: bytes | None = None
    superseded: list[Superseded] = field(default_factory=list)
    # What looks strange about the list so far.
    suspicious: list[str] = field(default_factory=list)


@dataclass
class Applied:
    """What became of a slice: counters of the job, and the issues in the order of the file."""

    counts: Counter[str]
    issues: list[Issue]


class Work(Protocol):
    """One kind of import. `prepare` runs in a thread of its own; the others in transactions that may be repeated."""

    def prepare(self, piece: Slice) -> Prepared: ...

    def look_back(self, prepared: Prepared) -> None:
        """Learn which phones a slice had that another worker has applied."""

    def apply(self, prepared: Prepared, *, now: datetime) -> Applied: ...

    def close(self) -> None: ...


def work_for(job: ImportJob, *, write: bool = False) -> Work:
    """Return the work of a job, which writes or only counts; raises `ImportRefused` when its mapping makes no sense."""
    kinds: dict[str, type[MemberWork] | type[SubscriberWork] | type[ActionWork]] = {
        ImportJob.Kind.MEMBERS: MemberWork,
        ImportJob.Kind.SUBSCRIBERS: SubscriberWork,
        ImportJob.Kind.ACTIONS: ActionWork,
    }
    return kinds[job.kind](job, write=write)


def subscribe_evidence(job: ImportJob) -> str:
    """Return what the consent ledger says of addresses that this import put into the subscribe queue."""
    return f"Import {job.pk}"


Merge = Callable[[Sequence[Any], Sequence[Any]], Sequence[Any]]


def merge_repeats(cleaned: Cleaned, merge: Merge) -> None:
    """Leave one row of each phone (its first cell), merged in the order of the file; the later ones become issues."""
    if len({row[0] for row in cleaned.rows}) == len(cleaned.rows):
        return
    at: dict[str, int] = {}
    first_ones = []
    for index, (line, row, cells) in enumerate(zip(cleaned.lines, cleaned.rows, cleaned.cells, strict=True)):
        first = at.setdefault(row[0], index)
        first_ones.append(first == index)
        if first != index:
            cleaned.rows[first] = merge(cleaned.rows[first], row)
            cleaned.issues.append(repeat(line, row[0], cells))
    cleaned.keep(first_ones)


def repeat(line: int, phone: str, cells: Sequence[Any]) -> Issue:
    """Return the issue of a row whose phone an earlier row of the file has."""
    reason = _("The phone stands in an earlier row of the file already; the later row wins.")
    return Issue(line, Kind.DUPLICATE, "DUPLICATE", reason, cells, "phone", phone)


def last_given(earlier: Sequence[Any], later: Sequence[Any]) -> Sequence[Any]:
    """Return what two rows of one phone say together: the later cell where it is given."""
    return tuple(old if new is None else new for old, new in zip(earlier, later, strict=True))


def superseded(cleaned: Cleaned, fields: Sequence[str]) -> list[Superseded]:
    """Return the rows whose loyalty ID a later row has with another phone."""
    if "external_id" not in fields:
        return []
    at = fields.index("external_id")
    ids = [row[at] for row in cleaned.rows if row[at]]
    if len(set(ids)) == len(ids):
        return []
    last: dict[str, tuple[int, str]] = {}
    found = []
    for line, row in zip(reversed(cleaned.lines), reversed(cleaned.rows), strict=True):
        later = last.setdefault(row[at], (line, row[0])) if row[at] else (line, row[0])
        if later[0] != line:
            found.append(Superseded(line, row[0], *later))
    return found


def in_order(issues: Sequence[Issue]) -> list[Issue]:
    return sorted(issues, key=lambda issue: issue.line)


def without_erased(site: Site, cleaned: Cleaned, *, email_at: int | None) -> Cleaned:
    """Return the slice without the rows of erased people, which have become issues."""
    kept = Cleaned(list(cleaned.lines), list(cleaned.rows), list(cleaned.cells), list(cleaned.issues))
    addresses = [row[0] for row in cleaned.rows]
    if email_at is not None:
        addresses += [row[email_at] for row in cleaned.rows if row[email_at]]
    erased = consent.erased_addresses(site, addresses)
    if not erased:
        return kept
    reason = _("This person was erased on request and is not imported again.")
    wanted = [row[0] not in erased and (email_at is None or row[email_at] not in erased) for row in cleaned.rows]
    gone = {row[0] for row, is_wanted in zip(cleaned.rows, wanted, strict=True) if not is_wanted}
    for line, row, cells in zip(cleaned.lines, cleaned.rows, cleaned.cells, strict=True):
        if row[0] in gone:
            kept.issues.append(Issue(line, Kind.REJECTED, "ERASED", reason, cells, "phone"))
    # The repeats of such a row share its fate.
    kept.issues = [
        Issue(issue.line, Kind.REJECTED, "ERASED", reason, issue.cells, "phone")
        if issue.kind == Kind.DUPLICATE and issue.value in gone
        else issue
        for issue in kept.issues
    ]
    kept.keep(wanted)
    return kept


class MemberWork:
    """Members: created, updated, or left as they are."""

    def __init__(self, job: ImportJob, *, write: bool) -> None:
        self.job = job
        self.write = write
        resource = resource_for(job.kind, job.site)
        columns = Dialect.from_json(job.dialect).columns
        self.cleaner = PhoneCleaner(resource, columns, job.mapping, order=FIELDS)
        self.fields = self.cleaner.fields
        self._email = self.fields.index("email") if "email" in self.fields else None
        self._suspicions = Suspicions()
        reject = job.options.get("on_conflict") == "reject"
        self._upsert = MemberUpsert(job.site_id, self.fields, job_id=job.pk, reject_conflicts=reject)
        # A member that this import has made says so itself. Only a check must remember phones that are new.
        self._seen_ids = SeenIds()
        self._seen_phones = None if write else SeenPhones()

    def prepare(self, piece: Slice) -> Prepared:
        cleaned = self.cleaner.clean(piece)
        self._suspicions.look_at([row[0] for row in cleaned.rows])
        merge_repeats(cleaned, self._merge)
        text = self._upsert.as_text(cleaned.lines, cleaned.rows)
        return Prepared(piece, cleaned, text, superseded(cleaned, self.fields), self._suspicions.sentences())

    def _merge(self, earlier: Sequence[Any], later: Sequence[Any]) -> Sequence[Any]:
        merged = last_given(earlier, later)
        if self.fields[-1] == "extended_attributes" and earlier[-1] and later[-1]:
            return (*merged[:-1], json.dumps({**json.loads(earlier[-1]), **json.loads(later[-1])}))
        return merged

    def look_back(self, prepared: Prepared) -> None:
        self._matched(prepared)

    def _matched(self, prepared: Prepared) -> tuple[Cleaned, Merged, dict[int, str]]:
        """Stage and match a slice: its rows, what becomes of them, and of those whose phone an earlier slice had."""
        cleaned = without_erased(self.job.site, prepared.cleaned, email_at=self._email)
        upsert = self._upsert
        whole = len(cleaned.rows) == len(prepared.cleaned.rows)
        upsert.stage(cleaned.lines, cleaned.rows, text=prepared.text if whole else None)
        merged = upsert.match()
        piece = prepared.piece.offset
        known = len(cleaned.rows) - merged.created > merged.ours
        ids = self._seen_ids.met_before(upsert.known_ids() if known else (), piece=piece)
        phones: set[str] = set()
        if self._seen_phones is not None:
            phones = self._seen_phones.met_before(upsert.new_phones() if merged.created else (), piece=piece)
        if not (merged.ours or ids or phones):
            return cleaned, merged, {}
        repeated = {
            line: outcome
            for line, phone, member_id, ours, outcome in upsert.outcomes()
            if ours or member_id in ids or phone in phones
        }
        return cleaned, merged, repeated

    def apply(self, prepared: Prepared, *, now: datetime) -> Applied:
        cleaned, merged, repeated = self._matched(prepared)
        upsert = self._upsert
        issues = list(cleaned.issues)
        rejected = set(merged.conflicts) if upsert.reject_conflicts else set()
        for line, row, cells in zip(cleaned.lines, cleaned.rows, cleaned.cells, strict=True) if repeated else ():
            if line in repeated and line not in rejected:
                issues.append(repeat(line, row[0], cells))
        counts = Counter(created=merged.created, updated=merged.updated, unchanged=merged.unchanged)
        counts.subtract(outcome for line, outcome in repeated.items() if line not in rejected)
        if merged.conflicts:
            issues += self._conflicts(cleaned, set(merged.conflicts))
        if self.write:
            moved = [row for row in prepared.superseded if not rejected & {row.line, row.later_line}]
            present = set(cleaned.lines) if moved else ()
            moved = [row for row in moved if row.line in present and row.later_line in present]
            upsert.write(merged, superseded=moved, now=now)
            if self.job.options.get("subscribe") and merged.created:
                consent.mark_to_ask(
                    self.job.site, upsert.new_phones(), source=ConsentEvent.Source.IMPORT, by=self.job.created_by,
                    evidence=subscribe_evidence(self.job),
                )  # fmt: skip
        kinds = Counter(issue.kind for issue in issues)
        counts.update(duplicate=kinds[Kind.DUPLICATE], rejected=kinds[Kind.REJECTED])
        return Applied(counts, in_order(issues))

    def _conflicts(self, cleaned: Cleaned, lines: set[int]) -> list[Issue]:
        if self._upsert.reject_conflicts:
            kind = Kind.REJECTED
            reason = _("The phone belongs to a member with another loyalty ID. Check which is right.")
        else:
            kind, reason = Kind.CONFLICT, _("The phone belonged to another loyalty ID; the file's is taken.")
        at = self.fields.index("external_id")
        return [
            Issue(line, kind, "CONFLICT", reason, cells, "external_id", row[at] or "")
            for line, row, cells in zip(cleaned.lines, cleaned.rows, cleaned.cells, strict=True)
            if line in lines
        ]

    def close(self) -> None:
        if self._seen_phones is not None:
            self._seen_phones.close()


class SubscriberWork:
    """A list of subscribers: raises consent, and never lowers it. `updated` counts the raised ones."""

    def __init__(self, job: ImportJob, *, write: bool) -> None:
        self.job = job
        self.write = write
        resource = resource_for(job.kind, job.site)
        columns = Dialect.from_json(job.dialect).columns
        self.cleaner = PhoneCleaner(resource, columns, job.mapping, order=("phone", "subscribed_at"))
        self._value = resource.fields["subscribed_at"].cell.value
        self._seen = SeenPhones()

    def prepare(self, piece: Slice) -> Prepared:
        cleaned = self.cleaner.clean(piece)
        merge_repeats(cleaned, _newest)
        return Prepared(piece, cleaned)

    def look_back(self, prepared: Prepared) -> None:
        self._repeated(prepared.cleaned, prepared.piece)

    def _repeated(self, cleaned: Cleaned, piece: Slice) -> set[str]:
        return self._seen.met_before([row[0] for row in cleaned.rows], piece=piece.offset)

    def apply(self, prepared: Prepared, *, now: datetime) -> Applied:
        cleaned = without_erased(self.job.site, prepared.cleaned, email_at=None)
        repeated = self._repeated(cleaned, prepared.piece)
        facts = [(row[0], self._value(row[1]) if len(row) > 1 and row[1] else None) for row in cleaned.rows]
        # A phone that came before was heard then; what this row adds can raise it no more, but may date it better.
        fresh = [phone for phone, _moment in facts if phone not in repeated]
        raised = consent.count_raisable(self.job.site, fresh)
        if self.write:
            consent.hear_many(
                self.job.site, facts, source=ConsentEvent.Source.SUBSCRIBER_LIST, by=self.job.created_by,
                evidence=self.job.options.get("evidence", ""),
            )  # fmt: skip
        issues = list(cleaned.issues)
        for line, row, cells in zip(cleaned.lines, cleaned.rows, cleaned.cells, strict=True) if repeated else ():
            if row[0] in repeated:
                issues.append(repeat(line, row[0], cells))
        kinds = Counter(issue.kind for issue in issues)
        counts = Counter(
            updated=raised, unchanged=len(fresh) - raised, duplicate=kinds[Kind.DUPLICATE],
            rejected=kinds[Kind.REJECTED],
        )  # fmt: skip
        return Applied(counts, in_order(issues))

    def close(self) -> None:
        self._seen.close()


def _newest(earlier: Sequence[Any], later: Sequence[Any]) -> Sequence[Any]:
    """Hearing two facts of one phone is hearing the newer one."""
    moments = (max(old or "", new or "") or None for old, new in zip(earlier[1:], later[1:], strict=True))
    return (earlier[0], *moments)


class ActionWork:
    """Loyalty actions. `created` counts the recorded ones; a conflict is a rejected row with a code of its own."""

    def __init__(self, job: ImportJob, *, write: bool) -> None:
        self.job = job
        self.write = write
        resource = resource_for(job.kind, job.site)
        columns = Dialect.from_json(job.dialect).columns
        self.cleaner = RowCleaner(resource, columns, job.mapping)
        self._targets = self.cleaner.targets
        missing = [name for name in ("activity_id", "action") if name not in self._targets]
        if not {"phone", "external_id", "email"} & set(self._targets):
            missing.append("phone")
        if missing:
            raise ImportRefused(
                _("Your file has no column for %(missing)s. It has: %(columns)s. Rename the columns, or match them.")
                % {"missing": ", ".join(f"“{name}”" for name in missing), "columns": ", ".join(columns)}
            )

    def prepare(self, piece: Slice) -> Prepared:
        return Prepared(piece, self.cleaner.clean(piece))

    def look_back(self, prepared: Prepared) -> None:
        """Actions are known by their activity ID."""

    def apply(self, prepared: Prepared, *, now: datetime) -> Applied:
        cleaned = prepared.cleaned
        items = [self._item(row) for row in cleaned.rows]
        with transaction.atomic():
            results = actions.record_actions(self.job.site, items, history=not self.job.options.get("trigger"))
            transaction.set_rollback(not self.write)
        counts: Counter[str] = Counter(rejected=len(cleaned.issues))
        issues = list(cleaned.issues)
        for line, cells, result in zip(cleaned.lines, cleaned.cells, results, strict=True):
            counts[_COUNTED_AS[result.status]] += 1
            if result.error:
                code = "CONFLICT" if result.status == "conflict" else "REFUSED"
                issues.append(Issue(line, Kind.REJECTED, code, result.error, cells, "", result.activity_id or ""))
        return Applied(counts, in_order(issues))

    def _item(self, row: Sequence[str | None]) -> dict[str, Any]:
        item: dict[str, Any] = {}
        data: dict[str, Any] = {}
        for target, text in zip(self._targets, row, strict=True):
            if text is None or text == CLEAR:
                continue
            if target == "data":
                data = {**json.loads(text), **data}
            elif target.startswith(DATA):
                data[target.removeprefix(DATA)] = text
            elif target in ("points", "points_delta"):
                item[target] = int(text)
            elif target == "occurred_at":
                item[target] = f"{text}+00:00"
            else:
                item[target] = text
        return {**item, "data": data} if data else item

    def close(self) -> None:
        """Nothing is held."""


_COUNTED_AS = {"accepted": "created", "duplicate": "duplicate", "conflict": "rejected", "rejected": "rejected"}
