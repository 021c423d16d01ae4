"""Undoes an import of members: what it changed gets its old values back, and what it created goes.

Kept are values that somebody has changed since, and members who have since got actions, messages or consent, or whom
another import has changed. Each slice is one transaction, and leaves nothing to do twice: a worker that dies is
followed by another.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from loyalty import audit, consent
from loyalty.imports.rows import ImportRefused
from loyalty.imports.run import ENDED, end, keep, locked, must_stop, run_phase
from loyalty.imports.work import subscribe_evidence
from loyalty.models import Consent, ImportJob, Member, MemberChange
from loyalty.models.scope import Someone
from loyalty.retrying import retrying

State, Phase = ImportJob.State, ImportJob.Phase
_SLICE = 1_000


def may_undo(job: ImportJob) -> bool:
    """Tell whether there is something to undo: a member import that has written, whole or in part."""
    return (
        job.kind == ImportJob.Kind.MEMBERS
        and job.phase == Phase.IMPORT
        and job.state in ENDED
        and job.undone_at is None
        and job.created + job.updated > 0
    )


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
    for step in (_restore, _remove):
        while retrying(job.site_id, partial(step, job)):
            if must_stop(job, deadline):
                return
    ImportJob.objects.filter(pk=job.pk, fence=job.fence).update(undone_at=timezone.now())
    end(job, State.COMPLETE)


@transaction.atomic
def _restore(job: ImportJob) -> bool:
    """Give a slice of changed members their old values back, the last change first; False when none is left."""
    mine = locked(job)
    changes = list(MemberChange.objects.filter(job=job).order_by("-pk")[:_SLICE])
    if not changes:
        return False
    ids = {change.member_id for change in changes}
    members = {row.pk: row for row in Member.objects.select_for_update().filter(pk__in=ids).order_by("pk")}
    restored: set[int] = set()
    touched: set[str] = set()
    for change in changes:
        member = members[change.member_id]
        for name, (old, new) in change.changes.items():
            if _stored(name, getattr(member, name)) == _stored(name, _value(name, new)):
                setattr(member, name, _value(name, old))
                touched.add(name)
                restored.add(member.pk)
    now = timezone.now()
    for pk in restored:
        members[pk].updated_at = now
    if touched:
        Member.objects.bulk_update([members[pk] for pk in restored], [*touched, "updated_at"], batch_size=200)
    MemberChange.objects.filter(pk__in=[change.pk for change in changes]).delete()
    _count(mine, restored=len(restored), kept=len(ids) - len(restored))
    return True


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
        return False
    if job.options.get("subscribe"):
        consent.take_back(job.site, [member.phone for member in members], evidence=subscribe_evidence(job))
    used = _used(job, members)
    free = [member.pk for member in members if member.pk not in used]
    Member.objects.filter(pk__in=free).delete()
    mine.checkpoint["after"] = members[-1].pk
    _count(mine, removed=len(free), kept=len(used))
    return True


def _used(job: ImportJob, members: Sequence[Member]) -> set[int]:
    ids = [member.pk for member in members]
    used: set[int] = set(MemberChange.objects.filter(member__in=ids).exclude(job=job).values_list("member", flat=True))
    for relation in Member._meta.related_objects:
        if relation.related_model is not Member:
            rows = relation.related_model._default_manager.filter(**{f"{relation.field.name}__in": ids})
            used.update(rows.values_list(relation.field.name, flat=True))
    addresses = {member.phone for member in members} | {member.email for member in members if member.email}
    known = set(
        Consent.objects.filter(site=job.site, address__in=addresses)
        .exclude(state=Consent.State.UNKNOWN)
        .values_list("address", flat=True)
    )
    return used | {member.pk for member in members if member.phone in known or member.email in known}


def _count(mine: ImportJob, **more: int) -> None:
    """Add to the counts of the undo, in the transaction of the slice."""
    counts = Counter(mine.findings.get("undone", {"removed": 0, "restored": 0, "kept": 0}))
    counts.update(more)
    mine.findings = {**mine.findings, "undone": dict(counts)}
    keep(mine, "findings", "checkpoint")
