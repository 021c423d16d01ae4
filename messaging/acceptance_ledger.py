"""Compares the messages with a ledger of requests that Attentive accepted, kept by an independent witness.

The ledger is a file of JSON objects, one a line, as the sandbox writes it. It is read into a temporary table, so that
neither its size nor that of the message log matters for memory.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from django.db import connection

from attentive_integration import phones
from loyalty import consent
from loyalty.guest_tests import sent_test_texts
from loyalty.models import Consent, Site
from messaging.models import Campaign, Message, SendAttempt
from messaging.reasons import Code

_SLICE = 1_000
# Where a witness may have put the request inside its own record.
_ENVELOPES = ("request", "payload", "json", "data", "body")


@dataclass(frozen=True)
class Comparison:
    """What the comparison found: `texts` read, `unread` lines, and violations by invariant and description."""

    texts: int
    unread: int
    violations: dict[str, dict[str, int]] = field(default_factory=dict)


def compare(path: Path) -> Comparison:
    """Compare the database with the ledger in this file; raises `OSError` when it cannot be read."""
    with _table() as table:
        texts, unread = _load(table, path)
        _cut_to_our_bodies(table)
        too_often = _scalar(_TOO_OFTEN.format(**table))
        without_line = _scalar(_ACCEPTED_WITHOUT_LINE.format(**table), _CERTAIN)
        without_message = _lines_without_message(table)
    found = {
        "I1": {"accepted messages without a line in the ledger": without_line},
        "I2": {"texts accepted more often than attempts allow": too_often},
        "I4": {"accepted texts of which no message says so": without_message},
    }
    return Comparison(texts, unread, {key: {name: n for name, n in names.items() if n} for key, names in found.items()})


# --- Reading ----------------------------------------------------------------------------------------------------------


def text_in(line: str) -> tuple[str, str] | None:
    """Return (phone in E.164, text) of a ledger line; None when it is of another kind. Raises ValueError on no JSON."""
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("no object")
    if isinstance(kind := record.get("kind"), str) and kind.upper() != "MESSAGE":
        return None
    if isinstance(status := record.get("status"), int) and status >= 400:
        return None
    for request in (record, *(_object(record.get(name)) for name in _ENVELOPES)):
        to, body = request.get("to") or request.get("phone"), request.get("body")
        if isinstance(to, str) and isinstance(body, str):
            return phones.spellings(to) or to, body
    return None


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def _load(table: dict[str, str], path: Path) -> tuple[int, int]:
    """Read the file into the table; return the number of texts and of lines that are no JSON (a torn last one)."""
    texts = unread = 0
    # What staff sent to a colleague's phone while activating a site is no message.
    tests = sent_test_texts()

    def rows() -> Iterator[tuple[str, str]]:
        nonlocal texts, unread
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if not line.strip():
                    continue
                try:
                    text = text_in(line)
                except (ValueError, RecursionError):
                    unread += 1
                    continue
                if text is not None and (phones.masked(text[0]), text[1]) not in tests:
                    texts += 1
                    yield text[0].replace("\0", ""), text[1].replace("\0", "")

    source = rows()
    with connection.cursor() as cursor:
        while chunk := list(islice(source, _SLICE)):
            cursor.executemany("INSERT INTO {ledger} (phone, body) VALUES (%s, %s)".format(**table), chunk)
        cursor.execute("CREATE INDEX {index} ON {ledger} (phone)".format(**table))
        if connection.vendor == "postgresql":
            cursor.execute("ANALYZE {ledger}".format(**table))
    return texts, unread


# --- Comparing --------------------------------------------------------------------------------------------------------


@contextmanager
def _table() -> Iterator[dict[str, str]]:
    """Make a temporary table for the ledger; yields the names that the statements below need."""
    quote = connection.ops.quote_name
    to, body, state = (quote(name) for name in ("to", "body", "state"))
    names = {
        "ledger": quote("acceptance_ledger"),
        "index": quote("acceptance_ledger_phone"),
        "message": quote(Message._meta.db_table),
        "attempt": quote(SendAttempt._meta.db_table),
        "campaign": quote(Campaign._meta.db_table),
        "to": to,
        "body": body,
        "state": state,
    }
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE {ledger} (phone text, body text)".format(**names))
    try:
        yield names
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE {ledger}".format(**names))


def _scalar(statement: str, parameters: tuple[Any, ...] = ()) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return int(cursor.fetchone()[0] or 0)


def _cut_to_our_bodies(table: dict[str, str]) -> None:
    """Where a witness recorded the text with the client's name before it, keep the part that we sent."""
    with connection.cursor() as cursor:
        cursor.execute(_CUT.format(**table))


# Each statement joins whole tables once: a look-up for every line would take for ever on a long ledger.
_CUT = """
UPDATE {ledger} SET body = substr({ledger}.body, length({ledger}.body) - longer.ours + 1) FROM (
    SELECT l.phone, l.body, max(length(m.{body})) AS ours
    FROM {ledger} l JOIN {message} m ON m.{to} = l.phone
    WHERE length(m.{body}) BETWEEN 1 AND length(l.body) - 1
        AND substr(l.body, length(l.body) - length(m.{body}) + 1) = m.{body}
        AND NOT EXISTS (SELECT 1 FROM {message} s WHERE s.{to} = l.phone AND s.{body} = l.body)
    GROUP BY l.phone, l.body
) longer WHERE {ledger}.phone = longer.phone AND {ledger}.body = longer.body
"""
_LINES = "(SELECT phone, body, count(*) AS times FROM {ledger} GROUP BY phone, body)"
# Accepted more often than attempts that may have arrived; texts of which there is no message at all count elsewhere.
_TOO_OFTEN = (
    "SELECT sum(g.times - t.attempts) FROM "
    + _LINES
    + """ g JOIN (
    SELECT m.{to} AS phone, m.{body} AS body, count(a.id) AS attempts FROM {message} m
    LEFT JOIN {attempt} a ON a.message_id = m.id AND a.outcome IN ('OPEN', 'ACCEPTED', 'UNKNOWN')
    GROUP BY m.{to}, m.{body}
) t ON t.phone = g.phone AND t.body = g.body WHERE g.times > t.attempts
"""
)
# Messages that Attentive itself accepted or confirmed, not those that a person declared sent.
_ACCEPTED_WITHOUT_LINE = (
    """
SELECT sum(t.accepted - coalesce(g.times, 0)) FROM (
    SELECT m.{to} AS phone, m.{body} AS body, count(*) AS accepted FROM {message} m
    JOIN {campaign} c ON c.id = m.campaign_id
    WHERE m.{state} = %s AND m.reason <> %s AND m.{to} <> '' AND c.route = %s
    GROUP BY m.{to}, m.{body}
) t LEFT JOIN """
    + _LINES
    + " g ON g.phone = t.phone AND g.body = t.body WHERE t.accepted > coalesce(g.times, 0)"
)
_CERTAIN = (Message.State.ACCEPTED.value, Code.RESOLVED_AS_SENT.value, Campaign.Route.MESSAGE.value)
_UNSAID = (
    "SELECT g.phone, g.times FROM "
    + _LINES
    + """ g WHERE NOT EXISTS (
    SELECT 1 FROM {message} m
    WHERE m.{to} = g.phone AND m.{body} = g.body AND (m.{state} IN ('ACCEPTED', 'UNKNOWN', 'SENDING') OR EXISTS (
        SELECT 1 FROM {attempt} a WHERE a.message_id = m.id AND a.outcome IN ('ACCEPTED', 'UNKNOWN')
    ))
)
"""
)


def _lines_without_message(table: dict[str, str]) -> int:
    """Count accepted texts of which neither a message (ACCEPTED, UNKNOWN, SENDING) nor an attempt says so.

    An attempt may say so alone where a person ordered the text again and the person has opted out meanwhile.

    Left out are tests to the guests of a site, which are no messages, and people who were erased since.
    """
    guests = {phone for phones_of in Site.objects.values_list("guest_phones", flat=True) for phone in phones_of}
    with_erased = list(Site.objects.exclude(sealed_suppression_key=""))
    count = 0
    with connection.cursor() as cursor:
        cursor.execute(_UNSAID.format(**table))
        while rows := cursor.fetchmany(_SLICE):
            count += sum(
                times
                for phone, times in rows
                if phone not in guests
                and not any(consent.state_of(site, phone) == Consent.State.ERASED for site in with_erased)
            )
    return count
