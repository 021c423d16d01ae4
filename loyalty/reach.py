"""Who may be texted: an allowed country's phone with TEXT consent SUBSCRIBED. Caps and quiet hours stand apart."""

from collections import defaultdict
from collections.abc import Collection

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Substr
from django.db.models.lookups import In

from attentive_integration.phone_countries import Numbers, numbers_of
from loyalty.models import Consent, Member, Site


def reachable(members: QuerySet[Member], site: Site | None = None) -> QuerySet[Member]:
    """Keep the members whom Attentive may text now; blocked, erased and unsubscribed people are not SUBSCRIBED.

    Name the `site` when all of the members are of one: the database then has less to compare.
    """
    return members.filter(is_reachable(site))


def is_reachable(site: Site | None = None) -> Q:
    """Return the condition on `Member` that `reachable` sets."""
    subscribed = Consent.objects.filter(
        site_id=site.pk if site else OuterRef("site_id"),
        channel=Consent.Channel.TEXT,
        address=OuterRef("phone"),
        state=Consent.State.SUBSCRIBED,
    )
    return in_allowed_country(site) & Q(Exists(subscribed))


def in_allowed_country(site: Site | None = None) -> Q:
    """Return the condition that a member's phone is of a country which its site may text."""
    if site is not None:
        return _in_countries(site.allowed_countries)
    sites: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for pk, countries in Site.objects.values_list("pk", "allowed_countries"):
        sites[tuple(sorted(countries))].append(pk)
    if len(sites) == 1:
        return _in_countries(next(iter(sites)))
    condition = Q(pk__in=[])
    for countries, pks in sites.items():
        condition |= Q(site_id__in=pks) & _in_countries(countries)
    return condition


def _in_countries(countries: Collection[str]) -> Q:
    condition = Q(pk__in=[])
    for numbers in numbers_of(countries):
        condition |= _is_one_of(numbers)
    return condition


def _is_one_of(numbers: Numbers) -> Q:
    condition = Q(phone__startswith=numbers.prefix)
    area = Substr("phone", 3, 3)
    if numbers.areas:
        condition &= Q(In(area, numbers.areas))
    if numbers.not_areas:
        condition &= ~Q(In(area, numbers.not_areas))
    if numbers.pattern:
        condition &= Q(phone__regex=numbers.pattern)
    return condition
