"""A campaign's first texts: it sends to a few, waits for what they do, and goes on by itself or stops.

It stops, paused and with an audit entry, when Attentive refuses many of the first texts or many of the first
recipients opt out.
"""

from datetime import timedelta

from django.db.models import Max, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from loyalty import audit
from loyalty.models import Consent
from messaging.models import Campaign, Message

# How long the reaction of the first recipients is waited for, after the last of them was texted.
REACTION_TIME = timedelta(minutes=10)
# More than these shares of refusals or opt-outs stop the campaign; small numbers are no spike.
REFUSED_SHARE = 0.2
OPTED_OUT_SHARE = 0.1
_FEWEST = 5


def room(campaign: Campaign) -> int | None:
    """Return how many more first texts a campaign may send now; None when it is past its canary.

    Locks the campaign until the transaction ends, so that two processes do not hand out the same room.
    """
    if not campaign.canary_size or campaign.canary_passed_at is not None:
        return None
    Campaign.objects.select_for_update(no_key=True).get(pk=campaign.pk)
    return max(0, campaign.canary_size - _texts(campaign).count())


def review() -> None:
    """Let each canary go on, or stop it, as its first recipients took it."""
    for campaign in Campaign.objects.filter(
        state=Campaign.State.LIVE, canary_size__gt=0, canary_passed_at=None
    ).select_related("site"):
        _review(campaign)


def _texts(campaign: Campaign) -> QuerySet[Message]:
    return Message.objects.filter(campaign=campaign, created_at__gte=campaign.went_live_at).filter(
        Q(sent_at__isnull=False) | Q(state=Message.State.REFUSED)
    )


def _review(campaign: Campaign) -> None:
    texts = _texts(campaign)
    sent = texts.count()
    refused = texts.filter(state=Message.State.REFUSED).count()
    opted_out = Consent.objects.filter(
        site=campaign.site,
        channel=Consent.Channel.TEXT,
        state=Consent.State.UNSUBSCRIBED,
        event_at__gte=campaign.went_live_at,
        address__in=texts.values("to"),
    ).count()
    if refused >= _FEWEST and refused > sent * REFUSED_SHARE:
        _stop(campaign, _("%(n)d of the first %(sent)d texts were refused.") % {"n": refused, "sent": sent})
    elif opted_out >= _FEWEST and opted_out > sent * OPTED_OUT_SHARE:
        _stop(campaign, _("%(n)d of the first %(sent)d recipients opted out.") % {"n": opted_out, "sent": sent})
    elif sent >= campaign.canary_size:
        last = texts.aggregate(last=Max("updated_at"))["last"]
        if last is not None and timezone.now() - last >= REACTION_TIME:
            Campaign.objects.filter(pk=campaign.pk, canary_passed_at=None).update(canary_passed_at=timezone.now())


def _stop(campaign: Campaign, why: str) -> None:
    paused = Campaign.objects.filter(pk=campaign.pk, state=Campaign.State.LIVE).update(state=Campaign.State.PAUSED)
    if paused:
        audit.record("campaign.canary_stopped", site=campaign.site, target=campaign.name, new={"why": why})
