"""The last look before a text leaves: everything that may forbid it is read once more, under the consent row's lock.

An opt-out locks the same row. So either it is committed before this look, and the message is skipped, or it waits
until the call is recorded as begun.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from attentive_integration import phones
from attentive_integration.crash import crash_point
from loyalty import consent, stops
from loyalty.models import Consent, Site
from messaging import canary, quiet_hours
from messaging.models import Campaign, Message, SendAttempt
from messaging.queue import CALL_LEASE
from messaging.reasons import Code

State = Message.State

_WHY_NOT_TEXTABLE: dict[str, str] = {
    Consent.State.UNSUBSCRIBED: Code.OPTED_OUT,
    Consent.State.BLOCKED: Code.BLOCKED,
    Consent.State.ERASED: Code.ERASED,
}


@dataclass
class _Decisions:
    """What becomes of the messages of one look."""

    go: list[Message] = field(default_factory=list)
    # (state, reason) → messages
    stay: dict[tuple[str, str], list[Message]] = field(default_factory=lambda: defaultdict(list))
    later: list[tuple[Message, datetime]] = field(default_factory=list)


def begin(site_id: int, claimed: list[Message]) -> list[Message]:
    """Record the calls that may begin, and return their messages; the others are skipped, held or put off.

    Committed before the first byte leaves: SENDING, with an open attempt. A message whose lease was lost is left alone.
    """
    return _look(site_id, claimed, begins=True)


def sift(site_id: int, claimed: list[Message]) -> list[Message]:
    """Skip, hold or put off what may not be sent now, and return the others, still claimed.

    They are looked at once more when they begin. This first look keeps the token's slots for what can use them.
    """
    return _look(site_id, claimed, begins=False)


def _look(site_id: int, claimed: list[Message], *, begins: bool) -> list[Message]:
    with transaction.atomic():
        site = Site.objects.get(pk=site_id)
        states = consent.lock_states(site_id, [message.to for message in claimed])
        rows = Message.objects.select_for_update().filter(
            pk__in=[message.pk for message in claimed], state=State.CLAIMED
        )
        fences = dict(rows.order_by("pk").values_list("pk", "fence"))
        crash_point("after_look_locks")
        mine = [message for message in claimed if fences.get(message.pk) == message.fence]
        decisions = _decide(site, mine, states)
        _write_what_stays(decisions)
        if begins:
            _write_what_begins(decisions.go)
            crash_point("before_attempt_commit")
    return decisions.go


def _decide(site: Site, messages: list[Message], consents: dict[str, str]) -> _Decisions:
    decisions = _Decisions()
    now = timezone.now()
    campaigns = Campaign.objects.in_bulk({message.campaign_id for message in messages})
    stopped = stops.is_stopped(site.pk)
    canary_room = {pk: canary.room(campaign) for pk, campaign in campaigns.items()}
    recent = _recent_texts(site, {message.to for message in messages}, now)
    for message in messages:
        campaign = campaigns[message.campaign_id]
        refusal = _refusal(site, message, consents.get(message.to, ""), campaign, now)
        if refusal is None and stopped:
            refusal = State.HELD, Code.STOPPED
        if refusal is not None:
            decisions.stay[refusal].append(message)
            continue
        allowed_at = quiet_hours.next_allowed(
            site, phone=message.to, time_zone=message.member.time_zone, state=message.member.state, now=now
        )
        if allowed_at > now:
            if campaign.quiet_policy == Campaign.QuietPolicy.CANCEL:
                decisions.stay[State.SKIPPED, Code.QUIET_HOURS].append(message)
            else:
                decisions.later.append((message, allowed_at))
        elif _is_over_a_cap(site, recent[message.to], now):
            decisions.stay[State.SKIPPED, Code.FREQUENCY_CAP].append(message)
        elif (room := canary_room[campaign.pk]) is not None and room == 0:
            decisions.stay[State.HELD, Code.CANARY].append(message)
        else:
            recent[message.to].append(now)
            canary_room[campaign.pk] = None if room is None else room - 1
            decisions.go.append(message)
    return decisions


def _refusal(
    site: Site, message: Message, consent_state: str, campaign: Campaign, now: datetime
) -> tuple[str, str] | None:
    """Return the state and reason of a message that must not be sent now; None when nothing forbids it."""
    if message.expires_at <= now:
        return State.EXPIRED, Code.EXPIRED
    if consent_state != Consent.State.SUBSCRIBED:
        return State.SKIPPED, _WHY_NOT_TEXTABLE.get(consent_state, Code.NOT_SUBSCRIBED)
    if site.state == Site.State.PAUSED:
        return State.HELD, Code.SITE_PAUSED
    if site.state == Site.State.DRAFT:
        return State.SKIPPED, Code.SITE_DRAFT
    if site.state == Site.State.TEST and message.to not in site.guest_phones:
        return State.SKIPPED, Code.TEST_MODE
    if campaign.state == Campaign.State.PAUSED:
        return State.HELD, Code.CAMPAIGN_PAUSED
    if campaign.state != Campaign.State.LIVE:
        return State.CANCELLED, Code.CAMPAIGN_NOT_LIVE
    if message.member.replaced_by_id is not None:
        return State.SKIPPED, Code.REPLACED
    if phones.country_of(message.to) not in site.allowed_countries:
        return State.SKIPPED, Code.COUNTRY
    return None


def _recent_texts(site: Site, to: set[str], now: datetime) -> dict[str, list[datetime]]:
    """Return when each of these phones was last texted, as far back as the site's caps look."""
    recent: dict[str, list[datetime]] = defaultdict(list)
    if site.caps:
        since = now - timedelta(hours=max(cap["hours"] for cap in site.caps))
        texts = Message.objects.filter(site=site, to__in=to, sent_at__gte=since)
        for text in texts.only("to", "sent_at"):
            if text.sent_at is not None:
                recent[text.to].append(text.sent_at)
    return recent


def _is_over_a_cap(site: Site, sent: list[datetime], now: datetime) -> bool:
    return any(
        sum(at > now - timedelta(hours=cap["hours"]) for at in sent) >= cap["messages"] for cap in site.caps or ()
    )


def _write_what_stays(decisions: _Decisions) -> None:
    for (state, reason), messages in decisions.stay.items():
        Message.objects.filter(pk__in=[message.pk for message in messages]).update(
            state=state, reason=reason, lease_until=None, updated_at=Now()
        )
    for message, allowed_at in decisions.later:
        # Put off beyond its expiry, it waits for nothing: the sweep ends it at that moment.
        Message.objects.filter(pk=message.pk).update(
            state=State.QUEUED, reason=Code.QUIET_HOURS, due_at=allowed_at, lease_until=None, updated_at=Now()
        )


def _write_what_begins(messages: list[Message]) -> None:
    if not messages:
        return
    for message in messages:
        message.attempt_count += 1
    Message.objects.filter(pk__in=[message.pk for message in messages]).update(
        state=State.SENDING,
        reason="",
        attempt_count=F("attempt_count") + 1,
        lease_until=Now() + CALL_LEASE,
        sent_at=Now(),
        updated_at=Now(),
    )
    SendAttempt.objects.bulk_create(
        [
            SendAttempt(
                message=message, number=message.attempt_count, fence=message.fence, resent_by_id=message.resent_by_id
            )
            for message in messages
        ]
    )
