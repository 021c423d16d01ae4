"""What a campaign would say and whom it would reach, before anybody is texted."""

import random
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from attentive_integration.phones import spellings
from loyalty.models import LoyaltyAction, Member, Site
from loyalty.reach import reachable
from loyalty.segments import RulesError, matching_ids
from messaging import text
from messaging.models import Campaign
from messaging.parts import Parts, with_prefix

# People shown beside the chosen one, and the newest members with such an action that they are drawn from.
_RANDOM_PEOPLE = 3
_DRAWN_FROM = 40
# The estimate of a week looks at no more actions than this.
REACH_CAP = 2_000
_WEEK = timedelta(days=7)
_KEYS_LISTED = 12


@dataclass(frozen=True)
class Preview:
    """The text for one member; `member` is None for the worst case. Without a text the `reason` says why.

    `text` comes without the site's prefix; `parts` count it.
    """

    member: Member | None
    text: str
    parts: Parts
    reason: str = ""
    detail: str = ""
    is_chosen: bool = False


@dataclass(frozen=True)
class Reach:
    """Whom a campaign would have met in the last seven days; `is_capped` when it looked at the newest actions only."""

    actions: int
    members: int
    in_segment: int
    reachable: int
    is_capped: bool


def find_member(site: Site, words: str) -> Member | None:
    """Return the member whom a phone in any spelling, an e-mail address or a loyalty ID names."""
    words = words.strip()
    if not words:
        return None
    members = Member.objects.filter(site=site)
    if phone := spellings(words, site.default_country):
        return members.filter(phone=phone).first()
    if "@" in words:
        return members.filter(email=words.lower()).first() or members.filter(email=words).first()
    return members.filter(external_id=words).first()


class Audience:
    """Whom a campaign, saved or not, would meet, read once from its newest actions.

    `people` are some members with their latest action of the campaign's kind; where there are none, any members.
    """

    def __init__(self, campaign: Campaign, now: datetime | None = None) -> None:
        actions = LoyaltyAction.objects.filter(site=campaign.site_id, action_type=campaign.action_type_id)
        newest = list(actions.order_by("-recorded_at").values_list("pk", "member_id", "recorded_at")[: REACH_CAP + 1])
        latest_of: dict[int, int] = {}
        for pk, member_id, _recorded_at in newest:
            latest_of.setdefault(member_id, pk)
        inside = _in_segment(campaign, latest_of)
        self.reach = _reach(campaign, newest, inside, (now or timezone.now()) - _WEEK)
        self.people = _draw(campaign, [(pk, member) for member, pk in latest_of.items() if member in inside])

    @property
    def data_keys(self) -> list[str]:
        """The keys that these people's actions carry and that a placeholder can name."""
        keys: dict[str, None] = {}
        for _member, action in self.people:
            keys |= dict.fromkeys(action.data if action is not None and isinstance(action.data, dict) else ())
        return [key for key in keys if text.is_known(f"data.{key}")][:_KEYS_LISTED]


def _in_segment(campaign: Campaign, member_ids: Collection[int]) -> set[int]:
    if campaign.segment is None:
        return set(member_ids)
    try:
        return matching_ids(campaign.segment, member_ids)
    except RulesError:
        return set()


def _reach(campaign: Campaign, newest: list[tuple[int, int, datetime]], inside: set[int], since: datetime) -> Reach:
    week = [member_id for _pk, member_id, recorded_at in newest[:REACH_CAP] if recorded_at >= since]
    members = set(week)
    met = members & inside
    textable = reachable(Member.objects.filter(pk__in=met), campaign.site).count() if met else 0
    is_capped = len(newest) > REACH_CAP and newest[-1][2] >= since
    return Reach(len(week), len(members), len(met), textable, is_capped)


def _draw(campaign: Campaign, pairs: list[tuple[int, int]]) -> list[tuple[Member, LoyaltyAction | None]]:
    """Draw from (action, member); the same people as long as the same are there, so that a preview does not jump."""
    chance = random.Random(campaign.pk)  # noqa: S311 - shows examples, guards nothing
    drawn = chance.sample(pairs[:_DRAWN_FROM], min(_RANDOM_PEOPLE, len(pairs)))
    if drawn:
        actions = LoyaltyAction.objects.filter(pk__in=[pk for pk, _member in drawn]).select_related("member")
        return [(action.member, action) for action in actions.order_by("pk")]
    members = list(Member.objects.filter(site=campaign.site_id, replaced_by=None).order_by("-id")[:_DRAWN_FROM])
    inside = _in_segment(campaign, [member.pk for member in members])
    anybody = [member for member in members if member.pk in inside]
    return [(member, None) for member in anybody[:_RANDOM_PEOPLE]]


def previews(
    campaign: Campaign, body: str, audience: Audience | None = None, chosen: Member | None = None
) -> list[Preview]:
    """Return the text for the chosen member, for the audience's people, and at its longest."""
    pairs = [(chosen, _last_action(campaign, chosen), True)] if chosen is not None else []
    pairs += [(member, action, False) for member, action in (audience.people if audience else ()) if member != chosen]
    shown = [_preview(campaign, body, member, action, is_chosen) for member, action, is_chosen in pairs]
    longest = text.worst_case(body)
    return [*shown, Preview(None, longest, text.parts(longest, campaign.site.sms_prefix))]


def prefixed(site: Site, body: str) -> tuple[str, str]:
    """Return the site's prefix as the phone shows it before the text, and the text."""
    whole = with_prefix(body, site.sms_prefix)
    return whole[: len(whole) - len(body)], body


def _preview(campaign: Campaign, body: str, member: Member, action: LoyaltyAction | None, is_chosen: bool) -> Preview:
    rendered = text.render(body, member, action)
    count = text.parts(rendered.text, campaign.site.sms_prefix)
    return Preview(member, rendered.text, count, rendered.reason, rendered.detail, is_chosen)


def _last_action(campaign: Campaign, member: Member) -> LoyaltyAction | None:
    actions = LoyaltyAction.objects.filter(member=member, action_type=campaign.action_type_id)
    return actions.order_by("-occurred_at").first()
