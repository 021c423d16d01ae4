"""Importing members: what is created, updated, left alone, rejected; by file and by the API's function."""

import csv
import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command

from loyalty import consent, imports
from loyalty.models import Consent, ImportIssue, ImportJob, Member, Site
from tests.factories import make_member, make_site

pytestmark = pytest.mark.django_db

COUNTERS = ("read", "created", "updated", "unchanged", "duplicate", "rejected")


def run(site: Site, text: str | bytes, *, mapping: dict[str, str] | None = None, **options: Any) -> ImportJob:
    """Import a file to its end and check that every row is accounted for."""
    content = ContentFile(text.encode() if isinstance(text, str) else text)
    job = imports.start_import(site, content, "members.csv", options=options)
    imports.set_mapping(job, imports.propose_mapping(job) if mapping is None else mapping)
    checked = imports.check_import(job)
    expected = counts(checked)
    before = Member.objects.count()
    assert Member.objects.count() == before
    job = imports.run_import(job)
    assert job.state == ImportJob.State.COMPLETE, job.error
    assert counts(job) == expected
    assert job.read == job.created + job.updated + job.unchanged + job.duplicate + job.rejected
    return job


def counts(job: ImportJob) -> dict[str, int]:
    return {name: getattr(job, name) for name in COUNTERS if getattr(job, name)}


def test_members_are_created_and_come_again_unchanged() -> None:
    site, other = make_site(), make_site()
    text = (
        "phone,email,external_id,first_name,last_name,tier,points,birth_date,opt_in_status\n"
        '(770) 555-0101,Ada@Example.com,M1,Ada,Byron,Gold,"1,200",1990-12-10,yes\n'
        "+1 770-555-0102,,M2,Grace,Hopper,,,,\n"
    )
    assert counts(run(site, text)) == {"read": 2, "created": 2}
    ada = Member.objects.get(site=site, phone="+17705550101")
    assert (ada.email, ada.external_id, ada.points, ada.opt_in_status) == ("ada@example.com", "M1", 1200, "YES")
    assert str(ada.birth_date) == "1990-12-10" and ada.extended_attributes == {}
    assert counts(run(site, text)) == {"read": 2, "unchanged": 2}
    assert Member.objects.get(pk=ada.pk).updated_at == ada.updated_at
    assert counts(run(other, text)) == {"read": 2, "created": 2}
    assert Member.objects.filter(site=site).count() == Member.objects.filter(site=other).count() == 2


def test_a_blank_cell_leaves_and_two_dashes_clear() -> None:
    site = make_site()
    member = make_member(site, phone="+17705550101", email="a@example.com", tier="Gold", points=5, external_id="M1")
    run(site, "phone,email,tier,points,external_id\n+17705550101,,,,\n")
    member.refresh_from_db()
    assert (member.email, member.tier, member.points, member.external_id) == ("a@example.com", "Gold", 5, "M1")
    job = run(site, "phone,email,tier,points,birth_date\n+17705550101,--,,--,--\n")
    assert counts(job) == {"read": 1, "updated": 1}
    member.refresh_from_db()
    assert (member.email, member.tier, member.points, member.external_id) == ("", "Gold", None, "M1")


def test_repeats_in_a_file_are_counted_and_the_later_row_wins() -> None:
    site = make_site()
    job = run(site, "phone,first_name,tier\n+17705550101,Ada,Gold\n7705550102,Bob,\n(770) 555-0101,Eve,\n")
    assert counts(job) == {"read": 3, "created": 2, "duplicate": 1}
    member = Member.objects.get(site=site, phone="+17705550101")
    assert (member.first_name, member.tier) == ("Eve", "Gold")
    issue = job.issues.get()
    assert (issue.kind, issue.line) == (ImportIssue.Kind.DUPLICATE, 4)


def test_rejected_rows_come_back_with_line_and_reason_and_import_once_mended() -> None:
    site = make_site()
    job = run(
        site,
        "Phone No,Email Address,Loyalty Id,First Name,=Memo\n"
        "1.77056E+10,a@example.com,M1,Ada,x\n"
        "770555010,b@example.com,M2,=HYPERLINK(1),y\n"
        "+17705550103,nonsense,M3,Cy,z\n"
        "+17705550104,d@example.com,M4,Di,w\n",
    )
    assert counts(job) == {"read": 4, "created": 1, "rejected": 3}
    with job.rejects_file.open("rb") as file:
        raw = file.read()
    text = raw.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["line"] for row in rows] == ["2", "3", "4"]
    assert rows[0]["Phone No"] == "1.77056E+10" and rows[1]["First Name"] == "'=HYPERLINK(1)"
    assert all(row["reason"].endswith((".", ")")) and row["'=Memo"] for row in rows)
    mended = text.replace("1.77056E+10", "7705550101").replace("770555010,", "7705550102,").replace("nonsense", "")
    again = run(site, "\ufeff" + mended)
    assert counts(again) == {"read": 3, "created": 3}
    assert Member.objects.get(phone="+17705550102").first_name == "=HYPERLINK(1)"


def test_a_new_phone_for_a_known_loyalty_id_is_a_new_member() -> None:
    site, other = make_site(), make_site()
    old = make_member(site, phone="+17705550101", external_id="M1")
    foreign = make_member(other, phone="+17705550101", external_id="M1")
    consent.hear(
        site, channel="TEXT", address=old.phone, state=Consent.State.SUBSCRIBED, source="WEBHOOK", event_at=None
    )
    run(site, "phone,external_id\n+17705550102,M1\n")
    new = Member.objects.get(site=site, phone="+17705550102")
    old.refresh_from_db()
    foreign.refresh_from_db()
    assert old.replaced_by == new and foreign.replaced_by is None
    assert consent.state_of(site, new.phone) == Consent.State.UNKNOWN
    # The same loyalty ID twice in one file: the later phone is the current one.
    run(site, "phone,external_id\n+17705550110,M9\n+17705550111,M9\n")
    assert Member.objects.get(phone="+17705550110").replaced_by.phone == "+17705550111"
    assert Member.objects.get(phone="+17705550111").replaced_by is None


def test_a_phone_with_another_loyalty_id_is_a_conflict() -> None:
    site = make_site()
    member = make_member(site, phone="+17705550101", external_id="M1")
    text = "phone,external_id\n+17705550101,M2\n"
    job = run(site, text, on_conflict="reject")
    assert counts(job) == {"read": 1, "rejected": 1}
    member.refresh_from_db()
    assert member.external_id == "M1"
    job = run(site, text)
    assert counts(job) == {"read": 1, "updated": 1}
    assert job.issues.get().kind == ImportIssue.Kind.CONFLICT
    member.refresh_from_db()
    assert member.external_id == "M2"


def test_erased_people_are_not_imported_again_and_blocked_ones_stay_blocked() -> None:
    site = make_site()
    consent.erase(site, "+17705550101")
    consent.erase(site, "gone@example.com", channel="EMAIL")
    consent.block(site, "+17705550103")
    job = run(
        site, "phone,email\n+17705550101,\n+17705550102,gone@example.com\n+17705550103,\n+17705550101,x@example.com\n"
    )
    assert counts(job) == {"read": 4, "created": 1, "rejected": 3}
    assert consent.state_of(site, "+17705550103") == Consent.State.BLOCKED


def test_extended_attributes_are_merged() -> None:
    site = make_site()
    member = make_member(site, phone="+17705550101", extended_attributes={"zip": "30301", "shoe": "9", "keep": 1})
    mapping = {"phone": "phone", "Zip": "extended_attributes.zip", "Shoe": "extended_attributes.shoe"}
    job = run(site, "phone,Zip,Shoe\n+17705550101,10001,--\n+17705550102,20001,\n", mapping=mapping)
    assert counts(job) == {"read": 2, "created": 1, "updated": 1}
    member.refresh_from_db()
    assert member.extended_attributes == {"zip": "10001", "keep": 1}
    assert Member.objects.get(phone="+17705550102").extended_attributes == {"zip": "20001"}
    assert counts(
        run(site, "phone,Zip\n+17705550101,10001\n", mapping={"phone": "phone", "Zip": "extended_attributes.zip"})
    ) == {"read": 1, "unchanged": 1}


def test_new_members_are_marked_to_ask_only_when_wanted() -> None:
    site = make_site()
    make_member(site, phone="+17705550101")
    run(site, "phone,first_name\n+17705550101,Ada\n+17705550102,Bob\n")
    assert not Consent.objects.exists()
    run(site, "phone,first_name\n+17705550101,Eve\n+17705550103,Cy\n", subscribe=True)
    assert {row.address: row.state for row in Consent.objects.all()} == {"+17705550103": Consent.State.TO_ASK}


def test_upsert_members_answers_each_item() -> None:
    site = make_site()
    make_member(site, phone="+17705550101", first_name="Ada", last_name="", external_id="M1", tier="")
    items: list[Any] = [
        {"phone": "7705550101", "first_name": "Ada"},
        {"phone": "+17705550102", "points": 12, "opt_in_status": True},
        {"phone": "+17705550102", "points": 13},
        {"phone": "12"},
        {"phone": "+17705550103", "colour": "red"},
        {"phone": "+17705550101", "tier": "Gold"},
        "nonsense",
        {"first_name": "Nobody"},
    ]
    outcomes = imports.upsert_members(site, items, source="API")
    assert [outcome.status for outcome in outcomes] == [
        "updated", "created", "duplicate", "rejected", "rejected", "duplicate", "rejected", "rejected",
    ]  # fmt: skip
    assert all((outcome.error is not None) == (outcome.status == "rejected") for outcome in outcomes)
    assert Member.objects.get(phone="+17705550102").points == 13
    assert imports.upsert_members(site, items[:1], source="API")[0].status == "unchanged"


def test_a_joining_time_of_the_api_needs_an_offset_and_lies_in_the_past() -> None:
    site = make_site()
    times = [
        "2026-03-01T10:00:00Z", "2026-03-01T10:00:00-05:00", "", "--",
        "2026-03-01T10:00:00", "2026-03-01", "03/01/2026 4:05 PM", "2099-03-01T10:00:00Z", "Z",
    ]  # fmt: skip
    items = [{"phone": f"+1770555010{n}", "joined_at": text} for n, text in enumerate(times)]
    outcomes = imports.upsert_members(site, items, source="API")
    assert [outcome.status for outcome in outcomes] == ["created"] * 4 + ["rejected"] * 5
    said = [str(outcome.error) for outcome in outcomes[4:]]
    assert all("has no offset" in error for error in said[:3])
    assert "lies in the future" in said[3] and "is no time" in said[4]
    assert Member.objects.get(phone="+17705550101").joined_at.isoformat() == "2026-03-01T15:00:00+00:00"


def command(name: str, site: Site, path: Path, *arguments: str) -> dict[str, Any]:
    out = io.StringIO()
    call_command(name, "--site", site.site_id, str(path), *arguments, "--json", stdout=out)
    return json.loads(out.getvalue().strip().splitlines()[-1])


def test_the_command_prints_its_counts(tmp_path: Path) -> None:
    site = make_site()
    path = tmp_path / "members.csv"
    path.write_text("phone,first_name\n7705550101,Ada\n12,Bob\n")
    dry = command("import_members", site, path, "--dry-run")
    rejects = dry.pop("rejects_file")
    assert dry == {"read": 2, "created": 1, "updated": 0, "unchanged": 0, "duplicate": 0, "rejected": 1}
    assert Path(rejects).exists()
    assert not Member.objects.exists() and not ImportJob.objects.exists() and not ImportIssue.objects.exists()
    done = command("import_members", site, path)
    assert done["created"] == 1 and "12,Bob,3" in Path(done["rejects_file"]).read_text()
    path.write_text("phone,first_name\n7705550101,Ada\n")
    assert command("import_members", site, path) == {
        "read": 1, "created": 0, "updated": 0, "unchanged": 1, "duplicate": 0, "rejected": 0, "rejects_file": None,
    }  # fmt: skip
    with pytest.raises(CommandError, match="no site"):
        call_command("import_members", "--site", "nowhere", str(path))
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("import_members", "--site", site.site_id, str(tmp_path / "absent.csv"))


def test_the_command_says_what_it_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "members.csv"
    path.write_text("phone\n7705550101\nTotal: 1\n")
    assert command("import_members", make_site(), path)["read"] == 1
    assert "summary and is left out (line 3)" in capsys.readouterr().err


def test_a_file_name_that_is_no_utf8(tmp_path: Path) -> None:
    site, path = make_site(), Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.csv"))
    path.write_text("phone\n7705550101\n")
    assert command("import_members", site, path)["created"] == 1
    assert ImportJob.objects.get().file_name == "M\ufffdller.csv"


def test_a_list_can_come_through_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=["phone\n7705550101\n"])
    writer.start()
    assert command("import_members", make_site(), path)["created"] == 1
    writer.join()


def test_a_last_action_is_no_summary(tmp_path: Path) -> None:
    site, path = make_site(), tmp_path / "actions.csv"
    make_member(site, external_id="M1")
    path.write_text("activity_id,action,external_id\nROWS-16,109,M1\nROWS-17,109,M1\n")
    assert command("import_actions", site, path)["accepted"] == 2
    path.write_text("activity_id,action,external_id\nROWS-18,109,M1\nTotal rows: 1,,\n")
    assert command("import_actions", site, path)["read"] == 1


def test_actions_are_grouped_by_what_people_must_do(tmp_path: Path) -> None:
    path = tmp_path / "actions.csv"
    path.write_text(
        "activity_id,action,phone,occurred_at\n,109,+17705550101,\na-2,109,bad,\na-3,109,+17705550101,2099-01-01\n"
        "a-4,109,,\n,110,+17705550101,\n"
    )
    assert command("import_actions", make_site(), path)["rejected"] == 5
    groups = ImportJob.objects.get().findings["groups"].values()
    assert sorted((group["sentence"].partition(".")[0], group["count"]) for group in groups) == [
        ("The action names nobody", 1),
        ("The phone has letters or no digits", 1),
        ("“activity_id” is missing", 2),
        ("“occurred_at” lies in the future", 1),
    ]


def test_the_command_can_be_told_that_there_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "members.csv"
    path.write_text("Phone,Ann\n+17705550101,Ada\n+17705550102,Bob\n")
    assert command("import_members", make_site(), path)["read"] == 2
    assert command("import_members", make_site(), path, "--no-header")["read"] == 3


def test_a_list_of_subscribers_raises_consent_and_never_an_opt_out(tmp_path: Path) -> None:
    site = make_site()
    consent.opt_out(site, "+17705550103")
    consent.mark_to_ask(site, ["+17705550102"])
    path = tmp_path / "subscribers.csv"
    path.write_text(
        "phone,subscribed_at\n+17705550101,2026-01-05T10:00:00Z\n+17705550102,\n+17705550103,2026-01-05\n12,\n"
        "7705550101,\n"
    )
    counts = command("import_subscribers", site, path, "--evidence", "Export")
    assert counts.pop("rejects_file")
    assert counts == {"read": 5, "raised": 2, "unchanged": 1, "duplicate": 1, "rejected": 1}
    assert consent.state_of(site, "+17705550101") == Consent.State.SUBSCRIBED
    assert consent.state_of(site, "+17705550103") == Consent.State.UNSUBSCRIBED


def test_actions_are_history_unless_they_shall_trigger(tmp_path: Path) -> None:
    site = make_site()
    path = tmp_path / "actions.csv"
    path.write_text(
        "activity_id,action,phone,points,occurred_at,data.order_id\n"
        "a-1,109,+17705550101,120,2026-11-01 10:00,o-1\n"
        "a-1,109,+17705550101,120,2026-11-01 10:00,o-1\n"
        "a-1,109,+17705550101,121,2026-11-01 10:00,o-1\n"
        "a-2,109,12,1,2026-11-01 10:00,\n"
    )
    counts = command("import_actions", site, path)
    assert counts.pop("rejects_file")
    assert counts == {"read": 4, "accepted": 1, "duplicate": 1, "conflict": 1, "rejected": 1}
    groups = ImportJob.objects.latest("pk").findings["groups"].values()
    assert {(group["code"], group["field"]) for group in groups} == {("CONFLICT", ""), ("TOO_SHORT", "phone")}
    action = site.actions.get()
    assert action.processed_at is not None and action.data == {"order_id": "o-1"}
    assert action.occurred_at.isoformat() == "2026-11-01T15:00:00+00:00"
    path.write_text("activity_id,action,phone\na-3,109,+17705550101\n")
    command("import_actions", site, path, "--trigger")
    assert site.actions.get(activity_id="a-3").processed_at is None
