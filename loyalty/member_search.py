"""Finds members by what staff have in hand: a phone in any spelling, an e-mail address, a loyalty ID, a name.

Each of them is looked up in an index of its own, so a site with five million members answers as fast as a small one.
"""

import re

from django.db import connection
from django.db.models import Q, QuerySet

from attentive_integration.phones import spellings
from loyalty.models import Member, Site

# Tiers that a list of choices shows.
MOST_TIERS = 40
_ROW = re.compile(r"#(\d{1,18})", re.ASCII)


def search(members: QuerySet[Member], text: str, country: str = "US") -> QuerySet[Member]:
    """Keep the members that the text means; `country` is assumed for a phone that names none.

    Takes a phone in any spelling, an e-mail address, a loyalty ID, `#` and our own number of the member, or the
    beginning of a first or last name (both: "Ada Lov" or "Lov, Ada").
    """
    text = " ".join(text.split())
    if not text or "\x00" in text:
        return members.none() if text else members
    if "@" in text:
        return members.filter(email__in={text, text.lower()}).exclude(email="")
    if match := _ROW.fullmatch(text):
        return members.filter(pk=int(match[1]))
    # SQLite uses the partial indexes of e-mail and loyalty ID only where their condition stands in the query.
    wanted = Q(external_id=text) & ~Q(external_id="")
    phone = spellings(text, country)
    if phone is not None:
        wanted |= Q(phone=phone)
    elif not any(char.isdigit() for char in text):
        wanted |= _named(text)
    return members.filter(wanted)


def _named(text: str) -> Q:
    before, comma, after = (part.strip() for part in text.partition(","))
    if comma and before and after:
        return _begins("last_name", before) & _begins("first_name", after)
    text = before or after
    named = _begins("last_name", text) | _begins("first_name", text)
    first, _space, last = text.partition(" ")
    return named | (_begins("first_name", first) & _begins("last_name", last)) if last else named


def _begins(field: str, text: str) -> Q:
    """Return the condition that a name begins with the text as typed, or as names are mostly written."""
    condition = Q()
    for spelling in {text, text.lower(), text.upper(), text.title()}:
        # PostgreSQL reads a beginning as a range of the index by itself; SQLite must be told.
        bounds = {"gte": spelling, "lt": spelling + "\U0010ffff"} if connection.vendor == "sqlite" else {}
        condition |= Q(**{f"{field}__startswith": spelling}, **{f"{field}__{key}": v for key, v in bounds.items()})
    return condition


def tiers_of(site: Site) -> list[str]:
    """Return the site's tiers, at most MOST_TIERS, each found by one step in the index rather than by reading all."""
    table = connection.ops.quote_name(Member._meta.db_table)
    sql = (
        f"WITH RECURSIVE tiers(tier) AS (SELECT MIN(tier) FROM {table} WHERE site_id = %s AND tier > '' UNION ALL "
        f"SELECT (SELECT MIN(tier) FROM {table} WHERE site_id = %s AND tier > tiers.tier) FROM tiers "
        "WHERE tiers.tier IS NOT NULL) SELECT tier FROM tiers WHERE tier IS NOT NULL LIMIT %s"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, (site.pk, site.pk, MOST_TIERS))
        return [tier for (tier,) in cursor.fetchall()]
