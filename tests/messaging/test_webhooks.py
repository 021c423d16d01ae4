"""Attentive's webhooks: proof of origin, one effect per event, consent before the answer, and sent texts confirmed."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from attentive_integration.webhooks import BODY_BYTES, sign
from loyalty import consent, reconciliation
from loyalty.models import AccessToken, Consent, ConsentEvent, Member, Site
from messaging.models import Message, SendAttempt, WebhookEvent
from messaging.webhooks import process_webhooks
from tests.concurrency import meanwhile
from tests.factories import make_campaign, make_member, make_message, make_sign_up_source, make_site, make_token

pytestmark = pytest.mark.django_db

KEY, NEXT_KEY = "signing-key-placeholder", "next-key-placeholder"
PHONE = "+17705550101"
NOON = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def site() -> Site:
    site = make_site(company_id="Q29tcGFueTox", company_name="Harbor Goods")
    make_token(site, AccessToken.Kind.WEBHOOK_SIGNING, KEY)
    return site


def event(kind: str, at: datetime | None = NOON, phone: Any = PHONE, **fields: Any) -> bytes:
    data: dict[str, Any] = {"type": kind, "subscriber": {"phone": phone, "email": "Ada@Example.com"}, **fields}
    if at is not None:
        data["timestamp"] = int(at.timestamp() * 1000)
    return json.dumps(data).encode()


def post(site: Site, body: bytes, signature: str | None = None, **headers: str) -> Any:
    signature = sign(KEY, body) if signature is None else signature
    return Client(enforce_csrf_checks=True).post(
        f"/webhooks/attentive/{site.uuid}/",
        body,
        content_type="application/json",
        headers={"x-attentive-hmac-sha256": signature, **headers} if signature else headers,
    )


def state(site: Site, address: str = PHONE, channel: str = "TEXT") -> str:
    return consent.state_of(site, address, channel)


def test_a_site_that_is_heard_is_not_silent(site: Site) -> None:
    other = make_site()
    assert reconciliation.silent_sites() == [site, other]
    assert post(site, event("sms.subscribed")).status_code == 200
    assert reconciliation.silent_sites() == [other]


# --- Proof of origin --------------------------------------------------------------------------------------------------


def test_every_spelling_of_a_true_signature_is_taken(site: Site) -> None:
    make_token(site, AccessToken.Kind.WEBHOOK_SIGNING, NEXT_KEY, slot=AccessToken.Slot.NEXT)
    spellings: list[Callable[[bytes], str]] = [
        lambda body: sign(KEY, body),
        lambda body: sign(KEY, body).upper(),
        lambda body: base64.b64encode(hmac.new(KEY.encode(), body, hashlib.sha256).digest()).decode(),
        lambda body: sign(NEXT_KEY, body),
    ]
    for number, spell in enumerate(spellings):
        body = event("sms.subscribed", phone=f"+1770555010{number}")
        assert post(site, body, spell(body)).status_code == 200
        assert state(site, f"+1770555010{number}") == "SUBSCRIBED"


def test_a_revoked_key_proves_nothing(site: Site) -> None:
    AccessToken.objects.update(revoked_at=timezone.now())
    assert post(site, event("sms.unsubscribed")).status_code == 403
    assert not WebhookEvent.objects.exists()


def test_what_is_not_proven_is_refused_and_changes_nothing(site: Site) -> None:
    other = make_site()
    make_token(other, AccessToken.Kind.WEBHOOK_SIGNING, "another-key-placeholder")
    keyless = make_site()
    body = event("sms.subscribed")
    altered = body.replace(b"0101", b"0102")
    for status, answer in [
        (403, post(site, body, "")),
        (403, post(site, body, "0" * 64)),
        (403, post(site, body, sign("another-key-placeholder", body))),
        (403, post(site, altered, sign(KEY, body))),
        (403, post(site, json.dumps(json.loads(body), indent=1).encode(), sign(KEY, body))),
        (403, post(other, body)),
        (403, post(keyless, body)),
        (403, post(keyless, body, sign("", body))),
        (413, post(site, b'{"a": "' + b"x" * BODY_BYTES + b'"}')),
    ]:
        assert answer.status_code == status
    assert not WebhookEvent.objects.exists()
    assert not Consent.objects.exists()


def test_addresses_and_methods_that_are_none(site: Site) -> None:
    client = Client()
    assert (
        client.post("/webhooks/attentive/00000000-0000-4000-8000-000000000000/", b"{}", "text/plain").status_code == 404
    )
    assert client.post("/webhooks/attentive/not-a-uuid/", b"{}", "text/plain").status_code == 404
    for method in ("get", "put", "delete", "head", "options"):
        assert getattr(client, method)(f"/webhooks/attentive/{site.uuid}/").status_code == 405


def test_a_key_that_cannot_be_decrypted_asks_the_vendor_to_come_again(site: Site) -> None:
    AccessToken.objects.update(sealed_secret="damaged")
    assert post(site, event("sms.unsubscribed")).status_code == 503


# --- Bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"\xff\xfe\x00", b"[]", b'{"a":' * 30_000, b'{"type": "sms.unsub\x00scribed"}', b"null"],
)
def test_a_signed_body_that_is_no_event_is_kept_and_answered(site: Site, body: bytes) -> None:
    assert post(site, body).status_code == 200
    row = WebhookEvent.objects.get()
    assert (row.state, row.error[-1]) == ("FAILED", ".")
    assert "\0" not in row.body
    assert not Consent.objects.exists()
    assert post(site, body).status_code == 200
    assert WebhookEvent.objects.count() == 1


@pytest.mark.parametrize(
    "subscriber", [None, {}, {"phone": "nobody"}, {"phone": 5}, {"phone": "+1\u0000"}, {"email": "a@example.com"}, []]
)
def test_an_opt_out_without_a_phone_is_shown(site: Site, subscriber: Any) -> None:
    assert post(site, json.dumps({"type": "sms.unsubscribed", "subscriber": subscriber}).encode()).status_code == 200
    assert WebhookEvent.objects.get().state == "FAILED"


def test_unknown_words_are_kept_and_ignored(site: Site) -> None:
    for word in ("sms.subscribed.v9", "custom_attribute.set", "email.opened", "", "x" * 5000):
        assert post(site, event(word)).status_code == 200
    assert set(WebhookEvent.objects.values_list("state", flat=True)) == {"IGNORED"}
    assert not Consent.objects.exists()


def test_another_company_is_shown_and_not_refused(site: Site) -> None:
    company = {"display_name": "Other Brand", "company_id": "b3RoZXI"}
    assert post(site, event("sms.unsubscribed", company=company)).status_code == 200
    row = WebhookEvent.objects.get()
    assert row.state == "DONE"
    assert "Other Brand" in row.error
    assert state(site) == "UNSUBSCRIBED"


# --- Consent ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "channel", "address", "expected"),
    [
        ("sms.subscribed", "TEXT", PHONE, "SUBSCRIBED"),
        ("phone.subscribed", "TEXT", PHONE, "SUBSCRIBED"),
        ("sms.unsubscribed", "TEXT", PHONE, "UNSUBSCRIBED"),
        ("phone.unsubscribed", "TEXT", PHONE, "UNSUBSCRIBED"),
        ("email.subscribed", "EMAIL", "ada@example.com", "SUBSCRIBED"),
        ("email.unsubscribed", "EMAIL", "ada@example.com", "UNSUBSCRIBED"),
    ],
)
def test_consent_is_in_effect_when_the_answer_leaves(
    site: Site, word: str, channel: str, address: str, expected: str
) -> None:
    neighbour = make_site()
    assert post(site, event(word)).status_code == 200
    row = Consent.objects.get()
    assert (row.site, row.channel, row.address, row.state, row.event_at) == (site, channel, address, expected, NOON)
    ledger = ConsentEvent.objects.get()
    assert (ledger.source, ledger.event_at, ledger.evidence) == ("WEBHOOK", NOON, word)
    received = WebhookEvent.objects.get()
    assert (received.state, received.type, received.event_at) == ("DONE", word, NOON)
    assert state(neighbour, address, channel) == "UNKNOWN"
    assert not Member.objects.exists()


@pytest.mark.parametrize("spelling", ["+17705550101", "17705550101", "(770) 555-0101", 17705550101])
def test_a_phone_is_understood_in_every_spelling(site: Site, spelling: Any) -> None:
    post(site, event("sms.unsubscribed", phone=spelling))
    assert state(site) == "UNSUBSCRIBED"


def test_a_stop_from_a_country_that_is_not_texted_is_kept(site: Site) -> None:
    post(site, event("sms.unsubscribed", phone="+5511955550101"))
    assert state(site, "+5511955550101") == "UNSUBSCRIBED"


def test_only_a_subscription_for_our_kind_of_text_counts(site: Site) -> None:
    for number, kind in enumerate(["MARKETING", "CHECKOUT_ABANDONED", "TRANSACTIONAL"]):
        post(site, event("sms.subscribed", phone=f"+1770555010{number}", subscription={"type": kind}))
    assert [state(site, f"+1770555010{number}") for number in range(3)] == ["SUBSCRIBED", "UNKNOWN", "UNKNOWN"]
    make_sign_up_source(site, type="TRANSACTIONAL")
    post(site, event("sms.subscribed", phone="+17705550104", subscription={"type": "TRANSACTIONAL"}))
    assert state(site, "+17705550104") == "SUBSCRIBED"
    post(site, event("sms.unsubscribed", subscription={"type": "CHECKOUT_ABANDONED"}, phone="+17705550100"))
    assert state(site, "+17705550100") == "UNSUBSCRIBED"


def test_an_opt_out_without_a_time_is_never_lost_in_silence(site: Site) -> None:
    post(site, event("sms.subscribed"))
    assert post(site, event("sms.unsubscribed", at=None)).status_code == 200
    # The letter of the law: no time never beats a time. The event is shown for a person to decide.
    assert state(site) == "SUBSCRIBED"
    row = WebhookEvent.objects.exclude(error="").get()
    assert (row.state, row.type) == ("FAILED", "sms.unsubscribed")
    assert ConsentEvent.objects.get(heard="UNSUBSCRIBED").consent.address == PHONE
    post(site, event("sms.subscribed", at=None, phone="+17705550102"))
    post(site, event("sms.unsubscribed", at=None, phone="+17705550102"))
    assert state(site, "+17705550102") == "UNSUBSCRIBED"


def test_hundreds_of_replays_have_one_effect(site: Site) -> None:
    body = event("sms.unsubscribed")
    assert {post(site, body).status_code for _ in range(300)} == {200}
    assert WebhookEvent.objects.count() == ConsentEvent.objects.count() == 1


def test_the_same_bytes_at_two_sites_are_two_events(site: Site) -> None:
    other = make_site()
    make_token(other, AccessToken.Kind.WEBHOOK_SIGNING, KEY)
    body = event("sms.unsubscribed")
    assert post(site, body).status_code == post(other, body).status_code == 200
    assert WebhookEvent.objects.count() == Consent.objects.filter(state="UNSUBSCRIBED").count() == 2


def test_all_orders_of_webhooks_end_the_same(site: Site) -> None:
    words = [("subscribed", 0), ("unsubscribed", 1), ("subscribed", 3), ("unsubscribed", 2)]
    for number, order in enumerate(permutations(words)):
        phone = f"+1770555{number:04d}"
        for word, minutes in order:
            post(site, event(f"sms.{word}", at=NOON + timedelta(minutes=minutes), phone=phone))
        assert state(site, phone) == "SUBSCRIBED", order


@pytest.mark.django_db(transaction=True)
def test_equal_requests_at_the_same_moment_have_one_effect(site: Site) -> None:
    body, statuses = event("sms.unsubscribed"), []

    def send() -> None:
        statuses.append(post(site, body).status_code)
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 6
    assert WebhookEvent.objects.count() == ConsentEvent.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_locked_never_makes_a_false_200(site: Site) -> None:
    body, locked, release = event("sms.unsubscribed"), threading.Event(), threading.Event()
    is_sqlite = connection.vendor == "sqlite"

    def hold() -> None:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN EXCLUSIVE" if is_sqlite else "BEGIN")
            if not is_sqlite:
                cursor.execute("LOCK TABLE messaging_webhookevent IN ACCESS EXCLUSIVE MODE")
            locked.set()
            release.wait(20)
            cursor.execute("ROLLBACK")
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    locked.wait(20)
    try:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout=200" if is_sqlite else "SET lock_timeout = '200ms'")
        answer = post(site, body)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    finally:
        release.set()
        holder.join()
        connection.close()
    assert not WebhookEvent.objects.exists()
    assert post(site, body).status_code == 200
    assert state(site) == "UNSUBSCRIBED"


# --- Sent texts -------------------------------------------------------------------------------------------------------


def sent_message(site: Site, state: str, *, minutes: int = 0, phone: str = PHONE, **fields: Any) -> Message:
    member = Member.objects.filter(site=site, phone=phone).first() or make_member(site, phone=phone)
    started_at = NOON + timedelta(minutes=minutes)
    outcome = {"SENDING": "OPEN", "QUEUED": "RETRY"}.get(state, state)
    fields = {"lease_until": timezone.now() if state == "SENDING" else None, "sent_at": started_at, **fields}
    message = make_message(member, make_campaign(site), state=state, attempt_count=1, fence=1, **fields)
    SendAttempt.objects.create(message=message, number=1, fence=1, started_at=started_at, outcome=outcome)
    return message


def sent(text: str = "Harbor Goods: Thanks Ada!", number: int = 1, phone: str = PHONE) -> bytes:
    at = NOON + timedelta(minutes=5)
    return event("sms.sent", at=at, phone=phone, message={"id": number, "text": text})


def standing(message: Message) -> tuple[str, bool]:
    message.refresh_from_db()
    return message.state, message.confirmed_at is not None


def test_a_text_that_was_not_known_is_confirmed(site: Site) -> None:
    message = sent_message(site, "UNKNOWN", reason="TIMEOUT")
    assert post(site, sent()).status_code == 200
    assert standing(message) == ("UNKNOWN", False)
    assert process_webhooks() == 1
    assert standing(message) == ("ACCEPTED", True)
    assert (message.reason, message.confirmed_at) == ("", NOON + timedelta(minutes=5))
    attempt = message.attempts.get()
    assert (attempt.outcome, attempt.cause) == ("ACCEPTED", "CONFIRMED")
    assert WebhookEvent.objects.get().state == "DONE"
    assert process_webhooks() == 0


def test_an_accepted_text_is_confirmed_in_place(site: Site) -> None:
    message = sent_message(site, "ACCEPTED")
    post(site, sent())
    process_webhooks()
    assert standing(message) == ("ACCEPTED", True)


def test_each_event_confirms_one_text_the_earliest_first(site: Site) -> None:
    later, earlier = sent_message(site, "UNKNOWN", minutes=2), sent_message(site, "UNKNOWN", minutes=1)
    post(site, sent())
    process_webhooks()
    assert (standing(earlier), standing(later)) == (("ACCEPTED", True), ("UNKNOWN", False))
    post(site, sent(number=2))
    process_webhooks()
    assert standing(later) == ("ACCEPTED", True)


@pytest.mark.django_db(transaction=True)
def test_two_workers_never_confirm_the_same_text(site: Site) -> None:
    messages = [sent_message(site, "ACCEPTED", minutes=number) for number in (1, 2)]
    for number in (1, 2):
        post(site, sent(number=number))
    with transaction.atomic():
        assert process_webhooks(limit=1) == 1
        other = meanwhile(lambda: process_webhooks(limit=1))
    assert other.result() == 1
    assert [standing(message) for message in messages] == [("ACCEPTED", True)] * 2


def test_another_text_phone_or_site_confirms_nothing(site: Site) -> None:
    other = make_site()
    make_token(other, AccessToken.Kind.WEBHOOK_SIGNING, KEY)
    message, empty = sent_message(site, "UNKNOWN"), sent_message(site, "UNKNOWN", body="  ")
    refused = sent_message(site, "REFUSED")
    post(other, sent())
    for body in (
        sent("Harbor Goods: Thanks Bob!"),
        sent("Thanks Ada! And more."),
        sent(phone="+17705550109"),
        sent(""),
    ):
        post(site, body)
    assert process_webhooks() == 5
    assert standing(message) == standing(empty) == ("UNKNOWN", False)
    assert standing(refused) == ("REFUSED", False)
    assert set(WebhookEvent.objects.values_list("state", flat=True)) == {"IGNORED"}


def test_an_event_about_a_call_under_way_waits_and_holds_up_nobody(site: Site) -> None:
    under_way = sent_message(site, "SENDING")
    message = sent_message(site, "UNKNOWN", phone="+17705550102")
    post(site, sent())
    post(site, sent(phone="+17705550102"))
    assert process_webhooks() == 1
    assert standing(message) == ("ACCEPTED", True)
    assert standing(under_way) == ("SENDING", False)
    Message.objects.filter(pk=under_way.pk).update(state="UNKNOWN", lease_until=None)
    assert process_webhooks() == 1
    assert standing(under_way) == ("ACCEPTED", True)


def test_proof_that_a_text_left_stops_its_next_attempt(site: Site) -> None:
    waiting, fresh = sent_message(site, "QUEUED"), make_message(make_member(site), make_campaign(site))
    post(site, sent())
    process_webhooks()
    assert standing(waiting) == ("ACCEPTED", True)
    assert standing(fresh) == ("QUEUED", False)


def test_a_text_that_was_turned_away_is_not_confirmed_by_its_twin(site: Site) -> None:
    turned_away, twin = sent_message(site, "QUEUED"), sent_message(site, "ACCEPTED", minutes=2)
    post(site, sent())
    process_webhooks()
    assert (standing(turned_away), standing(twin)) == (("QUEUED", False), ("ACCEPTED", True))


def test_the_longest_text_is_meant(site: Site) -> None:
    short, long = sent_message(site, "UNKNOWN", body="5 points!"), sent_message(site, "UNKNOWN", body="25 points!")
    post(site, sent("Harbor Goods: 25 points!"))
    process_webhooks()
    assert (standing(short), standing(long)) == (("UNKNOWN", False), ("ACCEPTED", True))


def test_a_text_that_was_ordered_again_and_then_forbidden_is_confirmed(site: Site) -> None:
    message = sent_message(site, "UNKNOWN")
    Message.objects.update(state="SKIPPED", reason="OPTED_OUT")
    post(site, sent())
    process_webhooks()
    assert standing(message) == ("ACCEPTED", True)


def test_the_limit_is_kept(site: Site) -> None:
    for number in range(5):
        post(site, sent(number=number))
    assert [process_webhooks(limit=3), process_webhooks(limit=3)] == [3, 2]
