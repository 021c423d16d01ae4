"""Calls to the vendors over HTTP: one pool of connections per process, one total deadline, one error class.

Nothing is retried here and no redirect is followed: what a failure means is looked up in RULES, and the caller decides.
"""

import math
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http.client import HTTPException, RemoteDisconnected
from json import dumps, loads
from logging import INFO, getLogger
from typing import Any
from urllib.parse import quote

import requests
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from django.views.decorators.debug import sensitive_variables
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, NameResolutionError

from attentive_integration.deadline import PlainPool, TLSPool, running

ANSWER_BYTES = 65_536
KEPT_CHARACTERS = 2_000
RETRY_AFTER_CEILING = 900.0
POOLED_CONNECTIONS = 192

# urllib3 logs whole addresses, phone included, at DEBUG.
getLogger("urllib3").setLevel(INFO)


class ErrorKind(StrEnum):
    """What a failed call means for the row behind it."""

    RETRY = "RETRY"  # not carried out: try again later
    REFUSED = "REFUSED"  # answered: no, and asking again changes nothing
    CREDENTIALS = "CREDENTIALS"  # token or address is wrong: hold everything that uses it
    UNKNOWN = "UNKNOWN"  # may have been carried out: never repeat by itself


@dataclass(frozen=True)
class Rule:
    """What one condition means: for a call with a side effect, for one that may be repeated, and in words.

    `when_repeatable` are the words for a call that may be repeated, where they are others.
    """

    side_effect: ErrorKind
    repeatable: ErrorKind
    sentence: str
    when_repeatable: str = ""

    def words(self, *, side_effect: bool) -> str:
        return self.sentence if side_effect else self.when_repeatable or self.sentence


_RETRY, _REFUSED, _CREDENTIALS, _UNKNOWN = ErrorKind
_UNREACHABLE = gettext_noop(
    "%(vendor)s cannot be reached (%(cause)s). Nothing was sent, and it is tried again by itself. "
    "If it lasts, check this server's network and the API address in its settings."
)
_LEFT_OPEN = gettext_noop(
    "It is not known whether %(vendor)s carried this out: the request was taken, but no proper answer came "
    "(%(cause)s). Look before repeating it, because a repeat may reach the person twice."
)
_UNANSWERED = gettext_noop(
    "%(vendor)s gave no proper answer (%(cause)s). Asking changes nothing there, so simply try again in a minute."
)
_WRONG_ADDRESS = gettext_noop(
    "%(vendor)s knows no such address (%(cause)s). Check the API address of this server and the message path of the "
    "site."
)
_TOKEN_REFUSED = gettext_noop("%(vendor)s refused the token (%(cause)s). Check the token and enter it again.")
_REFUSAL = gettext_noop("%(vendor)s refused the request (%(cause)s): %(detail)s Correct what it names, then try again.")

# The one place that says what a failure means. The first column is VendorError.cause.
RULES: dict[str, Rule] = {
    # Before the first byte left: nothing can have happened.
    "NAME_NOT_FOUND": Rule(_RETRY, _RETRY, _UNREACHABLE),
    "CONNECT_FAILED": Rule(_RETRY, _RETRY, _UNREACHABLE),
    "CONNECT_TIMEOUT": Rule(_RETRY, _RETRY, _UNREACHABLE),
    "TLS_FAILED": Rule(_RETRY, _RETRY, _UNREACHABLE),
    "BAD_ADDRESS": Rule(_CREDENTIALS, _CREDENTIALS, _WRONG_ADDRESS),
    "NO_TOKEN": Rule(_CREDENTIALS, _CREDENTIALS, gettext_noop("No token for %(vendor)s is set. Enter it first.")),
    "BAD_TOKEN": Rule(
        _CREDENTIALS,
        _CREDENTIALS,
        gettext_noop("The token for %(vendor)s has a space, a line break or a foreign letter in it. Copy it again."),
    ),
    # After it: the request may have been read.
    "READ_TIMEOUT": Rule(_UNKNOWN, _RETRY, _LEFT_OPEN, _UNANSWERED),
    "RESET": Rule(_UNKNOWN, _RETRY, _LEFT_OPEN, _UNANSWERED),
    "DISCONNECTED": Rule(_UNKNOWN, _RETRY, _LEFT_OPEN, _UNANSWERED),
    "BROKEN_ANSWER": Rule(_UNKNOWN, _RETRY, _LEFT_OPEN, _UNANSWERED),
    # Answered 2xx, but the body is cut, too long or not JSON. With a side effect that is a success, so only reads fail.
    "BROKEN_BODY": Rule(
        _UNKNOWN, _RETRY, gettext_noop("%(vendor)s sent an answer that cannot be read (%(cause)s). Try again.")
    ),
    # Answered.
    "REDIRECT": Rule(
        _CREDENTIALS,
        _CREDENTIALS,
        gettext_noop(
            "%(vendor)s's address answered with a redirect, which is never followed because it could hand the token to "
            "a stranger. Check the API address of this server."
        ),
    ),
    "HTTP_401": Rule(_CREDENTIALS, _CREDENTIALS, _TOKEN_REFUSED),
    "HTTP_403": Rule(_CREDENTIALS, _CREDENTIALS, _TOKEN_REFUSED),
    "HTTP_404": Rule(_CREDENTIALS, _REFUSED, _WRONG_ADDRESS),
    "HTTP_405": Rule(_CREDENTIALS, _REFUSED, _WRONG_ADDRESS),
    "HTTP_410": Rule(_CREDENTIALS, _REFUSED, _WRONG_ADDRESS),
    "HTTP_408": Rule(_UNKNOWN, _RETRY, _LEFT_OPEN, _UNANSWERED),
    "HTTP_429": Rule(
        _RETRY,
        _RETRY,
        gettext_noop("%(vendor)s's rate limit is reached. It goes on by itself, more slowly; no action is needed."),
        gettext_noop("%(vendor)s's rate limit is reached. Try again in a minute; what runs by itself goes on."),
    ),
    "HTTP_503": Rule(
        _RETRY,
        _RETRY,
        gettext_noop("%(vendor)s is out of service for the moment (503). It is tried again by itself."),
        gettext_noop("%(vendor)s is out of service for the moment (503). Try again in a minute."),
    ),
    "HTTP_4XX": Rule(_REFUSED, _REFUSED, _REFUSAL),
    "HTTP_5XX": Rule(_UNKNOWN, _RETRY, _LEFT_OPEN, _UNANSWERED),
}


def rule_for(cause: str) -> Rule:
    """Return the rule of a cause; an HTTP status without a rule of its own falls under its hundred."""
    return RULES.get(cause) or RULES[f"{cause[:6]}XX"]


class VendorError(Exception):
    """A call to a vendor that did not succeed. `str()` gives the sentence for staff.

    `status` is None when no answer came; `answer` is the body without tokens, at most 2,000 characters, and `data` its
    JSON or None; `retry_after` is in seconds (0..900) when the vendor asked for a pause; `cause` is a key of RULES or
    HTTP_ and the status.
    """

    def __init__(
        self,
        sentence: str,
        kind: ErrorKind = ErrorKind.UNKNOWN,
        *,
        status: int | None = None,
        answer: str = "",
        data: Any = None,
        retry_after: float | None = None,
        duration_ms: int = 0,
        cause: str = "",
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.kind = kind
        self.status = status
        self.answer = answer
        self.data = data
        self.retry_after = retry_after
        self.duration_ms = duration_ms
        self.cause = cause

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class Answer:
    """A 2xx answer. `data` is its JSON, None when there is none or it cannot be read; `text` is without tokens."""

    status: int
    data: Any
    text: str = field(repr=False)
    rate_limit_remaining: int | None
    rate_limit: int | None
    duration_ms: int


@sensitive_variables()
def call(
    method: str,
    url: str,
    *,
    token: str,
    json: Any = None,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    raw_body: bytes | None = None,
    side_effect: bool,
    vendor: str = "The vendor",
    answer_bytes: int = ANSWER_BYTES,
) -> Answer:
    """Make one call and return its 2xx answer, else raise VendorError; takes at most VENDOR_DEADLINE_SECONDS in all.

    `side_effect` says that a repeat could reach a person twice: then an open outcome is UNKNOWN instead of RETRY, and a
    2xx counts whatever its body looks like. `raw_body` is sent byte for byte; `json` is encoded compactly. `vendor` is
    the name for the sentences. At most `answer_bytes` of an answer are read.
    """
    outcome = _Outcome(vendor, token, side_effect)
    if not token:
        raise outcome.error("NO_TOKEN")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise outcome.error("BAD_TOKEN")
    body = dumps(json, separators=(",", ":")).encode() if json is not None else raw_body
    sent_headers = {
        "Authorization": f"Bearer {token}",
        "User-Agent": f"loyalty-sms/{settings.VERSION}",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        **({"Content-Type": "application/json"} if body is not None else {}),
        **(headers or {}),
    }
    # `from None` below: the libraries' errors hold the whole address, phone included, and their frames the token.
    try:
        request = requests.Request(method, url, headers=sent_headers, data=body, params=dict(params or {})).prepare()
    except (requests.RequestException, ValueError):
        raise outcome.error("BAD_ADDRESS") from None
    running.deadline = outcome.started + settings.VENDOR_DEADLINE_SECONDS
    running.sent = False
    try:
        response = _adapter.send(request, stream=True, timeout=settings.VENDOR_DEADLINE_SECONDS)
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):
        raise outcome.error("BAD_ADDRESS") from None
    except (requests.RequestException, HTTPError, HTTPException, OSError) as error:
        raise outcome.error(_cause_of(error)) from None
    content, complete = _read(response, answer_bytes)
    return outcome.judge(response, content, complete)


class _Outcome:
    """Turns what came back into an Answer or a VendorError."""

    def __init__(self, vendor: str, token: str, side_effect: bool) -> None:
        self.vendor, self.token, self.side_effect = vendor, token, side_effect
        self.started = time.monotonic()

    def judge(self, response: requests.Response, content: bytes, complete: bool) -> Answer:
        status = response.status_code
        text = _without_secrets(content.decode("utf-8", "replace"), self.token)
        data, readable = _parsed(text) if complete else (None, False)
        if not 200 <= status < 600:
            raise self.error("BROKEN_ANSWER", status=status, text=text)
        if 300 <= status < 400:
            raise self.error("REDIRECT", status=status, text=text)
        if status >= 400:
            retry_after = parse_retry_after(response.headers.get("Retry-After"))
            raise self.error(f"HTTP_{status}", status=status, text=text, data=data, retry_after=retry_after)
        if not readable and not self.side_effect:
            raise self.error("BROKEN_BODY", status=status, text=text)
        return Answer(
            status=status,
            data=data,
            text=_kept(text),
            rate_limit_remaining=_whole_number(response.headers.get("x-ratelimit-remaining")),
            rate_limit=_whole_number(response.headers.get("x-ratelimit-limit")),
            duration_ms=self.duration_ms(),
        )

    def error(
        self,
        cause: str,
        *,
        status: int | None = None,
        text: str = "",
        data: Any = None,
        retry_after: float | None = None,
    ) -> VendorError:
        rule = rule_for(cause)
        detail = vendor_message(data, text).rstrip(".") or _("no reason given")
        return VendorError(
            _(rule.words(side_effect=self.side_effect))
            % {"vendor": self.vendor, "cause": status or cause, "detail": f"{detail}."},
            rule.side_effect if self.side_effect else rule.repeatable,
            status=status,
            answer=_kept(text),
            data=data,
            retry_after=retry_after,
            duration_ms=self.duration_ms(),
            cause=cause,
        )

    def duration_ms(self) -> int:
        return round((time.monotonic() - self.started) * 1000)


# --- Reading an answer ------------------------------------------------------------------------------------------------


def _read(response: requests.Response, limit: int) -> tuple[bytes, bool]:
    """Return at most `limit` bytes of the body, and whether that is all of it. A body that breaks off never raises."""
    pieces: list[bytes] = []
    size = 0
    try:
        while size <= limit and (piece := response.raw.read(min(16_384, limit + 1 - size), decode_content=False)):
            pieces.append(piece)
            size += len(piece)
    except (HTTPError, HTTPException, OSError, ValueError):
        response.raw.close()
        return b"".join(pieces)[:limit], False
    if size > limit:
        response.raw.close()
        return b"".join(pieces)[:limit], False
    response.raw.release_conn()
    return b"".join(pieces), True


def _parsed(text: str) -> tuple[Any, bool]:
    """Return the JSON and whether the text could be read; an empty body is readable and holds nothing."""
    if not text.strip():
        return None, True
    try:
        return loads(text), True
    except (ValueError, RecursionError):
        return None, False


_BEARER = re.compile(r"(?i)\b(bearer\s+)[\w.~+/=-]{8,}")
# Line breaks and tabs may stay; the rest is of no use to a reader, and PostgreSQL refuses NUL.
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def _without_secrets(text: str, token: str) -> str:
    if len(token) >= 8:
        for spelling in {token, token.replace("/", "\\/"), quote(token, safe="")}:
            text = text.replace(spelling, "[removed]")
    return _BEARER.sub(r"\1[removed]", _CONTROLS.sub("", text))


def _kept(text: str) -> str:
    return text.strip()[:KEPT_CHARACTERS]


def vendor_message(data: Any, text: str = "") -> str:
    """Return the vendor's own words from an error body in any of its known shapes, at most 300 characters."""
    if isinstance(data, dict):
        error = data.get("error")
        nested = error.get("message") if isinstance(error, dict) else error
        for words in (data.get("message"), nested, data.get("errorMessage")):
            if isinstance(words, str) and words.strip():
                return words.strip()[:300]
    if "<" in text:  # an HTML page says nothing that staff could use
        return ""
    return " ".join(text.split())[:300]


def parse_retry_after(header: str | None) -> float | None:
    """Return the pause asked for in seconds, within 0..900, from a number or an HTTP date; None when there is none."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = (moment - datetime.now(UTC)).total_seconds()
        except (ValueError, OverflowError):
            return None
    if math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_CEILING)


def _whole_number(header: str | None) -> int | None:
    return int(header) if header and re.fullmatch(r"\d{1,9}", header, re.ASCII) else None


# --- Naming a failure -------------------------------------------------------------------------------------------------


def _cause_of(error: BaseException) -> str:
    """Name the failure. What counts first is whether a byte of the request had left."""
    chain = list(_chain(error))

    def holds(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if not running.sent:
        if holds(NameResolutionError, socket.gaierror):
            return "NAME_NOT_FOUND"
        if holds(requests.exceptions.SSLError):
            return "TLS_FAILED"
        if holds(TimeoutError):
            return "CONNECT_TIMEOUT"
        return "CONNECT_FAILED"
    if holds(TimeoutError, requests.exceptions.ReadTimeout):
        return "READ_TIMEOUT"
    if holds(RemoteDisconnected):
        return "DISCONNECTED"
    if holds(ConnectionResetError, BrokenPipeError):
        return "RESET"
    return "BROKEN_ANSWER"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all that it wraps: the libraries wrap by argument, by `reason` and by cause."""
    seen: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting:
        link = waiting.pop()
        if isinstance(link, BaseException) and not any(link is other for other in seen):
            seen.append(link)
            yield link
            waiting += [*link.args, getattr(link, "reason", None), link.__cause__, link.__context__]


# --- The pool ---------------------------------------------------------------------------------------------------------


class _PooledAdapter(HTTPAdapter):
    """requests' connection pool without a session: no cookies, proxies, .netrc or environment can reach a call."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": TLSPool}


def _new_adapter() -> _PooledAdapter:
    return _PooledAdapter(pool_connections=16, pool_maxsize=POOLED_CONNECTIONS, max_retries=0)


_adapter = _new_adapter()


def _after_fork() -> None:
    """Give a forked worker its own pool: two processes must never write on one connection."""
    global _adapter
    _adapter = _new_adapter()


os.register_at_fork(after_in_child=_after_fork)
