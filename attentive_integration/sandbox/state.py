"""What the sandbox remembers: companies, their tokens and people, and what each phone shows."""

import base64
import itertools
import re
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from attentive_integration.sandbox.deliveries import Deliveries

TEXT, EMAIL = "TEXT", "EMAIL"
MARKETING, TRANSACTIONAL = "MARKETING", "TRANSACTIONAL"
SUBSCRIPTION_TYPES = (MARKETING, TRANSACTIONAL, "CHECKOUT_ABANDONED")
SUBSCRIBED, PENDING, UNSUBSCRIBED = "SUBSCRIBED", "PENDING", "UNSUBSCRIBED"
KEPT_BUBBLES = 40
KEPT_EVENTS = 1_000
RECENT_PHONES = 500
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]*(?:-[A-Za-z0-9_.]+)*")
_TOKEN = re.compile(rf"(app|legacy|loyalty)-({NAME.pattern})")


class TokenKind(StrEnum):
    """The token families; none of them works in the place of another."""

    APP = "app"
    LEGACY = "legacy"
    LOYALTY = "loyalty"


class Side(StrEnum):
    """Where a bubble stands on a phone's screen."""

    BRAND = "BRAND"
    PERSON = "PERSON"
    NOTE = "NOTE"  # seen by the sandbox's user, not by the person


@dataclass(slots=True)
class Bubble:
    """One text on a phone's screen; `at` is in Unix milliseconds, `why` says why a note was no text."""

    at: int
    side: Side
    text: str
    media_url: str = ""
    why: str = ""


@dataclass(slots=True)
class Subscriber:
    """A person of one company under one address, a phone or an e-mail; one never finds the other."""

    address: str
    external_id: int
    subscriptions: dict[str, str] = field(default_factory=dict)
    screen: list[Bubble] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def channel(self) -> str:
        return TEXT if self.address.startswith("+") else EMAIL

    def is_subscribed(self, *types: str) -> bool:
        """Say whether the person fully joined one of these types."""
        return any(self.subscriptions.get(kind) == SUBSCRIBED for kind in types)


@dataclass(slots=True)
class Webhook:
    """An address that hears a company's events; an empty list of events means all of them."""

    id: str
    url: str
    signing_key: str
    events: list[str] = field(default_factory=list)
    disabled_at: str | None = None


@dataclass
class Company:
    """One client of both vendors; everything about it follows from its key until the control API sets it."""

    key: str
    name: str = ""
    domain: str = ""
    contact_email: str = ""
    site_id: str = ""
    double_opt_in: bool = False
    read_only: bool = False
    sms_sent: bool = True
    refused: set[TokenKind] = field(default_factory=set)
    tokens: dict[TokenKind, str] = field(default_factory=dict)
    # Sign-up source → type of subscription; while empty, every source of digits is for MARKETING.
    sign_up_sources: dict[str, str] = field(default_factory=dict)
    subscribers: dict[str, Subscriber] = field(default_factory=dict)
    webhooks: dict[str, Webhook] = field(default_factory=dict)
    deliveries: Deliveries = field(default_factory=Deliveries)
    counters: dict[str, int] = field(default_factory=dict)
    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))
    segments: dict[str, dict[str, Any]] = field(default_factory=dict)
    segment_members: dict[str, set[str]] = field(default_factory=dict)
    annex_segments: dict[int, dict[str, Any]] = field(default_factory=dict)
    delete_requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    # (address, text) → when it was last taken, for suppressing duplicates; oldest first.
    latest_texts: OrderedDict[tuple[str, str], float] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        words = re.sub(r"[-_.]+", " ", self.key)
        self.name = self.name or words.title()
        self.domain = self.domain or self.key.lower()
        self.contact_email = self.contact_email or f"owner@{self.domain}.example.com"
        self.tokens = {kind: f"{kind}-{self.key}" for kind in TokenKind} | self.tokens
        if "revoked" in self.key:
            self.refused = set(TokenKind)
        self.read_only = self.read_only or "readonly" in self.key

    @property
    def company_id(self) -> str:
        return base64.b64encode(f"Company:{self.key}".encode()).decode()

    def count(self, what: str) -> None:
        self.counters[what] = self.counters.get(what, 0) + 1


@dataclass
class Job:
    """A bulk request: its results, a line per member, and how often it was asked about."""

    id: str
    lines: list[dict[str, Any]]
    asked: int = 0


class State:
    """All companies, and what is shared between them. Changes raise `version`, which the page polls."""

    def __init__(self) -> None:
        self.version = 0
        self.companies: dict[str, Company] = {}
        self.jobs: OrderedDict[str, Job] = OrderedDict()
        # The same text to the same person within this window is a duplicate.
        self.duplicate_seconds = 60.0
        # Either dropped without a word, or answered 400.
        self.refuse_duplicates = False
        self.recent: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._by_token: dict[str, tuple[TokenKind, Company]] = {}
        self._numbers = itertools.count(1_000_001)

    def number(self) -> int:
        """Return a number that was not given out before."""
        return next(self._numbers)

    def company(self, key: str) -> Company:
        """Return the company of that key, made on first use. Raises ValueError for what is no key."""
        found = self.companies.get(key)
        if found is None:
            if not NAME.fullmatch(key) or len(key) > 80:
                raise ValueError("The name of a company has letters, digits, dots, dashes and underscores.")
            found = self.companies[key] = Company(key)
            self.version += 1
            self.register(found)
        return found

    def register(self, company: Company) -> None:
        """Make the company's tokens known, those by the naming rule and those that were set."""
        for kind in TokenKind:
            self._by_token[f"{kind}-{company.key}"] = (kind, company)
            self._by_token[company.tokens[kind]] = (kind, company)

    def by_token(self, token: str) -> tuple[TokenKind, Company] | None:
        """Return whose token this is, and of which family; None for a token that nobody has."""
        found = self._by_token.get(token)
        if found is None and (match := _TOKEN.fullmatch(token)) and len(match[2]) <= 80:
            return TokenKind(match[1]), self.company(match[2])
        return found

    def subscriber(self, company: Company, address: str) -> Subscriber:
        """Return the person at this address, made on first use."""
        found = company.subscribers.get(address)
        if found is None:
            found = company.subscribers[address] = Subscriber(address, self.number())
        return found

    def show(self, company: Company, subscriber: Subscriber, side: Side, text: str, **more: str) -> None:
        """Put a bubble on a person's screen and the phone in front of the others."""
        subscriber.screen.append(Bubble(now_ms(), side, text, **more))
        del subscriber.screen[:-KEPT_BUBBLES]
        place = (company.key, subscriber.address)
        self.recent[place] = None
        self.recent.move_to_end(place)
        if len(self.recent) > RECENT_PHONES:
            self.recent.popitem(last=False)
        self.version += 1


def now_ms() -> int:
    """Return the time in Unix milliseconds."""
    return time.time_ns() // 1_000_000
