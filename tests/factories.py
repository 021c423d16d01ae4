"""Plain functions that make the rows a test needs; every default is a valid, believable value."""

import itertools
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from loyalty.models import AccessToken, ActionType, Consent, LoyaltyAction, Member, SignUpSource, Site, SiteMembership
from messaging.models import Campaign, CampaignVersion, Message

_numbers = itertools.count(1)


def make_phone(number: int | None = None) -> str:
    """A reserved fictional number: +1, one of a few area codes, 555-01xx; 770 is left to the tests' own numbers."""
    number = next(_numbers) if number is None else number
    area_codes = ("678", "404", "212", "312", "415", "206", "617", "305")
    return f"+1{area_codes[number // 100 % len(area_codes)]}55501{number % 100:02d}"


def make_site(**fields: Any) -> Site:
    """A LIVE site without quiet hours and caps, named after its number."""
    number = next(_numbers)
    defaults = {
        "client_name": f"Client {number}",
        "site_id": str(1_000_000 + number),
        "state": Site.State.LIVE,
        "activated_at": timezone.now() - timedelta(days=30),
        "quiet_hours": None,
        "caps": [],
    }
    return Site.objects.create(**{**defaults, **fields})


def make_token(site: Site, kind: str, secret: str, **fields: Any) -> AccessToken:
    token = AccessToken(site=site, kind=kind, set_at=timezone.now(), **fields)
    token.store(secret)
    token.save()
    return token


def make_sign_up_source(site: Site, **fields: Any) -> SignUpSource:
    return SignUpSource.objects.create(**{"site": site, "sign_up_source_id": "132109", "is_default": True, **fields})


def make_member(site: Site, **fields: Any) -> Member:
    number = next(_numbers)
    defaults = {"phone": make_phone(number), "external_id": f"M{number}", "first_name": "Ada", "last_name": "Example"}
    return Member.objects.create(site=site, **{**defaults, **fields})


def make_consent(member: Member, state: str = Consent.State.SUBSCRIBED, **fields: Any) -> Consent:
    """TEXT consent of the member's phone, written straight into the table as the starting point of a test."""
    return Consent.objects.create(site=member.site, address=member.phone, state=state, **fields)


def make_action_type(site: Site, code: str = "109", name: str = "Purchase") -> ActionType:
    return ActionType.objects.get_or_create(site=site, code=code, defaults={"name": name})[0]


def make_action(member: Member, **fields: Any) -> LoyaltyAction:
    number = next(_numbers)
    defaults = {
        "action_type": make_action_type(member.site),
        "activity_id": f"a-{number}",
        "digest": f"{number:064d}",
        "occurred_at": timezone.now(),
    }
    return LoyaltyAction.objects.create(site=member.site, member=member, **{**defaults, **fields})


def make_campaign(site: Site, body: str = "Thanks {{ first_name|there }}!", **fields: Any) -> Campaign:
    """A LIVE campaign for purchases with one version."""
    version = {key: fields.pop(key) for key in ("link", "media_url", "event_type") if key in fields}
    defaults = {
        "name": f"Campaign {next(_numbers)}",
        "action_type": fields.pop("action_type", None) or make_action_type(site),
        "state": Campaign.State.LIVE,
        "went_live_at": timezone.now() - timedelta(days=30),
    }
    campaign = Campaign.objects.create(site=site, **{**defaults, **fields})
    campaign.version = CampaignVersion.objects.create(campaign=campaign, number=1, body=body, **version)
    campaign.save(update_fields=["version"])
    return campaign


def make_message(member: Member, campaign: Campaign | None = None, **fields: Any) -> Message:
    """A QUEUED message that is due now."""
    campaign = campaign or make_campaign(member.site)
    now = timezone.now()
    defaults = {
        "action": fields.pop("action", None) or make_action(member, action_type=campaign.action_type),
        "version": campaign.version,
        "to": member.phone,
        "body": "Thanks Ada!",
        "due_at": now,
        "expires_at": now + timedelta(hours=72),
    }
    return Message.objects.create(site=member.site, member=member, campaign=campaign, **{**defaults, **fields})


def make_user(*sites: Site, role: str = SiteMembership.Role.MANAGER, **fields: Any) -> User:
    """A staff user with a role on the given sites."""
    user = User.objects.create_user(username=f"user{next(_numbers)}", is_staff=True, **fields)
    for site in sites:
        SiteMembership.objects.create(user=user, site=site, role=role)
    return user
