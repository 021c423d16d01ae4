"""Matches: turns new loyalty actions into messages, exactly one for each campaign that an action meets.

An action that meets no campaign keeps the reason and is never texted later.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from attentive_integration.crash import crash_point
from loyalty.models import LoyaltyAction, Site
from loyalty.segments import matching_ids
from messaging import text
from messaging.models import Campaign, Message
from messaging.reasons import Code

Outcome = LoyaltyAction.Outcome
_Key = tuple[int, int]

# Attentive keeps an event that is older than this, but it starts no journey.
EVENT_LIFETIME = timedelta(hours=12)
# Of several reasons why an action met nothing, the one that came closest to a message is kept.
_CLOSEST_FIRST = (
    Outcome.NOT_IN_SEGMENT,
    Outcome.TOO_OLD,
    Outcome.OUTSIDE_WINDOW,
    Outcome.BEFORE_LIVE,
    Outcome.NO_CAMPAIGN,
)


def match_actions(limit: int = 500) -> int:
    """Turn up to `limit` new actions, oldest first, into messages; return how many actions were taken.

    The messages and the mark on the actions are one transaction. Several processes may match at once.
    """
    with transaction.atomic():
        unprocessed = LoyaltyAction.objects.select_for_update(skip_locked=True, of=("self",)).filter(processed_at=None)
        actions = list(unprocessed.order_by("id").select_related("member", "site")[:limit])
        if actions:
            _match(actions, timezone.now())
            crash_point("before_match_commit")
    if actions:
        crash_point("after_match_commit")
    return len(actions)


def lifetime(campaign: Campaign) -> timedelta:
    """Return how long after an action the campaign may still speak of it."""
    configured = timedelta(hours=campaign.expiry_hours)
    return min(configured, EVENT_LIFETIME) if campaign.route == Campaign.Route.EVENT else configured


def near_miss(campaign: Campaign, action: LoyaltyAction, now: datetime) -> Outcome | None:
    """Return why this campaign does not speak of the action, segments apart; None when it does."""
    site = action.site
    if site.activated_at is None or campaign.went_live_at is None:
        return Outcome.BEFORE_LIVE
    if action.occurred_at < max(site.activated_at, campaign.went_live_at):
        return Outcome.BEFORE_LIVE
    if (campaign.starts_at and action.occurred_at < campaign.starts_at) or (
        campaign.ends_at and action.occurred_at >= campaign.ends_at
    ):
        return Outcome.OUTSIDE_WINDOW
    if action.occurred_at + lifetime(campaign) <= now:
        return Outcome.TOO_OLD
    return None


@dataclass
class _Candidates:
    """The campaigns that may speak of the actions at hand, and the members in their segments."""

    by_type: dict[_Key, list[Campaign]]
    in_segment: dict[int, set[int]]

    def of(self, action: LoyaltyAction) -> list[Campaign]:
        return self.by_type.get((action.site_id, action.action_type_id), [])

    def includes(self, campaign: Campaign, action: LoyaltyAction) -> bool:
        return campaign.segment_id is None or action.member_id in self.in_segment[campaign.pk]


def _candidates(actions: list[LoyaltyAction]) -> _Candidates:
    campaigns = Campaign.objects.filter(
        site__in={action.site_id for action in actions},
        action_type__in={action.action_type_id for action in actions},
        state__in=[Campaign.State.LIVE, Campaign.State.PAUSED],
        version__isnull=False,
    ).select_related("version", "segment__site")
    by_type: dict[_Key, list[Campaign]] = defaultdict(list)
    in_segment: dict[int, set[int]] = {}
    for campaign in campaigns.order_by("pk"):
        key = (campaign.site_id, campaign.action_type_id)
        by_type[key].append(campaign)
        if campaign.segment is not None:
            members = {a.member_id for a in actions if (a.site_id, a.action_type_id) == key}
            in_segment[campaign.pk] = matching_ids(campaign.segment, members)
    return _Candidates(by_type, in_segment)


def _match(actions: list[LoyaltyAction], now: datetime) -> None:
    candidates = _candidates(actions)
    messages: list[Message] = []
    by_outcome: dict[str, list[int]] = defaultdict(list)
    for action in actions:
        outcome = Outcome.SITE_DRAFT
        if action.site.state != Site.State.DRAFT:
            found, outcome = _messages_for(action, candidates, now)
            messages += found
        by_outcome[outcome].append(action.pk)
    crash_point("before_messages")
    Message.objects.bulk_create(messages, ignore_conflicts=True, batch_size=500)
    crash_point("after_messages")
    for outcome_value, pks in by_outcome.items():
        LoyaltyAction.objects.filter(pk__in=pks).update(processed_at=now, outcome=outcome_value)


def _messages_for(
    action: LoyaltyAction, candidates: _Candidates, now: datetime
) -> tuple[list[Message], LoyaltyAction.Outcome]:
    messages, misses = [], {Outcome.NO_CAMPAIGN}
    for campaign in candidates.of(action):
        miss = near_miss(campaign, action, now)
        if miss is None and not candidates.includes(campaign, action):
            miss = Outcome.NOT_IN_SEGMENT
        if miss is None:
            messages.append(_message(action, campaign, now))
        else:
            misses.add(miss)
    return messages, Outcome.MATCHED if messages else _closest(misses)


def _closest(misses: Iterable[LoyaltyAction.Outcome]) -> LoyaltyAction.Outcome:
    return min(misses, key=_CLOSEST_FIRST.index)


def _message(action: LoyaltyAction, campaign: Campaign, now: datetime) -> Message:
    """Make the message with its text as rendered now; one that cannot be sent is skipped with the reason."""
    assert campaign.version is not None  # candidates have one
    site, member = action.site, action.member
    message = Message(
        site=site,
        member=member,
        campaign=campaign,
        version=campaign.version,
        action=action,
        to=member.phone,
        # A higher priority overtakes the messages of so many minutes.
        due_at=now - timedelta(minutes=campaign.priority),
        expires_at=action.occurred_at + lifetime(campaign),
        created_at=now,
        updated_at=now,
    )
    reason = ""
    if campaign.route == Campaign.Route.MESSAGE:
        rendered = text.render(campaign.version.body, member, action)
        message.body, reason = rendered.text, rendered.reason
    if site.state == Site.State.TEST and member.phone not in site.guest_phones:
        reason = Code.TEST_MODE
    if campaign.is_shadow and not reason:
        reason = Code.SHADOW
    if reason:
        message.state, message.reason = Message.State.SKIPPED, reason
    elif site.state == Site.State.PAUSED:
        message.state, message.reason = Message.State.HELD, Code.SITE_PAUSED
    elif campaign.state == Campaign.State.PAUSED:
        message.state, message.reason = Message.State.HELD, Code.CAMPAIGN_PAUSED
    return message
