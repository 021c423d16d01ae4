"""Attentive's webhooks: proof of origin, and the vendor's event words mapped once to ours."""

import base64
import binascii
import hashlib
import hmac
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from json import loads
from typing import Any

from django.utils.translation import gettext as _

from attentive_integration import phones

SIGNATURE_HEADER = "x-attentive-hmac-sha256"
BODY_BYTES = 262_144
# A time before this is not a time: seconds sent as milliseconds, or a counter.
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


def sign(key: str, body: bytes) -> str:
    """Return the signature of the raw body as lower-case hex: HMAC-SHA256 under the site's signing key."""
    return hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def verify(keys: Iterable[str], body: bytes, header: str | None) -> bool:
    """Say whether the header signs the raw body under one of the keys (the current one, or the next while rotating).

    The header may be hex in either case, as Attentive documents, or base64. No key or no header is never a proof.
    """
    signature = _digest(header)
    proven = False
    for key in keys:
        if key:
            expected = hmac.new(key.encode(), body, hashlib.sha256).digest()
            # Every key is tried, so that the time taken does not tell which one fits.
            proven |= hmac.compare_digest(expected, signature)
    return proven


def _digest(header: str | None) -> bytes:
    text = (header or "").strip()
    try:
        if re.fullmatch(r"[0-9a-fA-F]{64}", text):
            return bytes.fromhex(text)
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""


class EventKind(StrEnum):
    """What an event means to us."""

    SUBSCRIBED = "SUBSCRIBED"
    UNSUBSCRIBED = "UNSUBSCRIBED"
    SENT = "SENT"
    OTHER = "OTHER"


# Attentive's words, older ones included. A word that is not here is kept as OTHER.
EVENT_WORDS: dict[str, tuple[EventKind, str]] = {
    "sms.subscribed": (EventKind.SUBSCRIBED, "TEXT"),
    "sms.unsubscribed": (EventKind.UNSUBSCRIBED, "TEXT"),
    "sms.sent": (EventKind.SENT, "TEXT"),
    "sms.inbound_message": (EventKind.OTHER, "TEXT"),
    "sms.message_link_click": (EventKind.OTHER, "TEXT"),
    "phone.subscribed": (EventKind.SUBSCRIBED, "TEXT"),
    "phone.unsubscribed": (EventKind.UNSUBSCRIBED, "TEXT"),
    "email.subscribed": (EventKind.SUBSCRIBED, "EMAIL"),
    "email.unsubscribed": (EventKind.UNSUBSCRIBED, "EMAIL"),
    "email.sent": (EventKind.SENT, "EMAIL"),
    "email.opened": (EventKind.OTHER, "EMAIL"),
    "email.message_link_click": (EventKind.OTHER, "EMAIL"),
}


class EventError(Exception):
    """A body that is no event. `str()` gives the sentence."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


@dataclass(frozen=True)
class Event:
    """One webhook event. What the body lacks or garbles is None (`occurred_at`, `phone`, `email`) or empty."""

    kind: EventKind
    channel: str  # TEXT, EMAIL, or empty for an unknown word
    type: str  # the vendor's word
    occurred_at: datetime | None
    phone: str | None = field(repr=False)  # E.164
    email: str | None = field(repr=False)
    subscription_type: str
    text: str = field(repr=False)
    message_id: str
    company_id: str
    company_name: str


def parse_event(body: bytes) -> Event:
    """Read a webhook body. Raises EventError when it is no JSON object or longer than 256 KB, and for nothing else."""
    if len(body) > BODY_BYTES:
        raise EventError(_("The event is longer than 256 KB. Attentive sends no such events, so it was not read."))
    try:
        data = loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise EventError(_("The event is not readable JSON. Check that the sender is Attentive.")) from error
    if not isinstance(data, dict):
        raise EventError(_("The event is not a JSON object. Check that the sender is Attentive."))
    word = _text(data.get("type"))
    kind, channel = EVENT_WORDS.get(word.strip().lower(), (EventKind.OTHER, ""))
    subscriber, message, company = (_object(data, name) for name in ("subscriber", "message", "company"))
    return Event(
        kind=kind,
        channel=channel,
        type=word,
        occurred_at=_moment(data.get("timestamp")),
        phone=phones.spellings(_text(subscriber.get("phone"))),
        email=_text(subscriber.get("email")).strip() or None,
        subscription_type=_text(_object(data, "subscription").get("type")),
        text=_text(message.get("text")),
        message_id=_text(message.get("id")),
        company_id=_text(company.get("company_id")),
        company_name=_text(company.get("display_name")),
    )


def _object(data: dict[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    """Return a string without NUL, which PostgreSQL refuses, and without half characters, which no encoding takes."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value).replace("\0", "").encode("utf-8", "ignore").decode()


def _moment(value: Any) -> datetime | None:
    """Return the time of Unix milliseconds given as a number or as digits; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"\d{12,14}", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    try:
        moment = datetime.fromtimestamp(value / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return moment if moment >= _EARLIEST else None
