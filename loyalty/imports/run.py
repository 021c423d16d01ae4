"""Runs an import slice by slice: one transaction for the rows of a slice, its counters and the place to go on from.

A worker owns a job by a lease, and proves it with the job's fence in every write. Whoever finds a lease that has run
out goes on from the last committed slice, and ends where an undisturbed run would have ended.
"""

import gc
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from attentive_integration.crash import crash_point
from loyalty import audit
from loyalty.imports.cleaning import Issue
from loyalty.imports.files import delete_stored, open_upload
from loyalty.imports.rejects import write_rejects
from loyalty.imports.rows import Dialect, ImportRefused, slices
from loyalty.imports.work import Applied, Prepared, Work, work_for
from loyalty.models import ImportIssue, ImportJob, Site
from loyalty.retrying import retrying

State = ImportJob.State
Phase = ImportJob.Phase
Kind = ImportIssue.Kind
ENDED = (State.COMPLETE, State.CANCELLED, State.FAILED)
COUNTERS = ("created", "updated", "unchanged", "duplicate", "rejected")

_LEASE = timedelta(seconds=60)
_POLL_SECONDS = 0.5
# New objects after which Python may search for cyclic garbage: those of some slices.
_OBJECTS = 200_000
_SWITCH_SECONDS = 0.0005
# How many examples of each trouble are shown.
_EXAMPLES = 5

T = TypeVar("T")


class LeaseLost(Exception):
    """Another worker has taken the job over."""


def due_jobs() -> QuerySet[Any]:
    """Return the jobs that a worker should run: asked for, or left by a worker whose lease has run out."""
    asked = Q(state=State.PENDING, phase__in=(Phase.CHECK, Phase.IMPORT, Phase.UNDO))
    return ImportJob.objects.filter(asked | Q(state=State.RUNNING, lease_until__lt=timezone.now())).order_by("pk")


def job_ahead(job: ImportJob) -> ImportJob | None:
    """Return the import of the same site that this one has to wait for, None when it may run."""
    writing = ImportJob.objects.filter(site=job.site_id, phase__in=(Phase.IMPORT, Phase.UNDO), state=State.RUNNING)
    others = writing.exclude(pk=job.pk)
    return next((other for other in others.order_by("pk") if not is_left(other)), None)


def check_import(job: ImportJob, *, deadline: float | None = None) -> ImportJob:
    """Go through the whole file and fill the job's counters and findings as the import would; writes no member.

    Ends as COMPLETE in the phase CHECK. With a `deadline` (time.monotonic()) it may end PENDING, to be called again.
    """
    return run_phase(job, Phase.CHECK, partial(_work_through, deadline=deadline, write=False))


def run_import(
    job: ImportJob, *, deadline: float | None = None, waiting: Callable[[ImportJob], None] | None = None
) -> ImportJob:
    """Import the file, or go on with it, and return the job as it stands then.

    Two imports of one site never overlap: with `waiting`, that is called once with the other job and this one waits;
    without it the job stays PENDING. With a `deadline` (time.monotonic()) it may end PENDING, to be called again.
    """
    work = partial(_work_through, deadline=deadline, write=True)
    return run_phase(job, Phase.IMPORT, work, deadline=deadline, waiting=waiting)


def run_phase(
    job: ImportJob,
    phase: str,
    work: Callable[[ImportJob], None],
    *,
    deadline: float | None = None,
    waiting: Callable[[ImportJob], None] | None = None,
) -> ImportJob:
    """Own the job for a phase and do its work, when it may run; return the job as it stands then."""
    said = False
    while not _claim(job, phase):
        job.refresh_from_db()
        if job.state == State.PENDING and job.cancel_asked_at is not None:
            end(job, State.CANCELLED)
        is_under_way = job.state == State.RUNNING and job.phase == phase
        if waiting is None or not (is_under_way or _may_run(job, phase)):
            return job
        ahead = job_ahead(job)
        if ahead is not None and not said:
            waiting(ahead)
            said = True
        if deadline is not None and time.monotonic() > deadline:
            return job
        time.sleep(_POLL_SECONDS)
    try:
        work(job)
    except LeaseLost:
        pass
    except ImportRefused as refusal:
        end(job, State.FAILED, error=str(refusal))
    except (OperationalError, InterfaceError):
        # The database is away: the lease runs out, and the next worker goes on from the last slice.
        raise
    except Exception:
        end(
            job,
            State.FAILED,
            error=_(
                "An unexpected error stopped this import. What was written is kept; import the file again to go on."
            ),
        )
        raise
    job.refresh_from_db()
    return job


# --- Owning a job -----------------------------------------------------------------------------------------------------


@transaction.atomic
def _claim(job: ImportJob, phase: str) -> bool:
    """Make this process the owner of the job, if it may run now; the job object is then as stored."""
    # One decision at a time per site; new members may still be written meanwhile.
    Site.objects.select_for_update(no_key=True).get(pk=job.site_id)
    job.refresh_from_db()
    if not _may_run(job, phase) or (phase != Phase.CHECK and job_ahead(job) is not None):
        return False
    if job.checkpoint.get("phase") != phase:
        _begin(job, phase)
    job.state, job.phase = State.RUNNING, phase
    job.fence += 1
    job.lease_until = timezone.now() + _LEASE
    job.checkpoint["owner"] = _owner()
    job.save()
    return True


def _may_run(job: ImportJob, phase: str) -> bool:
    """Tell whether a job can enter a phase: it was asked for, left by its worker, or ended the phase before."""
    if job.state == State.RUNNING:
        return job.phase == phase and is_left(job)
    if phase == Phase.UNDO:
        return job.undone_at is None and (
            (job.phase == Phase.UNDO and job.state == State.PENDING)
            or (job.phase in (Phase.IMPORT, Phase.UNDO) and job.state in ENDED)
        )
    if job.cancel_asked_at is not None or job.phase == Phase.UNDO:
        return False
    return job.state == State.PENDING or (job.phase == Phase.CHECK and job.state == State.COMPLETE)


def _begin(job: ImportJob, phase: str) -> None:
    """Start a phase: a check and an import from the first row, with all counters at zero."""
    job.cancel_asked_at, job.error = None, ""
    if phase == Phase.UNDO:
        job.checkpoint = {"phase": phase}
        return
    dialect = Dialect.from_json(job.dialect)
    job.issues.all().delete()
    for counter in ("read", *COUNTERS):
        setattr(job, counter, 0)
    delete_stored(job.rejects_file.name)
    job.bytes_done, job.findings, job.rejects_file = 0, {}, ""
    job.started_at, job.ended_at = timezone.now(), None
    job.checkpoint = {"phase": phase, "offset": dialect.body, "line": dialect.body_line}


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def is_left(job: ImportJob) -> bool:
    """Tell whether nobody works on a RUNNING job: its lease has run out, or its process on this host has ended."""
    if job.lease_until is None or job.lease_until < timezone.now():
        return True
    host, _colon, pid = str(job.checkpoint.get("owner", "")).rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def end(job: ImportJob, state: str, *, error: str = "") -> None:
    rows = ImportJob.objects.filter(pk=job.pk, fence=job.fence, state__in=(State.PENDING, State.RUNNING))
    if rows.update(state=state, error=error, lease_until=None, ended_at=timezone.now()):
        job.refresh_from_db()
        audit.record(
            f"import.{state.lower()}", site=job.site, user=job.created_by, target=job.file_name,
            new={name: getattr(job, name) for name in ("read", *COUNTERS)},
        )  # fmt: skip


# --- The work ---------------------------------------------------------------------------------------------------------


def _work_through(job: ImportJob, *, deadline: float | None, write: bool) -> None:
    work = work_for(job, write=write)
    done = job.checkpoint["offset"]
    try:
        with open_upload(job) as file, _tuned_for_rows():
            for prepared in _ahead(_prepared(file, job, work, done)):
                if must_stop(job, deadline):
                    return
                if prepared.piece.offset <= done:
                    retrying(job.site_id, partial(_look_back, job, work, prepared))
                    continue
                retrying(job.site_id, partial(_apply, job, work, prepared))
                crash_point("after_slice_commit")
    finally:
        work.close()
    if must_stop(job, None):
        return
    write_rejects(job)
    crash_point("before_import_end")
    end(job, State.COMPLETE)


def _prepared(file: Any, job: ImportJob, work: Work, done: int) -> Iterator[Prepared]:
    dialect = Dialect.from_json(job.dialect)
    for piece in slices(file, dialect, offset=dialect.body, line=dialect.body_line, cut_at=done):
        yield from work.prepare(piece)


def must_stop(job: ImportJob, deadline: float | None) -> bool:
    """End the job when staff asked for it; hand it back when this worker's time is over."""
    mine = ImportJob.objects.filter(pk=job.pk, fence=job.fence, state=State.RUNNING)
    if mine.exclude(cancel_asked_at=None).exists():
        write_rejects(job)
        end(job, State.CANCELLED)
        return True
    if deadline is not None and time.monotonic() > deadline:
        mine.update(state=State.PENDING, lease_until=None)
        return True
    return False


@transaction.atomic
def _look_back(job: ImportJob, work: Work, prepared: Prepared) -> None:
    keep(locked(job))
    work.look_back(prepared)


@transaction.atomic
def _apply(job: ImportJob, work: Work, prepared: Prepared) -> None:
    _flush_later()
    mine = locked(job)
    applied = work.apply(prepared, now=timezone.now())
    _store_issues(job, applied.issues)
    piece = prepared.piece
    for name in COUNTERS:
        setattr(mine, name, getattr(mine, name) + applied.counts[name])
    mine.read += len(piece.rows)
    mine.findings = _findings(mine.findings, applied, prepared)
    mine.checkpoint |= {"offset": piece.offset, "line": piece.next_line}
    mine.bytes_done = piece.offset
    keep(mine, "read", *COUNTERS, "findings", "checkpoint", "bytes_done")
    crash_point("before_slice_commit")


def _flush_later() -> None:
    """Let PostgreSQL bring the slice to disk while the next one is worked on.

    A server that crashes meanwhile loses the rows together with their counters and the place to go on from, so that
    they are imported again. The end of the job is flushed before it is told, and everything before with it.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit = off")


def locked(job: ImportJob) -> ImportJob:
    """Return the job as stored, locked until the transaction ends; raises `LeaseLost` when it is no longer ours."""
    mine = ImportJob.objects.select_for_update().filter(pk=job.pk, fence=job.fence, state=State.RUNNING).first()
    if mine is None:
        raise LeaseLost
    return mine


def keep(mine: ImportJob, *fields: str) -> None:
    """Save fields of a locked job, and hold it for a while longer."""
    mine.lease_until = timezone.now() + _LEASE
    mine.save(update_fields=[*fields, "lease_until"])


def _store_issues(job: ImportJob, issues: list[Issue]) -> None:
    ImportIssue.objects.bulk_create(
        (
            ImportIssue(
                job=job, kind=issue.kind, line=issue.line, field=issue.field, code=issue.code, reason=issue.reason,
                cells=list(issue.cells),
            )
            for issue in issues
        ),
        batch_size=1000,
    )  # fmt: skip


def _findings(before: dict[str, Any], applied: Applied, prepared: Prepared) -> dict[str, Any]:
    """Return the job's findings with those of a slice: groups by what people must do, with counts and examples."""
    groups = {key: dict(group) for key, group in before.get("groups", {}).items()}
    for issue in applied.issues:
        key = f"{issue.kind}:{issue.field}:{issue.code}"
        group = groups.setdefault(
            key, {"kind": issue.kind, "field": issue.field, "code": issue.code, "sentence": issue.reason, "count": 0,
                  "examples": []}
        )  # fmt: skip
        group["count"] += 1
        if len(group["examples"]) < _EXAMPLES:
            group["examples"] = [*group["examples"], {"line": issue.line, "value": issue.value}]
    return {**before, "groups": groups, "suspicious": prepared.suspicious}


@contextmanager
def _tuned_for_rows() -> Iterator[None]:
    """Tune Python for two threads, one that makes rows and one that mostly waits for the database.

    Rows make no cyclic garbage, and searching them for it would cost as much as reading them. And the one that waits
    is let in at once when its answer comes.
    """
    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(_OBJECTS, *threshold[1:])
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items while the next one is being made in a thread: databases work without holding up Python."""
    waiting: queue.Queue[Any] = queue.Queue(maxsize=1)
    stop = threading.Event()
    end = object()
    language = translation.get_language()

    def make() -> None:
        try:
            with translation.override(language):
                for item in items:
                    if not _put(waiting, item, stop):
                        return
            _put(waiting, end, stop)
        except BaseException as error:
            _put(waiting, error, stop)

    thread = threading.Thread(target=make, name="import-reader", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _put(waiting: "queue.Queue[Any]", item: Any, stop: threading.Event) -> bool:
    while not stop.is_set():
        with suppress(queue.Full):
            waiting.put(item, timeout=0.2)
            return True
    return False
