"""Signed webhooks to the product: their words and signature; they are repeated, and hold no answer up."""

import hashlib
import hmac
import time
from json import loads

import pytest

from attentive_integration.attentive import AttentiveClient
from attentive_integration.webhooks import EventKind, parse_event, verify
from tests import schemas
from tests.attentive_integration.vendor_server import response

ADA, GRACE = "+17705550101", "+17705550102"


@pytest.fixture
def client(sandbox, company):
    return AttentiveClient(app_key=f"app-{company}", legacy_token=f"legacy-{company}", base_url=sandbox.url)


def listen(sandbox, company, server, **fields):
    url = f"{server.url}/webhooks/attentive/1/"
    sandbox.configure_company(
        company, name="Harbor Goods", webhook_url=url, webhook_signing_key="signing-key", **fields
    )


def heard(sandbox, server):
    sandbox.wait_for_webhooks()
    return [request.json for request in server.requests]


def test_joining_texts_and_leaving_are_reported_and_signed(sandbox, company, client, serve):
    server = serve(response(200, {}))
    listen(sandbox, company, server)
    client.add_or_update_contact(phone=ADA, sign_up_source_id="1")
    client.messages(to=ADA, body="You have 120 points.")
    sandbox.reply(company, ADA, "STOP")
    events = heard(sandbox, server)
    assert sorted(event["type"] for event in events) == [
        "sms.inbound_message", "sms.sent", "sms.sent", "sms.sent", "sms.subscribed", "sms.unsubscribed",
    ]  # fmt: skip
    for request in server.requests:
        signature = request.headers["x-attentive-hmac-sha256"]
        assert signature == hmac.new(b"signing-key", request.body, hashlib.sha256).hexdigest()
        assert verify(["signing-key"], request.body, signature)
        schemas.check("attentive", "webhook", request.json)
    ours = next(event for event in events if event.get("message", {}).get("text", "").endswith("120 points."))
    assert ours["message"]["text"] == "Harbor Goods: You have 120 points."
    left = next(request.body for request in server.requests if request.json["type"] == "sms.unsubscribed")
    event = parse_event(left)
    assert (event.kind, event.phone, event.subscription_type) == (EventKind.UNSUBSCRIBED, ADA, "MARKETING")
    assert (event.company_name, bool(event.company_id)) == ("Harbor Goods", True)
    assert abs(event.occurred_at.timestamp() - time.time()) < 30


def test_double_opt_in_reports_joining_only_after_y(sandbox, company, client, serve):
    server = serve(response(200, {}))
    listen(sandbox, company, server, double_opt_in=True, sms_sent=False)
    client.add_or_update_contact(phone=ADA, sign_up_source_id="1")
    assert heard(sandbox, server) == []
    sandbox.reply(company, ADA, "Y")
    # Deliveries overtake each other, as the vendor's do.
    assert sorted(event["type"] for event in heard(sandbox, server)) == ["sms.inbound_message", "sms.subscribed"]


def test_nothing_is_reported_twice_for_one_change_and_nothing_for_none(sandbox, company, client, serve):
    server = serve(response(200, {}))
    sandbox.add_subscribers(company, [ADA])
    listen(sandbox, company, server, sms_sent=False)
    client.add_or_update_contact(phone=ADA, sign_up_source_id="1")
    for _ in range(2):
        client.unsubscribe_user(phone=ADA)
    assert [event["type"] for event in heard(sandbox, server)] == ["sms.unsubscribed"]


def test_only_the_chosen_events_are_reported(sandbox, company, client, serve):
    server = serve(response(200, {}))
    listen(sandbox, company, server, webhook_events=["sms.unsubscribed"])
    client.add_or_update_contact(phone=ADA, sign_up_source_id="1")
    client.unsubscribe_user(phone=ADA)
    assert [event["type"] for event in heard(sandbox, server)] == ["sms.unsubscribed"]


def test_a_webhook_that_fails_is_repeated_and_holds_no_answer_up(sandbox, company, client, serve):
    def slow(request, connection):
        time.sleep(0.5)
        return response(500, {})(request, connection)

    server = serve(slow, response(503, {}), response(200, {}))
    sandbox.add_subscribers(company, [ADA])
    listen(sandbox, company, server)
    started = time.monotonic()
    client.messages(to=ADA, body="Hi")
    assert time.monotonic() - started < 0.4
    assert len({request.body for request in server.requests}) <= 1
    assert [event["message"]["text"] for event in heard(sandbox, server)] == ["Harbor Goods: Hi"] * 3
    webhooks = sandbox.company(company)["webhooks"]
    assert (webhooks["delivered"], webhooks["repeated"], webhooks["failed"]) == (1, 2, 0)


def test_events_can_come_doubled_and_out_of_order(sandbox, company, client, serve):
    server = serve(response(200, {}))
    listen(sandbox, company, server, webhook_replay=1.0, webhook_jitter_seconds=0.5)
    phones = [f"+177055501{number:02d}" for number in range(10, 30)]
    sandbox.add_subscribers(company, phones)
    for phone in phones:
        client.messages(to=phone, body="Hi")
    order = [event["subscriber"]["phone"] for event in heard(sandbox, server)]
    assert sorted(order) == sorted(phones * 2)
    assert order != sorted(order)


def test_a_webhook_made_by_the_api_is_served_too_and_shows_no_key(sandbox, company, client, serve, ask):
    server, token = serve(response(200, {})), f"app-{company}"
    made = ask("POST", "/v1/webhooks", {"url": server.url, "events": ["sms.subscribed"]}, token=token)
    assert made.status == 201
    assert "key" not in str(made.data).lower()
    client.add_or_update_contact(phone=ADA, sign_up_source_id="1")
    assert [event["type"] for event in heard(sandbox, server)] == ["sms.subscribed"]
    assert verify(
        [f"signing-{company}"], server.requests[0].body, server.requests[0].headers["x-attentive-hmac-sha256"]
    )
    path = f"/v1/webhooks/{made.data['id']}"
    body = {"url": server.url, "events": ["sms.subscribed"], "disabled": True}
    assert ask("PUT", path, body, token=token).data["disabledAt"]
    client.add_or_update_contact(phone=GRACE, sign_up_source_id="1")
    assert len(heard(sandbox, server)) == 1
    assert ask("DELETE", path, token=token).status == 204
    assert ask("GET", "/v1/webhooks", token=token).data == {"webhooks": []}
    assert ask("POST", "/v1/webhooks", {"url": "http://example.com", "events": ["x"]}, token=token).status == 400


def test_companies_hear_only_their_own(sandbox, company, client, serve):
    ours, theirs = serve(response(200, {})), serve(response(200, {}))
    listen(sandbox, company, ours)
    listen(sandbox, f"{company}-other", theirs)
    client.add_or_update_contact(phone=ADA, sign_up_source_id="1")
    assert len(heard(sandbox, ours)) == 2
    assert theirs.requests == []
    assert loads(ours.requests[0].body)["company"]["display_name"] == "Harbor Goods"
