"""The main job through its commands and its HTTP interface, with nothing but real processes."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from attentive_integration.webhooks import sign
from tests.installation import Installation

MEMBERS = """phone,email,external_id,first_name,last_name,tier,points,birth_date,opt_in_status
(770) 555-0101,ada@example.com,M1,Ada,Byron,Gold,120,1990-12-10,YES
+1 770-555-0102,grace@example.com,M2,Grace,Hopper,Silver,80,1991-12-09,YES
7705550103,alan@example.com,M3,Alan,Turing,Gold,60,1992-06-23,NO
1.77056E+10,bad@example.com,M4,Bad,Number,Gold,1,1990-01-01,YES
770555010,short@example.com,M5,Short,Number,Gold,1,1990-01-01,YES
"""


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with Installation() as running:
        yield running


@pytest.fixture(scope="module")
def site(installation: Installation) -> dict[str, Any]:
    made = installation.create_site()
    installation.sandbox.configure_company(
        "harbor", name="Harbor Goods", webhook_url=made["webhook_url"], webhook_signing_key="signing-harbor"
    )
    return made


def action(activity_id: str, phone: str, **fields: Any) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {"activity_id": activity_id, "action": "109", "phone": phone, "points": 145, "occurred_at": now, **fields}


def stop_from(phone: str) -> bytes:
    """Return the body of the webhook that tells of a STOP."""
    event = {
        "type": "sms.unsubscribed",
        "timestamp": int(time.time() * 1000),
        "company": {"display_name": "Harbor Goods", "company_id": "c"},
        "subscriber": {"external_id": 1, "phone": phone},
        "subscription": {"type": "MARKETING"},
    }
    return json.dumps(event).encode()


def ledger(installation: Installation) -> list[dict[str, Any]]:
    lines = Path(installation.sandbox.ledger_path).read_text().splitlines()
    return [json.loads(line) for line in lines if json.loads(line)["kind"] == "MESSAGE"]


def test_1_create_site_prints_what_scripts_need(installation: Installation, site: dict[str, Any]) -> None:
    assert sorted(site) == ["access_token", "campaigns", "segments", "site_id", "webhook_url"]
    assert site["site_id"] == "1000001"
    assert [item["name"] for item in site["campaigns"]] == ["Thanks"]
    assert [item["name"] for item in site["segments"]] == ["Gold"]
    assert site["webhook_url"].startswith(f"{installation.url}/webhooks/attentive/")


def test_2_members_arrive_and_every_row_is_accounted_for(installation: Installation, site: dict[str, Any]) -> None:
    path = installation.write("members.csv", MEMBERS)
    counts = installation.manage("import_members", "--site", "1000001", path, "--json")
    rejects_file = counts.pop("rejects_file")
    assert counts == {"read": 5, "created": 3, "updated": 0, "unchanged": 0, "duplicate": 0, "rejected": 2}
    rejects = Path(rejects_file).read_text(encoding="utf-8-sig")
    assert "1.77056E+10" in rejects and "770555010" in rejects
    again = installation.manage("import_members", "--site", "1000001", path, "--json")
    assert (again["unchanged"], again["created"], again["rejected"]) == (3, 0, 2)
    assert ledger(installation) == []


def test_3_an_action_of_a_subscriber_becomes_one_text(installation: Installation, site: dict[str, Any]) -> None:
    path = installation.write(
        "subscribers.csv", "phone,subscribed_at\n+17705550101,2026-01-05T10:00:00Z\n+17705550102,\n"
    )
    raised = installation.manage(
        "import_subscribers", "--site", "1000001", path, "--evidence", "Export of 1 November", "--json"
    )
    assert raised["read"] == 2
    installation.sandbox.add_subscribers("harbor", ["+17705550101", "+17705550102", "+17705550103"])
    url, token = "/api/v1/sites/1000001/actions", site["access_token"]
    batch = [action("a-1", "+17705550101"), action("a-2", "+17705550103"), action("a-3", "12")]
    status, answer = installation.post(url, batch, token=token)
    assert status == 202
    assert [item["status"] for item in answer["results"]] == ["accepted", "accepted", "rejected"]
    status, answer = installation.post(url, batch[0], token=token)
    assert [item["status"] for item in answer["results"]] == ["duplicate"]
    status, answer = installation.post(url, {**batch[0], "points": 9}, token=token)
    assert [item["status"] for item in answer["results"]] == ["conflict"]
    assert installation.manage("run_campaigns", "--json")["left"] == 0
    installation.manage("run_campaigns", "--json")
    sent = [(line["to"], line["body"]) for line in ledger(installation)]
    assert sent == [("+17705550101", "Thanks Ada, you now have 145 points.")]
    states = installation.manage("verify_invariants", "--ledger", str(installation.sandbox.ledger_path), "--json")
    assert {state: n for state, n in states["states"].items() if n} == {"ACCEPTED": 1, "SKIPPED": 1}


def test_4_nobody_else_gets_in(installation: Installation, site: dict[str, Any]) -> None:
    other = installation.create_site(site_id="1000002", client_name="Maple Street")
    for token in ("", "nonsense", other["access_token"]):
        assert installation.post("/api/v1/sites/1000001/actions", action("x", "+17705550101"), token=token)[0] == 401
    assert installation.post("/api/v1/sites/9999999/actions", [], token=site["access_token"])[0] == 401


def test_5_bodies_in_pieces_are_read_and_large_ones_refused(installation: Installation, site: dict[str, Any]) -> None:
    path, token = f"/api/v1/sites/{site['site_id']}/actions", site["access_token"]
    status, answer = installation.post_in_pieces(path, action("chunked", "7705550107"), token=token)
    assert (status, answer["results"][0]["status"]) == (202, "accepted")
    stop = stop_from("+17705550109")
    status, _ = installation.post_in_pieces(
        site["webhook_url"].removeprefix(installation.url), stop,
        headers={"x-attentive-hmac-sha256": sign("signing-harbor", stop)},
    )  # fmt: skip
    assert status == 200
    for size in (6_000_000, 30_000_000):
        large = [action(f"large-{size}", "7705550101", data={"x": "y" * size})]
        for send in (installation.post, installation.post_in_pieces):
            status, answer = send(path, large, token=token)
            assert (status, answer) == (413, {"detail": "The body is larger than 1 MB. Send fewer items at a time."})


def test_6_a_stop_is_obeyed_at_once(installation: Installation, site: dict[str, Any]) -> None:
    body = stop_from("+17705550101")
    url = site["webhook_url"]
    assert installation.post(url, body, headers={"x-attentive-hmac-sha256": "00" * 32})[0] == 403
    good = {"x-attentive-hmac-sha256": sign("signing-harbor", body)}
    assert installation.post(url, body, headers=good)[0] == 200
    assert installation.post(url, body, headers=good)[0] == 200
    before = len(ledger(installation))
    installation.post("/api/v1/sites/1000001/actions", action("a-9", "+17705550101"), token=site["access_token"])
    installation.manage("run_campaigns", "--json")
    assert len(ledger(installation)) == before


def test_7_an_unclear_answer_is_shown_and_never_repeated(installation: Installation, site: dict[str, Any]) -> None:
    installation.sandbox.configure_company("harbor", sms_sent=False)
    installation.sandbox.add_fault("/1/messages", "reset_after", times=1)
    before = len(ledger(installation))
    installation.post("/api/v1/sites/1000001/actions", action("a-20", "+17705550102"), token=site["access_token"])
    installation.manage("run_campaigns", "--json")
    installation.manage("run_campaigns", "--json")
    assert len(ledger(installation)) == before + 1
    states = installation.manage("verify_invariants", "--json")["states"]
    assert states["UNKNOWN"] == 1


def test_8_members_are_subscribed_once_at_most(installation: Installation, site: dict[str, Any]) -> None:
    path = installation.write("more.csv", "phone,first_name\n+17705550120,Eve\n+17705550121,Bob\n")
    installation.sandbox.add_subscribers("harbor", ["+17705550121"])
    installation.manage("import_members", "--site", "1000001", path, "--subscribe", "--json")
    for _ in range(2):
        installation.manage("subscribe_members", "--site", "1000001", "--json")
    lines = Path(installation.sandbox.ledger_path).read_text().splitlines()
    asked = [json.loads(line)["phone"] for line in lines if json.loads(line)["kind"] == "SUBSCRIBE"]
    assert asked == ["+17705550120"]


def test_9_a_segment_becomes_a_file_of_reachable_phones(installation: Installation, site: dict[str, Any]) -> None:
    segment = str(site["segments"][0]["id"])
    out = installation.folder / "segment"
    made = installation.manage("export_segment", segment, "--out", str(out), "--json")
    # Ada opted out, Alan never subscribed: no Gold member may be texted.
    assert made["rows"] == 0
    spec = installation.manage("export_segment", segment, "--out", str(out), "--format", "spreadsheet", "--json")
    assert spec["rows"] == 2


def test_10_a_person_can_be_unsubscribed_and_erased(installation: Installation, site: dict[str, Any]) -> None:
    done = installation.manage("unsubscribe_member", "--site", "1000001", "(770) 555-0102", "--json")
    assert done["state"] == "UNSUBSCRIBED"
    installation.manage("erase_member", "--site", "1000001", "+17705550103")
    path = installation.write("members.csv", MEMBERS)
    counts = installation.manage("import_members", "--site", "1000001", path, "--json")
    assert (counts["unchanged"], counts["rejected"]) == (2, 3)
    installation.manage("verify_invariants", "--json")
