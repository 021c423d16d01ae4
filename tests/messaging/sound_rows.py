"""Rows as the engine leaves them, and a way to spoil them."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from loyalty import consent
from loyalty.models import LoyaltyAction
from messaging.models import Message, SendAttempt
from tests.factories import make_action, make_campaign, make_member, make_message, make_site


def sound_message(state: str = "ACCEPTED", outcome: str = "", site: Any = None, **fields: Any) -> Message:
    """A message as the engine leaves it: its action processed, its person subscribed, its attempt written down."""
    member = make_member(site or make_site())
    now = timezone.now()
    consent.hear(
        member.site, channel="TEXT", address=member.phone, state="SUBSCRIBED", source="WEBHOOK",
        event_at=now - timedelta(days=1),
    )  # fmt: skip
    action = make_action(member, processed_at=now, outcome=LoyaltyAction.Outcome.MATCHED)
    outcome = outcome or {"SENDING": "OPEN", "ACCEPTED": "ACCEPTED", "UNKNOWN": "UNKNOWN"}.get(state, "")
    lease = now + timedelta(minutes=1) if state in ("SENDING", "CLAIMED") else None
    message = make_message(
        member, make_campaign(member.site, action_type=action.action_type), action=action, state=state,
        attempt_count=1 if outcome else 0, lease_until=lease, **fields,
    )  # fmt: skip
    if outcome:
        attempt(message, outcome=outcome)
    return message


def attempt(message: Message, number: int = 1, **fields: Any) -> SendAttempt:
    return SendAttempt.objects.create(**{"message": message, "number": number, "fence": number, **fields})


def edit(row: Any, **fields: Any) -> None:
    """Change a row behind the product's back."""
    type(row).objects.filter(pk=row.pk).update(**fields)
