"""Attentive's v2 segments as the sandbox keeps them."""

import json
from urllib.request import urlopen

import pytest

from attentive_integration.attentive import AttentiveClient
from attentive_integration.http import VendorError
from tests import schemas

ADA, GRACE = "+17705550101", "+17705550102"


@pytest.fixture
def client(sandbox, company):
    return AttentiveClient(app_key=f"app-{company}", base_url=sandbox.url)


def test_members_are_added_and_removed_in_bulk(sandbox, company, client):
    made = client.create_segment("Gold", "Gold members", "gold-1")
    assert client.find_segment("gold-1") == made
    assert client.find_segment("gold-2") is None
    client.add_segment_members("gold-1", [ADA, GRACE])
    client.remove_segment_members("gold-1", [GRACE])
    assert sandbox.segments(company) == {"gold-1": [ADA]}


def test_a_job_is_in_progress_first_and_its_file_tells_each_member(sandbox, company, ask):
    token = f"app-{company}"
    ask("POST", "/v2/segments", {"name": "Gold", "externalId": "gold-1"}, token=token)
    members = [{"phone": ADA}, {"phone": "7705550102"}, {"email": "ada@example.com"}, {}]
    queued = ask("POST", "/v2/bulk/segments/members", {"externalId": "gold-1", "members": members}, token=token)
    assert queued.status == 202
    schemas.check("attentive", "segment_members.answer", queued.data)
    path = f"/v2/bulk/job/{queued.data['batchJobId']}"
    assert ask("GET", path, token=token).data["status"] == "IN_PROGRESS"
    done = ask("GET", path, token=token).data
    schemas.check("attentive", "bulk_job.answer", done)
    assert (done["status"], done["totalRecords"]) == ("COMPLETED", 4)
    with urlopen(done["url"]) as file:
        lines = [json.loads(line) for line in file]
    assert [line["response"]["status"] for line in lines] == ["ACCEPTED", "FAILED", "ACCEPTED", "FAILED"]
    assert sandbox.segments(company) == {"gold-1": [ADA, "ada@example.com"]}


def test_bulk_needs_a_known_segment_and_at_most_10000_members(company, ask, client):
    token, members = f"app-{company}", [{"phone": ADA}]
    unknown = ask("POST", "/v2/bulk/segments/members", {"externalId": "nope", "members": members}, token=token)
    assert unknown.status == 404
    ask("POST", "/v2/segments", {"name": "Gold", "externalId": "gold-1"}, token=token)
    for wrong in ([], members * 10_001, "all"):
        body = {"externalId": "gold-1", "members": wrong}
        assert ask("POST", "/v2/bulk/segments/members", body, token=token).status == 400
    assert client.add_segment_members("gold-1", [ADA] * 10_000).job_id


def test_segments_are_listed_page_by_page_changed_and_archived(company, ask, client):
    token = f"app-{company}"
    for number in range(3):
        client.create_segment(f"Segment {number}", external_id=f"s-{number}")
    first = ask("GET", "/v2/segments?limit=2", token=token).data
    assert ([segment["externalId"] for segment in first["segments"]], first["hasMore"]) == (["s-0", "s-1"], True)
    rest = ask("GET", f"/v2/segments?limit=2&cursor={first['cursor']}", token=token).data
    assert ([segment["externalId"] for segment in rest["segments"]], rest["hasMore"]) == (["s-2"], False)
    assert ask("PATCH", "/v2/segments/external/s-0", {"name": "New"}, token=token).data["name"] == "New"
    assert ask("DELETE", "/v2/segments/external/s-0", token=token).status == 204
    assert ask("GET", "/v2/segments/external/s-0", token=token).status == 404


@pytest.mark.parametrize(
    "body",
    [{}, {"name": " "}, {"name": "x" * 241}, {"name": "Gold", "description": "x"}, {"name": "Gold", "externalId": ""}],
)
def test_a_malformed_segment_is_refused(company, ask, body):
    assert ask("POST", "/v2/segments", body, token=f"app-{company}").status == 400


def test_an_external_id_is_unique(client):
    client.create_segment("Gold", external_id="gold-1")
    with pytest.raises(VendorError) as caught:
        client.create_segment("Gold again", external_id="gold-1")
    assert caught.value.status == 400
