"""Export jobs: a segment, a member list or a message log on its way into one private file of Django's storage.

PENDING → RUNNING → COMPLETE | FAILED | CANCELLED. A running job has a lease with a fence, kept alive while it works; a
job whose worker died is begun again from the start by whoever runs it next. The file is listed only once it is whole.
"""

import logging
import os
import secrets
import shutil
import threading
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, Self

from django.conf import settings
from django.core.files import File
from django.core.files.storage import Storage
from django.db import DatabaseError, connection, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from loyalty import audit
from loyalty.exports.files import MANIFEST, ExportFailed, sentence_of
from loyalty.exports.segment_files import DEFAULT_HEADER, Progress, check_header, write_members, write_segment
from loyalty.models import AuditEntry, ExportJob, Segment, Site
from loyalty.models.scope import Someone, known_user
from loyalty.segments import RulesError, validate_rules

__all__ = [
    "ExportFailed",
    "ExportRefused",
    "ask_cancel",
    "delete_expired",
    "downloads_of",
    "due_jobs",
    "open_download",
    "run_export",
    "start_export",
    "write_members",
    "write_segment",
]

State, Kind, Format = ExportJob.State, ExportJob.Kind, ExportJob.Format
# Writes a job's files and manifest.json into a folder and returns the manifest; tells its progress as it goes.
Writer = Callable[[ExportJob, Path, Progress], dict[str, Any]]

logger = logging.getLogger(__name__)

# How long a finished file is kept.
KEPT = timedelta(days=7)
_LEASE = timedelta(seconds=60)
_BEAT_SECONDS = 2.0
# A job that ended its worker this often is not begun again.
_MAX_STARTS = 5
_DOWNLOADED = "export.downloaded"


class ExportRefused(Exception):
    """An export or a download that cannot be; `str()` is a sentence with the remedy."""


class _Cancelled(Exception):
    """Somebody asked to cancel the job."""


class _Lost(Exception):
    """The lease ran out, and the job is somebody else's now."""


# --- Starting and stopping --------------------------------------------------------------------------------------------


@transaction.atomic
def start_export(
    site: Site,
    *,
    kind: str = Kind.SEGMENT,
    format: str = Format.ATTENTIVE,
    segment: Segment | None = None,
    options: dict[str, Any] | None = None,
    by: Someone = None,
) -> ExportJob:
    """Make a PENDING job; while the same export waits or runs, return that one, so that a double click makes one file.

    SEGMENT needs the `segment`; its options: `header` (of the ATTENTIVE form). MEMBERS: `rules`, as in a segment.
    Members and messages come as SPREADSHEET. Raises `ExportRefused`.
    """
    if format not in Format.values:
        raise ExportRefused(_("Known formats are: %(known)s.") % {"known": ", ".join(Format.values)})
    if kind == Kind.SEGMENT:
        if segment is None or segment.site_id != site.pk:
            raise ExportRefused(_("Choose a segment of %(site)s to export.") % {"site": site.client_name})
        if not segment.is_frozen:
            _require_rules(segment.rules)
        try:
            check_header((options or {}).get("header", DEFAULT_HEADER))
        except ExportFailed as error:
            raise ExportRefused(str(error)) from None
    else:
        format, segment = Format.SPREADSHEET, None
        _require_rules((options or {}).get("rules", {}))
    wanted = {"kind": kind, "format": format, "segment": segment, "options": options or {}}
    Site.objects.select_for_update().get(pk=site.pk)
    under_way = ExportJob.objects.filter(
        site=site, state__in=[State.PENDING, State.RUNNING], cancel_asked_at=None, kind=kind, format=format,
        segment=segment,
    )  # fmt: skip
    for job in under_way:
        if job.options == wanted["options"]:
            return job
    job = ExportJob.objects.create(site=site, created_by=known_user(by), **wanted)
    audit.record("export.started", site=site, user=by, target=_name(job))
    return job


def _require_rules(rules: Any) -> None:
    try:
        validate_rules(rules)
    except RulesError as error:
        raise ExportRefused(str(error)) from None


def _name(job: ExportJob) -> str:
    return f"{job} · {job.segment.name}" if job.segment else str(job)


def ask_cancel(job: ExportJob, by: Someone = None) -> None:
    """Cancel a job that waits at once, and a running one within some seconds; a job that has ended stays as it is."""
    now = timezone.now()
    mine = ExportJob.objects.filter(pk=job.pk)
    asked = mine.filter(state=State.PENDING).update(state=State.CANCELLED, ended_at=now, cancel_asked_at=now)
    asked += mine.filter(state=State.RUNNING, cancel_asked_at=None).update(cancel_asked_at=now)
    if asked:
        audit.record("export.cancelled", site=job.site, user=by, target=_name(job))
    job.refresh_from_db()


def due_jobs(now: datetime | None = None) -> QuerySet[ExportJob]:
    """Return the jobs that wait for a worker, oldest first: new ones, and those whose worker died."""
    free = Q(state=State.PENDING) | Q(state=State.RUNNING, lease_until__lt=now or timezone.now())
    return ExportJob.objects.filter(free).order_by("pk")


# --- Running ----------------------------------------------------------------------------------------------------------


def run_export(job: ExportJob, write: Writer | None = None) -> ExportJob:
    """Carry a job out and return it as it ended; one that another worker has, or that has ended, is left alone.

    `write` makes the files of kinds that loyalty does not know, such as the message log.
    """
    write = write or _WRITERS.get(job.kind)
    if write is None:
        raise ValueError(f"{job.kind} exports need a writer.")
    if not _claim(job):
        job.refresh_from_db()
        return job
    work = settings.DATA_DIR / "unfinished-exports" / f"{job.pk}-{job.fence}"
    try:
        _make_private(work, job)
        with _Heartbeat(job) as heartbeat:
            manifest = write(job, work / "files", heartbeat.progress)
            heartbeat.progress(manifest["rows"])
            _complete(job, manifest, _bundle(job, work, manifest))
    except _Cancelled:
        _end(job, State.CANCELLED)
    except _Lost:
        logger.warning("Export job %s went to another worker.", job.pk)
    except (ExportFailed, RulesError) as error:
        _end(job, State.FAILED, error=str(error))
    except Exception as error:
        sentence = _(
            "The export broke off unexpectedly (%(kind)s). Start it again; if it breaks off again, tell support."
        )
        _end(job, State.FAILED, error=sentence % {"kind": type(error).__name__})
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    job.refresh_from_db()
    return job


def _claim(job: ExportJob) -> bool:
    now = timezone.now()
    claimed = due_jobs(now).filter(pk=job.pk).update(
        state=State.RUNNING, started_at=now, lease_until=now + _LEASE, fence=F("fence") + 1, rows=0, error=""
    )  # fmt: skip
    if not claimed:
        return False
    job.refresh_from_db()
    if job.cancel_asked_at:
        _end(job, State.CANCELLED)
        return False
    if job.fence > _MAX_STARTS:
        _end(job, State.FAILED, error=_("The export broke off five times. Ask for less, or give the worker more room."))
        return False
    return True


def _mine(job: ExportJob) -> QuerySet[ExportJob]:
    """The job's row as long as it is ours: nobody claimed it after us."""
    return ExportJob.objects.filter(pk=job.pk, fence=job.fence, state=State.RUNNING)


def _end(job: ExportJob, state: str, **fields: Any) -> bool:
    return _mine(job).update(state=state, ended_at=timezone.now(), lease_until=None, **fields) == 1


def _make_private(work: Path, job: ExportJob) -> None:
    """Make the folder in which the job works, and remove what a worker that died may have left of it."""
    try:
        work.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in work.parent.glob(f"{job.pk}-*"):
            shutil.rmtree(old, ignore_errors=True)
        work.mkdir(mode=0o700)
    except OSError as error:
        raise ExportFailed(sentence_of(error, work.parent)) from error


class _Heartbeat:
    """Keeps a job's lease alive, shows its progress, and hears of a cancellation, in a thread of its own.

    The job's own connection is busy reading for as long as the file takes.
    """

    def __init__(self, job: ExportJob) -> None:
        self._job = job
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"export-{job.pk}", daemon=True)
        self._rows = 0
        self._reason: type[Exception] | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def progress(self, rows: int) -> None:
        """Take note of how far the job is; raises when it must stop."""
        self._rows = rows
        if self._reason is not None:
            raise self._reason

    def _run(self) -> None:
        try:
            while not self._stop.wait(_BEAT_SECONDS) and self._reason is None:
                # A database that does not answer for a moment is asked again; the fence decides in the end.
                with suppress(DatabaseError):
                    self._beat()
        finally:
            connection.close()

    def _beat(self) -> None:
        if not _mine(self._job).update(lease_until=timezone.now() + _LEASE, rows=self._rows):
            self._reason = _Lost
        elif _mine(self._job).filter(cancel_asked_at__isnull=False).exists():
            self._reason = _Cancelled


# --- The file ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bundle:
    """What goes into storage: one file, and the name under which it is downloaded."""

    path: Path
    download_name: str


def _bundle(job: ExportJob, work: Path, manifest: dict[str, Any]) -> _Bundle:
    """Return the one file as it is, and several as a zip together with their manifest."""
    names = [part["name"] for part in manifest["files"]]
    if len(names) == 1:
        return _Bundle(work / "files" / names[0], names[0])
    path = work / "all.zip"
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bundle:
            for name in (*names, MANIFEST):
                bundle.write(work / "files" / name, name)
    except OSError as error:
        raise ExportFailed(sentence_of(error, work)) from error
    return _Bundle(path, f"{names[0].removesuffix('.csv').rpartition('_')[0]}.zip")


def _complete(job: ExportJob, manifest: dict[str, Any], bundle: _Bundle) -> None:
    field = ExportJob._meta.get_field("file")
    storage: Storage = field.storage
    # A name that nobody can guess, and that no other job has: a failed write leaves no doubt what to delete.
    wanted = field.generate_filename(job, f"{job.pk}-{secrets.token_hex(12)}{bundle.path.suffix}")
    try:
        with bundle.path.open("rb") as file:
            name = storage.save(wanted, File(file))
        _sync(storage, name)
    except OSError as error:
        _discard(storage, wanted)
        raise ExportFailed(sentence_of(error, Path(wanted).parent)) from error
    now = timezone.now()
    listed = _end(
        job, State.COMPLETE, file=name, rows=manifest["rows"], expires_at=now + KEPT,
        manifest={**manifest, "download_name": bundle.download_name},
    )  # fmt: skip
    if not listed:
        _discard(storage, name)
        raise _Lost


def _sync(storage: Storage, name: str) -> None:
    """Bring a file of a local storage to the disk before the job says that it is there."""
    try:
        path = storage.path(name)
    except NotImplementedError:
        return
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _discard(storage: Storage, name: str) -> None:
    with suppress(OSError):
        storage.delete(name)


def open_download(job: ExportJob, by: Someone = None) -> tuple[IO[bytes], str]:
    """Return the finished file and the name for the browser, and note who took it. Raises `ExportRefused`."""
    if job.state != State.COMPLETE or not job.file:
        raise ExportRefused(_("This export has no file to download. Start it again."))
    if job.expires_at and job.expires_at <= timezone.now():
        raise ExportRefused(
            _("The file expired on %(day)s. Start the export again.") % {"day": date_format(job.expires_at)}
        )
    name = str(job.file.name)
    try:
        file = job.file.storage.open(name, "rb")
    except OSError:
        raise ExportRefused(_("The file is not in the storage any more. Start the export again.")) from None
    audit.record(_DOWNLOADED, site=job.site, user=by, target=f"{_name(job)}{_number(job)}"[-200:])
    return file, job.manifest.get("download_name") or Path(name).name


def downloads_of(job: ExportJob) -> list[AuditEntry]:
    """Return who took the file and when, the latest first, 20 at most."""
    entries = AuditEntry.objects.filter(site=job.site_id, event=_DOWNLOADED, at__gte=job.created_at)
    return list(entries.filter(target__endswith=_number(job)).order_by("-at")[:20])


def _number(job: ExportJob) -> str:
    return f" (#{job.pk})"


def delete_expired(now: datetime | None = None) -> int:
    """Delete the files whose time is over and return how many; the jobs stay as history."""
    expired = ExportJob.objects.filter(state=State.COMPLETE, expires_at__lte=now or timezone.now()).exclude(file="")
    done = 0
    for job in expired.iterator(chunk_size=500):
        _discard(job.file.storage, str(job.file.name))
        done += ExportJob.objects.filter(pk=job.pk).update(file="")
    return done


# --- The kinds that loyalty knows -------------------------------------------------------------------------------------


def _write_segment_job(job: ExportJob, folder: Path, progress: Progress) -> dict[str, Any]:
    if job.segment is None:
        raise ExportFailed(_("The segment was deleted. Choose another one to export."))
    header = job.options.get("header") or DEFAULT_HEADER
    return write_segment(job.segment, folder, job.format, header=header, progress=progress)


def _write_members_job(job: ExportJob, folder: Path, progress: Progress) -> dict[str, Any]:
    return write_members(job.site, folder, rules=job.options.get("rules"), progress=progress)


_WRITERS: dict[str, Writer] = {Kind.SEGMENT: _write_segment_job, Kind.MEMBERS: _write_members_job}
