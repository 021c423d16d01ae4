"""Export jobs: their states, their one private file, and what is left when something goes wrong."""

import csv
import io
import itertools
import json
import resource
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from loyalty import exports
from loyalty.exports import (
    ExportFailed,
    ExportRefused,
    ask_cancel,
    delete_expired,
    due_jobs,
    open_download,
    run_export,
    segment_files,
    start_export,
    write_segment,
)
from loyalty.models import AuditEntry, ExportJob, Segment
from tests.factories import make_consent, make_member, make_site, make_user

pytestmark = pytest.mark.django_db

State = ExportJob.State


@pytest.fixture(autouse=True)
def own_data_folder(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path / "data"


@pytest.fixture
def segment() -> Segment:
    """Gold of one of two sites with the same members: three who may be texted and one who may not."""
    sites = [make_site(), make_site()]
    for site in sites:
        for number in range(1, 4):
            make_consent(make_member(site, tier="Gold", phone=f"+1770555010{number}"))
        make_member(site, tier="Gold", phone="+17705550109")
    return Segment.objects.create(site=sites[0], name="Gold", rules={"tier": "Gold"})


def start(segment: Segment, **fields: Any) -> ExportJob:
    return start_export(segment.site, segment=segment, **fields)


def stored_files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "files").rglob("*") if path.is_file()]


def unfinished() -> list[Path]:
    return list((django_settings.DATA_DIR / "unfinished-exports").glob("*"))


def test_a_segment_becomes_one_private_file(segment: Segment, tmp_path: Path) -> None:
    user = make_user(segment.site)
    job = start(segment, by=user)
    assert job.state == State.PENDING and list(due_jobs()) == [job]
    job = run_export(job)
    assert (job.state, job.rows, job.error, job.lease_until) == (State.COMPLETE, 3, "", None)
    assert job.manifest["left_out"] == {"NOT_SUBSCRIBED": 1}
    assert job.expires_at is not None and job.expires_at > timezone.now() + timedelta(days=6)
    assert unfinished() == [] and len(stored_files(tmp_path)) == 1
    file, name = open_download(job, user)
    with file:
        assert sorted(file.read().splitlines()) == [
            b"+17705550101", b"+17705550102", b"+17705550103", b"phone",
        ]  # fmt: skip
    assert name == job.manifest["files"][0]["name"]
    events = AuditEntry.objects.filter(site=segment.site, user=user).order_by("pk").values_list("event", flat=True)
    assert list(events) == ["export.started", "export.downloaded"]
    assert list(due_jobs()) == []


def test_several_files_come_as_a_zip_with_their_manifest(
    segment: Segment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(segment_files.write_segment, "__kwdefaults__", {
        **segment_files.write_segment.__kwdefaults__, "rows_per_file": 2,
    })  # fmt: skip
    job = run_export(start(segment, format="SFTP"))
    file, name = open_download(job)
    assert name.endswith(".zip") and name.startswith(f"{segment.site.site_id}_subscriber_segment_")
    with file, zipfile.ZipFile(file) as bundle:
        assert bundle.testzip() is None
        parts = [entry["name"] for entry in job.manifest["files"]]
        assert bundle.namelist() == [*parts, "manifest.json"]
        assert [bundle.read(part).count(b"\n") for part in parts] == [2, 1]
        assert json.loads(bundle.read("manifest.json"))["rows"] == 3


def test_the_header_is_an_option(segment: Segment) -> None:
    file, _name = open_download(run_export(start(segment, options={"header": "Phone Number"})))
    with file:
        assert file.readline() == b"Phone Number\n"


def test_the_member_list_is_a_job_too(segment: Segment) -> None:
    job = run_export(start_export(segment.site, kind=ExportJob.Kind.MEMBERS, options={"rules": {"reachable": True}}))
    assert (job.state, job.format, job.rows) == (State.COMPLETE, "SPREADSHEET", 3)
    file, _name = open_download(job)
    with file:
        rows = list(csv.DictReader(io.StringIO(file.read().decode("utf-8-sig"))))
    assert {row["reachable"] for row in rows} == {"yes"}


def test_a_double_click_makes_one_job(segment: Segment) -> None:
    job = start(segment)
    assert start(segment) == job
    assert start(segment, format="SFTP") != job
    assert start(segment, options={"header": "x"}) != job
    run_export(job)
    assert start(segment) != job


def test_what_cannot_be_exported_is_refused(segment: Segment) -> None:
    other = make_site()
    with pytest.raises(ExportRefused, match="Choose a segment"):
        start_export(other, segment=segment)
    with pytest.raises(ExportRefused, match="Choose a segment"):
        start_export(other)
    for header in ("", 5, "pho\nne"):
        with pytest.raises(ExportRefused, match="header must have"):
            start(segment, options={"header": header})
    with pytest.raises(ExportRefused, match="Known formats are: ATTENTIVE, SFTP, SPREADSHEET"):
        start(segment, format="XLSX")
    with pytest.raises(ExportRefused, match="Unknown rule"):
        start_export(other, kind=ExportJob.Kind.MEMBERS, options={"rules": {"tir": "Gold"}})
    with pytest.raises(ValueError, match="need a writer"):
        run_export(start_export(other, kind=ExportJob.Kind.MESSAGES))
    assert ExportJob.objects.get().state == State.PENDING


def test_a_waiting_job_is_cancelled_at_once_and_never_runs(segment: Segment, tmp_path: Path) -> None:
    job = start(segment)
    ask_cancel(job)
    assert job.state == State.CANCELLED
    assert run_export(job).state == State.CANCELLED
    assert stored_files(tmp_path) == []
    with pytest.raises(ExportRefused, match="no file to download"):
        open_download(job)


@pytest.mark.django_db(transaction=True)
def test_a_running_job_is_cancelled_within_seconds(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_BEAT_SECONDS", 0.05)
    job = start(segment)

    def endless(job: ExportJob, folder: Path, progress: Any) -> dict[str, Any]:
        folder.mkdir()
        (folder / "half").write_text("+1")
        ask_cancel(ExportJob.objects.get(pk=job.pk))
        for rows in range(1, 600):
            progress(rows)
            time.sleep(0.01)
        raise AssertionError("The cancellation was not heard.")

    job = run_export(job, endless)
    assert (job.state, job.rows > 0, job.ended_at is not None) == (State.CANCELLED, True, True)
    assert unfinished() == [] and stored_files(tmp_path) == []


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_lost_its_lease_writes_nothing_any_more(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start(segment)

    def slow(mine: ExportJob, folder: Path, progress: Any) -> dict[str, Any]:
        # Meanwhile the lease ends, and another worker does the whole job.
        ExportJob.objects.filter(pk=mine.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
        assert run_export(ExportJob.objects.get(pk=mine.pk)).state == State.COMPLETE
        return write_segment(segment, folder, "sftp")

    job = run_export(job, slow)
    assert (job.state, job.fence, job.format) == (State.COMPLETE, 2, "ATTENTIVE")
    assert job.manifest["format"] == "ATTENTIVE"
    assert [path.name for path in stored_files(tmp_path)] == [Path(str(job.file.name)).name]


def test_a_worker_that_lost_its_lease_leaves_the_job_to_the_one_that_has_it(segment: Segment, tmp_path: Path) -> None:
    def slow(mine: ExportJob, folder: Path, progress: Any) -> dict[str, Any]:
        # Meanwhile another worker has claimed the job, and is still at it.
        ExportJob.objects.filter(pk=mine.pk).update(fence=mine.fence + 1)
        return write_segment(segment, folder, "sftp")

    job = run_export(start(segment), slow)
    assert (job.state, bool(job.file), stored_files(tmp_path)) == (State.RUNNING, False, [])


def test_the_job_of_a_dead_worker_is_begun_again(segment: Segment, tmp_path: Path) -> None:
    job = start(segment)
    now = timezone.now()
    ExportJob.objects.filter(pk=job.pk).update(state=State.RUNNING, fence=1, lease_until=now + timedelta(seconds=50))
    assert run_export(job).state == State.RUNNING and list(due_jobs()) == []
    left_behind = django_settings.DATA_DIR / "unfinished-exports" / f"{job.pk}-1"
    left_behind.mkdir(parents=True)
    (left_behind / "half").write_text("+1")
    ExportJob.objects.filter(pk=job.pk).update(lease_until=now - timedelta(seconds=1))
    assert run_export(job).state == State.COMPLETE
    assert unfinished() == [] and len(stored_files(tmp_path)) == 1


def test_a_job_that_ends_its_workers_is_given_up(segment: Segment) -> None:
    job = start(segment)
    ExportJob.objects.filter(pk=job.pk).update(
        state=State.RUNNING, fence=5, lease_until=timezone.now() - timedelta(seconds=1)
    )
    job = run_export(job)
    assert job.state == State.FAILED and "broke off five times" in job.error


def test_a_segment_that_was_deleted_or_spoilt_fails_the_job_with_a_sentence(segment: Segment) -> None:
    job, another = start(segment), start(segment, format="SFTP")
    Segment.objects.filter(pk=segment.pk).update(rules={"tir": "Gold"})
    assert "Unknown rule “tir”" in run_export(ExportJob.objects.get(pk=job.pk)).error
    segment.delete()
    assert "The segment was deleted" in run_export(ExportJob.objects.get(pk=another.pk)).error


def test_an_unexpected_error_fails_the_job_and_is_not_swallowed(segment: Segment) -> None:
    def broken(job: ExportJob, folder: Path, progress: Any) -> dict[str, Any]:
        raise ZeroDivisionError

    job = start(segment)
    with pytest.raises(ZeroDivisionError):
        run_export(job, broken)
    job.refresh_from_db()
    assert job.state == State.FAILED and "ZeroDivisionError" in job.error
    assert unfinished() == []


def test_expired_files_are_deleted_and_not_handed_out(segment: Segment, tmp_path: Path) -> None:
    old, fresh = run_export(start(segment)), run_export(start(segment, format="SFTP"))
    ExportJob.objects.filter(pk=old.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    old.refresh_from_db()
    with pytest.raises(ExportRefused, match="expired on"):
        open_download(old)
    assert delete_expired() == 1
    assert [path.name for path in stored_files(tmp_path)] == [Path(str(fresh.file.name)).name]
    old.refresh_from_db()
    assert old.state == State.COMPLETE and old.manifest["rows"] == 3
    with pytest.raises(ExportRefused, match="no file"):
        open_download(old)
    stored_files(tmp_path)[0].unlink()
    with pytest.raises(ExportRefused, match="not in the storage any more"):
        open_download(fresh)


# --- A disk that is full ----------------------------------------------------------------------------------------------


@contextmanager
def disk_full_after(size: int) -> Iterator[None]:
    """Let the operating system refuse to make any file longer than so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", ["attentive", "sftp", "spreadsheet"])
def test_a_full_disk_at_any_point_leaves_the_folder_as_it_was(segment: Segment, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out"
    write_segment(segment, out, form, rows_per_file=1)
    before = snapshot(out)
    longest = max(len(content) for content in before.values())
    make_consent(make_member(segment.site, tier="Gold"))
    for size in sorted({0, 1, 5, 13, 14, *range(20, longest, 40), longest}):
        with disk_full_after(size), pytest.raises(ExportFailed, match="full. Free some space and export again"):
            write_segment(segment, out, form, rows_per_file=1)
        assert snapshot(out) == before, size
    with disk_full_after(0), pytest.raises(ExportFailed):
        write_segment(segment, tmp_path / "new", form)
    assert not (tmp_path / "new").exists()


def test_a_full_disk_fails_the_job_and_the_file_before_stays(segment: Segment, tmp_path: Path) -> None:
    first = run_export(start(segment))
    before = snapshot(tmp_path / "files")
    for size in (0, 3, 30, 50):
        with disk_full_after(size):
            job = run_export(start(segment))
        assert job.state == State.FAILED and "is full" in job.error and not job.file
        assert snapshot(tmp_path / "files") == before and unfinished() == []
    file, _name = open_download(first)
    file.close()


@pytest.mark.parametrize(("form", "rows_per_file"), [("SPREADSHEET", 500_000), ("SFTP", 2)], ids=["one file", "zip"])
def test_a_disk_that_is_full_at_any_write_of_a_job(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, rows_per_file: int
) -> None:
    """With more and more room, each of the job's files is the one that fails: parts, manifest, zip."""
    defaults = segment_files.write_segment.__kwdefaults__
    monkeypatch.setattr(segment_files.write_segment, "__kwdefaults__", {**defaults, "rows_per_file": rows_per_file})
    first = run_export(start(segment, format=form))
    before = snapshot(tmp_path / "files")
    for room in itertools.count(0, 23):
        with disk_full_after(room):
            job = run_export(start(segment, format=form))
        assert unfinished() == []
        if job.state == State.COMPLETE:
            break
        assert job.state == State.FAILED and "is full. Free some space and export again" in job.error
        assert not job.file and not job.manifest
        assert snapshot(tmp_path / "files") == before
        file, _name = open_download(first)
        with file:
            assert file.read() in before.values()
    assert room > 200
    assert len(snapshot(tmp_path / "files")) == len(before) + 1


def test_a_full_storage_keeps_no_partial_file(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_export(start(segment))
    before, real = snapshot(tmp_path / "files"), exports._complete
    for room in range(0, len(*before.values()), 7):

        def complete(*arguments: Any, room: int = room) -> None:
            with disk_full_after(room):
                real(*arguments)

        monkeypatch.setattr(exports, "_complete", complete)
        job = run_export(start(segment))
        assert job.state == State.FAILED and "is full" in job.error and not job.file
        assert snapshot(tmp_path / "files") == before and unfinished() == []
    file, _name = open_download(first)
    file.close()


def test_a_work_folder_that_cannot_be_made_fails_the_job_with_a_sentence(segment: Segment, settings: Any) -> None:
    settings.DATA_DIR.write_text("a file")
    job = run_export(start(segment))
    assert job.state == State.FAILED and "is no folder that files can be put into" in job.error
