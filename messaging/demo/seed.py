"""Believable data with problems in it: one live site, one waiting for its legacy token, one held by a refused key."""

import csv
import io
import random
from datetime import timedelta
from typing import Any

from django.core.files.base import ContentFile
from django.utils import timezone

from attentive_integration.sandbox.process import SandboxControl
from loyalty import activation, consent, imports
from loyalty.actions import record_actions
from loyalty.models import Consent, ConsentEvent, ImportJob, LoyaltyAction, Member, Site
from messaging import text
from messaging.models import Campaign, Message, SendAttempt
from messaging.site_spec import create_site

from .login import demo_user

_FIRST = ("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Frances", "Tim", "Radia", "Linus", "Margaret", "Ken")
_LAST = ("Archer", "Bishop", "Carver", "Dyer", "Fisher", "Glover", "Hooper", "Mason", "Porter", "Sawyer", "Tanner")
_AREAS = ("770", "404", "212", "312", "415", "206", "617", "305", "303", "512")
_TIERS = (("Bronze", 55), ("Silver", 28), ("Gold", 13), ("Platinum", 4))

_PURCHASE, _WELCOME, _REWARD, _TIER, _BIRTHDAY = "109", "101", "107", "TIER_UP", "BIRTHDAY"


def _spec(site_id: str, name: str, key: str, **fields: Any) -> dict[str, Any]:
    return {
        "site_id": site_id,
        "client_name": name,
        "state": "LIVE",
        "quiet_hours": None,
        "caps": None,
        "sms_prefix": f"{name}: ",
        "webhook_signing_key": f"demo-signing-{key}",
        "tokens": {"LOYALTY": f"loyalty-{key}", "ATTENTIVE_APP": f"app-{key}", "ATTENTIVE_LEGACY": f"legacy-{key}"},
        "sign_up_sources": [
            {"sign_up_source_id": "132109", "name": "Loyalty API", "type": "MARKETING", "is_default": True}
        ],
        "action_types": [
            {"code": _WELCOME, "name": "Create account"},
            {"code": _PURCHASE, "name": "Purchase"},
            {"code": _REWARD, "name": "Redeem reward"},
            {"code": _TIER, "name": "Tier reached"},
            {"code": _BIRTHDAY, "name": "Birthday"},
        ],
        "campaigns": [
            {
                "name": "Thanks for your purchase", "action_type": _PURCHASE, "route": "MESSAGE", "state": "LIVE",
                "body": "Thanks {{ first_name|there }}! You earned {{ points_delta|some }} points: {{ points }} now.",
            },
            {
                "name": "Welcome", "action_type": _WELCOME, "route": "MESSAGE", "state": "LIVE",
                "body": "Welcome to the club, {{ first_name|friend }}! Your first points are waiting.",
            },
            {
                "name": "Reward redeemed", "action_type": _REWARD, "route": "MESSAGE", "state": "PAUSED",
                "body": "Enjoy your reward, {{ first_name|there }}! {{ points }} points are left.",
            },
            {
                "name": "Birthday treat", "action_type": _BIRTHDAY, "route": "MESSAGE", "state": "DRAFT",
                "body": "Happy birthday {{ first_name|to you }}! Double points are on us today.",
            },
        ],
        "segments": [
            {"name": "Gold and above", "rules": {"tier": ["Gold", "Platinum"]}, "external_id": f"gold-{key}"},
            {"name": "Top, textable", "rules": {"points_min": 500, "reachable": True}, "external_id": f"top-{key}"},
        ],
        **fields,
    }  # fmt: skip


# What the sandbox calls each client; the last one's keys are refused.
_COMPANIES = {"1000001": "harbor", "1000002": "maple", "1000003": "northwind-revoked"}


def introduce(sandbox: SandboxControl) -> None:
    """Tell a sandbox that has just started whose clients these are, and who is subscribed."""
    for site in Site.objects.filter(site_id__in=_COMPANIES):
        company = _COMPANIES[site.site_id]
        sandbox.configure_company(
            company,
            name=site.client_name,
            site_id=site.site_id,
            webhook_url=activation.webhook_url(site),
            webhook_signing_key=f"demo-signing-{company}",
        )
        subscribed = Consent.objects.filter(
            site=site, channel=Consent.Channel.TEXT, state=Consent.State.SUBSCRIBED
        ).values_list("address", flat=True)
        sandbox.add_subscribers(company, list(subscribed))
        if not site.checks:
            activation.check_site(site)


def fill() -> None:
    """Fill an empty database; does nothing to one that holds sites already."""
    user = demo_user()
    if Site.objects.exists():
        return
    chance = random.Random(7)
    harbor = _make(
        _spec("1000001", "Harbor Goods", "harbor", company_name="Harbor Goods", guest_phones=["+17705550100"])
    )
    without_legacy = {"LOYALTY": "loyalty-maple", "ATTENTIVE_APP": "app-maple"}
    maple = _make(
        _spec("1000002", "Maple & Main", "maple", state="TEST", tokens=without_legacy, guest_phones=["+16175550100"])
    )
    northwind = _make(_spec("1000003", "Northwind Outfitters", "northwind-revoked"))
    activation.request_legacy_token(maple, by=user)
    Site.objects.filter(pk=maple.pk).update(legacy_token_requested_at=timezone.now() - timedelta(days=4))
    for number, (site, size) in enumerate(((harbor, 420), (maple, 130), (northwind, 160))):
        _members(site, size, chance, base=number * 3, user=user)
        _story(site, chance)


def _make(spec: dict[str, Any]) -> Site:
    return Site.objects.get(site_id=create_site(spec, actor="demo")["site_id"])


def _members(site: Site, size: int, chance: random.Random, *, base: int, user: Any) -> None:
    """Import a client's list as staff would, with a few rows that need mending; two thirds have subscribed."""
    buffer = io.StringIO()
    sheet = csv.writer(buffer)
    sheet.writerow(
        ["phone", "email", "external_id", "first_name", "last_name", "tier", "points", "birth_date", "opt_in_status"]
    )
    phones = []
    for number in range(size):
        area, line = _AREAS[(base + number // 100) % len(_AREAS)], number % 100
        phone = f"({area}) 555-01{line:02d}"
        phones.append(f"+1{area}55501{line:02d}")
        first, last = chance.choice(_FIRST), chance.choice(_LAST)
        tier = chance.choices([name for name, _weight in _TIERS], [weight for _name, weight in _TIERS])[0]
        born = f"{chance.randint(1955, 2004)}-{chance.randint(1, 12):02d}-{chance.randint(1, 28):02d}"
        mail = f"{first}.{last}.{number}@example.com".lower()
        sheet.writerow(
            [phone, mail, f"{site.site_id}-{number:05d}", first, last, tier, chance.randint(0, 2400), born,
             "YES" if chance.random() < 0.9 else "NO"]
        )  # fmt: skip
    for damaged in ("1.77056E+10", "770555010", "call me", "+49 30 555 0100"):
        sheet.writerow([damaged, "mend@example.com", "", "To", "Mend", "Bronze", 10, "", "YES"])
    job = imports.start_import(
        site,
        ContentFile(buffer.getvalue().encode()),
        f"{site.client_name} members.csv",
        kind=ImportJob.Kind.MEMBERS,
        by=user,
    )
    imports.set_mapping(job, imports.propose_mapping(job))
    imports.run_import(job)
    known = list(Member.objects.filter(site=site).values_list("phone", flat=True))
    subscribed = [phone for phone in known if chance.random() < 0.66]
    consent.hear_many(
        site,
        [(phone, timezone.now() - timedelta(days=chance.randint(8, 400))) for phone in subscribed],
        source=ConsentEvent.Source.SUBSCRIBER_LIST,
        by=user,
        evidence="Subscribers exported from Attentive for the demo",
    )
    for phone in subscribed[:6]:
        consent.opt_out(site, phone, source=ConsentEvent.Source.WEBHOOK)
    consent.mark_to_ask(site, [phone for phone in known if phone not in set(subscribed)][:15])


# How the messages of the last week ended: (state, reason, attempt's outcome, HTTP status), and how often.
_ENDINGS = (
    (("ACCEPTED", "", "ACCEPTED", 200), 78),
    (("SKIPPED", "NOT_SUBSCRIBED", "", None), 9),
    (("REFUSED", "REFUSED", "REFUSED", 400), 5),
    (("SKIPPED", "FREQUENCY_CAP", "", None), 3),
    (("EXPIRED", "EXPIRED", "", None), 2),
    (("UNKNOWN", "NO_ANSWER", "UNKNOWN", None), 2),
    (("CANCELLED", "CANCELLED", "", None), 1),
)


def _story(site: Site, chance: random.Random) -> None:
    """Write a week of actions and of what became of them, so that every page has something to show."""
    now = timezone.now()
    members = list(Member.objects.filter(site=site))
    by_code = {
        campaign.action_type.code: campaign
        for campaign in Campaign.objects.filter(site=site).select_related("action_type", "version")
    }
    items = []
    minutes = sorted((chance.randint(30, 7 * 24 * 60) for _ in range(len(members) // 2)), reverse=True)
    for number, ago in enumerate(minutes):
        member = chance.choice(members)
        code = chance.choice((_PURCHASE, _PURCHASE, _PURCHASE, _WELCOME, _REWARD, _TIER))
        gain = chance.randint(5, 120)
        happened = now - timedelta(minutes=ago)
        items.append(
            {"activity_id": f"seed-{number}", "action": code, "phone": member.phone, "points_delta": gain,
             "points": (member.points or 0) + gain, "occurred_at": happened.isoformat()}
        )  # fmt: skip
    for start in range(0, len(items), 500):
        record_actions(site, items[start : start + 500], history=True)
    messages = []
    for action in LoyaltyAction.objects.filter(site=site).select_related("member", "action_type").order_by("pk"):
        campaign = by_code.get(action.action_type.code)
        if campaign is None or campaign.state == Campaign.State.DRAFT or campaign.version is None:
            continue
        state, reason, _outcome, _status = chance.choices([e for e, _w in _ENDINGS], [w for _e, w in _ENDINGS])[0]
        if site.state == Site.State.TEST:
            state, reason = "SKIPPED", "TEST_MODE"
        elif site.site_id == "1000003" and action.occurred_at > now - timedelta(days=1):
            state, reason = "HELD", "TOKEN_REFUSED"
        elif campaign.state == Campaign.State.PAUSED:
            state, reason = "HELD", "CAMPAIGN_PAUSED"
        rendered = text.render(campaign.version.body, action.member, action)
        messages.append(
            Message(
                site=site, member=action.member, campaign=campaign, version=campaign.version, action=action,
                to=action.member.phone, body=rendered.text or "", state=state, reason=reason, due_at=action.occurred_at,
                expires_at=action.occurred_at + timedelta(hours=72) if state != "HELD" else now + timedelta(hours=60),
                created_at=action.occurred_at, updated_at=action.occurred_at,
                sent_at=action.occurred_at if state in ("ACCEPTED", "UNKNOWN") else None,
                attempt_count=1 if state in ("ACCEPTED", "REFUSED", "UNKNOWN") else 0,
            )
        )  # fmt: skip
    Message.objects.bulk_create(messages, batch_size=500)
    LoyaltyAction.objects.filter(site=site, messages__isnull=False).update(outcome=LoyaltyAction.Outcome.MATCHED)
    endings = {state: (outcome, status) for (state, _reason, outcome, status), _weight in _ENDINGS if outcome}
    SendAttempt.objects.bulk_create(
        [
            SendAttempt(
                message=message, number=1, fence=1, started_at=message.created_at,
                ended_at=message.created_at + timedelta(milliseconds=180), outcome=endings[message.state][0],
                http_status=endings[message.state][1], duration_ms=chance.randint(90, 400),
                cause={"REFUSED": "HTTP_400", "UNKNOWN": "READ_TIMEOUT"}.get(message.state, ""),
                answer={"REFUSED": "phone number is not subscribed"}.get(message.state, ""),
            )
            for message in messages
            if message.state in endings
        ],
        batch_size=500,
    )  # fmt: skip
