"""Undoes an import of members: what it changed gets its old values back, and what it created goes.

Kept are values that somebody has changed since, and members who have since got actions, messages or consent, or whom
another import has changed. A loyalty ID goes back to the phone that had it, unless another phone keeps it. Each slice
is one transaction, and leaves nothing to do twice: a worker that dies is followed by another.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from loyalty import audit, consent
from loyalty.imports.rows import ImportRefused
from loyalty.imports.run import ENDED, end, keep, locked, must_stop, run_phase
from loyalty.imports.work import subscribe_evidence
from loyalty.models import Consent, ConsentEvent, ImportJob, Member, MemberChange
from loyalty.models.scope import Someone
from loyalty.retrying import retrying

State, Phase = ImportJob.State, ImportJob.Phase
_SLICE = 1_000


def may_undo(job: ImportJob) -> bool:
    """Tell whether there is something to undo: a member import that has written, whole or in part.

    Its rows say so and not its counters, which leave out a member who was changed by a repeated row.
    """
    return (
        job.kind == ImportJob.Kind.MEMBERS
        and job.phase == Phase.IMPORT
        and job.state in ENDED
        and job.undone_at is None
        and (_has(job, MemberChange.objects, "job_id") or _has(job, Member.objects, "created_by_import_id"))
    )


def _has(job: ImportJob, rows: Any, column: str) -> bool:
    """Tell whether rows of the job exist by one entry of the index, wherever in the table they lie."""
    found: int | None = (
        rows.filter(**{f"{column}__gte": job.pk}).order_by(column).values_list(column, flat=True).first()
    )
    return found == job.pk


def undo_import(job: ImportJob, *, by: Someone = None, deadline: float | None = None) -> ImportJob:
    """Undo an import, and return its job; `findings["undone"]` counts removed, restored and kept members.

    Ends as COMPLETE in the phase UNDO with `undone_at`. With a `deadline` (time.monotonic()) it may end PENDING, and
    while another import of the site runs it stays as it was: to be called again. Raises `ImportRefused` when there is
    nothing to undo.
    """
    if job.phase != Phase.UNDO:
        if not may_undo(job):
            raise ImportRefused(_("Nothing of this import can be undone."))
        audit.record("import.undo_asked", site=job.site, user=by, target=job.file_name)
    return run_phase(job, Phase.UNDO, partial(_undo, deadline=deadline), deadline=deadline)


def _undo(job: ImportJob, *, deadline: float | None) -> None:
    for step in (_restore, _remove, _make_current):
        while retrying(job.site_id, partial(step, job)):
            if must_stop(job, deadline):
                return
    ImportJob.objects.filter(pk=job.pk, fence=job.fence).update(undone_at=timezone.now())
    end(job, State.COMPLETE)


@transaction.atomic
def _restore(job: ImportJob) -> bool:
    """Give a slice of changed members their old values back, the last change first; False when none is left.

    Who was current and is replaced now waits for `_make_current`, which needs the others as they were.
    """
    mine = locked(job)
    changes = MemberChange.objects.filter(job=job).order_by("-pk")
    left = changes.filter(pk__lt=mine.checkpoint["below"]) if "below" in mine.checkpoint else changes
    latest = dict(left.values_list("pk", "member")[:_SLICE])
    if not latest:
        return False
    members = _locked_members(latest.values())
    replaced_by = {pk: member.replaced_by_id for pk, member in members.items()}
    theirs = changes.filter(member__in=members)
    touched, kept = _set_back(members, theirs.iterator(chunk_size=_SLICE), _changed_since(job, members))
    theirs.delete()
    waiting = sorted(_point_back(members, touched.get("replaced_by", set()), replaced_by))
    touched.get("replaced_by", set()).difference_update(waiting)
    later = [MemberChange(job=job, member_id=pk, changes={"replaced_by": [None, replaced_by[pk]]}) for pk in waiting]
    later += [MemberChange(job=job, member_id=pk, changes={}) for pk in waiting if pk in kept]
    MemberChange.objects.bulk_create(later, batch_size=1000)
    _save([members[pk] for pk in sorted(set().union(*touched.values()))], [name for name in touched if touched[name]])
    mine.checkpoint["below"] = min(latest)
    done = members.keys() - set(waiting)
    _count(mine, restored=len(done - kept), kept=len(done & kept))
    return True


def _set_back(
    members: Mapping[int, Member], changes: Iterable[MemberChange], since: Mapping[tuple[int, str], int]
) -> tuple[dict[str, set[int]], set[int]]:
    """Set members back, change by change; return the ids touched by field, and those of who keeps something."""
    kept: set[int] = set()
    touched: dict[str, set[int]] = {}
    for change in changes:
        member = members[change.member_id]
        if not change.changes or member.is_erased:
            kept.add(member.pk)
            continue
        for name, (old, new) in change.changes.items():
            column = "replaced_by_id" if name == "replaced_by" else name
            stands = _stored(name, getattr(member, column)) == _stored(name, _value(name, new))
            if stands and since.get((member.pk, name), 0) < change.pk:
                setattr(member, column, _value(name, old))
                touched.setdefault(name, set()).add(member.pk)
            else:
                kept.add(member.pk)
    return touched, kept


def _locked_members(ids: Iterable[int]) -> dict[int, Member]:
    return {row.pk: row for row in Member.objects.select_for_update().filter(pk__in=set(ids)).order_by("pk")}


def _changed_since(job: ImportJob, members: Iterable[int]) -> dict[tuple[int, str], int]:
    """Return the last change that another import made in each field of these members.

    The imports of a site do not overlap: a change of a higher key is a later one, even if the value is the same again.
    """
    others = MemberChange.objects.filter(member__in=members).exclude(job=job)
    last: dict[tuple[int, str], int] = {}
    for pk, member, changes in others.order_by("pk").values_list("pk", "member", "changes").iterator(chunk_size=_SLICE):
        last.update(((member, name), pk) for name in changes)
        if "replaced_by" in changes:
            # Where the loyalty ID went, it went with the value that it had.
            last[member, "external_id"] = pk
    return last


def _point_back(members: dict[int, Member], pointed: set[int], before: Mapping[int, int | None]) -> set[int]:
    """Let members be replaced by whom they were, where that one is still there; return those who were current."""
    wanted = {members[pk].replaced_by_id for pk in pointed} - {None}
    there = set(Member.objects.people().filter(pk__in=wanted).values_list("pk", flat=True))
    current = {pk for pk in pointed if members[pk].replaced_by_id not in there}
    for pk in current:
        members[pk].replaced_by_id = before[pk]
    return current


def _save(members: Sequence[Member], fields: Iterable[str]) -> None:
    now = timezone.now()
    for member in members:
        member.updated_at = now
    if members:
        Member.objects.bulk_update(members, [*fields, "updated_at"], batch_size=200)


@transaction.atomic
def _make_current(job: ImportJob) -> bool:
    """Make a slice of members current again, but those whose loyalty ID somebody else still has; False without any."""
    mine = locked(job)
    changes = MemberChange.objects.filter(job=job).order_by("-pk")
    members = _locked_members(changes.values_list("member", flat=True)[:_SLICE])
    if not members:
        return False
    kept = set(changes.filter(member__in=members, changes={}).values_list("member", flat=True))
    known = dict(members)
    while unknown := {member.replaced_by_id for member in known.values()} - {None} - known.keys():
        known |= Member.objects.in_bulk(unknown)
    back = []
    for pk, member in members.items():
        current = _successor(member, known)
        if current is not None and current.external_id == member.external_id:
            kept.add(pk)
        else:
            back.append(pk)
    Member.objects.filter(pk__in=back).update(replaced_by=None, updated_at=timezone.now())
    changes.filter(member__in=members).delete()
    _count(mine, restored=len(members.keys() - kept), kept=len(kept))
    return True


def _successor(member: Member, known: Mapping[int, Member]) -> Member | None:
    """Return the current member that stands at the end of those who replaced this one; None without one."""
    met = {member.pk}
    found = None
    while member.replaced_by_id is not None:
        if member.replaced_by_id in met:
            return None
        met.add(member.replaced_by_id)
        found = member = known[member.replaced_by_id]
    return found


def _value(name: str, stored: Any) -> Any:
    """Return the Python value of what the change log holds as JSON."""
    if stored is None:
        return None
    if name == "birth_date":
        return date.fromisoformat(stored)
    if name == "joined_at":
        moment = datetime.fromisoformat(stored)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return stored


def _stored(name: str, value: Any) -> Any:
    return value or None if name not in ("points", "extended_attributes") else value


@transaction.atomic
def _remove(job: ImportJob) -> bool:
    """Remove a slice of created members, but those in use since; False when none is left."""
    mine = locked(job)
    after = mine.checkpoint.get("after", 0)
    created = Member.objects.filter(created_by_import=job, pk__gt=after).order_by("pk")
    # The lock keeps actions and messages of these members out until the end of the transaction.
    members = list(created.select_for_update()[:_SLICE])
    if not members:
        _count(mine)
        return False
    if job.options.get("subscribe"):
        consent.take_back(job.site, [member.phone for member in members], evidence=subscribe_evidence(job))
    used = _used(job, members)
    free = [member.pk for member in members if member.pk not in used]
    _pass_on({member.pk: member.replaced_by_id for member in members if member.pk not in used})
    Member.objects.filter(pk__in=free).delete()
    mine.checkpoint["after"] = members[-1].pk
    _count(mine, removed=len(free), kept=len(used))
    return True


def _pass_on(leaving: Mapping[int, int | None]) -> None:
    """Let the members whom a leaving one has replaced be replaced by its own successor."""
    # Those who leave too do not matter.
    heirs = list(Member.objects.select_for_update().filter(replaced_by__in=leaving).only("replaced_by").order_by("pk"))
    for member in heirs:
        met: set[int | None] = set()
        while member.replaced_by_id in leaving and member.replaced_by_id not in met:
            met.add(member.replaced_by_id)
            member.replaced_by_id = leaving[member.replaced_by_id]
    Member.objects.bulk_update([heir for heir in heirs if heir.replaced_by_id], ["replaced_by"], batch_size=200)


def _used(job: ImportJob, members: Sequence[Member]) -> set[int]:
    ids = [member.pk for member in members]
    used = {member.pk for member in members if member.is_erased}
    used |= set(MemberChange.objects.filter(member__in=ids).exclude(job=job).values_list("member", flat=True))
    for relation in Member._meta.related_objects:
        if relation.related_model is not Member:
            rows = relation.related_model._default_manager.filter(**{f"{relation.field.name}__in": ids})
            used.update(rows.values_list(relation.field.name, flat=True))
    addresses = {member.phone for member in members} | {member.email for member in members if member.email}
    since = ConsentEvent.objects.filter(recorded_at__gte=job.started_at or job.created_at)
    changed = since.filter(consent__site=job.site, consent__address__in=addresses).exclude(from_state=F("to_state"))
    known = set(changed.exclude(consent__state=Consent.State.UNKNOWN).values_list("consent__address", flat=True))
    return used | {member.pk for member in members if member.phone in known or member.email in known}


def _count(mine: ImportJob, **more: int) -> None:
    """Add to the counts of the undo, in the transaction of the slice."""
    counts = Counter(mine.findings.get("undone", {"removed": 0, "restored": 0, "kept": 0}))
    counts.update(more)
    mine.findings = {**mine.findings, "undone": dict(counts)}
    keep(mine, "findings", "checkpoint")
