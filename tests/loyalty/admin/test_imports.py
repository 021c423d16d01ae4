import io
import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from attentive_integration.models import Heartbeat
from loyalty import imports, tasks
from loyalty.models import AuditEntry, Consent, ImportJob, LoyaltyAction, Member, Site, SiteMembership
from tests.factories import make_action_type, make_member, make_site, make_user
from tests.loyalty.imports.test_stored_files import disk_full_after

from .pages import MOST_QUERIES, browser, queries_of, text_of

pytestmark = pytest.mark.django_db

LIST = "/admin/loyalty/importjob/"
ADD = "/admin/loyalty/importjob/add/"
Role = SiteMembership.Role
State, Phase = ImportJob.State, ImportJob.Phase
FILE = b"Mobile;Surname;Points\n770-555-0101;Lovelace;12\n404-555-0102;Hopper;abc\n770-555-0101;Byron;13\n"


@pytest.fixture
def site() -> Site:
    return make_site(client_name="Harbor Goods")


def page(name: str, job: ImportJob, *args: Any) -> str:
    return reverse(f"admin:loyalty_importjob_{name}", args=[job.pk, *args])


def upload(client: Client, site: Site, content: bytes = FILE, kind: str = "MEMBERS", **more: Any) -> Any:
    file = SimpleUploadedFile("members.csv", content, "text/csv")
    return client.post(f"{ADD}?kind={kind}", {"site": site.pk, "file": file, **more})


def columns(job: ImportJob) -> dict[str, str]:
    return {f"column-{n}": job.mapping.get(name, "") for n, name in enumerate(job.dialect["columns"])}


def uploaded(client: Client, site: Site, content: bytes = FILE, **more: Any) -> ImportJob:
    assert upload(client, site, content, **more).status_code == 302
    return ImportJob.objects.latest("pk")


def checked(client: Client, site: Site, content: bytes = FILE, **more: Any) -> ImportJob:
    job = uploaded(client, site, content, **more)
    answer = client.post(page("match", job), {**columns(job), "on_conflict": "update", "check": "1"})
    assert answer.status_code == 302, text_of(answer)
    tasks.import_check(job.pk)
    job.refresh_from_db()
    return job


def importer_of_subscribers(*sites: Site) -> User:
    user = make_user(*sites)
    user.user_permissions.add(Permission.objects.get(codename="import_subscribers"))
    return User.objects.get(pk=user.pk)


def test_a_manager_walks_through_the_whole_wizard(site: Site) -> None:
    user = make_user(site)
    client = browser(user)
    job = uploaded(client, site)
    match = text_of(client.get(page("change", job)))
    assert "UTF-8 · separated by semicolon · with a header row · about 3 rows" in match
    assert "770-555-0101" in match and "Line 3 (abc): The points must be a whole number" in match
    answer = client.post(page("match", job), {**columns(job), "on_conflict": "update", "check": "1"}, follow=True)
    assert "Waiting for a worker" in text_of(answer)
    assert not Member.objects.exists()
    tasks.import_check(job.pk)
    check = text_of(client.get(page("change", job)))
    assert "New 1" in check and "Duplicates 1" in check and "Rejected 1" in check and "Import 1 row" in check
    assert "later row wins" in check and not Member.objects.exists()
    client.post(page("import", job))
    tasks.import_run(job.pk)
    result = text_of(client.get(page("change", job)))
    assert "Complete, with rejects" in result and "were not asked to subscribe" in result
    member = Member.objects.get()
    assert (member.phone, member.last_name, member.points) == ("+17705550101", "Byron", 13)
    assert not Consent.objects.exists(), "an import subscribes nobody by itself"
    history = text_of(client.get(LIST))
    assert "members.csv" in history and user.username in history
    events = set(AuditEntry.objects.filter(site=site).values_list("event", flat=True))
    assert {"import.started", "import.asked", "import.complete"} <= events


def test_new_members_are_asked_only_when_the_box_is_ticked(site: Site) -> None:
    client = browser(make_user(site))
    job = checked(client, site)
    assert not re.search(r'name="subscribe"[^>]*checked', client.get(page("change", job)).content.decode())
    client.post(page("import", job), {"subscribe": "on"})
    tasks.import_run(job.pk)
    assert Consent.objects.get().state == Consent.State.TO_ASK
    assert "wait in the subscribe queue" in text_of(client.get(page("change", job)))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 50, "looks like a PNG image"),
        (b"", "empty"),
        (b"phone,name\n", "no rows below it"),
        (b"phone,name\n+17705550101,\x00x\n", "NUL character"),
    ],
)
def test_what_is_no_list_is_refused_with_a_sentence(site: Site, content: bytes, sentence: str) -> None:
    answer = upload(browser(make_user(site)), site, content)
    assert answer.status_code == 200 and sentence in text_of(answer)
    assert not ImportJob.objects.exists()


@pytest.mark.parametrize("in_memory", [0, 10_000])
@pytest.mark.parametrize("size", [100, 20_000])
def test_a_full_disk_refuses_the_upload_with_a_sentence(site: Site, settings: Any, in_memory: int, size: int) -> None:
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = in_memory
    client = browser(make_user(site))
    with disk_full_after(10):
        answer = upload(client, site, b"phone\n" + b"+17705550101\n" * (size // 13))
    said = "The file could not be stored: the disk is full. Make room and import it again"
    assert answer.status_code == 200 and said in text_of(answer) and "required" not in text_of(answer)
    assert not ImportJob.objects.exists()
    assert upload(client, site).status_code == 302


def test_a_full_disk_refuses_a_download_with_a_sentence(site: Site) -> None:
    client = browser(make_user(site))
    job = checked(client, site)
    with disk_full_after(10):
        answer = client.get(page("rows", job, "rejected"), follow=True)
    assert "could not be made: the disk is full. Make room on the server" in text_of(answer)


def test_the_upload_script_gets_an_address_or_sentences(site: Site) -> None:
    client = browser(make_user(site))
    headers = {"Accept": "application/json"}
    good = client.post(ADD, {"site": site.pk, "file": SimpleUploadedFile("a.csv", FILE)}, headers=headers)
    assert json.loads(good.content)["url"] == page("change", ImportJob.objects.get())
    bad = client.post(ADD, {"site": site.pk, "file": SimpleUploadedFile("a.csv", b"%PDF-1.7")}, headers=headers)
    assert "PDF document" in json.loads(bad.content)["errors"][0]


def test_a_file_without_a_phone_column_says_what_it_has(site: Site) -> None:
    client = browser(make_user(site))
    job = uploaded(client, site, b"Customer ID,Mail\n1,a@example.com\n")
    answer = client.post(page("match", job), {**columns(job), "on_conflict": "update", "check": "1"})
    assert "no column for the phone. It has: Customer ID, Mail" in text_of(answer)
    job.refresh_from_db()
    assert job.phase == Phase.MAPPING


def test_the_live_check_answers_what_the_form_says_now(site: Site) -> None:
    client = browser(make_user(site))
    job = uploaded(client, site)
    html = client.post(page("look", job), {"column-0": "phone", "column-1": "points"}).content.decode()
    assert "Surname" in html and "whole number" in html and "<html" not in html
    without_script = text_of(
        client.post(page("match", job), {"column-0": "phone", "column-1": "points", "update": "1"})
    )
    assert "Line 2 (Lovelace)" in without_script
    job.refresh_from_db()
    assert job.mapping["Surname"] == "last_name", "looking stores nothing"


def test_how_the_file_is_read_can_be_changed(site: Site) -> None:
    client = browser(make_user(site))
    job = uploaded(client, site)
    page_now = client.post(page("dialect", job), {"encoding": "utf-8", "delimiter": ","}, follow=True)
    assert "separated by comma · without a header row" in text_of(page_now)


def test_a_summary_can_be_taken_in(site: Site) -> None:
    client = browser(make_user(site))
    job = uploaded(client, site, b"phone\n+17705550101\nTotal: 1\n")
    shown = client.get(page("change", job))
    assert "The last row is a summary and is left out (line 3)" in text_of(shown)
    assert shown.context["dialect_form"].initial["has_summary"] is True
    client.post(page("dialect", job), {"encoding": "utf-8", "delimiter": ",", "has_header": "on"})
    assert imports.check_import(ImportJob.objects.get(pk=job.pk)).read == 2


def test_the_same_file_is_noticed(site: Site) -> None:
    client = browser(make_user(site))
    job = checked(client, site)
    client.post(page("import", job))
    tasks.import_run(job.pk)
    again = uploaded(client, site)
    assert "This file was imported before" in text_of(client.get(page("change", again)))


def test_another_files_rows_never_meet_another_tenant(site: Site) -> None:
    other = make_site()
    theirs = checked(browser(make_user(other)), other)
    client = browser(make_user(site, role=Role.ADMIN))
    for name in ("change", "match", "progress"):
        assert client.get(page(name, theirs)).status_code == 404
    assert client.get(page("rows", theirs, "rejected")).status_code == 404
    for name in ("match", "dialect", "import", "look"):
        assert client.post(page(name, theirs)).status_code == 404
    assert client.post(page("action", theirs, "cancel")).status_code == 404
    assert "members.csv" not in text_of(client.get(LIST))
    assert upload(client, theirs.site).status_code == 200 and ImportJob.objects.count() == 1


def test_support_may_look_but_not_import(site: Site) -> None:
    job = checked(browser(make_user(site)), site)
    client = browser(make_user(site, role=Role.SUPPORT))
    shown = client.get(page("change", job))
    assert shown.status_code == 200 and "770-555" not in shown.content.decode() and "7705550101" not in text_of(shown)
    assert client.get(ADD).status_code == 403
    assert upload(client, site).status_code == 403
    assert client.get(page("rows", job, "rejected")).status_code == 403
    assert client.post(page("import", job)).status_code == 403
    assert client.post(page("action", job, "discard")).status_code == 403
    job.refresh_from_db()
    assert job.phase == Phase.CHECK


def test_a_list_of_subscribers_needs_its_permission_and_evidence(site: Site) -> None:
    content = b"phone,subscribed_at\n+17705550101,2026-01-02\n"
    plain = browser(make_user(site))
    assert plain.get(ADD, {"kind": "SUBSCRIBERS"}).status_code == 403
    assert "Subscribers from Attentive" not in text_of(plain.get(ADD))
    assert upload(plain, site, content, kind="SUBSCRIBERS", evidence="x").status_code == 403
    client = browser(importer_of_subscribers(site))
    assert "This field is required" in text_of(upload(client, site, content, kind="SUBSCRIBERS"))
    job = checked(client, site, content, kind="SUBSCRIBERS", evidence="Ticket 4411")
    assert plain.post(page("import", job)).status_code == 403
    assert "Ticket 4411" in text_of(client.get(page("change", job)))
    client.post(page("import", job))
    tasks.import_run(job.pk)
    row = Consent.objects.get()
    assert row.state == Consent.State.SUBSCRIBED and row.events.get().evidence == "Ticket 4411"


def test_actions_are_history_unless_somebody_ticks_the_box(site: Site) -> None:
    make_action_type(site)
    make_member(site, phone="+17705550101")
    client = browser(make_user(site))
    for number, more in enumerate(({}, {"trigger": "on"})):
        content = f"activity_id,action,phone\na-{number},109,+17705550101\n".encode()
        job = checked(client, site, content, kind="ACTIONS", **more)
        client.post(page("import", job))
        tasks.import_run(job.pk)
    outcomes = dict(LoyaltyAction.objects.values_list("activity_id", "outcome"))
    assert outcomes == {"a-0": "HISTORY", "a-1": ""}


def test_the_rejected_rows_come_back_and_can_be_imported_once_mended(site: Site) -> None:
    client = browser(make_user(site))
    job = checked(client, site)
    answer = client.get(page("rows", job, "rejected"))
    content = b"".join(answer.streaming_content)
    assert answer["Content-Disposition"] == 'attachment; filename="members-rejected.csv"'
    assert "no-store" in answer["Cache-Control"]
    assert b"404-555-0102,Hopper,abc,3," in content
    mended = checked(client, site, content.replace(b"abc", b"9"))
    assert (mended.read, mended.rejected) == (1, 0)
    assert b"Byron" in b"".join(client.get(page("rows", job, "duplicates")).streaming_content)
    assert AuditEntry.objects.filter(event="import.downloaded", site=site).count() == 2


def test_cancel_go_on_and_discard(site: Site) -> None:
    client = browser(make_user(site))
    job = checked(client, site)
    client.post(page("import", job))
    client.post(page("action", job, "cancel"))
    tasks.import_run(job.pk)
    assert "Cancelled" in text_of(client.get(page("change", job))) and not Member.objects.exists()
    client.post(page("action", job, "continue"))
    tasks.import_run(job.pk)
    assert Member.objects.count() == 1
    client.post(page("action", job, "discard"))
    assert ImportJob.objects.filter(pk=job.pk).exists(), "what was imported stays in the history"
    other = uploaded(client, site, b"phone\n+14045550109\n")
    name = other.file.name
    client.get(page("action", other, "discard"))
    assert ImportJob.objects.filter(pk=other.pk).exists(), "the question discards nothing"
    client.post(page("action", other, "discard"))
    assert not ImportJob.objects.filter(pk=other.pk).exists() and not other.file.storage.exists(name)


def test_an_import_cancelled_before_it_began_shows_nothing_as_written(site: Site) -> None:
    client = browser(make_user(site))
    job = checked(client, site)
    assert (job.read, job.created, job.rejected) == (3, 1, 1)
    client.post(page("import", job))
    assert "Waiting for a worker" in text_of(client.get(page("change", job)))
    client.post(page("action", job, "cancel"))
    shown = client.get(page("change", job))
    job.refresh_from_db()
    assert (job.state, job.read, job.created, job.rejected, job.findings) == (State.CANCELLED, 0, 0, 0, {})
    assert "cancelled before anything was written" in text_of(shown) and "Undo" not in text_of(shown)
    again = uploaded(client, site)
    assert "imported before" not in text_of(client.get(page("change", again)))
    client.post(page("action", job, "continue"))
    tasks.import_run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.read, job.created) == (State.COMPLETE, 3, 1)


def test_an_undo_that_found_nothing_left_says_so_in_figures(site: Site) -> None:
    client = browser(make_user(site))
    job = checked(client, site)
    ImportJob.objects.filter(pk=job.pk).update(phase=Phase.UNDO, undone_at=timezone.now(), findings={})
    assert "0 members were removed, 0 got their old values back" in text_of(client.get(page("change", job)))


def test_progress_is_told_to_the_script_and_to_people(site: Site) -> None:
    client = browser(make_user(site))
    job = uploaded(client, site)
    ImportJob.objects.filter(pk=job.pk).update(
        phase=Phase.IMPORT, state=State.RUNNING, read=1, started_at=timezone.now(), lease_until=timezone.now()
    )
    answer = json.loads(client.get(page("progress", job)).content)
    assert (answer["done"], answer["total"], answer["finished"]) == (1, 3, False)
    assert "1 of 3 rows" in answer["text"] and "left" in answer["text"]
    html = client.get(page("change", job)).content.decode()
    assert 'role="status"' in html and "Refresh" in html
    ImportJob.objects.filter(pk=job.pk).update(state=State.COMPLETE)
    assert json.loads(client.get(page("progress", job)).content)["finished"] is True


def test_a_silent_worker_is_named(site: Site) -> None:
    client = browser(make_user(site))
    job = uploaded(client, site)
    ImportJob.objects.filter(pk=job.pk).update(phase=Phase.CHECK)
    assert "No worker has answered" in text_of(client.get(page("change", job)))
    Heartbeat.objects.create(name="worker", beat_at=timezone.now())
    assert "No worker has answered" not in text_of(client.get(page("change", job)))


def test_suspicious_lists_are_flagged_before_anything_is_written(site: Site) -> None:
    rows = "".join(f"+1770{200 + n // 10000}{n % 10000:04d}\n" for n in range(150))
    client = browser(make_user(site))
    job = checked(client, site, f"phone\n{rows}".encode())
    assert "This list looks strange" in text_of(client.get(page("change", job)))


def test_sample_files(site: Site) -> None:
    client = browser(make_user(site))
    for kind in ImportJob.Kind.values:
        answer = client.get(reverse("admin:loyalty_importjob_sample", args=[kind]))
        assert answer.status_code == 200 and "+17705550101" in answer.content.decode()
        assert "attachment" in answer["Content-Disposition"]


def test_waiting_jobs_are_woken_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[tuple[Any, ...]] = []
    monkeypatch.setattr(tasks, "wake", lambda *call: woken.append(call))
    client = browser(make_user(site))
    job = uploaded(client, site)
    idle = imports.start_import(site, io.BytesIO(FILE), "idle.csv")
    client.post(page("match", job), {**columns(job), "on_conflict": "update", "check": "1"})
    tasks.resume_jobs()
    assert woken == [("loyalty.tasks.import_check", job.pk)]
    tasks.import_check(job.pk)
    client.post(page("import", job))
    woken.clear()
    tasks.resume_jobs()
    assert woken == [("loyalty.tasks.import_run", job.pk)]
    tasks.import_check(idle.pk)
    idle.refresh_from_db()
    assert idle.phase == Phase.MAPPING


def test_queries_do_not_grow_with_the_rows(site: Site) -> None:
    client = browser(make_user(site))
    job = checked(client, site)
    one = queries_of(client, LIST)
    for _ in range(2):
        uploaded(client, site)
    assert queries_of(client, LIST) == one <= MOST_QUERIES
    for address in (page("change", job), page("change", ImportJob.objects.latest("pk")), ADD):
        assert queries_of(client, address) <= MOST_QUERIES
    client.post(page("import", job))
    tasks.import_run(job.pk)
    assert queries_of(client, page("change", job)) <= MOST_QUERIES


def test_an_import_is_undone_by_its_button(site: Site) -> None:
    client = browser(make_user(site))
    job = checked(client, site)
    client.post(page("import", job))
    tasks.import_run(job.pk)
    assert Member.objects.count() == 1
    confirm = client.get(page("action", job, "undo"))
    assert "removed" in text_of(confirm)
    answer = client.post(page("action", job, "undo"), follow=True)
    assert "The import is being undone" in text_of(answer)
    tasks.resume_jobs()
    tasks.import_undo(job.pk)
    assert not Member.objects.exists()
    shown = text_of(client.get(page("change", job)))
    assert "1 members were removed" in shown and "Undo" not in shown.replace("Undone", "")
    tasks.import_undo(job.pk)
