"""Attentive's webhooks: signatures in every form, and bodies in every shape."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from json import dumps

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attentive_integration.webhooks import EVENT_WORDS, Event, EventError, EventKind, parse_event, sign, verify
from tests import schemas

KEY, NEXT = "signing-key-placeholder", "next-key-placeholder"
BODY = b'{"type":"sms.sent"}'

FULL = {
    "type": "sms.sent",
    "timestamp": 1_793_534_400_123,
    "company": {"display_name": "Harbor Goods", "company_id": "Q29tcGFueTox"},
    "subscriber": {"phone": "+17705550101", "email": "ada@example.com", "external_id": 5},
    "subscription": {"type": "MARKETING"},
    "message": {"id": 991, "type": "JOURNEY", "text": "Harbor Goods: Thanks Ada"},
}


def body_of(**changes):
    return dumps(FULL | changes).encode()


# --- Signatures -------------------------------------------------------------------------------------------------------


def test_the_signature_is_hmac_sha256_in_hex():
    # RFC 4231, test case 2.
    assert sign("Jefe", b"what do ya want for nothing?") == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_each_current_key_and_each_spelling_proves_the_origin():
    digest = hmac.new(KEY.encode(), BODY, hashlib.sha256).digest()
    for header in (digest.hex(), digest.hex().upper(), f" {digest.hex()}\n", base64.b64encode(digest).decode()):
        assert verify([KEY], BODY, header) is True
        assert verify([NEXT, KEY], BODY, header) is True
        assert verify(iter([KEY, NEXT]), BODY, header) is True


@pytest.mark.parametrize(
    "header",
    [None, "", "sha256=", "0" * 64, sign(NEXT, BODY), sign(KEY, BODY + b" "), sign(KEY, BODY)[:-2], "é" * 64, "\0"],
)
def test_anything_else_proves_nothing(header):
    assert verify([KEY], BODY, header) is False


def test_without_a_key_nothing_is_proven():
    assert verify([], BODY, sign("", BODY)) is False
    assert verify([""], BODY, sign("", BODY)) is False
    assert verify([""], BODY, None) is False


# --- Events -----------------------------------------------------------------------------------------------------------


def test_a_full_event_is_read():
    schemas.check("attentive", "webhook", FULL)
    assert parse_event(body_of()) == Event(
        kind=EventKind.SENT,
        channel="TEXT",
        type="sms.sent",
        occurred_at=datetime(2026, 11, 1, 12, 0, tzinfo=UTC) + timedelta(milliseconds=123),
        phone="+17705550101",
        email="ada@example.com",
        subscription_type="MARKETING",
        text="Harbor Goods: Thanks Ada",
        message_id="991",
        company_id="Q29tcGFueTox",
        company_name="Harbor Goods",
    )


@pytest.mark.parametrize(
    ("word", "kind", "channel"),
    [
        ("sms.subscribed", EventKind.SUBSCRIBED, "TEXT"),
        ("sms.unsubscribed", EventKind.UNSUBSCRIBED, "TEXT"),
        ("phone.subscribed", EventKind.SUBSCRIBED, "TEXT"),
        ("phone.unsubscribed", EventKind.UNSUBSCRIBED, "TEXT"),
        ("email.subscribed", EventKind.SUBSCRIBED, "EMAIL"),
        ("email.unsubscribed", EventKind.UNSUBSCRIBED, "EMAIL"),
        ("sms.sent", EventKind.SENT, "TEXT"),
        ("email.sent", EventKind.SENT, "EMAIL"),
        ("sms.inbound_message", EventKind.OTHER, "TEXT"),
        ("custom_attribute.set", EventKind.OTHER, ""),
        ("sms.subscribed.v9", EventKind.OTHER, ""),
        ("", EventKind.OTHER, ""),
    ],
)
def test_each_word_has_one_meaning_and_unknown_ones_are_kept(word, kind, channel):
    event = parse_event(body_of(type=word))
    assert (event.kind, event.channel, event.type) == (kind, channel, word)


def test_the_table_has_no_other_opt_in_or_opt_out():
    decisive = {
        word for word, (kind, _) in EVENT_WORDS.items() if kind in (EventKind.SUBSCRIBED, EventKind.UNSUBSCRIBED)
    }
    assert decisive == {
        f"{place}.{verb}" for place in ("sms", "phone", "email") for verb in ("subscribed", "unsubscribed")
    }


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (1_793_534_400_000, datetime(2026, 11, 1, 12, 0, tzinfo=UTC)),
        (1_793_534_400_000.0, datetime(2026, 11, 1, 12, 0, tzinfo=UTC)),
        ("1793534400000", datetime(2026, 11, 1, 12, 0, tzinfo=UTC)),
        (1_793_534_400, None),
        (0, None),
        (-1, None),
        (10**30, None),
        (1e308, None),
        (True, None),
        (None, None),
        ("soon", None),
        ([], None),
        ({}, None),
    ],
)
def test_a_time_is_read_or_none(value, moment):
    assert parse_event(body_of(timestamp=value)).occurred_at == moment


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_a_time_that_is_no_number_is_none(constant):
    assert parse_event(b'{"type":"sms.sent","timestamp":' + constant + b"}").occurred_at is None


@pytest.mark.parametrize(
    ("phone", "expected"),
    [
        ("+17705550101", "+17705550101"),
        ("17705550101", "+17705550101"),
        (17705550101, "+17705550101"),
        ("(770) 555-0101", "+17705550101"),
        ("+447400123456", "+447400123456"),
        ("nobody", None),
        ("", None),
        (None, None),
        (True, None),
        ([1], None),
        ({}, None),
        (10**4000, None),
    ],
)
def test_a_phone_is_read_in_every_spelling_or_none(phone, expected):
    assert parse_event(body_of(subscriber={"phone": phone})).phone == expected


def test_wrong_types_inside_never_raise():
    for name in FULL:
        for odd in (
            None,
            5,
            1.5,
            "text",
            True,
            [],
            [{}],
            {},
            {"phone": [], "email": 7, "id": {}, "text": None, "type": []},
        ):
            assert isinstance(parse_event(body_of(**{name: odd})), Event)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*FULL, "phone", "id"]), inner, max_size=6)
    ),
    max_leaves=20,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from(list(FULL)), JSON))
def test_any_object_is_an_event(data):
    assert isinstance(parse_event(dumps(data).encode("utf-8", "surrogatepass")), Event)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_an_event_or_a_sentence(body):
    try:
        parse_event(body)
    except EventError as error:
        assert error.sentence.endswith(".")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b'{"type": "sms.sent"',
        b"[]",
        b'"sms.sent"',
        b"null",
        b"[" * 100_000,
        b'{"a":' * 30_000,
        b"1" * 5_000,
        b'{"text": "' + b"x" * 262_144 + b'"}',
    ],
)
def test_a_body_that_is_no_event_is_refused_in_a_sentence(body):
    with pytest.raises(EventError) as caught:
        parse_event(body)
    assert caught.value.sentence.endswith(".")


def test_texts_come_without_what_a_database_refuses():
    event = parse_event(b'{"message": {"text": "a\\u0000b\\ud800c"}, "company": {"company_id": "x\\u0000"}}')
    assert (event.text, event.company_id) == ("abc", "x")


def test_no_phone_or_address_shows_in_a_representation():
    shown = repr(parse_event(body_of()))
    assert "7705550101" not in shown
    assert "ada@example.com" not in shown
