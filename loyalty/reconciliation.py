"""Asks Attentive, slowly and over time, whether people we count as subscribed still are.

Opt-outs normally arrive by webhook. Where no webhook was heard for a while, an opt-out may have been missed, so the
subscribed are looked up one by one, the longest unseen first, well below the vendor's pace.
"""

import time
from datetime import timedelta

from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from attentive_integration import rate_limit
from attentive_integration.http import ErrorKind, VendorError
from loyalty import breakers, consent, tokens
from loyalty.models import AccessToken, Consent, ConsentEvent, Site

# A site whose last webhook is older than this is looked after here.
SILENT_AFTER = timedelta(days=2)
# Each subscribed person is looked up again after so long.
LOOK_AGAIN_AFTER = timedelta(days=7)
# Look-ups a second and token: a small share of the vendor's 150, so that texts come first.
PACE = 20

_APP = AccessToken.Kind.ATTENTIVE_APP


def silent_sites() -> list[Site]:
    """Return the live sites from which no webhook was heard lately."""
    silent = Q(last_webhook_at=None) | Q(last_webhook_at__lt=timezone.now() - SILENT_AFTER)
    return list(Site.objects.filter(silent, state=Site.State.LIVE).order_by("pk"))


def reconcile(site: Site, *, deadline: float) -> int:
    """Look up subscribed people until `deadline` (time.monotonic()); return how many had left unheard."""
    try:
        client = tokens.attentive_client(site)
    except tokens.TokenUnusable:
        return 0
    secret = tokens.token_secret(site, _APP)
    if not secret or breakers.is_open(site.pk, _APP):
        return 0
    unseen = Q(checked_at=None) | Q(checked_at__lt=timezone.now() - LOOK_AGAIN_AFTER)
    rows = Consent.objects.filter(site=site, channel=Consent.Channel.TEXT, state=Consent.State.SUBSCRIBED).filter(
        unseen
    )
    oldest_first = rows.order_by(F("checked_at").asc(nulls_first=True))[: PACE * 60]
    left = 0
    key, _limit = tokens.pace(secret)
    for row in rate_limit.paced(f"{key}:RECONCILE", PACE, oldest_first):
        if time.monotonic() > deadline:
            break
        try:
            rate_limit.acquire(*tokens.pace(secret))
            looked_at = timezone.now()
            may_be_texted = client.get_lists(phone=row.address).is_eligible("MARKETING", "TEXT")
        except VendorError as error:
            breakers.record_failure(site, _APP, error)
            if error.kind in (ErrorKind.CREDENTIALS, ErrorKind.RETRY):
                break
            continue
        Consent.objects.filter(pk=row.pk).update(checked_at=looked_at)
        if not may_be_texted:
            consent.hear(
                site, channel=row.channel, address=row.address, state=Consent.State.UNSUBSCRIBED,
                source=ConsentEvent.Source.ELIGIBILITY, event_at=looked_at,
                evidence=_("Attentive answered that this phone may not be texted."),
            )  # fmt: skip
            left += 1
    return left
