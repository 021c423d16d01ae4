"""Ordered faults: what the client meets, and whether the request was accepted all the same."""

import time

import pytest

from attentive_integration.attentive import AttentiveClient
from attentive_integration.http import ErrorKind, VendorError

ADA = "+17705550101"


@pytest.fixture
def client(sandbox, company):
    sandbox.add_subscribers(company, [ADA])
    return AttentiveClient(app_key=f"app-{company}", legacy_token=f"legacy-{company}", base_url=sandbox.url)


def accepted(sandbox, company):
    return len([line for line in sandbox.ledger("MESSAGE") if line["company"] == company])


@pytest.mark.parametrize(
    ("kind", "options", "cause", "outcome", "count"),
    [
        ("status", {"status": 503, "retry_after": "7"}, "HTTP_503", ErrorKind.RETRY, 0),
        ("status", {"status": 429}, "HTTP_429", ErrorKind.RETRY, 0),
        ("status", {"status": 302}, "REDIRECT", ErrorKind.CREDENTIALS, 0),
        ("reset_before", {}, "RESET", ErrorKind.UNKNOWN, 0),
        ("close_before", {}, "DISCONNECTED", ErrorKind.UNKNOWN, 0),
        ("status_after", {"status": 500}, "HTTP_500", ErrorKind.UNKNOWN, 1),
        ("reset_after", {}, "RESET", ErrorKind.UNKNOWN, 1),
        ("close_after", {}, "DISCONNECTED", ErrorKind.UNKNOWN, 1),
        ("drip", {}, "READ_TIMEOUT", ErrorKind.UNKNOWN, 1),
        ("delay_after", {"seconds": 5}, "READ_TIMEOUT", ErrorKind.UNKNOWN, 1),
    ],
)
def test_a_fault_is_met_once_and_then_gone(sandbox, company, client, settings, kind, options, cause, outcome, count):
    settings.VENDOR_DEADLINE_SECONDS = 1.5
    sandbox.add_fault("/1/messages", kind, **options)
    with pytest.raises(VendorError) as caught:
        client.messages(to=ADA, body="Hi")
    assert (caught.value.cause, caught.value.kind) == (cause, outcome)
    if "retry_after" in options:
        assert caught.value.retry_after == 7
    assert accepted(sandbox, company) == count
    client.messages(to=ADA, body="Hi again")
    assert accepted(sandbox, company) == count + 1
    assert sandbox.state()["faults"] == []


@pytest.mark.parametrize("kind", ["garbage", "cut"])
def test_an_unreadable_answer_to_a_text_counts_as_accepted(sandbox, company, client, kind):
    sandbox.add_fault("/", kind, times=2)
    assert client.messages(to=ADA, body="Hi").answer.data is None
    assert accepted(sandbox, company) == 1
    with pytest.raises(VendorError) as caught:
        client.me()
    assert caught.value.cause == "BROKEN_BODY"


def test_a_delay_only_delays(sandbox, company, client):
    sandbox.add_fault("/1/messages", "delay", seconds=0.4)
    started = time.monotonic()
    client.messages(to=ADA, body="Hi")
    assert time.monotonic() - started > 0.35
    assert accepted(sandbox, company) == 1


def test_a_fault_keeps_to_its_path_method_and_company(sandbox, company, client):
    other = AttentiveClient(app_key=f"app-{company}-other", base_url=sandbox.url)
    sandbox.add_fault("/v1/subscriptions", "status", times=None, method="POST", company=company)
    client.get_lists(phone=ADA)
    client.me()
    other.add_or_update_contact(phone=ADA, sign_up_source_id="1")
    for _ in range(3):
        with pytest.raises(VendorError):
            client.add_or_update_contact(phone=ADA, sign_up_source_id="1")
    sandbox.clear_faults()
    client.add_or_update_contact(phone=ADA, sign_up_source_id="1")


def test_chance_and_times_are_kept(sandbox, client):
    sandbox.add_fault("/v1/me", "status", times=None, probability=0.5)
    failed = 0
    for _ in range(60):
        try:
            client.me()
        except VendorError:
            failed += 1
    assert 10 < failed < 50
    sandbox.clear_faults()
    sandbox.add_fault("/v1/me", "status", times=2)
    for _ in range(2):
        with pytest.raises(VendorError):
            client.me()
    client.me()


def test_down_refuses_connections_until_it_is_cleared_or_over(sandbox, company, client):
    client.me()  # opens a connection that is kept
    sandbox.add_fault("/", "down")
    for _ in range(2):
        with pytest.raises(VendorError) as caught:
            client.messages(to=ADA, body="Hi")
    assert (caught.value.cause, caught.value.kind) == ("CONNECT_FAILED", ErrorKind.RETRY)
    assert [fault["kind"] for fault in sandbox.state()["faults"]] == ["down"]
    sandbox.clear_faults()
    client.messages(to=ADA, body="Hi")
    assert accepted(sandbox, company) == 1
    sandbox.add_fault("/", "down", seconds=0.3)
    with pytest.raises(VendorError):
        client.me()
    time.sleep(0.5)
    client.me()
    assert sandbox.state()["faults"] == []


@pytest.mark.parametrize(
    "order",
    [
        {"kind": "explode"},
        {"kind": "status", "status": 99},
        {"kind": "status", "probability": 2},
        {"kind": "status", "times": 0},
        {"kind": "delay", "seconds": "long"},
        {"kind": "status", "colour": "red"},
        {"kind": "status", "retry_after": "1\r\nX: y"},
    ],
)
def test_an_impossible_fault_is_refused(sandbox, order):
    with pytest.raises(ValueError, match=r"\.$"):
        sandbox.add_fault("/", **order)
    assert sandbox.state()["faults"] == []
