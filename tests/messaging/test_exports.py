"""The message log as a file, and the one way to run every export."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from loyalty.exports import ExportRefused, open_download, start_export
from loyalty.models import ExportJob, Segment
from messaging.exports import COLUMNS, run_due, run_export, start_message_export
from messaging.models import Message
from tests.factories import make_campaign, make_member, make_message, make_site

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def own_data_folder(settings: Any, tmp_path: Any) -> None:
    settings.DATA_DIR = tmp_path / "data"


def rows_of(job: ExportJob) -> list[dict[str, str]]:
    file, _name = open_download(job)
    with file:
        content = file.read()
    assert content.startswith(b"\xef\xbb\xbf") and content.endswith(b"\r\n")
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def test_the_log_is_written_with_times_of_the_site_and_reasons_in_words() -> None:
    site, other = make_site(time_zone="America/New_York"), make_site()
    made_at = datetime(2026, 11, 25, 3, 30, tzinfo=UTC)
    ada = make_member(site, external_id="=M1", phone="+17705550101")
    campaign = make_campaign(site, name="Thanks")
    make_message(
        ada, campaign, body="@you, two\nlines", created_at=made_at, state=Message.State.SKIPPED, reason="NOT_SUBSCRIBED"
    )
    make_message(ada, campaign, created_at=made_at + timedelta(hours=1))
    make_message(make_member(other))
    job = run_export(start_message_export(site))
    assert (job.state, job.rows, job.format) == (ExportJob.State.COMPLETE, 2, "SPREADSHEET")
    assert job.manifest["files"][0]["name"].startswith(f"{site.site_id}_messages_")
    newest, oldest = rows_of(job)
    assert list(oldest) == [*COLUMNS, "explanation"]
    assert (newest["state"], newest["reason"], newest["explanation"]) == ("QUEUED", "", "")
    assert oldest["created_at"] == "2026-11-24 22:30:00-05:00" and oldest["sent_at"] == ""
    assert (oldest["external_id"], oldest["to"], oldest["text"]) == ("'=M1", "'+17705550101", "'@you, two\nlines")
    assert (oldest["campaign"], oldest["action"], oldest["attempts"]) == ("Thanks", "109", "0")
    assert (oldest["reason"], oldest["explanation"]) == ("NOT_SUBSCRIBED", "Not sent: not subscribed.")


def test_the_log_can_be_narrowed() -> None:
    site = make_site(time_zone="America/New_York")
    ada, bob = make_member(site, phone="+17705550101"), make_member(site)
    thanks, other = make_campaign(site), make_campaign(site)
    day = datetime(2026, 11, 25, 4, 59, tzinfo=UTC)
    make_message(ada, thanks, body="1", created_at=day)
    make_message(ada, thanks, body="2", created_at=day + timedelta(minutes=1), state=Message.State.ACCEPTED)
    make_message(bob, other, body="3", created_at=day + timedelta(minutes=2), state="SKIPPED", reason="TEST_MODE")

    def texts(**filters: Any) -> str:
        job = run_export(start_message_export(site, filters))
        return "".join(sorted(row["text"] for row in rows_of(job)))

    assert texts() == texts(state="", reason=None) == "123"
    assert texts(state="ACCEPTED") == "2"
    assert texts(state=["ACCEPTED", "SKIPPED"]) == "23"
    assert texts(reason="TEST_MODE") == "3"
    assert texts(campaign=thanks.pk) == texts(campaign=str(thanks.pk)) == "12"
    assert texts(phone="(770) 555-0101") == "12"
    assert texts(phone="nobody") == ""
    assert texts(**{"to": "2026-11-24"}) == "1"
    assert texts(**{"from": "2026-11-25", "to": "2026-11-25"}) == "23"


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"colour": "red"}, "Unknown filter “colour”. Known are: state"),
        ({"from": "yesterday"}, "“from” must be a day"),
        ({"to": "2026-02-31"}, "“to” must be a day"),
        ({"campaign": "x"}, "“campaign” must be a number"),
        ({"state": [1]}, "“state” must be a code"),
    ],
)
def test_filters_that_cannot_be_used_are_refused(filters: dict[str, Any], said: str) -> None:
    with pytest.raises(ExportRefused) as refused:
        start_message_export(make_site(), filters)
    assert said in str(refused.value)
    assert ExportJob.objects.count() == 0


def test_every_kind_that_waits_is_carried_out() -> None:
    site, other = make_site(), make_site()
    for owner in (site, other):
        make_message(make_member(owner, tier="Gold"))
    segment = Segment.objects.create(site=site, name="Gold", rules={"tier": "Gold"})
    jobs = [
        start_export(site, segment=segment, format="SPREADSHEET"),
        start_export(site, kind=ExportJob.Kind.MEMBERS),
        start_message_export(site),
        start_message_export(other),
    ]
    gone = ExportJob.objects.create(
        site=site, state=ExportJob.State.COMPLETE, file="exports/gone.csv", expires_at=timezone.now()
    )
    assert run_due() == 4
    for job in jobs:
        job.refresh_from_db()
        assert (job.state, job.rows) == (ExportJob.State.COMPLETE, 1)
    gone.refresh_from_db()
    assert not gone.file
    assert run_due() == 0
