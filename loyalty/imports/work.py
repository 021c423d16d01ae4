"""What each kind of import does with a slice: prepared without the database, applied in the slice's transaction."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from django.db import transaction
from django.utils.translation import gettext as _

from loyalty import consent
from loyalty.actions import Result, record_actions, repeated
from loyalty.cells import CLEAR
from loyalty.imports.cleaning import Cleaned, Issue, PhoneCleaner, RowCleaner
from loyalty.imports.duplicates import SeenIds, SeenKeys
from loyalty.imports.rows import Dialect, ImportRefused, Slice
from loyalty.imports.suspicions import Suspicions
from loyalty.member_upsert import FIELDS, MemberUpsert, Merged, Superseded
from loyalty.models import ConsentEvent, ImportIssue, ImportJob, LoyaltyAction, MemberChange, Site
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

    def prepare(self, piece: Slice) -> Iterator[Prepared]:
        """Yield the slice, in parts where what it says must be taken one after the other."""

    def look_back(self, prepared: Prepared) -> None:
        """Learn what a slice had that another worker has applied."""

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


def breaks(cleaned: Cleaned, fields: Sequence[str], *, strict: bool = False) -> list[int]:
    """Return the lines at which rows are cut, so that loyalty IDs come out as if each row was taken by itself.

    That is where a phone comes again with another ID, or with one that went to another phone in between. Where a phone
    with another ID is rejected (`strict`), a row without ID is another one too.
    """
    if "external_id" not in fields or len({row[0] for row in cleaned.rows}) == len(cleaned.rows):
        return []
    at = fields.index("external_id")
    found = []
    id_of: dict[str, str | None] = {}
    phone_of: dict[str, str] = {}
    for line, row in zip(cleaned.lines, cleaned.rows, strict=True):
        phone, own = row[0], row[at]
        earlier = id_of.get(phone, own)
        is_other = own != earlier and (strict or own is not None)
        is_back = phone in id_of and own and phone_of.get(own, phone) != phone
        if is_other or is_back:
            found.append(line)
            id_of, phone_of = {}, {}
        if own is not None or phone not in id_of:
            id_of[phone] = own
        if own:
            phone_of[own] = phone
    return found


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


def sharing_fate(issues: Sequence[Issue], phones: Collection[str], rejected: Callable[[Issue], Issue]) -> list[Issue]:
    """Return the issues of a slice, in which the repeats of rows that are rejected are rejected as well."""
    return [rejected(issue) if issue.kind == Kind.DUPLICATE and issue.value in phones else issue for issue in issues]


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
    kept.issues = sharing_fate(
        kept.issues, gone, lambda repeat: Issue(repeat.line, Kind.REJECTED, "ERASED", reason, repeat.cells, "phone")
    )
    kept.keep(wanted)
    return kept


@dataclass
class _Matched:
    """A slice of members before it is written."""

    cleaned: Cleaned
    merged: Merged
    # Lines whose phone has another loyalty ID when the import comes to them.
    conflicts: set[int]
    # Line → what would be counted, for the rows whose phone an earlier slice had.
    repeated: dict[int, str] = field(default_factory=dict)
    # How many members these rows change that an earlier slice has counted as unchanged.
    late: int = 0


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
        # A member that this import has made says so itself. A check, which makes none, remembers what rows said.
        self._seen_ids = SeenIds()
        self._seen_phones = None if write else SeenKeys()

    def prepare(self, piece: Slice) -> Iterator[Prepared]:
        cleaned = self.cleaner.clean(piece)
        lines = breaks(cleaned, self.fields, strict=self._upsert.reject_conflicts)
        parts = zip(piece.cut(lines), cleaned.split(lines), strict=True) if lines else [(piece, cleaned)]
        for part, rows in parts:
            self._suspicions.look_at([row[0] for row in rows.rows])
            merge_repeats(rows, self._merge)
            text = self._upsert.as_text(rows.lines, rows.rows)
            yield Prepared(part, rows, text, superseded(rows, self.fields), self._suspicions.sentences())

    def _merge(self, earlier: Sequence[Any], later: Sequence[Any]) -> Sequence[Any]:
        merged = last_given(earlier, later)
        if self.fields[-1] == "extended_attributes" and earlier[-1] and later[-1]:
            return (*merged[:-1], json.dumps({**json.loads(earlier[-1]), **json.loads(later[-1])}))
        return merged

    def look_back(self, prepared: Prepared) -> None:
        self._matched(prepared)

    def _matched(self, prepared: Prepared) -> _Matched:
        """Stage and match a slice."""
        cleaned = without_erased(self.job.site, prepared.cleaned, email_at=self._email)
        upsert = self._upsert
        whole = len(cleaned.rows) == len(prepared.cleaned.rows)
        upsert.stage(cleaned.lines, cleaned.rows, text=prepared.text if whole else None)
        merged = upsert.match()
        piece = prepared.piece.offset
        if self._seen_phones is None:
            known = len(cleaned.rows) - merged.created > merged.ours
            ids = self._seen_ids.met_before(upsert.known_ids() if known else (), piece=piece)
            found = _Matched(cleaned, merged, set(merged.conflicts))
            if merged.ours or ids:
                self._find_repeated(found, ids)
            return found
        return self._checked(cleaned, merged, self._seen_phones, piece=piece)

    def _find_repeated(self, found: _Matched, ids: set[int]) -> None:
        """Note the rows whose member this import has made, or an earlier slice has had."""
        changing: set[int] = set()
        for line, _phone, member_id, ours, outcome in self._upsert.outcomes():
            if ours or member_id in ids:
                found.repeated[line] = outcome
                if member_id and outcome == "updated" and not ours:
                    changing.add(member_id)
        if changing:
            found.late = len(changing - self._counted_as_changed(changing))

    def _counted_as_changed(self, ids: Collection[int]) -> set[int]:
        """Return those of the members that a row of their own has changed.

        That another row took a member's loyalty ID over is no such change, nor that the member only got it back.
        """
        changed, moved = set(), set()
        for change in MemberChange.objects.filter(job=self.job, member_id__in=ids).order_by("pk"):
            _before, successor = change.changes.get("replaced_by", (None, None))
            if "replaced_by" not in change.changes or (change.member_id not in moved and successor is None):
                changed.add(change.member_id)
            moved.add(change.member_id)
        return changed

    def _checked(self, cleaned: Cleaned, merged: Merged, seen: SeenKeys, *, piece: int) -> _Matched:
        """Compare a slice with the members and, as a check changes none of them, with what earlier slices said.

        Of each phone it is kept whether it was counted as unchanged (=) or not (+), and the loyalty ID it was given.
        """
        earlier = seen.met_before((row[0] for row in cleaned.rows), piece=piece)
        found = _Matched(cleaned, merged, set(merged.conflicts))
        outcomes = {line: outcome for line, _phone, _pk, _ours, outcome in self._upsert.outcomes()}
        at = self.fields.index("external_id") if "external_id" in self.fields else None
        kept = {}
        for line, row in zip(cleaned.lines, cleaned.rows, strict=True):
            before = earlier.get(row[0])
            own = row[at] if at is not None else None
            given = before[1:] if before else ""
            if given and own:
                (found.conflicts.discard if given in (own, CLEAR) else found.conflicts.add)(line)
            if before is not None:
                found.repeated[line] = outcomes[line]
            if self._upsert.reject_conflicts and line in found.conflicts:
                continue
            is_changed = outcomes[line] != "unchanged"
            found.late += is_changed and before is not None and before[0] == "="
            mark = "+" if is_changed or (before or "=")[0] == "+" else "="
            kept[row[0]] = mark + (given if own is None else own or CLEAR)
        seen.keep(kept)
        return found

    def apply(self, prepared: Prepared, *, now: datetime) -> Applied:
        found = self._matched(prepared)
        cleaned, merged = found.cleaned, found.merged
        upsert = self._upsert
        rejected = found.conflicts if upsert.reject_conflicts else set()
        issues = list(cleaned.issues)
        if rejected:
            at = self.fields.index("external_id")
            lines = zip(cleaned.lines, cleaned.rows, strict=True)
            ids = {row[0]: row[at] or "" for line, row in lines if line in rejected}
            issues = sharing_fate(issues, ids, lambda issue: self._conflict(issue.line, issue.cells, ids[issue.value]))
        for line, row, cells in zip(cleaned.lines, cleaned.rows, cleaned.cells, strict=True) if found.repeated else ():
            if line in found.repeated and line not in rejected:
                issues.append(repeat(line, row[0], cells))
        counts = Counter(created=merged.created, updated=merged.updated, unchanged=merged.unchanged)
        # Rows that the database has rejected are in none of these counts.
        uncounted = set(merged.conflicts) if upsert.reject_conflicts else set()
        counts.subtract(outcome for line, outcome in found.repeated.items() if line not in uncounted)
        counts.update(updated=found.late, unchanged=-found.late)
        if found.conflicts:
            issues += self._conflicts(cleaned, found.conflicts)
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
        at = self.fields.index("external_id")
        return [
            self._conflict(line, cells, row[at] or "")
            for line, row, cells in zip(cleaned.lines, cleaned.rows, cleaned.cells, strict=True)
            if line in lines
        ]

    def _conflict(self, line: int, cells: Sequence[Any], external_id: str) -> Issue:
        if self._upsert.reject_conflicts:
            kind = Kind.REJECTED
            reason = _("The phone belongs to a member with another loyalty ID. Check which is right.")
        else:
            kind, reason = Kind.CONFLICT, _("The phone belonged to another loyalty ID; the file's is taken.")
        return Issue(line, kind, "CONFLICT", reason, cells, "external_id", external_id)

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
        self._seen = SeenKeys()

    def prepare(self, piece: Slice) -> Iterator[Prepared]:
        cleaned = self.cleaner.clean(piece)
        merge_repeats(cleaned, _newest)
        yield Prepared(piece, cleaned)

    def look_back(self, prepared: Prepared) -> None:
        self._repeated(prepared.cleaned, prepared.piece)

    def _repeated(self, cleaned: Cleaned, piece: Slice) -> Collection[str]:
        phones = [row[0] for row in cleaned.rows]
        met = self._seen.met_before(phones, piece=piece.offset)
        self._seen.keep(dict.fromkeys(phones, ""))
        return met

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

        # What is recorded, an import finds in the database; a check must remember it.
        self._seen = None if write else SeenKeys()

    def prepare(self, piece: Slice) -> Iterator[Prepared]:
        yield Prepared(piece, self.cleaner.clean(piece))

    def look_back(self, prepared: Prepared) -> None:
        if self._seen is not None:
            self._results(prepared)

    def _results(self, prepared: Prepared) -> list[Result]:
        items = [self._item(row) for row in prepared.cleaned.rows]
        with transaction.atomic():
            results = record_actions(self.job.site, items, history=not self.job.options.get("trigger"))
            if self._seen is not None:
                results = self._as_repeats(results, self._seen, piece=prepared.piece.offset)
            transaction.set_rollback(not self.write)
        return results

    def _as_repeats(self, results: list[Result], seen: SeenKeys, *, piece: int) -> list[Result]:
        """Answer the actions that an earlier slice had as the import will, when they are recorded already."""
        accepted = [str(result.activity_id) for result in results if result.status == "accepted"]
        earlier = seen.met_before(accepted, piece=piece)
        digests = dict(
            LoyaltyAction.objects.filter(site=self.job.site, activity_id__in=accepted).values_list(
                "activity_id", "digest"
            )
        )
        seen.keep({name: digest for name, digest in digests.items() if name not in earlier})
        return [
            repeated(name, same=digests[name] == earlier[name])
            if result.status == "accepted" and (name := str(result.activity_id)) in earlier
            else result
            for result in results
        ]

    def apply(self, prepared: Prepared, *, now: datetime) -> Applied:
        cleaned = prepared.cleaned
        results = self._results(prepared)
        counts: Counter[str] = Counter(rejected=len(cleaned.issues))
        issues = list(cleaned.issues)
        for line, cells, result in zip(cleaned.lines, cleaned.cells, results, strict=True):
            counts[_COUNTED_AS[result.status]] += 1
            if result.error:
                issues.append(
                    Issue(line, Kind.REJECTED, result.code, result.error, cells, result.field, result.activity_id or "")
                )
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
        if self._seen is not None:
            self._seen.close()


_COUNTED_AS = {"accepted": "created", "duplicate": "duplicate", "conflict": "rejected", "rejected": "rejected"}
