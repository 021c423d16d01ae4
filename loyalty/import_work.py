"""What each kind of import does with a slice: prepared without the database, applied in the slice's transaction."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from django.db import transaction
from django.utils.translation import gettext as _

from loyalty import actions, consent
from loyalty.cells import CLEAR
from loyalty.duplicates import Seen
from loyalty.member_upsert import FIELDS, MemberUpsert
from loyalty.models import ConsentEvent, ImportIssue, ImportJob, Site
from loyalty.resources import DATA, resource_for
from loyalty.row_cleaning import Cleaned, Issue, PhoneCleaner, RowCleaner
from loyalty.rows import Dialect, ImportRefused, Slice
from loyalty.suspicions import Suspicions

Kind = ImportIssue.Kind


@dataclass
class Prepared:
    """A slice ready to be applied."""

    piece: Slice
    cleaned: Cleaned
    # Pairs of lines that share a loyalty ID, an earlier and the last one.
    superseded: list[tuple[int, int]] = field(default_factory=list)
    # What looks strange about the list so far.
    suspicious: list[str] = field(default_factory=list)


@dataclass
class Applied:
    """What became of a slice: counters of the job, and the issues in the order of the file."""

    counts: Counter[str]
    issues: list[Issue]


class Work(Protocol):
    """One kind of import."""

    def prepare(self, piece: Slice) -> Prepared: ...

    def apply(self, prepared: Prepared, *, write: bool, now: datetime) -> Applied: ...

    def close(self) -> None: ...


def work_for(job: ImportJob) -> Work:
    """Return the work of a job; raises `ImportRefused` when its mapping makes no sense."""
    kinds: dict[str, type[MemberWork] | type[SubscriberWork] | type[ActionWork]] = {
        ImportJob.Kind.MEMBERS: MemberWork,
        ImportJob.Kind.SUBSCRIBERS: SubscriberWork,
        ImportJob.Kind.ACTIONS: ActionWork,
    }
    return kinds[job.kind](job)


def subscribe_evidence(job: ImportJob) -> str:
    """Return what the consent ledger says of addresses that this import put into the subscribe queue."""
    return f"Import {job.pk}"


def without_repeats(cleaned: Cleaned, seen: Seen | None, merge: Any) -> None:
    """Leave one row of each phone (its first cell), merged in the order of the file; the later ones become issues.

    A phone that an earlier slice had keeps its row, which is applied after that one, and is an issue too.
    """
    at: dict[str, int] = {}
    kept = Cleaned(issues=cleaned.issues)
    for line, row, cells in zip(cleaned.lines, cleaned.rows, cleaned.cells, strict=True):
        first = at.setdefault(row[0], len(kept.rows))
        if first == len(kept.rows):
            kept.lines.append(line)
            kept.rows.append(row)
            kept.cells.append(cells)
        else:
            kept.rows[first] = merge(kept.rows[first], row)
            kept.issues.append(_repeat(line, kept.lines[first], row[0], cells))
    met = seen.add([row[0] for row in kept.rows], kept.lines) if seen else {}
    for phone, first_line in met.items():
        index = at[phone]
        kept.issues.append(_repeat(kept.lines[index], first_line, phone, kept.cells[index]))
    cleaned.lines, cleaned.rows, cleaned.cells = kept.lines, kept.rows, kept.cells


def _repeat(line: int, first_line: int, phone: str, cells: Sequence[Any]) -> Issue:
    reason = _("The phone stands in line %(line)d already; the later row wins.") % {"line": first_line}
    return Issue(line, Kind.DUPLICATE, "DUPLICATE", reason, cells, "phone", phone)


def superseded(cleaned: Cleaned, fields: Sequence[str]) -> list[tuple[int, int]]:
    """Return pairs of lines that share a loyalty ID: each earlier one with the last."""
    if "external_id" not in fields:
        return []
    at = fields.index("external_id")
    last: dict[str, int] = {}
    pairs = []
    for line, row in zip(reversed(cleaned.lines), reversed(cleaned.rows), strict=True):
        if row[at] and last.setdefault(row[at], line) != line:
            pairs.append((line, last[row[at]]))
    return pairs


def repeats_in(cleaned: Cleaned, issues: Sequence[Issue]) -> set[int]:
    """Return the lines that are applied although an earlier slice had their phone: they count as duplicates."""
    return {issue.line for issue in issues if issue.kind == Kind.DUPLICATE}.intersection(cleaned.lines)


def in_order(issues: Sequence[Issue]) -> list[Issue]:
    return sorted(issues, key=lambda issue: issue.line)


def without_erased(site: Site, cleaned: Cleaned, *, email_at: int | None) -> list[Issue]:
    """Take the rows of erased people out of the slice, and return all its issues."""
    phones = [row[0] for row in cleaned.rows]
    emails = [row[email_at] for row in cleaned.rows if row[email_at]] if email_at is not None else []
    erased = consent.erased_addresses(site, [*phones, *emails])
    if not erased:
        return list(cleaned.issues)
    reason = _("This person was erased on request and is not imported again.")
    gone: dict[int, Issue] = {}
    kept = Cleaned()
    phones_gone = set()
    for line, row, cells in zip(cleaned.lines, cleaned.rows, cleaned.cells, strict=True):
        if row[0] in erased or (email_at is not None and row[email_at] in erased):
            gone[line] = Issue(line, Kind.REJECTED, "ERASED", reason, cells, "phone")
            phones_gone.add(row[0])
        else:
            kept.lines.append(line)
            kept.rows.append(row)
            kept.cells.append(cells)
    cleaned.lines, cleaned.rows, cleaned.cells = kept.lines, kept.rows, kept.cells
    for issue in cleaned.issues:
        if issue.kind == Kind.DUPLICATE and issue.value in phones_gone:
            issue = Issue(issue.line, Kind.REJECTED, "ERASED", reason, issue.cells, "phone")
        gone.setdefault(issue.line, issue)
    return list(gone.values())


def last_given(earlier: list[Any], later: list[Any]) -> list[Any]:
    """Return what two rows of one phone say together: the later cell where it is given."""
    return [old if new is None else new for old, new in zip(earlier, later, strict=True)]


class MemberWork:
    """Members: created, updated, or left as they are."""

    def __init__(self, job: ImportJob) -> None:
        self.job = job
        resource = resource_for(job.kind, job.site)
        columns = Dialect.from_json(job.dialect).columns
        self.cleaner = PhoneCleaner(resource, columns, job.mapping, order=FIELDS)
        self.fields = self.cleaner.fields
        self._external_id = self.fields.index("external_id") if "external_id" in self.fields else None
        self._email = self.fields.index("email") if "email" in self.fields else None
        self._seen = Seen()
        self.suspicions = Suspicions()
        reject = job.options.get("on_conflict") == "reject"
        self._upsert = MemberUpsert(job.site_id, self.fields, job_id=job.pk, reject_conflicts=reject)

    def prepare(self, piece: Slice) -> Prepared:
        cleaned = self.cleaner.clean(piece)
        self.suspicions.look_at([row[0] for row in cleaned.rows])
        without_repeats(cleaned, self._seen, self._merge)
        return Prepared(piece, cleaned, superseded(cleaned, self.fields), self.suspicions.sentences())

    def _merge(self, earlier: list[Any], later: list[Any]) -> list[Any]:
        merged = last_given(earlier, later)
        if self.fields[-1] == "extended_attributes" and earlier[-1] and later[-1]:
            merged[-1] = json.dumps({**json.loads(earlier[-1]), **json.loads(later[-1])})
        return merged

    def apply(self, prepared: Prepared, *, write: bool, now: datetime) -> Applied:
        cleaned = prepared.cleaned
        issues = without_erased(self.job.site, cleaned, email_at=self._email)
        upsert = self._upsert
        upsert.stage(cleaned.lines, cleaned.rows)
        merged = upsert.match()
        counts = Counter(created=merged.created, updated=merged.updated, unchanged=merged.unchanged)
        repeated = repeats_in(cleaned, issues)
        if repeated:
            counts.subtract(what for line, what in upsert.outcomes() if line in repeated)
        if merged.conflicts:
            issues += self._conflicts(cleaned, set(merged.conflicts))
            if upsert.reject_conflicts:
                # A repeat that is rejected is no longer a duplicate; `outcomes` has called it unchanged.
                counts["unchanged"] += len(repeated & set(merged.conflicts))
                rejected = set(merged.conflicts)
                issues = [one for one in issues if one.kind != Kind.DUPLICATE or one.line not in rejected]
        if write:
            lines = set(merged.conflicts) if upsert.reject_conflicts else set()
            superseded = [pair for pair in prepared.superseded if not lines.intersection(pair)]
            upsert.write(merged, superseded=superseded, now=now)
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
            kind, reason = (
                Kind.REJECTED,
                _("The phone belongs to a member with another loyalty ID. Check which is right."),
            )
        else:
            kind, reason = Kind.CONFLICT, _("The phone belonged to another loyalty ID; the file's is taken.")
        return [
            Issue(line, kind, "CONFLICT", reason, cells, "external_id", row[self._external_id or 0] or "")
            for line, row, cells in zip(cleaned.lines, cleaned.rows, cleaned.cells, strict=True)
            if line in lines
        ]

    def close(self) -> None:
        self._seen.close()


class SubscriberWork:
    """A list of subscribers: raises consent, and never lowers it. `updated` counts the raised ones."""

    def __init__(self, job: ImportJob) -> None:
        self.job = job
        resource = resource_for(job.kind, job.site)
        columns = Dialect.from_json(job.dialect).columns
        self.cleaner = PhoneCleaner(resource, columns, job.mapping, order=("phone", "subscribed_at"))
        self._value = resource.fields["subscribed_at"].cell.value
        self._seen = Seen()

    def prepare(self, piece: Slice) -> Prepared:
        cleaned = self.cleaner.clean(piece)
        without_repeats(cleaned, self._seen, self._newest)
        return Prepared(piece, cleaned)

    @staticmethod
    def _newest(earlier: list[Any], later: list[Any]) -> list[Any]:
        """Hearing two facts of one phone is hearing the newer one."""
        return [
            earlier[0],
            *(max(old or "", new or "") or None for old, new in zip(earlier[1:], later[1:], strict=True)),
        ]

    def apply(self, prepared: Prepared, *, write: bool, now: datetime) -> Applied:
        cleaned = prepared.cleaned
        issues = without_erased(self.job.site, cleaned, email_at=None)
        facts = [(row[0], self._value(row[1]) if len(row) > 1 and row[1] else None) for row in cleaned.rows]
        if write:
            raised = consent.hear_many(
                self.job.site, facts, source=ConsentEvent.Source.SUBSCRIBER_LIST, by=self.job.created_by,
                evidence=self.job.options.get("evidence", ""),
            )  # fmt: skip
        else:
            raised = consent.count_raisable(self.job.site, [phone for phone, _moment in facts])
        kinds = Counter(issue.kind for issue in issues)
        repeated = repeats_in(cleaned, issues)
        raised = min(raised, len(facts) - len(repeated))
        counts = Counter(
            updated=raised, unchanged=len(facts) - len(repeated) - raised,
            duplicate=kinds[Kind.DUPLICATE], rejected=kinds[Kind.REJECTED],
        )  # fmt: skip
        return Applied(counts, in_order(issues))

    def close(self) -> None:
        self._seen.close()


class ActionWork:
    """Loyalty actions. `created` counts the recorded ones; a conflict is a rejected row with a code of its own."""

    def __init__(self, job: ImportJob) -> None:
        self.job = job
        resource = resource_for(job.kind, job.site)
        columns = Dialect.from_json(job.dialect).columns
        self.cleaner = RowCleaner(resource, columns, job.mapping)
        self._targets = [target for _index, target, _clean in self.cleaner.plan]
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

    def apply(self, prepared: Prepared, *, write: bool, now: datetime) -> Applied:
        cleaned = prepared.cleaned
        items = [self._item(row) for row in cleaned.rows]
        with transaction.atomic():
            results = actions.record_actions(self.job.site, items, history=not self.job.options.get("trigger"))
            transaction.set_rollback(not write)
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
