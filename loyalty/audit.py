"""Writes the audit trail: who did what, on which site."""

from typing import Any

from django.db import connection
from django.http import HttpRequest

from loyalty.models import AuditEntry, Site
from loyalty.models.scope import Outsider, Someone, known_user

# Kinds of events that a list of choices shows.
_MOST_EVENTS = 100


def record(
    event: str,
    *,
    site: Site | None = None,
    user: Someone = None,
    actor: str = "",
    target: str = "",
    old: Any = None,
    new: Any = None,
    request: HttpRequest | None = None,
) -> AuditEntry:
    """Add one entry. `event` is a short dotted word such as "site.go_live"; secrets are never given by value.

    `user` may be left out with a `request`, whose user and address are then taken; `actor` names a command.
    """
    if request is not None and user is None:
        user = request.user
    known = known_user(user)
    if isinstance(user, Outsider):
        actor = actor or user.name[:150]
    return AuditEntry.objects.create(
        event=event,
        site=site,
        user=known,
        actor=actor or (known.get_username() if known else ""),
        target=target[:200],
        old=old,
        new=new,
        source_ip=request.META.get("REMOTE_ADDR") or None if request is not None else None,
    )


def events() -> list[str]:
    """Return the kinds of events that the trail has, each found by one step in the index rather than by reading all."""
    table = connection.ops.quote_name(AuditEntry._meta.db_table)
    sql = (
        f"WITH RECURSIVE kinds(event) AS (SELECT MIN(event) FROM {table} UNION ALL SELECT (SELECT MIN(event) FROM "
        f"{table} WHERE event > kinds.event) FROM kinds WHERE kinds.event IS NOT NULL) SELECT event FROM kinds WHERE "
        "event IS NOT NULL LIMIT %s"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, (_MOST_EVENTS,))
        return [event for (event,) in cursor.fetchall()]
