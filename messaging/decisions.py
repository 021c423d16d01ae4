"""What a named person decides about messages: an unknown one was sent or is sent again, a waiting one is cancelled."""

from collections.abc import Iterable
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from attentive_integration.crash import crash_point
from loyalty import audit
from loyalty.models.scope import Someone, known_user
from messaging.models import Message
from messaging.reasons import Code

State = Message.State

# How long a text that is sent again may wait for its turn.
_ANOTHER_CHANCE = timedelta(hours=24)
_WAITING = (State.QUEUED, State.HELD)
# A refused text may be sent again too, once its cause is mended.
_MAY_BE_RESENT = (State.UNKNOWN, State.REFUSED)


@transaction.atomic
def treat_as_sent(messages: Iterable[Message], *, by: Someone) -> int:
    """Settle UNKNOWN messages as sent; return how many."""
    return _decide(
        messages, (State.UNKNOWN,), by, "message.treated_as_sent", state=State.ACCEPTED, reason=Code.RESOLVED_AS_SENT
    )


@transaction.atomic
def send_again(messages: Iterable[Message], *, by: Someone) -> int:
    """Queue UNKNOWN or REFUSED messages for a further attempt, which may text the person twice; return how many.

    Consent, caps and quiet hours are read again like before any other attempt.
    """
    now = timezone.now()
    return _decide(
        messages, _MAY_BE_RESENT, by, "message.sent_again",
        state=State.QUEUED, reason="", due_at=now, expires_at=now + _ANOTHER_CHANCE, sent_at=None,
        resent_by=known_user(by),
    )  # fmt: skip


@transaction.atomic
def try_now(messages: Iterable[Message], *, by: Someone) -> int:
    """Let messages that Attentive did not take go at once instead of after their pause; return how many.

    Nobody got them, so this cannot double a text; consent, caps and quiet hours are read again before they leave.
    """
    return _decide(messages, (State.QUEUED,), by, "message.tried_now", state=State.QUEUED, due_at=timezone.now())


@transaction.atomic
def cancel(messages: Iterable[Message], *, by: Someone) -> int:
    """Cancel messages that wait; return how many. One whose call has begun cannot be called back."""
    return _decide(messages, _WAITING, by, "message.cancelled", state=State.CANCELLED, reason=Code.CANCELLED)


def _decide(
    messages: Iterable[Message], from_states: tuple[str, ...], by: Someone, event: str, **changes: object
) -> int:
    wanted = [message.pk for message in messages]
    rows = Message.objects.select_for_update(of=("self",)).filter(pk__in=wanted, state__in=from_states)
    found = list(rows.select_related("site").order_by("pk"))
    Message.objects.filter(pk__in=[message.pk for message in found]).update(**changes, updated_at=timezone.now())
    for message in found:
        audit.record(event, site=message.site, user=by, target=str(message), old=message.state, new=changes["state"])
    crash_point("before_decision_commit")
    return len(found)
