import io
from datetime import timedelta

import pytest
from django.utils import timezone

from loyalty import imports
from loyalty.imports import rows, run
from loyalty.imports.rows import ImportRefused
from loyalty.imports.steps import (
    LOOKED_AT,
    ask_again,
    ask_check,
    ask_import,
    change_dialect,
    imported_before,
    look_ahead,
    sample_of,
)
from loyalty.models import Consent, ImportJob, Member, Site
from tests.factories import make_site

pytestmark = pytest.mark.django_db

State, Phase = ImportJob.State, ImportJob.Phase
FILE = b"Mobile;Surname;Points\n770-555-0101;Lovelace;12\n404-555-0102;;abc\n1.77056E+10;Hopper;7\n"


@pytest.fixture
def site() -> Site:
    return make_site()


def upload(site: Site, content: bytes = FILE, **more: object) -> ImportJob:
    return imports.start_import(site, io.BytesIO(content), "members.csv", **more)


def checked(site: Site, content: bytes = FILE) -> ImportJob:
    job = upload(site, content)
    imports.set_mapping(job, imports.propose_mapping(job))
    ask_check(job)
    return imports.check_import(job)


def test_the_first_rows_are_looked_at_column_by_column(site: Site) -> None:
    job = upload(site)
    look = look_ahead(job, {"Mobile": "phone", "Points": "points"})
    phone, surname, points = look.columns
    assert (look.rows, phone.good, phone.bad, phone.blank) == (3, 2, 1, 0)
    assert phone.line == 4 and phone.value == "1.77056E+10" and "spreadsheet has cut the digits" in phone.sentence
    assert (surname.good, surname.bad, surname.blank, surname.samples) == (0, 0, 1, ["Lovelace", "Hopper"])
    assert (points.bad, points.line) == (1, 3)
    assert not Member.objects.exists()


def test_no_more_than_the_first_rows_are_looked_at(site: Site) -> None:
    rows = "".join(f"+1770555{n:04d}\n" for n in range(LOOKED_AT + 500))
    assert look_ahead(upload(site, f"phone\n{rows}".encode()), {"phone": "phone"}).rows == LOOKED_AT


def test_how_a_file_is_read_can_be_changed(site: Site) -> None:
    job = upload(site, "phone;name\n7705550101;Jos\xe9\n".encode("cp1252"))
    assert job.dialect["encoding"] == "cp1252"
    change_dialect(job, encoding="latin-1", delimiter=",", has_header=False, has_summary=False)
    assert job.dialect["columns"] == ["Column 1"] and job.mapping == {}
    change_dialect(job, encoding="cp1252", delimiter=";", has_header=True, has_summary=False)
    assert job.dialect["columns"] == ["phone", "name"] and look_ahead(job, {}).rows == 1
    with pytest.raises(ImportRefused, match="cannot be read as UTF-8"):
        change_dialect(job, encoding="utf-8", delimiter=";", has_header=True, has_summary=False)


def test_a_byte_order_mark_is_no_part_of_the_first_column(site: Site) -> None:
    job = upload(site, b"\xef\xbb\xbfphone,tier\n+17705550101,Gold\n")
    change_dialect(job, encoding="utf-8", delimiter=",", has_header=True, has_summary=False)
    assert job.dialect["columns"] == ["phone", "tier"]


def test_check_then_import(site: Site) -> None:
    job = checked(site)
    assert (job.phase, job.state, job.created, job.rejected) == (Phase.CHECK, State.COMPLETE, 1, 2)
    assert not Member.objects.exists()
    ask_import(job, {"subscribe": True})
    assert (job.phase, job.state) == (Phase.IMPORT, State.PENDING)
    imports.run_import(job)
    assert Member.objects.get().last_name == "Lovelace"
    assert Consent.objects.get().state == Consent.State.TO_ASK


def test_an_import_needs_a_check_first_and_is_asked_for_once(site: Site) -> None:
    job = upload(site)
    with pytest.raises(ImportRefused, match="gone on meanwhile"):
        ask_import(job, {})
    job = checked(site)
    ask_import(job, {})
    with pytest.raises(ImportRefused, match="gone on meanwhile"):
        ask_import(job, {})


def test_a_check_can_be_repeated_after_a_cancellation(site: Site) -> None:
    job = checked(site)
    ask_check(job)
    imports.ask_cancel(job)
    assert job.state == State.CANCELLED
    ask_check(job)
    assert imports.check_import(job).state == State.COMPLETE and job.created == 1


def test_a_cancelled_import_goes_on(site: Site) -> None:
    job = checked(site)
    ask_import(job, {})
    imports.ask_cancel(job)
    assert imports.run_import(job).state == State.CANCELLED and not Member.objects.exists()
    ask_again(job)
    assert imports.run_import(job).state == State.COMPLETE and Member.objects.count() == 1


def test_an_import_whose_worker_died_goes_on_after_its_last_slice(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    class Died(BaseException):
        """The worker is gone, and can say nothing any more."""

    def die(point: str) -> None:
        if point == "after_slice_commit":
            raise Died

    monkeypatch.setattr(rows, "_SLICE_BYTES", 1)
    job = checked(site, b"phone\n7705550101\n7705550102\n7705550103\n")
    ask_import(job, {})
    with monkeypatch.context() as patched:
        patched.setattr(run, "crash_point", die)
        with pytest.raises(Died):
            imports.run_import(job)
    assert Member.objects.count() == 1
    ImportJob.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    job = imports.run_import(ImportJob.objects.get(pk=job.pk))
    assert (job.state, job.read, job.created, job.duplicate) == (State.COMPLETE, 3, 3, 0)


def test_whoever_lost_an_import_writes_nothing(site: Site) -> None:
    job = ImportJob.objects.create(site=site, phase=Phase.IMPORT, state=State.RUNNING, fence=1)
    assert run.locked(job) == job
    ImportJob.objects.update(fence=2)
    with pytest.raises(run.LeaseLost):
        run.locked(job)


def test_two_imports_of_one_site_do_not_overlap(site: Site) -> None:
    elsewhere = {"lease_until": timezone.now() + timedelta(minutes=1), "checkpoint": {"owner": "elsewhere:1"}}
    ImportJob.objects.create(site=make_site(), phase=Phase.IMPORT, state=State.RUNNING, **elsewhere)
    other = ImportJob.objects.create(site=site, phase=Phase.IMPORT, state=State.RUNNING, **elsewhere)
    job = checked(site)
    ask_import(job, {})
    assert imports.run_import(job).state == State.PENDING
    assert not Member.objects.exists()
    ImportJob.objects.filter(pk=other.pk).update(state=State.COMPLETE)
    assert imports.run_import(job).state == State.COMPLETE


def test_the_same_file_is_known_again_on_the_same_site_only(site: Site) -> None:
    job = checked(site)
    ask_import(job, {})
    imports.run_import(job)
    assert imported_before(upload(site)) == job
    assert imported_before(upload(make_site())) is None
    assert imported_before(upload(site, FILE + b"404-555-0103;New;1\n")) is None


@pytest.mark.parametrize("kind", ImportJob.Kind.values)
def test_the_sample_files_can_be_imported(site: Site, kind: str) -> None:
    name, rows = sample_of(kind)
    content = "".join(",".join(row) + "\n" for row in rows).encode()
    job = upload(site, content, kind=kind, options={"evidence": "test"})
    imports.set_mapping(job, imports.propose_mapping(job))
    imports.run_import(job)
    assert (job.read, job.rejected) == (2, 0), (name, job.findings)
