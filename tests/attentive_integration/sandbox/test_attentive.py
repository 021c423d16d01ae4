"""Attentive's rules as the sandbox keeps them, asked with our own client and with plain requests."""

from datetime import UTC, datetime, timedelta

import pytest

from attentive_integration.attentive import AttentiveClient
from attentive_integration.http import ErrorKind, VendorError
from tests import schemas
from tests.schemas import openapi

ADA, GRACE, ALAN = "+17705550101", "+17705550102", "+17705550103"
STOPPED = [("MARKETING", "TEXT")]


@pytest.fixture
def client(sandbox, company):
    return client_of(sandbox, company)


def client_of(sandbox, company, **options):
    return AttentiveClient(app_key=f"app-{company}", legacy_token=f"legacy-{company}", base_url=sandbox.url, **options)


def refusal(make):
    with pytest.raises(VendorError) as caught:
        make()
    return caught.value


def text_body(**fields):
    return {"to": ADA, "body": "Hi", "type": "TRANSACTIONAL", **fields}


# --- Tokens -----------------------------------------------------------------------------------------------------------


def test_any_key_by_the_naming_rule_shows_whose_it_is(sandbox, company, client):
    account = client.me()
    assert (account.company_name, account.domain) == (company.title(), company)
    sandbox.configure_company(company, name="Harbor Goods", domain="harbor", contact_email="o@example.com")
    account = client.me()
    assert (account.company_name, account.domain, account.contact_email) == ("Harbor Goods", "harbor", "o@example.com")
    assert account.company_id
    assert client_of(sandbox, "maple-street").me().company_name == "Maple Street"


@pytest.mark.parametrize(
    ("method", "path", "token", "status"),
    [
        ("GET", "/v1/me", "", 401),
        ("GET", "/v1/me", "nonsense", 401),
        ("GET", "/v1/me", "legacy-harbor", 403),
        ("GET", "/v1/me", "loyalty-harbor", 403),
        ("GET", "/v1/me", "app-revoked-one", 401),
        ("GET", "/v1/me", "app-readonly-one", 200),
        ("POST", "/v1/subscriptions", "app-readonly-one", 403),
        ("POST", "/1/messages", "app-harbor", 403),
        ("POST", "/1/messages", "nonsense", 403),
        ("POST", "/1/messages", "legacy-revoked-one", 403),
        ("POST", "/v1/subscriptions/messages", "app-harbor", 403),
        ("GET", "/v1/unheard-of", "app-harbor", 404),
        ("DELETE", "/v1/me", "app-harbor", 405),
    ],
)
def test_token_families_are_not_interchangeable(ask, method, path, token, status):
    answer = ask(method, path, {} if method == "POST" else None, token=token)
    assert answer.status == status
    if status == 403 and "readonly" not in token:
        assert answer.data == {"message": "Invalid API token"}


def test_tokens_can_be_set_and_refused_while_running(sandbox, company, ask):
    sandbox.configure_company(company, app_key="k-1234567", refused=["legacy"])
    assert ask("GET", "/v1/me", token="k-1234567").data["companyName"] == company.title()
    assert ask("POST", "/1/messages", text_body(), token=f"legacy-{company}").status == 403
    sandbox.configure_company(company, refused=[])
    assert ask("POST", "/1/messages", text_body(), token=f"legacy-{company}").status == 400


# --- Subscriptions ----------------------------------------------------------------------------------------------------


def test_subscribing_texts_a_welcome_and_makes_eligible(sandbox, company, client):
    assert client.get_lists(phone=ADA).entries == ()
    first = client.add_or_update_contact(phone=ADA, sign_up_source_id="132109")
    assert [(item.type, item.channel, item.status) for item in first] == [("MARKETING", "TEXT", "NEWLY_CREATED")]
    lists = client.get_lists(phone=ADA)
    assert lists.is_eligible("MARKETING", "TEXT")
    assert not lists.is_eligible("TRANSACTIONAL", "TEXT")
    assert len(sandbox.texts(company, ADA)) == 1


def test_subscribing_a_subscriber_again_texts_that_and_is_counted(sandbox, company, client):
    sandbox.add_subscribers(company, [ADA])
    again = client.add_or_update_contact(phone=ADA, sign_up_source_id="132109")
    assert [item.status for item in again] == ["PREVIOUSLY_CREATED"]
    assert sandbox.texts(company, ADA) == [f"{company.title()}: You are already subscribed. Reply STOP to unsubscribe."]
    assert sandbox.company(company)["counters"]["already_subscribed_texts"] == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"user": {"phone": ADA}, "signUpSourceId": "1"}, 202),
        ({"user": {"email": "ada@example.com"}, "signUpSourceId": "1"}, 202),
        ({"user": {"phone": ADA}, "signUpSourceId": "1", "subscriptionType": "TRANSACTIONAL"}, 202),
        (
            {
                "user": {"phone": ADA},
                "locale": {"language": "en", "country": "US"},
                "subscriptionType": "MARKETING",
            },
            202,
        ),
        ({"user": {"phone": ADA}, "locale": {"language": "en", "country": "US"}}, 400),
        ({"user": {"phone": ADA}, "locale": "en-US", "subscriptionType": "MARKETING"}, 400),
        ({"user": {"phone": ADA}, "locale": {"language": "EN", "country": "US"}, "subscriptionType": "MARKETING"}, 400),
        ({"user": {"phone": ADA}, "signUpSourceId": "1", "locale": {"language": "en", "country": "US"}}, 400),
        ({"user": {"phone": ADA}}, 400),
        ({"user": {"phone": ADA}, "signUpSourceId": 1}, 400),
        ({"user": {"phone": ADA}, "signUpSourceId": "abc"}, 400),
        ({"user": {"phone": ADA}, "signUpSourceId": "1", "subscriptionType": "marketing"}, 400),
        ({"user": {"phone": "17705550101"}, "signUpSourceId": "1"}, 400),
        ({"user": {"phone": "7705550101"}, "signUpSourceId": "1"}, 400),
        ({"user": {"phone": "+1 770-555-0101"}, "signUpSourceId": "1"}, 400),
        ({"user": {}, "signUpSourceId": "1"}, 400),
        ({"signUpSourceId": "1"}, 400),
        ([], 400),
        (b"{", 400),
        (b"[" * 100_000, 400),
    ],
)
def test_subscribe_takes_e164_and_either_a_source_or_a_locale(sandbox, company, ask, body, status):
    answer = ask("POST", "/v1/subscriptions", body, token=f"app-{company}")
    assert answer.status == status
    accepted = [line for line in sandbox.ledger("SUBSCRIBE") if line["company"] == company]
    assert len(accepted) == (status == 202)
    if status == 400:
        assert answer.data["message"]


def test_the_live_sentence_for_both_a_source_and_a_locale(company, ask):
    body = {"user": {"phone": ADA}, "signUpSourceId": "1", "locale": {"language": "en", "country": "US"}}
    answer = ask("POST", "/v1/subscriptions", body, token=f"app-{company}")
    assert answer.data["message"].startswith("Found both a locale and a sign up source id.")


def test_configured_sources_are_a_closed_list_and_say_the_type(sandbox, company, client):
    sandbox.configure_company(company, sign_up_sources={"132109": "MARKETING", "132110": "TRANSACTIONAL"})
    assert refusal(lambda: client.add_or_update_contact(phone=ADA, sign_up_source_id="1")).status == 400
    assert [item.type for item in client.add_or_update_contact(phone=ADA, sign_up_source_id="132110")] == [
        "TRANSACTIONAL"
    ]


def test_with_double_opt_in_a_person_is_textable_only_after_y(sandbox, company, client):
    sandbox.configure_company(company, double_opt_in=True)
    assert [item.status for item in client.add_or_update_contact(phone=ADA, sign_up_source_id="1")] == ["NEWLY_CREATED"]
    assert not client.get_lists(phone=ADA).is_eligible()
    assert refusal(lambda: client.messages(to=ADA, body="Hi")).status == 400
    assert sandbox.reply(company, ADA, "maybe")["meaning"] == "OTHER"
    assert not client.get_lists(phone=ADA).is_eligible()
    assert sandbox.reply(company, ADA, "y")["subscriptions"] == {"MARKETING": "SUBSCRIBED"}
    assert client.get_lists(phone=ADA).is_eligible()
    client.add_or_update_contact(phone=GRACE, sign_up_source_id="1", single_opt_in=True)
    assert client.get_lists(phone=GRACE).is_eligible()


def test_eligibility_comes_in_no_particular_order(sandbox, company, ask):
    sandbox.add_subscribers(company, [ADA])
    token, orders = f"app-{company}", set()
    for _ in range(30):
        answer = ask("GET", "/v1/subscriptions?phone=%2B17705550101", token=token)
        orders.add(tuple(entry["subscription"]["type"] for entry in answer.data["subscriptionEligibilities"]))
    assert len(orders) > 1
    # An unencoded plus reaches Attentive as a space.
    assert ask("GET", "/v1/subscriptions?phone=+17705550101", token=token).status == 400
    assert ask("GET", "/v1/subscriptions", token=token).status == 400


def test_unsubscribing_texts_a_goodbye_unless_switched_off(sandbox, company, client):
    sandbox.add_subscribers(company, [ADA, GRACE])
    assert [item.status for item in client.unsubscribe_user(phone=ADA)] == ["NEWLY_UNSUBSCRIBED"]
    assert [item.status for item in client.unsubscribe_user(phone=ADA)] == ["PREVIOUSLY_UNSUBSCRIBED"]
    assert len(sandbox.texts(company, ADA)) == 2
    assert sandbox.company(company)["counters"]["already_unsubscribed_texts"] == 1
    client.unsubscribe_user(phone=GRACE, notify=False)
    assert sandbox.texts(company, GRACE) == []
    assert not client.get_lists(phone=GRACE).is_eligible()
    assert client.unsubscribe_user(phone=ALAN) == []
    client.unsubscribe_user(phone=GRACE, language="fr-CA")
    assert "désabonné" in sandbox.texts(company, GRACE)[0]


def test_unsubscribe_ends_what_is_named_and_all_when_nothing_is(sandbox, company, client, ask):
    for kind in ("MARKETING", "TRANSACTIONAL"):
        sandbox.add_subscribers(company, [ADA, GRACE], type=kind)
    client.unsubscribe_user(phone=ADA, subscriptions=STOPPED)
    assert sandbox.phones(company)[ADA]["subscriptions"] == {"MARKETING": "UNSUBSCRIBED", "TRANSACTIONAL": "SUBSCRIBED"}
    answer = ask("POST", "/v1/subscriptions/unsubscribe", {"user": {"phone": GRACE}}, token=f"app-{company}")
    assert answer.status == 202
    assert set(sandbox.phones(company)[GRACE]["subscriptions"].values()) == {"UNSUBSCRIBED"}


def test_phone_and_email_never_find_each_other(sandbox, company, client, ask):
    client.add_or_update_contact(phone=ADA, email="ada@example.com", sign_up_source_id="1")
    body = {"user": {"phone": ADA}, "subscriptions": [{"type": "MARKETING", "channel": "EMAIL"}]}
    assert (
        ask("POST", "/v1/subscriptions/unsubscribe", body, token=f"app-{company}").data["subscriptionResponses"] == []
    )
    client.unsubscribe_user(phone=ADA)
    assert not client.get_lists(phone=ADA).is_eligible("MARKETING", "TEXT")
    assert client.get_lists(email="ada@example.com").is_eligible("MARKETING", "EMAIL")


@pytest.mark.parametrize(
    "wrong",
    [
        {"subscriptions": [{"type": "MARKETING"}]},
        {"subscriptions": "all"},
        {"notification": {"language": "en-us"}},
        {"notification": {"disabled": "yes"}},
        {"notification": []},
    ],
)
def test_a_malformed_unsubscribe_is_refused_and_changes_nothing(sandbox, company, ask, wrong):
    sandbox.add_subscribers(company, [ADA])
    body = {"user": {"phone": ADA}, **wrong}
    assert ask("POST", "/v1/subscriptions/unsubscribe", body, token=f"app-{company}").status == 400
    assert sandbox.phones(company)[ADA]["subscriptions"] == {"MARKETING": "SUBSCRIBED"}


def test_a_stop_from_the_phone_ends_every_text(sandbox, company, client):
    sandbox.add_subscribers(company, [ADA])
    assert sandbox.reply(company, ADA, " stop ")["subscriptions"] == {"MARKETING": "UNSUBSCRIBED"}
    assert refusal(lambda: client.messages(to=ADA, body="Hi")).status == 400
    assert [line["phone"] for line in sandbox.ledger("REPLY_STOP") if line["company"] == company] == [ADA]
    with pytest.raises(ValueError, match="knows"):
        sandbox.reply(company, GRACE, "STOP")


# --- Texts ------------------------------------------------------------------------------------------------------------


def test_a_text_arrives_with_the_brand_in_front(sandbox, company, client):
    sandbox.add_subscribers(company, [ADA])
    client.messages(to=ADA, body="You have 120 points.", media_url="https://example.com/a.png")
    bubble = sandbox.phones(company)[ADA]["screen"][0]
    assert (bubble["text"], bubble["media_url"]) == (
        f"{company.title()}: You have 120 points.",
        "https://example.com/a.png",
    )
    line = [line for line in sandbox.ledger("MESSAGE") if line["company"] == company][0]
    assert (line["to"], line["body"], line["dropped"], line["path"]) == (
        ADA,
        "You have 120 points.",
        False,
        "/1/messages",
    )


@pytest.mark.parametrize("spelling", ["(770) 555-0101", "770.555.0101", "1-770-555-0101", "+1 770 555 0101"])
def test_the_recipient_may_come_in_any_format(sandbox, company, ask, spelling):
    sandbox.add_subscribers(company, [ADA])
    assert ask("POST", "/1/messages", text_body(to=spelling), token=f"legacy-{company}").status == 200
    assert len(sandbox.texts(company, ADA)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "transactional"},
        {"type": "MARKETING"},
        {"type": None},
        {"to": ""},
        {"to": "12"},
        {"to": GRACE},
        {"to": "+4915112345678"},
        {"to": 17705550101},
        {"body": ""},
        {"body": "  "},
        {"body": 5},
    ],
)
def test_a_text_is_refused_for_a_wrong_type_recipient_or_body(sandbox, company, ask, wrong):
    sandbox.add_subscribers(company, [ADA])
    sandbox.add_subscribers(company, [GRACE], status="UNSUBSCRIBED")
    assert ask("POST", "/1/messages", text_body(**wrong), token=f"legacy-{company}").status == 400
    assert sandbox.texts(company, ADA) == []
    assert [line for line in sandbox.ledger("MESSAGE") if line["company"] == company] == []


@pytest.mark.parametrize("body", ["Hi {{ first_name }}", "Hi }", "{"])
def test_a_brace_is_answered_200_and_never_sent(sandbox, company, ask, body):
    sandbox.add_subscribers(company, [ADA])
    assert ask("POST", "/1/messages", text_body(body=body), token=f"legacy-{company}").status == 200
    assert sandbox.texts(company, ADA) == []
    line = [line for line in sandbox.ledger("MESSAGE") if line["company"] == company][0]
    assert (line["dropped"], line["why"]) == (True, "BRACES")


def test_the_same_text_again_is_dropped_or_refused_by_setting(sandbox, company, client):
    sandbox.add_subscribers(company, [ADA, GRACE])
    client.messages(to=ADA, body="Hi")
    client.messages(to=ADA, body="Hi")
    client.messages(to=ADA, body="Hi again")
    client.messages(to=GRACE, body="Hi")
    assert [len(sandbox.texts(company, phone)) for phone in (ADA, GRACE)] == [2, 1]
    dropped = [line["dropped"] for line in sandbox.ledger("MESSAGE") if line["company"] == company]
    assert dropped == [False, True, False, False]
    try:
        sandbox.set(refuse_duplicates=True)
        assert refusal(lambda: client.messages(to=ADA, body="Hi")).status == 400
        sandbox.set(duplicate_seconds=0)
        client.messages(to=ADA, body="Hi")
    finally:
        sandbox.set(refuse_duplicates=False, duplicate_seconds=60)
    assert len(sandbox.texts(company, ADA)) == 3


def test_the_documents_path_takes_no_type_and_answers_its_shape(sandbox, company, ask):
    sandbox.add_subscribers(company, [ADA])
    client_of(sandbox, company, message_path="/v1/subscriptions/messages").messages(to=ADA, body="Hi")
    answer = ask("POST", "/v1/subscriptions/messages", {"to": ADA, "body": "Ho"}, token=f"legacy-{company}")
    assert answer.status == 200
    assert sorted(answer.data) == ["addSubscriber", "body", "createShortLink", "skipFatigue", "to", "type"]
    assert len(sandbox.texts(company, ADA)) == 2


# --- Events, attributes, segments, privacy ----------------------------------------------------------------------------


def event(client, **options):
    return client.custom_event(
        **{
            "type": "Points earned",
            "phone": ADA,
            "properties": {"points": 12},
            "external_event_id": "e-1",
            "occurred_at": datetime.now(UTC),
            **options,
        }
    )


def test_an_event_is_recorded_and_a_late_one_starts_no_journey(sandbox, company, client):
    event(client)
    event(client, occurred_at=datetime.now(UTC) - timedelta(hours=13), external_event_id="e-2")
    lines = [line for line in sandbox.ledger("EVENT") if line["company"] == company]
    assert [(line["phone"], line["event_id"], line["dropped"]) for line in lines] == [
        (ADA, "e-1", False),
        (ADA, "e-2", True),
    ]
    assert lines[0]["body"]["properties"] == {"points": 12}


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "Points, earned"},
        {"type": ""},
        {"user": {}},
        {"user": {"phone": "7705550101"}},
        {"properties": {"a|b": 1}},
        {"properties": []},
        {"properties": {str(number): 1 for number in range(201)}},
        {"occurredAt": "yesterday"},
        {"occurredAt": "2026-11-01T10:00:00"},
    ],
)
def test_a_malformed_event_is_refused(company, ask, wrong):
    body = {"type": "Points earned", "user": {"phone": ADA}, "properties": {}, **wrong}
    assert ask("POST", "/v1/events/custom", body, token=f"app-{company}").status == 400


def test_an_event_by_external_identifiers_alone_is_taken(company, ask):
    body = {"type": "Points earned", "user": {"externalIdentifiers": {"clientUserId": "M1"}}}
    assert ask("POST", "/v1/events/custom", body, token=f"app-{company}").status == 200


def test_attributes_are_scalars(company, ask):
    token, user = f"app-{company}", {"phone": ADA}
    assert ask("POST", "/v1/attributes/custom", {"user": user, "properties": {"tier": []}}, token=token).status == 400
    assert (
        ask("POST", "/v1/attributes/custom", {"user": user, "properties": {"tier": "Gold"}}, token=token).status == 200
    )
    assert ask("GET", "/v1/attributes/custom?phone=%2B17705550101", token=token).data == [
        {"name": "tier", "value": "Gold"}
    ]
    both = "/v1/attributes/custom?phone=%2B17705550101&email=a%40example.com"
    assert ask("GET", both, token=token).status == 400


def test_a_person_is_forgotten_on_request(sandbox, company, client, ask):
    sandbox.add_subscribers(company, [ADA])
    number = client.delete_request(phone=ADA, reason="Asked by mail")
    assert sandbox.phones(company) == {}
    found = ask("GET", f"/v1/privacy/delete-request/{number}", token=f"app-{company}")
    assert found.data["subjectPhone"] == "+*****0101"
    empty = ask("POST", "/v1/privacy/delete-request", {}, token=f"app-{company}")
    assert empty.status == 400
    assert empty.data["error"].startswith("Must either specify")


# --- Two companies ----------------------------------------------------------------------------------------------------


def test_companies_never_meet(sandbox, company, client):
    other = client_of(sandbox, f"{company}-other")
    sandbox.add_subscribers(company, [ADA])
    assert other.get_lists(phone=ADA).entries == ()
    assert refusal(lambda: other.messages(to=ADA, body="Hi")).status == 400
    client.create_segment("Gold", external_id="gold-1")
    assert other.find_segment("gold-1") is None
    assert sandbox.phones(f"{company}-other") == {}


# --- The vendor's specification ---------------------------------------------------------------------------------------


def test_answers_fit_our_schemas_and_the_vendors_specification(sandbox, company, ask):
    """Where ATTENTIVE_OPENAPI names Attentive's specification, it has the last word on the answers."""
    document, token, user = openapi.specification(), f"app-{company}", {"phone": ADA}
    hook = {"url": "https://example.com/hook", "events": ["sms.sent"]}
    calls = [
        ("me", "GET", "/v1/me", None),
        ("subscribe", "POST", "/v1/subscriptions", {"user": user, "signUpSourceId": "1"}),
        ("eligibility", "GET", "/v1/subscriptions?phone=%2B17705550101", None),
        ("unsubscribe", "POST", "/v1/subscriptions/unsubscribe", {"user": user}),
        ("delete_request", "POST", "/v1/privacy/delete-request", {"subjectPhone": ADA, "requestMsg": "Asked"}),
        (None, "POST", "/v1/webhooks", hook),
        (None, "GET", "/v1/webhooks", None),
        ("create_segment", "POST", "/v2/segments", {"name": "Gold", "externalId": "gold-1"}),
        ("find_segment", "GET", "/v2/segments?externalId=gold-1", None),
    ]
    for name, method, target, body in calls:
        answer = ask(method, target, body, token=token)
        assert answer.status in (200, 201, 202), target
        if name:
            schemas.check("attentive", f"{name}.answer", answer.data)
        path = target.partition("?")[0]
        if document is not None and path.startswith("/v1/"):
            assert openapi.check_answer(document, method, path, answer.status, answer.data), target


def test_a_refusal_by_the_sandbox_is_understood_by_our_client(sandbox, company):
    stranger = client_of(sandbox, "revoked-brand")
    error = refusal(lambda: stranger.messages(to=ADA, body="Hi"))
    assert (error.kind, error.status) == (ErrorKind.CREDENTIALS, 403)
    assert "legacyapi@attentivemobile.com" in error.sentence
