"""The files of imports in Django's storage, uploads and rejected rows: whole or absent, and kept for a while.

An upload and a rejects file go a week after the import has ended or, where it never ran, after the upload. The rejected
rows of an import stay in the database, so that its page makes their file anew. The check's rejects file goes when the
import begins or is discarded; that of a dry run, whose path somebody was told, after a week.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.core.files import File
from django.core.files.storage import default_storage
from django.db.models import Q
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext as _

from loyalty.imports.rows import ImportRefused
from loyalty.models import ImportJob

State, Phase = ImportJob.State, ImportJob.Phase

# How long files are kept.
KEPT = timedelta(days=7)
REJECTS, _UPLOADS = "rejects", "imports"


def store_upload(job: ImportJob, file: Any) -> None:
    """Store what somebody uploaded; raises `ImportRefused`, with nothing left behind, when the disk refuses it."""
    field = ImportJob._meta.get_field("file")
    # The name in storage is ours: what somebody called their file goes into no path.
    wanted = field.generate_filename(job, f"{secrets.token_hex(12)}.csv")
    file.seek(0)
    try:
        job.file.name = save_whole(wanted, file if isinstance(file, File) else File(file))
    except OSError as error:
        raise ImportRefused(not_stored(reason_of(error))) from error


def not_stored(why: str) -> str:
    return _("The file could not be stored: %(why)s. Make room and import it again; nothing of it was kept.") % {
        "why": why
    }


def save_whole(name: str, content: File) -> str:
    """Store a file and return its name; raises `OSError`, with nothing left behind."""
    try:
        return default_storage.save(name, content)
    except OSError:
        delete_stored(name)
        raise


def reason_of(error: OSError) -> str:
    """Say in a few words what the disk refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return _("the disk is full")
    return error.strerror or str(error)


def open_upload(job: ImportJob) -> Any:
    """Open the uploaded file to read its bytes; raises `ImportRefused` when it has been deleted."""
    try:
        if not job.file:
            raise FileNotFoundError
        return job.file.open("rb")
    except FileNotFoundError:
        raise ImportRefused(_("The uploaded file is no longer there. Upload it again.")) from None


def delete_stored(name: str | None) -> None:
    """Delete a file in storage, if there is one."""
    if name:
        with suppress(OSError):
            default_storage.delete(name)


def delete_expired(now: datetime | None = None) -> int:
    """Delete the files whose time is over and return how many jobs lost theirs; the jobs stay as history."""
    before = (now or timezone.now()) - KEPT
    working = Q(state=State.RUNNING) | Q(state=State.PENDING) & ~Q(phase=Phase.MAPPING)
    idle = ImportJob.objects.exclude(working).alias(rested_at=Coalesce("ended_at", "created_at"))
    expired = idle.filter(rested_at__lte=before).exclude(file="", rejects_file="")
    done = 0
    for job in expired.iterator(chunk_size=500):
        if ImportJob.objects.exclude(working).filter(pk=job.pk).update(file="", rejects_file=""):
            delete_stored(job.file.name)
            delete_stored(job.rejects_file.name)
            done += 1
    for name in [*_names_under(_UPLOADS), *_names_under(REJECTS)]:
        if _is_older(name, before) and not ImportJob.objects.filter(Q(file=name) | Q(rejects_file=name)).exists():
            delete_stored(name)
    return done


def rejects_folder(site_id: int) -> str:
    """Return the folder in storage that holds the rejects files of a site, those of its dry runs too."""
    return f"{REJECTS}/{site_id}"


def rejects_of(site_id: int) -> list[str]:
    """Return the names in storage of a site's rejects files."""
    return list(_names_under(rejects_folder(site_id)))


def _names_under(folder: str) -> Iterator[str]:
    try:
        folders, names = default_storage.listdir(folder)
    except OSError:
        return
    yield from (os.path.join(folder, name) for name in names)
    for inner in folders:
        yield from _names_under(os.path.join(folder, inner))


def _is_older(name: str, moment: datetime) -> bool:
    try:
        return default_storage.get_modified_time(name) <= moment
    except OSError:
        return False
