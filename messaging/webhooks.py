"""Hears Attentive: stores each signed event once, obeys consent at once, and reconciles sent texts a little later.

The same bytes are one row per site, so a replay has one effect. Consent is applied in the transaction that stores the
row; `sms.sent` waits as RECEIVED for `process_webhooks`. A body that is signed and yet no event is kept as FAILED and
answered 200: it would read the same on each of the vendor's retries, and a hook that keeps failing is switched off at
Attentive, which would lose the opt-outs behind it.
"""

import hashlib
import logging
from datetime import timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from attentive_integration.crash import crash_point
from attentive_integration.webhooks import Event, EventError, EventKind, parse_event
from loyalty import consent
from loyalty.models import Consent, ConsentEvent, Site
from messaging.models import Message, SendAttempt, WebhookEvent
from messaging.outcomes import LATE_SLOT

logger = logging.getLogger(__name__)

State = WebhookEvent.State
# Attempts whose text may have left. RETRY is among them: proof that it left after all must stop the next attempt.
_MAY_HAVE_LEFT = (
    SendAttempt.Outcome.OPEN,
    SendAttempt.Outcome.UNKNOWN,
    SendAttempt.Outcome.ACCEPTED,
    SendAttempt.Outcome.RETRY,
)
_TURNED_AWAY = SendAttempt.Outcome.RETRY
# The site's row is not written for each event: a minute is fine enough to tell silence.
_HEARD_EVERY = timedelta(minutes=1)
_UNDER_WAY = (Message.State.CLAIMED, Message.State.SENDING)
_TO_CONFIRM = (Message.State.UNKNOWN, Message.State.ACCEPTED, Message.State.QUEUED, Message.State.HELD)


@transaction.atomic
def receive(site: Site, body: bytes) -> WebhookEvent:
    """Store a body whose signature was verified, apply the consent in it, and return its row.

    A body that is known already changes nothing. Database errors go to the caller, who must not answer 2xx then.
    """
    row, is_new = WebhookEvent.objects.get_or_create(
        site=site, digest=hashlib.sha256(body).hexdigest(), defaults={"body": _storable(body)}
    )
    if not is_new:
        return row
    try:
        event = parse_event(body)
    except EventError as error:
        row.state, row.error = State.FAILED, error.sentence
    else:
        row.type, row.event_at = event.type[:80], event.occurred_at
        row.state, row.error = _take_in(site, event)
        row.error = " ".join(filter(None, [row.error, _other_company(site, event)]))
    row.save()
    _note_that_it_was_heard(site)
    crash_point("before_webhook_commit")
    if row.state == State.FAILED:
        logger.warning("Webhook event %s of site %s failed: %s", row.pk, site.site_id, row.error)
    return row


def _note_that_it_was_heard(site: Site) -> None:
    now = timezone.now()
    if site.last_webhook_at is None or now - site.last_webhook_at > _HEARD_EVERY:
        Site.objects.filter(pk=site.pk).update(last_webhook_at=now)


def _storable(body: bytes) -> str:
    """Return the body as text that every database takes; bytes that are no UTF-8 show as replacement characters."""
    return body.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _other_company(site: Site, event: Event) -> str:
    """Return a remark when the event names another company; the signature is the proof, so it is not refused."""
    if not event.company_id or not site.company_id or event.company_id == site.company_id:
        return ""
    return _(
        "The event names the company %(theirs)s, and this site belongs to %(ours)s. Compare the app at Attentive with "
        "the site's Activate page."
    ) % {"theirs": (event.company_name or event.company_id)[:200], "ours": site.company_name or site.company_id}


def _take_in(site: Site, event: Event) -> tuple[str, str]:
    """Apply what an event says about consent; return the row's state and a remark for staff."""
    if event.kind in (EventKind.SUBSCRIBED, EventKind.UNSUBSCRIBED):
        return _hear_consent(site, event)
    if event.kind == EventKind.SENT and event.channel == Consent.Channel.TEXT:
        return State.RECEIVED, ""
    return State.IGNORED, ""


def _hear_consent(site: Site, event: Event) -> tuple[str, str]:
    is_text = event.channel == Consent.Channel.TEXT
    address = event.phone if is_text else (event.email or "").lower()
    if not address or len(address) > 254:
        return State.FAILED, _("The event has no address that can be read, so nobody's consent was changed.")
    opts_in = event.kind == EventKind.SUBSCRIBED
    if opts_in and not _is_for_our_texts(site, event.subscription_type):
        return State.IGNORED, _("A subscription of the type %(type)s does not allow loyalty texts.") % {
            "type": event.subscription_type[:40]
        }
    row = consent.hear(
        site,
        channel=event.channel,
        address=address,
        state=Consent.State.SUBSCRIBED if opts_in else Consent.State.UNSUBSCRIBED,
        source=ConsentEvent.Source.WEBHOOK,
        event_at=event.occurred_at,
        evidence=" ".join(filter(None, [event.type, event.subscription_type]))[:200],
    )
    if not opts_in and event.occurred_at is None and row.state == Consent.State.SUBSCRIBED:
        # A fact without a time never beats one that has it, and which of the two came later cannot be known. Attentive
        # times every event, so this one is odd; it must not pass unseen, and a person decides.
        return State.FAILED, _(
            "This opt-out has no time, so it could not overrule a subscription that has one. Look the person up at "
            "Attentive, and unsubscribe them here if they left."
        )
    return State.DONE, ""


def _is_for_our_texts(site: Site, subscription_type: str) -> bool:
    """Tell whether such a subscription allows our texts: marketing, or the kind that the site's sign-up asks for."""
    kind = subscription_type.strip().upper()
    return kind in ("", "MARKETING") or site.sign_up_sources.filter(type=kind).exists()


def process_webhooks(limit: int = 1000) -> int:
    """Work through up to `limit` events that wait, oldest first, and return how many are done.

    Safe to run several times at once. An event about a text whose call is still under way is left for the next run.
    """
    done, last = 0, 0
    for _turn in range(limit):
        with transaction.atomic():
            waiting = WebhookEvent.objects.select_for_update(skip_locked=True, of=("self",)).select_related("site")
            row = waiting.filter(state=State.RECEIVED, pk__gt=last).order_by("pk").first()
            if row is None:
                break
            last = row.pk
            state = _confirm_text(row.site, parse_event(row.body.encode()))
            if state != State.RECEIVED:
                row.state = state
                row.save(update_fields=["state"])
                crash_point("before_confirmation_commit")
                done += 1
    return done


def _confirm_text(site: Site, event: Event) -> str:
    """Note on the message that an `sms.sent` speaks of that it was sent; return the event's state.

    It speaks of the earliest attempt at the same phone whose text ends the one sent (Attentive puts the client's name
    before it) and which no other event has confirmed: of one that Attentive did not turn away, if there is any.
    """
    attempts = SendAttempt.objects.filter(
        message__site=site, message__to=event.phone or "-", message__confirmed_at=None, outcome__in=_MAY_HAVE_LEFT
    )
    attempts = attempts.exclude(cause=LATE_SLOT)
    text = event.text.rstrip()
    alike = [
        attempt
        for attempt in attempts.select_related("message").order_by("started_at", "pk")
        if attempt.message.body.strip() and text.endswith(attempt.message.body.rstrip())
    ]
    # The sort keeps the order of time among equals; the longest text is the one that was meant.
    for attempt in sorted(alike, key=lambda one: (one.outcome == _TURNED_AWAY, -len(one.message.body))):
        message = attempt.message
        if message.state in _UNDER_WAY:
            return State.RECEIVED
        is_open = message.state in _TO_CONFIRM or attempt.outcome == SendAttempt.Outcome.UNKNOWN
        if is_open and _confirm(message, attempt, event):
            return State.DONE
    return State.IGNORED


def _confirm(message: Message, attempt: SendAttempt, event: Event) -> bool:
    """Make the message ACCEPTED and confirmed, if it still stands as it was read."""
    now = timezone.now()
    same = Message.objects.filter(pk=message.pk, state=message.state, fence=message.fence, confirmed_at=None)
    if not same.update(
        state=Message.State.ACCEPTED,
        reason="",
        confirmed_at=event.occurred_at or now,
        sent_at=message.sent_at or attempt.started_at,
        updated_at=now,
    ):
        return False
    if attempt.outcome != SendAttempt.Outcome.ACCEPTED:
        attempt.outcome, attempt.cause = SendAttempt.Outcome.ACCEPTED, "CONFIRMED"
        attempt.ended_at = attempt.ended_at or now
        attempt.save(update_fields=["outcome", "cause", "ended_at"])
    return True
