"""The files of imports in storage: whole or absent, deleted when nobody needs them any more."""

import io
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from loyalty import imports
from loyalty.imports import ImportRefused, rejects
from loyalty.imports.files import KEPT, delete_expired, rejects_of, save_whole
from loyalty.imports.steps import ask_again, ask_check, ask_import, change_dialect, look_ahead
from loyalty.models import ImportJob, Member, Site
from tests.factories import make_site

pytestmark = pytest.mark.django_db

State, Phase = ImportJob.State, ImportJob.Phase
FILE = b"phone,first_name\n+17705550101,Ada\n12,Bob\n"


@pytest.fixture
def site() -> Site:
    return make_site()


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Path:
    place = tmp_path / "storage"
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(place)}},
    }
    return place


@contextmanager
def disk_full_after(size: int) -> Iterator[None]:
    """Let the operating system refuse to make any file longer than so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def stored(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).parts[0] for path in folder.rglob("*") if path.is_file())


def upload(site: Site) -> ImportJob:
    job = imports.start_import(site, io.BytesIO(FILE), "members.csv")
    imports.set_mapping(job, imports.propose_mapping(job))
    return job


def checked(site: Site) -> ImportJob:
    job = upload(site)
    ask_check(job)
    return imports.check_import(job)


@pytest.mark.parametrize("room", [0, 10, len(FILE) - 1])
def test_a_full_disk_refuses_an_upload_and_keeps_nothing_of_it(site: Site, folder: Path, room: int) -> None:
    with disk_full_after(room), pytest.raises(ImportRefused, match="the disk is full. Make room and import it again"):
        upload(site)
    assert stored(folder) == [] and not ImportJob.objects.exists()


def test_the_command_says_that_the_disk_is_full_and_leaves_nothing(site: Site, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "members.csv"
    path.write_bytes(FILE)
    with disk_full_after(10), pytest.raises(CommandError, match="could not be stored: the disk is full"):
        call_command("import_members", "--site", site.site_id, str(path))
    assert stored(folder) == [] and not ImportJob.objects.exists()


@pytest.mark.parametrize("room", [0, 30])
def test_a_full_disk_at_the_rejects_file_leaves_the_import_complete(
    site: Site, folder: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(*arguments: Any) -> str:
        with disk_full_after(room):
            return save_whole(*arguments)

    monkeypatch.setattr(rejects, "save_whole", save)
    job = imports.run_import(upload(site))
    assert (job.state, job.error, job.created, job.rejected) == (State.COMPLETE, "", 1, 1)
    assert "rejected rows could not be written: the disk is full" in job.findings["rejects_error"]
    assert job.findings["groups"] and not job.rejects_file
    assert stored(folder) == ["imports"] and job.issues.count() == 1


def test_the_rejects_of_a_check_go_when_the_import_begins(site: Site, folder: Path) -> None:
    job = checked(site)
    assert len(rejects_of(site.pk)) == 1
    ask_import(job, {})
    job = imports.run_import(job)
    assert rejects_of(site.pk) == [job.rejects_file.name] and stored(folder) == ["imports", "rejects"]


def test_a_discarded_file_leaves_nothing(site: Site, folder: Path) -> None:
    imports.discard(checked(site))
    assert stored(folder) == []


def test_the_rejects_of_a_dry_run_are_kept_for_a_week(site: Site, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "members.csv"
    path.write_bytes(FILE)
    call_command("import_members", "--site", site.site_id, str(path), "--dry-run", stdout=io.StringIO())
    assert stored(folder) == ["rejects"] and rejects_of(make_site().pk) == []
    delete_expired(timezone.now() + KEPT - timedelta(minutes=1))
    assert len(rejects_of(site.pk)) == 1
    delete_expired(timezone.now() + KEPT)
    assert stored(folder) == []


def test_files_go_a_week_after_the_end_and_the_import_stays(site: Site, folder: Path) -> None:
    waiting, done, open_one = upload(site), imports.run_import(upload(site)), upload(site)
    ask_check(waiting)
    fresh = upload(site)
    ImportJob.objects.filter(pk=fresh.pk).update(created_at=timezone.now() + timedelta(days=2))
    later = timezone.now() + KEPT + timedelta(days=1)
    assert delete_expired(later) == 2 and delete_expired(later) == 0
    for job, has_file in ((waiting, True), (done, False), (open_one, False), (fresh, True)):
        job.refresh_from_db()
        assert bool(job.file) is has_file and not job.rejects_file
    assert stored(folder) == ["imports", "imports"] and done.issues.count() == 1


def test_an_import_whose_upload_is_gone_says_so(site: Site) -> None:
    job = upload(site)
    ImportJob.objects.filter(pk=job.pk).update(phase=Phase.IMPORT, state=State.CANCELLED, ended_at=timezone.now())
    delete_expired(timezone.now() + KEPT)
    job.refresh_from_db()
    ask_again(job)
    job = imports.run_import(job)
    assert job.state == State.FAILED and "no longer there. Upload it again" in job.error
    assert not Member.objects.exists()
    job.phase = Phase.MAPPING
    with pytest.raises(ImportRefused, match="no longer there"):
        look_ahead(job, job.mapping)
    with pytest.raises(ImportRefused, match="no longer there"):
        change_dialect(job, encoding="utf-8", delimiter=",", has_header=True, has_summary=False)
