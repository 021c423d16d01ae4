"""The files of a segment, read again byte by byte."""

import csv
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import time_machine

from loyalty.exports.files import ExportFailed
from loyalty.exports.segment_files import write_members, write_segment
from loyalty.models import Consent, Member, Segment, SegmentMember
from tests.factories import make_consent, make_member, make_site

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 25, 17, 0, tzinfo=UTC)


@pytest.fixture
def segment() -> Segment:
    """Two sites with the same members; the segment chooses Gold of the first, of whom three may be texted."""
    sites = [make_site(site_id="1000001", company_domain="harbor.example"), make_site(site_id="1000002")]
    for site in sites:
        for number in range(1, 4):
            make_consent(make_member(site, tier="Gold", phone=f"+1770555010{number}"))
        make_consent(make_member(site, tier="Silver", phone="+17705550109"))
        for number, state in enumerate(("UNKNOWN", "TO_ASK", "REQUESTED", "UNSUBSCRIBED", "BLOCKED"), 10):
            make_consent(make_member(site, tier="Gold", phone=f"+177055501{number}"), state)
        make_member(site, tier="Gold", phone="+17705550120")
        make_consent(make_member(site, tier="Gold", phone="+18765550121"))
    return Segment.objects.create(site=sites[0], name="Gold", rules={"tier": ["Gold"]})


def check_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Every file is there, as long and with the sum that the manifest says, and there is no other."""
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    for entry in manifest["files"]:
        content = (folder / entry["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert len(content) == entry["bytes"]
    assert manifest["rows"] == sum(entry["rows"] for entry in manifest["files"])
    assert {path.name for path in folder.iterdir()} == {entry["name"] for entry in manifest["files"]} | {
        "manifest.json"
    }


def test_the_attentive_form_has_a_header_and_reachable_phones_byte_for_byte(segment: Segment, tmp_path: Path) -> None:
    manifest = write_segment(segment, tmp_path / "new" / "out", "attentive")
    check_manifest(tmp_path / "new" / "out", manifest)
    (entry,) = manifest["files"]
    lines = (tmp_path / "new" / "out" / entry["name"]).read_bytes().split(b"\n")
    assert lines[0] == b"phone" and lines[-1] == b""
    assert sorted(lines[1:-1]) == [b"+17705550101", b"+17705550102", b"+17705550103"]
    assert manifest["rows"] == manifest["reachable"] == 3
    assert manifest["total"] == 10
    assert manifest["left_out"] == {
        "BLOCKED": 1, "COUNTRY": 1, "NOT_ANSWERED": 1, "NOT_SUBSCRIBED": 3, "UNSUBSCRIBED": 1,
    }  # fmt: skip
    assert (manifest["segment"], manifest["site_id"], manifest["format"]) == ("Gold", "1000001", "ATTENTIVE")


@pytest.mark.parametrize("form", ["attentive", "sftp", "spreadsheet"])
@pytest.mark.parametrize("is_frozen", [False, True])
def test_who_was_replaced_is_accounted_for(segment: Segment, tmp_path: Path, form: str, is_frozen: bool) -> None:
    old, new = Member.objects.filter(site=segment.site, tier="Gold").order_by("phone")[:2]
    if is_frozen:
        segment = Segment.objects.create(site=segment.site, name="Frozen", is_frozen=True)
        SegmentMember.objects.bulk_create(SegmentMember(segment=segment, member=one) for one in (old, new))
    Member.objects.filter(pk=old.pk).update(replaced_by=new)
    manifest = write_segment(segment, tmp_path, form)
    assert manifest["left_out"]["REPLACED"] == 1
    assert manifest["total"] == manifest["rows"] + sum(manifest["left_out"].values()) == (2 if is_frozen else 10)
    text = (tmp_path / manifest["files"][0]["name"]).read_text()
    assert new.phone in text and old.phone not in text


def test_a_segments_name_stays_on_its_line_and_runs_nowhere(segment: Segment, tmp_path: Path) -> None:
    segment.name = "=cmd|x\n and more"
    for _again in range(2):
        (entry,) = write_segment(segment, tmp_path, "sftp")["files"]
        lines = (tmp_path / entry["name"]).read_text().splitlines()
        assert len(lines) == 3 and all(line.endswith(",'=cmd|x and more") for line in lines)
    assert len(list(tmp_path.glob("*.csv"))) == 1
    with pytest.raises(ExportFailed, match="run as a formula"):
        write_segment(segment, tmp_path, "attentive", header="=cmd|x")


def test_the_header_can_be_chosen(segment: Segment, tmp_path: Path) -> None:
    manifest = write_segment(segment, tmp_path, "ATTENTIVE", header="Phone, number")
    assert (tmp_path / manifest["files"][0]["name"]).read_bytes().startswith(b'"Phone, number"\n+1')
    for bad in ("", " ", "x" * 61, "pho\nne"):
        with pytest.raises(ExportFailed, match="header must have"):
            write_segment(segment, tmp_path, "ATTENTIVE", header=bad)


@time_machine.travel(NOON, tick=False)
def test_the_sftp_form_has_no_header_and_names_the_segment_in_each_row(segment: Segment, tmp_path: Path) -> None:
    segment.name = 'Gold, "best" & Söhne'
    manifest = write_segment(segment, tmp_path, "sftp")
    check_manifest(tmp_path, manifest)
    (entry,) = manifest["files"]
    assert entry["name"] == "harbor.example_subscriber_segment_20261125_1.csv"
    content = (tmp_path / entry["name"]).read_bytes()
    assert b"\r" not in content
    rows = sorted(csv.reader(content.decode().splitlines()))
    assert rows == [[f"+1770555010{number}", 'Gold, "best" & Söhne'] for number in (1, 2, 3)]


@time_machine.travel(datetime(2026, 11, 26, 3, 0, tzinfo=UTC), tick=False)
def test_the_day_in_the_name_is_the_sites_and_the_site_id_stands_in_for_a_domain(tmp_path: Path) -> None:
    site = make_site(site_id="1000007", time_zone="America/New_York")
    segment = Segment.objects.create(site=site, name="All", rules={})
    manifest = write_segment(segment, tmp_path, "sftp")
    assert manifest["files"][0]["name"] == "1000007_subscriber_segment_20261125_1.csv"
    assert manifest["rows"] == 0


@pytest.mark.parametrize("form", ["attentive", "sftp", "spreadsheet"])
def test_files_are_split(segment: Segment, tmp_path: Path, form: str) -> None:
    manifest = write_segment(segment, tmp_path, form, rows_per_file=2)
    check_manifest(tmp_path, manifest)
    sizes = [entry["rows"] for entry in manifest["files"]]
    assert sizes == ([2, 2, 2, 2, 2] if form == "spreadsheet" else [2, 1])
    phones = []
    for number, entry in enumerate(manifest["files"], 1):
        assert entry["name"].endswith(f"_{number}.csv")
        rows = list(csv.reader((tmp_path / entry["name"]).read_text(encoding="utf-8-sig").splitlines()))
        phones += [row[0] for row in rows if row[0] not in ("phone",)]
        assert (rows[0][0] == "phone") == (form != "sftp")
    assert len(set(phones)) == len(phones) == manifest["rows"]


def test_a_full_last_part_begins_no_empty_one(segment: Segment, tmp_path: Path) -> None:
    assert [entry["rows"] for entry in write_segment(segment, tmp_path, "sftp", rows_per_file=3)["files"]] == [3]


def test_a_shorter_export_takes_the_place_of_a_longer_one(segment: Segment, tmp_path: Path) -> None:
    write_segment(segment, tmp_path, "attentive", rows_per_file=1)
    check_manifest(tmp_path, write_segment(segment, tmp_path, "attentive"))
    (tmp_path / "notes.csv").write_text("mine")
    write_segment(segment, tmp_path, "attentive")
    assert (tmp_path / "notes.csv").read_text() == "mine"


def test_sftp_files_of_two_segments_in_one_folder_do_not_replace_each_other(segment: Segment, tmp_path: Path) -> None:
    silver = Segment.objects.create(site=segment.site, name="Silver", rules={"tier": "Silver"})
    first = write_segment(segment, tmp_path, "sftp", rows_per_file=2)
    second = write_segment(silver, tmp_path, "sftp")
    again = write_segment(segment, tmp_path, "sftp")
    numbers = [[entry["name"].rpartition("_")[2] for entry in made["files"]] for made in (first, second, again)]
    assert numbers == [["1.csv", "2.csv"], ["3.csv"], ["1.csv"]]
    contents = sorted(path.read_text() for path in tmp_path.glob("*.csv"))
    assert len(contents) == 2
    assert contents[0].count(",Gold\n") == 3 and contents[1] == "+17705550109,Silver\n"


def test_the_spreadsheet_holds_everybody_with_the_reason(segment: Segment, tmp_path: Path) -> None:
    member = segment.site.members.get(phone="+17705550101")
    member.first_name, member.last_name, member.email = "=1+1", "＠Bÿron", "ada@example.com"
    member.points, member.birth_date, member.joined_at = -5, datetime(1990, 12, 10).date(), NOON
    member.save()
    manifest = write_segment(segment, tmp_path, "spreadsheet")
    check_manifest(tmp_path, manifest)
    assert (manifest["rows"], manifest["total"], manifest["reachable"], manifest["left_out"]) == (10, 10, 3, {})
    content = (tmp_path / manifest["files"][0]["name"]).read_bytes()
    assert content.startswith(b"\xef\xbb\xbfphone,") and content.endswith(b"\r\n")
    rows = {row["phone"]: row for row in csv.DictReader(content.decode("utf-8-sig").splitlines())}
    ada = rows["'+17705550101"]
    assert (ada["first_name"], ada["last_name"], ada["points"]) == ("'=1+1", "'＠Bÿron", "'-5")
    assert (ada["birth_date"], ada["joined_on"]) == ("1990-12-10", "2026-11-25")
    assert (ada["reachable"], ada["why"]) == ("yes", "Subscribed to texts.")
    assert rows["'+17705550113"]["why"] == "Opted out of texts."
    assert rows["'+18765550121"]["why"] == "The phone is of a country that this site does not text."
    assert rows["'+17705550120"]["reachable"] == "no"
    assert not [cell for row in rows.values() for cell in row.values() if cell[:1] in tuple("=+-@\t\r＝＋－＠")]


def test_the_member_list_is_the_sites_and_can_be_narrowed(segment: Segment, tmp_path: Path) -> None:
    manifest = write_members(segment.site, tmp_path)
    check_manifest(tmp_path, manifest)
    assert manifest["rows"] == 11
    assert manifest["files"][0]["name"].startswith("1000001_members_")
    assert write_members(segment.site, tmp_path, rules={"tier": "Silver"})["rows"] == 1


def test_a_stored_phone_that_is_none_never_reaches_attentive(segment: Segment, tmp_path: Path) -> None:
    member = segment.site.members.get(phone="+17705550101")
    Consent.objects.filter(site=segment.site, address=member.phone).update(address="+1=cmd|'x'!A1")
    member.phone = "+1=cmd|'x'!A1"
    member.save()
    manifest = write_segment(segment, tmp_path, "attentive")
    assert (manifest["rows"], manifest["left_out"]["INVALID_PHONE"]) == (2, 1)
    assert b"=" not in (tmp_path / manifest["files"][0]["name"]).read_bytes()


def test_a_path_that_is_no_folder_is_refused_with_a_sentence(segment: Segment, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ExportFailed, match="is no folder that files can be put into"):
            write_segment(segment, out, "attentive")
    assert (tmp_path / "file").read_text() == "mine"
