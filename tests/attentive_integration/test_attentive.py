"""Attentive's client against a real server: what it sends, what it reads, and what it says when it fails."""

from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qs, urlsplit

import jsonschema
import pytest

from attentive_integration.attentive import (
    MESSAGE_PATHS,
    Account,
    AttentiveClient,
    BulkJob,
    Eligibilities,
    Eligibility,
    Segment,
    SubscriptionResult,
)
from attentive_integration.http import ErrorKind, VendorError
from tests import schemas
from tests.attentive_integration.vendor_server import hang_up, raw, response
from tests.schemas import openapi

PHONE = "+17705550101"
OTHER = "+17705550102"
NOON = datetime(2026, 11, 1, 12, 0, tzinfo=timezone(timedelta(hours=-5)))
APP_KEY, LEGACY = "app-key-placeholder", "legacy-token-placeholder"


def client_of(server, **options):
    return AttentiveClient(app_key=APP_KEY, legacy_token=LEGACY, base_url=server.url, **options)


def answered(name, status, body):
    """Script an answer that fits our schema of it."""
    schemas.check("attentive", f"{name}.answer", body)
    return response(status, body)


def event(client, **changes):
    fields = {"type": "Points earned", "phone": PHONE, "properties": {"points": 120, "tier": "Gold", "vip": True}}
    return client.custom_event(**fields | {"external_event_id": "e-1", "occurred_at": NOON} | changes)


# Every call that exists, with the body it must send (None: no body).
CALLS = [
    (lambda c: c.me(), "GET", "/v1/me", None),
    (
        lambda c: c.add_or_update_contact(phone=PHONE, sign_up_source_id="132109"),
        "POST",
        "/v1/subscriptions",
        {"user": {"phone": PHONE}, "signUpSourceId": "132109"},
    ),
    (
        lambda c: c.add_or_update_contact(
            phone=PHONE,
            email="ada@example.com",
            locale=("en", "US"),
            subscription_type="MARKETING",
            single_opt_in=False,
        ),
        "POST",
        "/v1/subscriptions",
        {
            "user": {"phone": PHONE, "email": "ada@example.com"},
            "locale": {"language": "en", "country": "US"},
            "subscriptionType": "MARKETING",
            "singleOptIn": False,
        },
    ),
    (lambda c: c.get_lists(phone=PHONE), "GET", "/v1/subscriptions", None),
    (
        lambda c: c.unsubscribe_user(phone=PHONE),
        "POST",
        "/v1/subscriptions/unsubscribe",
        {"user": {"phone": PHONE}, "subscriptions": [{"type": "MARKETING", "channel": "TEXT"}]},
    ),
    (
        lambda c: c.unsubscribe_user(
            email="ada@example.com",
            subscriptions=[("MARKETING", "EMAIL"), ("TRANSACTIONAL", "EMAIL")],
            notify=False,
            language="fr-CA",
        ),
        "POST",
        "/v1/subscriptions/unsubscribe",
        {
            "user": {"email": "ada@example.com"},
            "subscriptions": [
                {"type": "MARKETING", "channel": "EMAIL"},
                {"type": "TRANSACTIONAL", "channel": "EMAIL"},
            ],
            "notification": {"disabled": True, "language": "fr-CA"},
        },
    ),
    (
        lambda c: c.messages(to=PHONE, body="Thanks Ada"),
        "POST",
        "/1/messages",
        {"to": PHONE, "body": "Thanks Ada", "type": "TRANSACTIONAL"},
    ),
    (
        lambda c: c.messages(to=PHONE, body="Hi", link="https://a.example.com", media_url="https://example.com/a.png"),
        "POST",
        "/1/messages",
        {
            "to": PHONE,
            "body": "Hi",
            "type": "TRANSACTIONAL",
            "link": "https://a.example.com",
            "mediaUrl": "https://example.com/a.png",
        },
    ),
    (
        event,
        "POST",
        "/v1/events/custom",
        {
            "type": "Points earned",
            "user": {"phone": PHONE},
            "properties": {"points": 120, "tier": "Gold", "vip": True},
            "externalEventId": "e-1",
            "occurredAt": "2026-11-01T12:00:00-05:00",
        },
    ),
    (
        lambda c: c.create_segment("Gold", "Gold members", "gold-1"),
        "POST",
        "/v2/segments",
        {"name": "Gold", "description": "Gold members", "externalId": "gold-1"},
    ),
    (lambda c: c.create_segment("Gold"), "POST", "/v2/segments", {"name": "Gold"}),
    (lambda c: c.find_segment("gold-1"), "GET", "/v2/segments", None),
    (
        lambda c: c.add_segment_members("gold-1", [PHONE, OTHER]),
        "POST",
        "/v2/bulk/segments/members",
        {"externalId": "gold-1", "members": [{"phone": PHONE}, {"phone": OTHER}]},
    ),
    (
        lambda c: c.remove_segment_members("gold-1", [PHONE]),
        "DELETE",
        "/v2/bulk/segments/members",
        {"externalId": "gold-1", "members": [{"phone": PHONE}]},
    ),
    (lambda c: c.bulk_job("job-1"), "GET", "/v2/bulk/job/job-1", None),
    (
        lambda c: c.delete_request(phone=PHONE, email="ada@example.com", reason="asked"),
        "POST",
        "/v1/privacy/delete-request",
        {"subjectPhone": PHONE, "subjectEmail": "ada@example.com", "requestMsg": "asked"},
    ),
]


@pytest.mark.parametrize(("make", "method", "path", "body"), CALLS)
def test_each_call_sends_exactly_what_is_documented(serve, make, method, path, body):
    server = serve(response(200, {}))
    make(client_of(server))
    request = server.request
    assert (request.method, urlsplit(request.target).path) == (method, path)
    assert (request.json if request.body else None) == body
    token = LEGACY if path == "/1/messages" else APP_KEY
    assert request.headers["authorization"] == f"Bearer {token}"
    schemas.check("attentive", f"{schemas.request_name('attentive', method, path)}.request", body)
    if document := openapi.specification():
        described = openapi.check_request(document, method, path, body)
        assert described == (body is not None and path.startswith("/v1/"))


@pytest.mark.parametrize("forbidden", ["forceSend", "addSubscriber", "skipFatigue"])
def test_schemas_refuse_what_must_not_be_sent(forbidden):
    body = {"to": PHONE, "body": "Hi", "type": "TRANSACTIONAL", forbidden: True}
    for name in ("message", "document_message"):
        with pytest.raises(jsonschema.ValidationError):
            schemas.check("attentive", f"{name}.request", body)


def test_the_plus_of_a_phone_is_encoded(serve):
    server = serve(response(200, {}))
    client_of(server).get_lists(phone=PHONE, email="ada+b@example.com")
    query = urlsplit(server.request.target).query
    assert query == "phone=%2B17705550101&email=ada%2Bb%40example.com"
    schemas.check("attentive", "eligibility.query", {name: value for name, (value,) in parse_qs(query).items()})


# --- Answers ----------------------------------------------------------------------------------------------------------


def test_me_tells_whose_key_it_is(serve):
    reported = {
        "applicationName": "Loyalty",
        "attentiveDomainName": "harbor",
        "companyName": "Harbor Goods",
        "contactEmail": "ops@example.com",
        "companyId": "Q29tcGFueTox",
    }
    account = client_of(serve(answered("me", 200, reported))).me()
    assert account == Account("Loyalty", "harbor", "Harbor Goods", "ops@example.com", "Q29tcGFueTox")
    assert client_of(serve(response(200, ["odd"]))).me() == Account("", "", "", "", "")


def test_subscribing_keeps_the_vendors_words_unknown_ones_included(serve):
    entries = [
        {"subscription": {"type": "MARKETING", "channel": "TEXT"}, "subscriptionCreationStatus": "NEWLY_CREATED"},
        {"subscription": {"type": "NEW", "channel": "PUSH"}, "subscriptionCreationStatus": "SOMETHING_ELSE"},
    ]
    server = serve(answered("subscribe", 202, {"subscriptionResponses": entries}))
    assert client_of(server).add_or_update_contact(phone=PHONE, sign_up_source_id="1") == [
        SubscriptionResult("MARKETING", "TEXT", "NEWLY_CREATED"),
        SubscriptionResult("NEW", "PUSH", "SOMETHING_ELSE"),
    ]


@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b'{"subscriptionResponses": {"a": 1}}', b"[[]]"])
def test_subscribing_accepted_with_an_odd_body_is_accepted(serve, body):
    assert client_of(serve(response(202, body))).add_or_update_contact(phone=PHONE, sign_up_source_id="1") == []


def test_eligibility_is_found_by_type_and_channel_whatever_the_order(serve):
    def entry(type, channel, eligible):
        return {"subscription": {"type": type, "channel": channel}, "eligibility": {"isEligible": eligible}}

    entries = [
        entry("TRANSACTIONAL", "TEXT", True),
        entry("MARKETING", "EMAIL", True),
        entry("MARKETING", "TEXT", False),
        entry("CHECKOUT_ABANDONED", "PUSH", True),
    ]
    server = serve(answered("eligibility", 200, {"subscriptionEligibilities": entries}))
    lists = client_of(server).get_lists(phone=PHONE)
    assert [lists.is_eligible(), lists.is_eligible("TRANSACTIONAL"), lists.is_eligible(channel="EMAIL")] == [
        False,
        True,
        True,
    ]
    assert lists.entries[3] == Eligibility("CHECKOUT_ABANDONED", "PUSH", True)
    swapped = serve(response(200, {"subscriptionEligibilities": entries[::-1] + [entry("MARKETING", "TEXT", True)]}))
    assert client_of(swapped).get_lists(phone=PHONE).is_eligible()


def test_nobody_is_eligible_by_a_truthy_accident(serve):
    odd = [{"subscription": {"type": "MARKETING", "channel": "TEXT"}, "eligibility": {"isEligible": "false"}}, 7]
    assert not client_of(serve(response(200, {"subscriptionEligibilities": odd}))).get_lists(phone=PHONE).is_eligible()
    assert Eligibilities().is_eligible() is False


@pytest.mark.parametrize("body", [b"", {"message": "no such user"}])
def test_a_person_unknown_to_attentive_is_not_eligible_and_already_gone(serve, body):
    client = client_of(serve(response(404, body)))
    assert client.get_lists(phone=PHONE) == Eligibilities()
    assert client.unsubscribe_user(phone=PHONE) == []


EVENT = {"type": "x", "phone": PHONE, "properties": {}, "external_event_id": "e-1", "occurred_at": datetime.now(UTC)}


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"", "REFUSED"), ({"message": "no such user"}, "REFUSED"), (b"<html>nginx</html>", "CREDENTIALS")],
)
def test_a_404_about_one_person_is_a_refusal_and_a_page_a_wrong_address(serve, body, kind):
    client = client_of(serve(response(404, body)))
    with pytest.raises(VendorError) as asked:
        client.add_or_update_contact(phone=PHONE, sign_up_source_id="132109")
    with pytest.raises(VendorError) as reported:
        client.custom_event(**EVENT)
    assert asked.value.kind == reported.value.kind == kind
    # The path of texts is chosen for each site: there a 404 means a wrong one, whatever its body.
    with pytest.raises(VendorError) as texted:
        client.messages(to=PHONE, body="Hello")
    assert texted.value.kind == "CREDENTIALS"


def test_a_404_page_from_a_wrong_address_is_not_taken_for_an_unknown_person(serve):
    client = client_of(serve(response(404, b"<html>nginx</html>")))
    with pytest.raises(VendorError) as caught:
        client.unsubscribe_user(phone=PHONE)
    assert (caught.value.kind, caught.value.cause) == (ErrorKind.CREDENTIALS, "HTTP_404")
    with pytest.raises(VendorError):
        client.get_lists(phone=PHONE)


def test_unsubscribing_reports_each_subscription(serve):
    entries = [
        {
            "subscription": {"type": "MARKETING", "channel": "TEXT"},
            "subscriptionUnsubscribeStatus": "PREVIOUSLY_UNSUBSCRIBED",
        }
    ]
    server = serve(answered("unsubscribe", 202, {"subscriptionResponses": entries}))
    assert client_of(server).unsubscribe_user(phone=PHONE) == [
        SubscriptionResult("MARKETING", "TEXT", "PREVIOUSLY_UNSUBSCRIBED")
    ]


def test_a_message_is_received_whatever_the_body_says(serve):
    body = {"type": "v1", "to": PHONE, "body": "Hi", "skipFatigue": "false", "addSubscriber": "true"}
    receipt = client_of(serve(response(200, body))).messages(to=PHONE, body="Hi")
    assert (receipt.answer.status, receipt.answer.data) == (200, body)
    assert client_of(serve(response(200, b"<html>"))).messages(to=PHONE, body="Hi").answer.data is None


def test_the_documents_message_path_carries_two_fields_only(serve):
    server = serve(response(200, {}))
    client_of(server, message_path="/v1/subscriptions/messages").messages(to=PHONE, body="Hi")
    assert (server.request.target, server.request.json) == ("/v1/subscriptions/messages", {"to": PHONE, "body": "Hi"})
    assert server.request.headers["authorization"] == f"Bearer {LEGACY}"
    schemas.check("attentive", "document_message.request", server.request.json)


def test_segments_and_jobs_are_read(serve):
    gold = {"externalId": "gold-1", "name": "Gold", "description": "Gold members"}
    created = client_of(serve(answered("create_segment", 201, gold))).create_segment("Gold", "Gold members", "gold-1")
    assert created == Segment("gold-1", "Gold", "Gold members")
    near = {"externalId": "gold-10", "name": "Other"}
    found = answered("find_segment", 200, {"segments": [near, gold], "cursor": None, "hasMore": False})
    assert client_of(serve(found)).find_segment("gold-1") == created
    assert client_of(serve(found)).find_segment("gold-2") is None
    queued = answered("segment_members", 202, {"message": "queued", "batchJobId": "job-1"})
    assert client_of(serve(queued)).add_segment_members("gold-1", [PHONE]) == BulkJob("job-1")
    job = {"bulkJobId": "job-1", "status": "NEEDS_REVIEW", "totalRecords": 2, "url": "https://example.com/r.jsonl"}
    assert client_of(serve(answered("bulk_job", 200, job))).bulk_job("job-1") == BulkJob(
        "job-1", "NEEDS_REVIEW", 2, "https://example.com/r.jsonl"
    )
    erased = answered("delete_request", 200, {"id": "123abc"})
    assert client_of(serve(erased)).delete_request(email="ada@example.com") == "123abc"


# --- Refusals of our own ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda c: c.add_or_update_contact(phone=PHONE),
        lambda c: c.add_or_update_contact(
            phone=PHONE, sign_up_source_id="1", locale=("en", "US"), subscription_type="MARKETING"
        ),
        lambda c: c.add_or_update_contact(phone=PHONE, locale=("en", "US")),
        lambda c: c.add_or_update_contact(sign_up_source_id="1"),
        lambda c: c.add_or_update_contact(phone="7705550101", sign_up_source_id="1"),
        lambda c: c.get_lists(),
        lambda c: c.unsubscribe_user(phone=PHONE, subscriptions=[]),
        lambda c: c.messages(to=PHONE, body=""),
        lambda c: c.messages(to=PHONE, body=" \n"),
        lambda c: c.messages(to=PHONE, body="Hi {{ first_name }}"),
        lambda c: c.messages(to=PHONE, body="Hi }"),
        lambda c: c.messages(to="(770) 555-0101", body="Hi"),
        lambda c: event(c, type="Points, earned"),
        lambda c: event(c, type=" "),
        lambda c: event(c, properties={"a|b": 1}),
        lambda c: event(c, properties={str(number): number for number in range(201)}),
        lambda c: event(c, occurred_at=datetime(2026, 11, 1)),
        lambda c: c.add_segment_members("gold-1", []),
        lambda c: c.add_segment_members("gold-1", [PHONE] * 10_001),
        lambda c: c.delete_request(),
    ],
)
def test_a_call_that_attentive_would_refuse_or_lose_is_not_made(serve, make):
    server = serve(response(200, {}))
    with pytest.raises(ValueError, match=r"\.$"):
        make(client_of(server))
    assert server.requests == []


def test_message_paths_are_a_closed_list(serve):
    server = serve(response(200, {}))
    with pytest.raises(ValueError, match="message path"):
        client_of(server, message_path="/v1/text/send")
    with pytest.raises(ValueError, match="only"):
        client_of(server, message_path=MESSAGE_PATHS[1]).messages(to=PHONE, body="Hi", link="https://example.com")


# --- Errors -----------------------------------------------------------------------------------------------------------


def failure(make):
    with pytest.raises(VendorError) as caught:
        make()
    return caught.value


@pytest.mark.parametrize("status", [401, 403])
def test_each_sort_of_token_has_its_own_remedy(serve, status):
    client = client_of(serve(response(status, {"message": "Invalid API token"})))
    message = failure(lambda: client.messages(to=PHONE, body="Hi"))
    assert message.kind == ErrorKind.CREDENTIALS
    assert "legacyapi@attentivemobile.com" in message.sentence
    assert "legacy token" in message.sentence
    subscribe = failure(lambda: client.add_or_update_contact(phone=PHONE, sign_up_source_id="1"))
    assert subscribe.kind == ErrorKind.CREDENTIALS
    assert "Write" in subscribe.sentence
    assert "legacyapi" not in subscribe.sentence


def test_a_missing_token_names_the_way_to_get_it(serve):
    server = serve(response(200, {}))
    client = AttentiveClient(base_url=server.url)
    assert "Create App" in failure(client.me).sentence
    assert "legacyapi@attentivemobile.com" in failure(lambda: client.messages(to=PHONE, body="Hi")).sentence
    assert server.requests == []


def test_a_refused_subscription_names_the_sign_up_source(serve):
    words = "Found both a locale and a sign up source id."
    client = client_of(serve(response(400, {"message": words})))
    error = failure(lambda: client.add_or_update_contact(phone=PHONE, sign_up_source_id="1"))
    assert error.kind == ErrorKind.REFUSED
    assert "sign-up source ID" in error.sentence
    assert "Subscribers tab" in error.sentence
    assert error.sentence.endswith(words)


def test_a_refused_message_speaks_of_the_subscriber(serve):
    error = failure(lambda: client_of(serve(response(400, b""))).messages(to=PHONE, body="Hi"))
    assert error.kind == ErrorKind.REFUSED
    assert "opted-in" in error.sentence
    assert PHONE not in error.sentence


def test_what_may_text_is_never_retried_after_it_left_and_what_may_not_is(serve):
    client = client_of(serve(hang_up))
    for make in (
        lambda: client.messages(to=PHONE, body="Hi"),
        lambda: client.add_or_update_contact(phone=PHONE, sign_up_source_id="1"),
        lambda: client.unsubscribe_user(phone=PHONE),
        lambda: event(client),
    ):
        assert failure(make).kind == ErrorKind.UNKNOWN
    for make in (
        client.me,
        lambda: client.get_lists(phone=PHONE),
        lambda: client.add_segment_members("gold-1", [PHONE]),
        lambda: client.remove_segment_members("gold-1", [PHONE]),
        lambda: client.delete_request(phone=PHONE),
    ):
        assert failure(make).kind == ErrorKind.RETRY


def test_a_general_failure_names_attentive(serve):
    error = failure(client_of(serve(raw(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"))).me)
    assert error.sentence == "Attentive is out of service for the moment (503). Try again in a minute."


def test_the_default_address_comes_from_the_settings(serve, settings):
    server = serve(response(200, {}))
    settings.ATTENTIVE_API_URL = server.url
    AttentiveClient(app_key=APP_KEY).me()
    assert server.request.target == "/v1/me"


def test_no_token_shows_in_a_representation(serve):
    client = client_of(serve(response(200, {})))
    assert APP_KEY not in repr(client)
    assert LEGACY not in repr(client)


def test_time_zones_are_kept_in_event_times(serve):
    server = serve(response(200, {}))
    event(client_of(server), occurred_at=datetime(2026, 11, 1, 17, tzinfo=UTC))
    assert server.request.json["occurredAt"] == "2026-11-01T17:00:00+00:00"
