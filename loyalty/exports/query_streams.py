"""Reads a whole query in one consistent snapshot and flat memory: one statement, some thousand rows at a time."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from django.db import connection, transaction

# Rows fetched at a time.
_CHUNK = 2_000


def stream_rows(sql: str, parameters: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Return the rows as they stood when the statement began, through a server-side cursor on PostgreSQL."""
    with _transaction_for_cursor(), connection.chunked_cursor() as cursor:
        cursor.execute(sql, parameters)
        while rows := cursor.fetchmany(_CHUNK):
            yield from rows


def stream_lines(sql: str, parameters: Sequence[Any]) -> Iterator[list[bytes]]:
    """Return the only column, texts without tab, backslash and line end, as lines that end in LF.

    On PostgreSQL it comes by COPY, the fastest way out.
    """
    if connection.vendor == "postgresql":
        yield from _copied_lines(sql, parameters)
        return
    with connection.chunked_cursor() as cursor:
        cursor.execute(sql, parameters)
        while rows := cursor.fetchmany(_CHUNK):
            yield [b"%s\n" % text.encode() for (text,) in rows]


def in_zone(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return a time of `stream_rows` in a zone. SQLite hands times over in UTC without saying so."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(zone)


def _copied_lines(sql: str, parameters: Sequence[Any]) -> Iterator[list[bytes]]:
    connection.ensure_connection()
    # COPY takes no parameters, so psycopg writes them into the statement, quoted.
    statement = psycopg.ClientCursor(connection.connection).mogrify(f"COPY ({sql}) TO STDOUT", parameters)
    lines: list[bytes] = []
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for line in copy:
            lines.append(bytes(line))
            if len(lines) == _CHUNK:
                yield lines
                lines = []
    if lines:
        yield lines


def _transaction_for_cursor() -> AbstractContextManager[Any]:
    # Outside a transaction PostgreSQL would keep a copy of the whole result. SQLite's statement is a snapshot by
    # itself, and a transaction there would keep every writer out.
    return transaction.atomic() if connection.vendor == "postgresql" else nullcontext()
