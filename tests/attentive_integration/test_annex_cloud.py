"""Annex Cloud: the access token in every damaged form, the JWT of each request, and segments."""

import base64
import hashlib
import hmac
import time
from datetime import date
from json import dumps, loads

import pytest

from attentive_integration.annex_cloud import (
    AccessTokenBundle,
    AccessTokenError,
    AnnexCloudClient,
    SegmentResult,
    decode_access_token,
    encode_access_token,
    request_jwt,
)
from attentive_integration.http import ErrorKind, VendorError
from tests import schemas
from tests.attentive_integration.vendor_server import hang_up, response

SECRET = "test-secret"
TOKEN = "eyJzaXRlX2lkIjoiMTAwMDAwMSIsImxveWFsdHlUb2tlbiI6InRlc3Qtc2VjcmV0In0="
BUNDLE = AccessTokenBundle("1000001", SECRET)
SEGMENT = {
    "name": "Gold",
    "type": "Current Data",
    "from_date": date(2026, 1, 1),
    "to_date": date(2026, 12, 31),
    "members": ["ada@example.com", "bo@example.com"],
    "status": "ACTIVE",
    "external_id": "gold-1",
    "external_name": "Gold members",
}
ANSWER = {
    "segmentId": 77,
    "segmentName": "Gold",
    "segmentType": "Current Data",
    "segmentFromDate": "2026-01-01T00:00:00+0000",
    "segmentToDate": "2026-12-31T23:59:00+0000",
    "member": "ada@example.com, bo@example.com",
    "status": "ACTIVE",
    "externalId": "gold-1",
    "externalName": "Gold members",
}


def client_of(server, **options):
    return AnnexCloudClient("1000001", SECRET, base_url=f"{server.url}/api/3.0", **options)


def failure(make):
    with pytest.raises(VendorError) as caught:
        make()
    return caught.value


# --- The access token -------------------------------------------------------------------------------------------------


def test_the_access_token_is_the_documented_one():
    assert encode_access_token("1000001", SECRET) == TOKEN
    schemas.check("annex_cloud", "access_token", loads(base64.b64decode(TOKEN)))


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"  {TOKEN[:30]}\r\n{TOKEN[30:]}\t",
        TOKEN.rstrip("="),
        base64.b64encode(b'{"loyaltyToken": "test-secret", "site_id": 1000001, "more": []}').decode(),
        base64.urlsafe_b64encode(
            dumps({"site_id": "1000001", "loyaltyToken": SECRET, "?": "???>>>"}).encode()
        ).decode(),
    ],
)
def test_an_access_token_is_read_in_every_spelling(text):
    assert decode_access_token(text) == BUNDLE


def encoded(value):
    return base64.b64encode(dumps(value).encode()).decode()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("not a token!", "base64"),
        ("tökén", "base64"),
        ("A", "base64"),
        ("bm90IGpzb24=", "JSON"),
        (TOKEN[:40], "JSON"),
        (base64.b64encode(b"\xff\xfe\x00").decode(), "JSON"),
        (base64.b64encode(b"[" * 6000).decode(), "JSON"),
        (encoded([1]), "no site"),
        (encoded({"loyaltyToken": "x"}), "site_id"),
        (encoded({"site_id": "1"}), "loyaltyToken"),
        (encoded({"site_id": "1", "loyaltyToken": ""}), "loyaltyToken"),
        (encoded({"site_id": True, "loyaltyToken": "x"}), "site_id"),
        (encoded({"site_id": {"a": 1}, "loyaltyToken": "x"}), "site_id"),
        ("A" * 100_000, "too long"),
    ],
)
def test_a_text_that_is_no_access_token_says_so(text, words):
    with pytest.raises(AccessTokenError) as caught:
        decode_access_token(text)
    assert words in caught.value.sentence
    assert caught.value.sentence.endswith(".")
    assert str(caught.value) == caught.value.sentence


def test_the_secret_does_not_show():
    assert SECRET not in repr(BUNDLE)
    assert SECRET not in repr(AnnexCloudClient("1000001", SECRET))


# --- The JWT ----------------------------------------------------------------------------------------------------------


def claims_of(token):
    header, claims, signature = token.split(".")
    expected = hmac.new(SECRET.encode(), f"{header}.{claims}".encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64encode(expected).rstrip(b"=").decode() == signature
    assert unpadded(header) == {"alg": "HS256", "typ": "JWT"}
    schemas.check("annex_cloud", "jwt_claims", unpadded(claims))
    return unpadded(claims)


def unpadded(part):
    return loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'"member-001"', "f843K0Ifu+/8SFm3it8rIws3vShfn3+CL5n1v4j2TLc="),
        (b'{"id":"member-001","email":"member001@example.com"}', "zhUZAzDVpWl685jOlGhlB57y4n57jJ53/LMTUhjUmfI="),
    ],
)
def test_the_jwt_fits_the_documented_vectors(payload, expected):
    token = request_jwt(
        site_id="1000001", loyalty_token=SECRET, subject="demo-site", payload=payload, expires_at=1893456000
    )
    assert claims_of(token) == {"sub": "demo-site", "exp": 1893456000, "site_id": "1000001", "hmac": expected}
    assert list(claims_of(token)) == ["sub", "exp", "site_id", "hmac"]


def signature_of(payload):
    return base64.b64encode(hmac.new(SECRET.encode(), base64.b64encode(payload), hashlib.sha256).digest()).decode()


def test_a_write_signs_the_bytes_that_it_sends(serve):
    server = serve(response(200, ANSWER))
    client_of(server, subject="harbor").segment_subscribe(**SEGMENT | {"name": "Größe"})
    request = server.request
    claims = claims_of(request.headers["authorization"].removeprefix("Bearer "))
    assert (claims["sub"], claims["site_id"]) == ("harbor", "1000001")
    assert claims["hmac"] == signature_of(request.body)
    assert 170 <= claims["exp"] - time.time() <= 180
    assert request.headers["x-annexcloud-site"] == "1000001"
    assert request.headers["content-type"] == "application/json"
    assert SECRET.encode() not in request.body
    assert "Größe".encode() in request.body


def test_a_read_signs_its_identifier_in_quotes(serve):
    server = serve(response(200, []))
    client_of(server).list_segments()
    request = server.request
    assert (request.method, request.target, request.body) == ("GET", "/api/3.0/segmentlist/all", b"")
    claims = claims_of(request.headers["authorization"].removeprefix("Bearer "))
    assert (claims["hmac"], claims["sub"]) == (signature_of(b'"all"'), "1000001")


# --- Segments ---------------------------------------------------------------------------------------------------------


def test_a_segment_is_created_with_strings_only(serve):
    schemas.check("annex_cloud", "create_segment.answer", ANSWER)
    server = serve(response(200, ANSWER))
    result = client_of(server).segment_subscribe(**SEGMENT)
    assert (server.request.method, server.request.target) == ("POST", "/api/3.0/segment")
    schemas.check("annex_cloud", "create_segment.request", server.request.json)
    assert server.request.json == {
        "name": "Gold",
        "type": "Current Data",
        "fromDate": "2026-01-01",
        "toDate": "2026-12-31",
        "member": "ada@example.com,bo@example.com",
        "status": "ACTIVE",
        "externalId": "gold-1",
        "externalName": "Gold members",
    }
    assert result == SegmentResult(
        "77",
        "Gold",
        "Current Data",
        "2026-01-01T00:00:00+0000",
        "2026-12-31T23:59:00+0000",
        ("ada@example.com", "bo@example.com"),
        "ACTIVE",
        "gold-1",
        "Gold members",
    )


def test_a_segment_is_changed_by_patch_with_what_is_given(serve):
    server = serve(response(200, ANSWER))
    assert client_of(server).update_segment(77, members=[], status="INACTIVE").segment_id == "77"
    assert (server.request.method, server.request.target) == ("PATCH", "/api/3.0/segment/77")
    assert server.request.json == {"member": "", "status": "INACTIVE"}
    schemas.check("annex_cloud", "update_segment.request", server.request.json)


def test_segments_and_actions_are_read_in_any_wrapping(serve):
    rows = [{"segmentId": 77}, {"segmentId": 78}]
    for body in (rows, {"siteId": 1, "segmentList": rows}, {"segmentList": [*rows, "odd"]}):
        assert client_of(serve(response(200, body))).list_segments("active") == rows
    for body in ({}, None, 5):
        assert client_of(serve(response(200, body))).list_actions() == []
    server = serve(response(200, {"segmentDetail": {"segmentName": "Gold"}}))
    assert client_of(server).get_segment("a/b") == {"segmentName": "Gold"}
    assert server.request.target == "/api/3.0/segment/a%2Fb"


@pytest.mark.parametrize(
    "change",
    [{"type": "current data"}, {"status": "Active"}, {"members": ["a,b@example.com"]}],
)
def test_values_outside_the_documented_lists_are_not_sent(serve, change):
    server = serve(response(200, ANSWER))
    with pytest.raises(ValueError, match=r"\.$"):
        client_of(server).segment_subscribe(**SEGMENT | change)
    with pytest.raises(ValueError, match="status"):
        client_of(server).list_segments("old")
    assert server.requests == []


# --- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (200, "AC1001", ErrorKind.REFUSED),
        (200, "AC1002", ErrorKind.CREDENTIALS),
        (200, "AC9999", ErrorKind.REFUSED),
        (404, "AC1001", ErrorKind.REFUSED),
        (400, "AC1002", ErrorKind.CREDENTIALS),
        (401, "AC1001", ErrorKind.CREDENTIALS),
        (400, "AC1004", ErrorKind.REFUSED),
        (409, "AC1006", ErrorKind.REFUSED),
        (500, "AC1001", ErrorKind.UNKNOWN),
        (429, "AC1001", ErrorKind.RETRY),
    ],
)
def test_an_error_code_is_a_failure_whatever_the_status(serve, status, code, kind):
    body = {"errorCode": code, "errorMessage": "Something is off"}
    schemas.check("annex_cloud", "error", body)
    error = failure(lambda: client_of(serve(response(status, body))).segment_subscribe(**SEGMENT))
    assert (error.kind, error.status) == (kind, status)
    assert error.sentence.endswith(".")
    if kind in (ErrorKind.REFUSED, ErrorKind.CREDENTIALS) and status != 401:
        assert error.sentence.startswith(f"Annex Cloud answered {code}: Something is off. ")
    if code in ("AC1001", "AC1002") and kind in (ErrorKind.REFUSED, ErrorKind.CREDENTIALS):
        assert "loyalty token" in error.sentence


def test_a_create_that_broke_off_is_open_and_a_change_may_be_repeated(serve):
    client = client_of(serve(hang_up))
    assert failure(lambda: client.segment_subscribe(**SEGMENT)).kind == ErrorKind.UNKNOWN
    assert failure(lambda: client.update_segment(77, status="ACTIVE")).kind == ErrorKind.RETRY
    assert failure(client.list_actions).kind == ErrorKind.RETRY


def test_a_missing_loyalty_token_asks_for_the_access_token(serve, settings):
    server = serve(response(200, []))
    settings.ANNEX_CLOUD_API_URL = f"{server.url}/api/3.0/"
    error = failure(AnnexCloudClient("1000001", "").list_segments)
    assert (error.kind, error.cause, server.requests) == (ErrorKind.CREDENTIALS, "NO_TOKEN", [])
    assert "access token" in error.sentence
    assert AnnexCloudClient("1000001", SECRET).list_segments() == []
