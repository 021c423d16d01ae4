import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from attentive_integration.models import Heartbeat
from loyalty import consent, exports
from loyalty.models import AuditEntry, Consent, ExportJob, Segment, Site, SiteMembership
from tests.factories import make_member, make_site, make_user

from .pages import MOST_QUERIES, browser, queries_of, text_of

pytestmark = pytest.mark.django_db

LIST = "/admin/loyalty/exportjob/"
Role = SiteMembership.Role
State = ExportJob.State


def page(job: ExportJob, name: str = "change", *args: Any) -> str:
    return reverse(f"admin:loyalty_exportjob_{name}", args=[job.pk, *args])


def add_page(site: Site, **query: Any) -> str:
    more = "".join(f"&{key}={value}" for key, value in query.items())
    return f"{LIST}add/?site={site.site_id}{more}"


@pytest.fixture
def site() -> Site:
    site = make_site(client_name="Harbor Goods")
    for state in (Consent.State.SUBSCRIBED, Consent.State.UNSUBSCRIBED):
        member = make_member(site, tier="Gold")
        consent.hear(site, channel="TEXT", address=member.phone, state=state, source="WEBHOOK", event_at=timezone.now())
    make_member(site, tier="Silver")
    return site


@pytest.fixture
def segment(site: Site) -> Segment:
    return Segment.objects.create(site=site, name="Gold people", rules={"tier": ["Gold"]})


@pytest.fixture
def client(site: Site) -> Client:
    return browser(make_user(site))


def finished(segment: Segment, **more: Any) -> ExportJob:
    return exports.run_export(exports.start_export(segment.site, segment=segment, **more))


def body_of(answer: Any) -> bytes:
    return b"".join(answer.streaming_content)


def test_a_segment_becomes_a_file_with_the_steps_beside_it(site: Site, segment: Segment) -> None:
    user = make_user(site)
    client = browser(user)
    chosen = client.get(add_page(site, segment=segment.pk)).content.decode()
    assert f'value="{segment.pk}" selected' in chosen
    answer = client.post(
        add_page(site), {"segment": segment.pk, "format": "ATTENTIVE", "header": "mobile"}, follow=True
    )
    assert "Waiting for a worker" in text_of(answer) and "No worker has answered" in text_of(answer)
    job = ExportJob.objects.get()
    exports.run_export(job)
    text = text_of(client.get(page(job)))
    assert "Complete" in text and "Rows in the file 1" in text and "Members in all 2" in text
    assert "Opted out 1" in text and "match the column “mobile” with Phone" in text
    assert "The same name replaces the list" in text and "nobody yet" in text
    download = client.get(page(job, "download"))
    assert body_of(download).startswith(b"mobile\n+1")
    assert "attachment" in download["Content-Disposition"] and "no-store" in download["Cache-Control"]
    assert download["X-Content-Type-Options"] == "nosniff"
    assert user.username in text_of(client.get(page(job))).split("Downloaded by")[1]
    assert AuditEntry.objects.get(event="export.downloaded").site == site


def test_the_file_is_refused_to_everybody_else(site: Site, segment: Segment) -> None:
    job = finished(segment)
    assert Client().get(page(job, "download")).status_code == 302
    assert browser(make_user(make_site(), role=Role.ADMIN)).get(page(job, "download")).status_code == 404
    support = browser(make_user(site, role=Role.SUPPORT))
    assert support.get(page(job, "download")).status_code == 403
    assert "Download" not in text_of(support.get(page(job))).replace("Downloaded", "")
    assert not AuditEntry.objects.filter(event="export.downloaded").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"state": State.RUNNING},
        {"state": State.FAILED},
        {"state": State.CANCELLED},
        {"expires_at": timezone.now() - timedelta(seconds=1)},
        {"file": ""},
    ],
)
def test_only_a_complete_and_fresh_file_is_handed_out(segment: Segment, client: Client, change: dict[str, Any]) -> None:
    job = finished(segment)
    ExportJob.objects.filter(pk=job.pk).update(**change)
    answer = client.get(page(job, "download"))
    assert answer.status_code == 302 and answer["Location"].startswith(page(job))
    assert not AuditEntry.objects.filter(event="export.downloaded").exists()


def test_a_file_that_left_the_storage_is_no_error_page(segment: Segment, client: Client) -> None:
    job = finished(segment)
    job.file.storage.delete(job.file.name)
    assert "not in the storage any more" in text_of(client.get(page(job, "download"), follow=True))


def test_the_member_list_of_a_tier(site: Site, client: Client) -> None:
    make_member(make_site(), tier="Platinum")
    assert "Platinum" not in text_of(client.get(add_page(site, kind="MEMBERS")))
    client.post(add_page(site, kind="MEMBERS"), {"tier": "Gold"})
    job = ExportJob.objects.get()
    assert (job.kind, job.options) == ("MEMBERS", {"rules": {"tier": ["Gold"]}})
    exports.run_export(job)
    content = body_of(client.get(page(job, "download"))).decode("utf-8-sig")
    assert content.count("Gold") == 2 and "Silver" not in content


def test_a_segment_of_another_tenant_is_no_choice(site: Site, client: Client) -> None:
    theirs = Segment.objects.create(site=make_site(), name="Theirs")
    Segment.objects.create(site=site, name="Mine")
    answer = client.post(add_page(site), {"segment": theirs.pk, "format": "ATTENTIVE"})
    assert "Select a valid choice" in text_of(answer) and not ExportJob.objects.exists()
    assert client.post(add_page(theirs.site), {"segment": theirs.pk, "format": "ATTENTIVE"}).status_code == 404


def test_support_may_not_export(site: Site, segment: Segment) -> None:
    client = browser(make_user(site, role=Role.SUPPORT))
    assert client.get(add_page(site)).status_code == 403
    job = finished(segment)
    for action in ("repeat", "delete-file", "cancel"):
        assert client.post(page(job, "action", action)).status_code == 403


def test_a_new_export_offers_only_sites_that_one_may_export() -> None:
    mine, looked_at, _ = (make_site(client_name=name) for name in ("Mine Inc", "Looked At", "Other Ltd"))
    user = make_user(mine)
    SiteMembership.objects.create(user=user, site=looked_at, role=Role.SUPPORT)
    text = text_of(browser(user).get(f"{LIST}add/"))
    assert "Mine Inc" in text
    assert "Looked At" not in text and "Other Ltd" not in text


def test_more_rows_than_attentive_takes_come_with_a_warning(segment: Segment, client: Client) -> None:
    job = finished(segment)
    part = {"name": "a.csv", "rows": 500_000, "bytes": 7_000_000, "sha256": "0" * 64}
    manifest = {**job.manifest, "files": [part, part, {**part, "rows": 250_000}]}
    ExportJob.objects.filter(pk=job.pk).update(manifest=manifest, rows=1_250_000)
    text = text_of(client.get(page(job)))
    assert "1,250,000 rows: 3 files of at most 500,000" in text and "use the SFTP file set" in text


def test_repeat_cancel_and_delete(segment: Segment, client: Client) -> None:
    job = finished(segment, format="SPREADSHEET")
    client.post(page(job, "action", "repeat"))
    again = ExportJob.objects.latest("pk")
    assert again != job and (again.format, again.segment) == ("SPREADSHEET", segment)
    client.post(page(again, "action", "cancel"))
    again.refresh_from_db()
    assert again.state == State.CANCELLED
    name = job.file.name
    client.get(page(job, "action", "delete-file"))
    assert job.file.storage.exists(name), "the question deletes nothing"
    client.post(page(job, "action", "delete-file"))
    assert not job.file.storage.exists(name)
    assert "no longer kept" in text_of(client.get(page(job)))


def test_progress_is_told(segment: Segment, client: Client) -> None:
    job = exports.start_export(segment.site, segment=segment)
    Heartbeat.objects.create(name="worker", beat_at=timezone.now())
    assert "No worker has answered" not in text_of(client.get(page(job)))
    ExportJob.objects.filter(pk=job.pk).update(state=State.RUNNING, rows=2)
    answer = json.loads(client.get(page(job, "progress")).content)
    assert answer == {"done": 2, "total": 3, "text": "2 rows written", "finished": False}
    assert "Refresh" in text_of(client.get(page(job)))


def test_history_is_scoped(site: Site, segment: Segment, client: Client) -> None:
    other = make_site()
    finished(Segment.objects.create(site=other, name="Theirs"))
    finished(segment)
    text = text_of(client.get(LIST))
    assert "Gold people" in text and "Theirs" not in text
    theirs = ExportJob.objects.get(site=other)
    for name in ("change", "progress"):
        assert client.get(page(theirs, name)).status_code == 404


def test_queries_do_not_grow_with_the_rows(site: Site, segment: Segment, client: Client) -> None:
    job = finished(segment)
    one = queries_of(client, LIST)
    for _ in range(2):
        finished(segment)
        client.get(page(job, "download"))
    assert queries_of(client, LIST) == one <= MOST_QUERIES
    assert queries_of(client, page(job)) <= MOST_QUERIES
    assert queries_of(client, add_page(site)) <= MOST_QUERIES
