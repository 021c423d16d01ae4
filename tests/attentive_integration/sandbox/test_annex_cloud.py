"""Annex Cloud's rules as the sandbox keeps them: the proof of each request, segments, errors."""

import time
from datetime import date

import pytest

from attentive_integration.annex_cloud import AnnexCloudClient, request_jwt
from attentive_integration.http import ErrorKind, VendorError
from tests import schemas

SEGMENT = {
    "name": "Gold",
    "type": "Current Data",
    "from_date": date(2026, 1, 1),
    "to_date": date(2026, 12, 31),
    "members": ["ada@example.com", "grace@example.com"],
    "status": "ACTIVE",
    "external_id": "gold-1",
    "external_name": "Gold members",
}
SITE = "1000001"


def client_of(sandbox, token, site=SITE):
    return AnnexCloudClient(site, token, base_url=f"{sandbox.url}/api/3.0")


@pytest.fixture
def client(sandbox, company):
    sandbox.configure_company(company)
    return client_of(sandbox, f"loyalty-{company}")


def refusal(make):
    with pytest.raises(VendorError) as caught:
        make()
    return caught.value


def test_a_segment_is_created_changed_read_and_listed(sandbox, company, client):
    made = client.segment_subscribe(**SEGMENT)
    assert (made.from_date, made.to_date) == ("2026-01-01T00:00:00+0000", "2026-12-31T23:59:00+0000")
    assert (made.name, made.members, made.external_id) == ("Gold", ("ada@example.com", "grace@example.com"), "gold-1")
    changed = client.update_segment(made.segment_id, status="INACTIVE", members=["ada@example.com"])
    assert (changed.status, changed.members, changed.name) == ("INACTIVE", ("ada@example.com",), "Gold")
    assert client.get_segment(made.segment_id)["memberDetails"]["userId"] == ["ada@example.com"]
    assert [row["segmentName"] for row in client.list_segments()] == ["Gold"]
    assert client.list_segments("active") == []
    lines = [line for line in sandbox.ledger("SEGMENT") if line["company"] == company]
    assert [line["method"] for line in lines] == ["POST", "PATCH"]
    assert lines[0]["body"]["member"] == "ada@example.com,grace@example.com"


def test_actions_are_listed(client):
    assert {"109", "101"} <= {row["actionId"] for row in client.list_actions()}
    assert client.list_actions("inactive") == []


def test_a_site_that_is_registered_answers_to_its_own_token_alone(sandbox, company):
    sandbox.configure_company(company, site_id=f"site-{company}")
    sandbox.configure_company(f"{company}-other")
    assert client_of(sandbox, f"loyalty-{company}", f"site-{company}").list_segments() == []
    for token in (f"loyalty-{company}-other", "nonsense"):
        error = refusal(lambda token=token: client_of(sandbox, token, f"site-{company}").list_segments())
        assert (error.kind, error.status) == (ErrorKind.CREDENTIALS, 401)
        assert "AC1002" in error.sentence


def test_a_revoked_token_is_refused(sandbox):
    sandbox.configure_company("revoked-brand")
    assert refusal(client_of(sandbox, "loyalty-revoked-brand").list_segments).status == 401


def proof(company, payload, **changes):
    values = {
        "site_id": SITE,
        "loyalty_token": f"loyalty-{company}",
        "subject": SITE,
        "payload": payload,
        "expires_at": int(time.time()) + 60,
        **changes,
    }
    return {"Authorization": f"Bearer {request_jwt(**values)}", "X-AnnexCloud-Site": SITE}


@pytest.mark.parametrize(
    ("path", "payload", "changes", "status"),
    [
        ("/api/3.0/segmentlist/all", b'"all"', {}, 200),
        ("/api/3.0/segmentlist/all", b"all", {}, 401),
        ("/api/3.0/segmentlist/active", b'"all"', {}, 401),
        ("/api/3.0/segmentlist/all", b'"all"', {"expires_at": 1_700_000_000}, 401),
        ("/api/3.0/segmentlist/all", b'"all"', {"site_id": "1000002"}, 401),
        ("/api/3.0/segmentlist/all", b'"all"', {"loyalty_token": "other"}, 401),
        ("/api/3.0/segmentlist/ALL", b'"ALL"', {}, 200),
        ("/api/3.0/segmentlist/some", b'"some"', {}, 404),
        ("/api/3.0/segment/1", b'"1"', {}, 404),
        ("/api/3.0/unheard/of", b'"of"', {}, 404),
    ],
)
def test_the_proof_covers_path_site_and_time(sandbox, company, ask, path, payload, changes, status):
    sandbox.configure_company(company)
    answer = ask("GET", path, **proof(company, payload, **changes))
    assert answer.status == status
    if status != 200:
        schemas.check("annex_cloud", "error", answer.data)


def test_the_proof_covers_every_byte_of_the_body(sandbox, company, ask):
    sandbox.configure_company(company)
    body = b'{"name":"Gold","fromDate":"2026-01-01","toDate":"2026-12-31"}'
    assert ask("POST", "/api/3.0/segment", body, **proof(company, body + b" ")).status == 401
    answer = ask("POST", "/api/3.0/segment", body, **proof(company, body))
    assert answer.status == 200
    schemas.check("annex_cloud", "create_segment.answer", answer.data)


@pytest.mark.parametrize("token", ["", "a.b.c", "Zm9v.YmFy.", "e30.e30.e30", "é.é.é"])
def test_nonsense_is_no_proof(sandbox, company, ask, token):
    sandbox.configure_company(company)
    answer = ask("GET", "/api/3.0/segmentlist/all", token=token.encode().decode("latin-1"), X_AnnexCloud_Site=SITE)
    assert (answer.status, answer.data["errorCode"]) == (401, "AC1002")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{}", 400, "AC1004"),
        (b"[]", 400, "AC1004"),
        (b"{", 400, "AC1004"),
        (b'{"name":"Gold","fromDate":"2026-01-01"}', 400, "AC1004"),
        (b'{"name":"Gold","fromDate":"01/01/2026","toDate":"2026-12-31"}', 400, "AC1004"),
        (b'{"name":"Gold","fromDate":"2026-01-01","toDate":"2026-12-31","status":1}', 400, "AC1004"),
        (b'{"name":"Gold","fromDate":"2026-01-01","toDate":"2026-12-31","type":"current"}', 400, "AC1004"),
    ],
)
def test_a_malformed_segment_is_refused(sandbox, company, ask, body, status, code):
    sandbox.configure_company(company)
    answer = ask("POST", "/api/3.0/segment", body, **proof(company, body))
    assert (answer.status, answer.data["errorCode"]) == (status, code)


def test_a_name_is_taken_once_per_company(sandbox, company, client):
    client.segment_subscribe(**SEGMENT)
    error = refusal(lambda: client.segment_subscribe(**SEGMENT))
    assert (error.status, error.kind) == (409, ErrorKind.REFUSED)
    assert "AC1006" in error.sentence
    sandbox.configure_company(f"{company}-other")
    assert client_of(sandbox, f"loyalty-{company}-other").list_segments() == []
