"""Breakers: hold the calls made with one kind of a site's tokens while the vendor refuses them or fails.

A refused token opens the breaker at once, other failures when many come in a row. While it is open one call now and
then probes, first after seconds, in the end every five minutes; a success closes it. One alert per opening says why.
"""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from attentive_integration.http import ErrorKind, VendorError
from loyalty.models import Breaker, Site

# Failures in a row that open a breaker; the vendor's "slow down" (429) is no failure.
FAILURES_IN_A_ROW = 10
_FIRST_PROBE = timedelta(seconds=5)
_LAST_PROBE = timedelta(minutes=5)


def is_open(site_id: int, token_kind: str) -> bool:
    """Tell whether calls with this kind of token are held."""
    return Breaker.objects.filter(site_id=site_id, token_kind=token_kind, opened_at__isnull=False).exists()


def opened() -> list[Breaker]:
    """Return the breakers that are open, with their sites."""
    return list(Breaker.objects.filter(opened_at__isnull=False).select_related("site").order_by("pk"))


def is_outage(breaker: Breaker) -> bool:
    """Tell an outage, which passes by itself, from a refused token, which staff must mend."""
    return breaker.failures >= FAILURES_IN_A_ROW


def may_probe(site: Site, token_kind: str, now: datetime) -> bool:
    """Take the one probe that is due; True for exactly one caller each time."""
    due = Breaker.objects.filter(site=site, token_kind=token_kind, opened_at__isnull=False, probe_at__lte=now)
    opened_at = due.values_list("opened_at", flat=True).first()
    if opened_at is None:
        return False
    # Waiting as long again as it has been open doubles the pause each time, without counting.
    pause = min(max(now - opened_at, _FIRST_PROBE), _LAST_PROBE)
    return due.update(probe_at=now + pause) == 1


def record_success(site: Site, token_kind: str) -> None:
    """Close the breaker and forget the failures before."""
    troubled = Breaker.objects.filter(site=site, token_kind=token_kind).filter(
        Q(failures__gt=0) | Q(opened_at__isnull=False)
    )
    troubled.update(failures=0, opened_at=None, probe_at=None, alerted_at=None, sentence="")


# A token that was replaced deserves a fresh start, as a success does.
reset = record_success


def record_failure(site: Site, token_kind: str, error: VendorError) -> None:
    """Count a failure; opens the breaker on a refused token, or on many failures in a row.

    A refusal of the request itself is no failure but an answer: the vendor is there, and the token is good. A 404 may
    speak of one person, and many in a row of a wrong address.
    """
    if error.status == 429:
        return
    if error.kind == ErrorKind.REFUSED and error.status != 404:
        record_success(site, token_kind)
        return
    with transaction.atomic():
        Breaker.objects.get_or_create(site=site, token_kind=token_kind)
        closed = Breaker.objects.filter(site=site, token_kind=token_kind, opened_at=None)
        closed.update(failures=F("failures") + 1)
        now = timezone.now()
        if error.kind != ErrorKind.CREDENTIALS:
            closed = closed.filter(failures__gte=FAILURES_IN_A_ROW)
        closed.update(opened_at=now, probe_at=now + _FIRST_PROBE, sentence=error.sentence)


def take_alerts() -> list[Breaker]:
    """Return the openings that nobody was told of yet; each is returned once, to one caller."""
    now = timezone.now()
    untold = Breaker.objects.filter(opened_at__isnull=False, alerted_at=None).select_related("site")
    return [
        breaker for breaker in untold if Breaker.objects.filter(pk=breaker.pk, alerted_at=None).update(alerted_at=now)
    ]
