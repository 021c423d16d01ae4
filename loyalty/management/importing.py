"""What the three import commands share: find the site, run the file to its end, and report."""

import json
import os
import shutil
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError
from django.utils.translation import gettext as _

from loyalty import imports
from loyalty.imports.files import reason_of
from loyalty.imports.rejects import local_path
from loyalty.imports.rows import Dialect
from loyalty.management.site_option import add_site_option, site_of
from loyalty.models import ImportJob


def add_arguments(parser: ArgumentParser) -> None:
    add_site_option(parser)
    parser.add_argument("file", metavar="FILE", help="the CSV file")
    parser.add_argument("--no-header", action="store_true", help="the first row names no columns: it is data")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def import_file(
    command: BaseCommand, kind: str, options: Mapping[str, Any], job_options: dict[str, Any], *, dry_run: bool = False
) -> ImportJob:
    """Run a file to its end and return its job; raises `CommandError` with a sentence.

    The same file with the same options, left unfinished by a process that died, goes on where it stopped.
    """
    site = site_of(options)
    path = Path(options["file"])
    # A name that is no UTF-8 cannot be stored as it is.
    name = os.fsencode(path.name).decode(errors="replace")
    try:
        with _seekable(path) as file:
            job = imports.start_import(
                site, file, name, kind=kind, options=job_options, resume=not dry_run,
                has_header=False if options["no_header"] else None,
            )  # fmt: skip
    except OSError as error:
        raise CommandError(
            _("The file %(path)s cannot be read: %(why)s. Check its path.") % {"path": path, "why": reason_of(error)}
        ) from None
    except imports.ImportRefused as refusal:
        raise CommandError(str(refusal)) from None
    try:
        if not job.mapping:
            imports.set_mapping(job, imports.propose_mapping(job))
        if dry_run:
            imports.check_import(job)
        else:
            imports.run_import(job, waiting=lambda other: _say_waiting(command, other))
    except imports.ImportRefused as refusal:
        imports.discard(job)
        raise CommandError(str(refusal)) from None
    except (OperationalError, InterfaceError) as error:
        raise CommandError(
            _("The database did not answer. Run the same command again: it goes on where it stopped.")
        ) from error
    if dry_run:
        imports.discard(job, keep_rejects=True)
    imports.delete_expired()
    if job.state != ImportJob.State.COMPLETE:
        raise CommandError(job.error or _("The import was cancelled. What was written until then is kept."))
    return job


@contextmanager
def _seekable(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to read its bytes in any order; what comes through a pipe is copied first."""
    with path.open("rb") as file:
        if file.seekable():
            yield file
            return
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(file, copy)
            yield copy


def _say_waiting(command: BaseCommand, other: ImportJob) -> None:
    command.stderr.write(
        _("Waiting for another import of this site to end (%(file)s, %(read)s rows so far).")
        % {"file": other.file_name, "read": other.read}
    )


def report(command: BaseCommand, options: Mapping[str, Any], job: ImportJob, counts: dict[str, int]) -> None:
    """Print the counts, for people or as JSON."""
    for remark in Dialect.from_json(job.dialect).remarks:
        command.stderr.write(remark)
    if "rejects_error" in job.findings:
        command.stderr.write(job.findings["rejects_error"])
    rejects_file = local_path(job)
    if options["json"]:
        command.stdout.write(json.dumps({**counts, "rejects_file": rejects_file}))
        return
    for warning in job.findings.get("suspicious", []):
        command.stderr.write(warning)
    command.stdout.write(", ".join(f"{name} {count:,}" for name, count in counts.items()))
    for group in job.findings.get("groups", {}).values():
        command.stdout.write(f"{group['count']:,} × {group['sentence']}")
    if rejects_file:
        command.stdout.write(_("Rejected rows, to mend and import again: %(path)s") % {"path": rejects_file})
