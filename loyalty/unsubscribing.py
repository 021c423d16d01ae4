"""Takes people out: here at once, and then at Attentive, which is told once.

Unsubscribing somebody twice makes Attentive text them.
"""

from dataclasses import dataclass
from typing import Any

from django.db import transaction

from attentive_integration import rate_limit
from attentive_integration.crash import crash_point
from attentive_integration.http import ErrorKind, VendorError
from loyalty import consent, tokens
from loyalty.models import AccessToken, Consent, ConsentEvent, Member, Site
from loyalty.models.scope import Someone

State = Consent.State
Source = ConsentEvent.Source

# How long to wait before another try where Attentive does not say it (seconds).
_RETRY_PAUSE = 2.0


@dataclass(frozen=True)
class Unsubscribed:
    """What came of taking a person out: `state` here, and how it went at Attentive (done, already, failed, …).

    `pause` is the number of seconds after which a call that failed is worth another try, None when it is not.
    """

    channel: str
    address: str
    state: str
    attentive: str
    sentence: str = ""
    pause: float | None = None


def unsubscribe(
    site: Site, phone_or_email: str, *, by: Someone = None, evidence: str = "", is_out: bool = False
) -> Unsubscribed:
    """Take a person out here, whatever Attentive says, and then tell Attentive once.

    The person need not be a member. Raises `PhoneError` for a number that is none. Who left by Attentive's own word, or
    was reported to it, is not reported again, because it would text them; after a call that failed it is tried anew.
    `is_out` says that the caller took the person out a moment ago, so that the ledger does not hold the fact twice.
    """
    channel, address = consent.address_of(site, phone_or_email)
    with transaction.atomic():
        row = consent.locked(site, channel, address)
        is_erased = row.state == State.ERASED
        # Who came back in that moment is taken out again.
        if not is_out or row.state not in (State.UNSUBSCRIBED, State.BLOCKED):
            row = consent.opt_out(site, address, channel=channel, source=Source.STAFF, by=by, evidence=evidence)
        if is_erased or _attentive_knows(row):
            return Unsubscribed(channel, address, row.state, "already")
        # Written before the call, so that a second request at this moment, or after a crash, does not repeat it.
        _report(site, row, address)
    crash_point("after_opt_out_commit")
    try:
        client = tokens.attentive_client(site)
        app_key = tokens.token_secret(site, AccessToken.Kind.ATTENTIVE_APP) or ""
        rate_limit.acquire(*tokens.pace(app_key, "UNSUBSCRIBE"))
        who: dict[str, Any] = {"email": address} if channel == Consent.Channel.EMAIL else {"phone": address}
        client.unsubscribe_user(**who, subscriptions=[("MARKETING", channel), ("TRANSACTIONAL", channel)])
    except tokens.TokenUnusable as missing:
        _report(site, row, address, failure=str(missing))
        return Unsubscribed(channel, address, row.state, "not told", str(missing))
    except VendorError as error:
        if error.kind == ErrorKind.UNKNOWN:
            return Unsubscribed(channel, address, row.state, "unclear", error.sentence)
        _report(site, row, address, failure=error.sentence)
        pause = (error.retry_after or _RETRY_PAUSE) if error.kind == ErrorKind.RETRY else None
        return Unsubscribed(channel, address, row.state, "failed", error.sentence, pause)
    crash_point("after_unsubscribe_call")
    return Unsubscribed(channel, address, row.state, "done")


def phones_of(site: Site, email: str) -> list[str]:
    """Return the phones of the members with this e-mail address: who asks for them by it wants no texts either."""
    members = Member.objects.people().filter(site=site, email=email.strip().lower()).exclude(email="")
    return sorted(members.values_list("phone", flat=True))


def _report(site: Site, row: Consent, address: str, *, failure: str = "") -> None:
    """Note in the ledger that Attentive is being told, or why it could not be."""
    consent.hear(
        site, channel=row.channel, address=address, state=State.UNSUBSCRIBED, source=Source.UNSUBSCRIBE_CALL,
        event_at=row.event_at, evidence=failure,
    )  # fmt: skip


def _attentive_knows(row: Consent) -> bool:
    """Tell whether Attentive said that the person left, or was told so, since they last subscribed."""
    for event in row.events.order_by("-recorded_at", "-pk"):
        if event.to_state == State.SUBSCRIBED:
            return False
        if event.source == Source.UNSUBSCRIBE_CALL:
            return not event.evidence
        if event.source == Source.WEBHOOK and (event.heard or event.to_state) == State.UNSUBSCRIBED:
            return True
    return False
