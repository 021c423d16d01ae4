"""The queue of messages: what is due, who works on it, and what waits.

A claim is a lease on the database's clock with a fence. The sweep frees what a dead worker left behind: a claim whose
call had not begun is due again; one whose call had begun becomes UNKNOWN, because nobody knows what came of it.
"""

from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from attentive_integration import rate_limit
from attentive_integration.crash import crash_point
from loyalty import breakers, stops
from loyalty.models import AccessToken, Site
from messaging.models import Campaign, Message, SendAttempt
from messaging.reasons import Code

State = Message.State
Route = Campaign.Route

# A claim is followed by the last look within a second.
CLAIM_LEASE = timedelta(seconds=15)
# A call that goes on after its lease could be sent again by a person meanwhile. So the lease outlasts the latest call:
# its slot, the deadline, and a turn of the dispatcher's loop until the outcome is written (seconds). An outcome that
# comes later still writes nothing: its message is UNKNOWN by then, which is never repeated by itself.
_WRITING = 3.0
CALL_LEASE = timedelta(seconds=rate_limit.LATEST_START + settings.VENDOR_DEADLINE_SECONDS + _WRITING)

TOKEN_OF_ROUTE: dict[str, str] = {
    Route.MESSAGE: AccessToken.Kind.ATTENTIVE_LEGACY,
    Route.EVENT: AccessToken.Kind.ATTENTIVE_APP,
}
_TOKEN_REASONS = (Code.TOKEN_REFUSED, Code.VENDOR_DOWN, Code.TOKEN_MISSING)


def due() -> QuerySet[Message]:
    """Return the messages that may be sent now."""
    return Message.objects.filter(state=State.QUEUED, due_at__lte=Now())


def sites_with_due_messages() -> list[Site]:
    """Return the sites that have something to send."""
    return list(Site.objects.filter(Exists(due().filter(site=OuterRef("pk")))).order_by("pk"))


def routes_of(site_ids: Iterable[int]) -> list[tuple[int, str]]:
    """Return the (site, route) pairs that the campaigns of these sites use."""
    campaigns = Campaign.objects.filter(site__in=list(site_ids)).order_by("site", "route")
    return list(campaigns.values_list("site_id", "route").distinct())


def claim(site: Site, limit: int, *, route: str | None = None) -> list[Message]:
    """Take up to `limit` due messages of a site, oldest first; nobody else works on them while the lease lasts."""
    rows = due().filter(site=site)
    if route is not None:
        rows = rows.filter(campaign__route=route)
    with transaction.atomic():
        free = rows.select_for_update(skip_locked=True, of=("self",)).order_by("due_at")
        taken = list(free.values_list("pk", flat=True)[:limit])
        if not taken:
            return []
        Message.objects.filter(pk__in=taken).update(
            state=State.CLAIMED, lease_until=Now() + CLAIM_LEASE, fence=F("fence") + 1
        )
        crash_point("before_claim_commit")
    claimed = Message.objects.filter(pk__in=taken, state=State.CLAIMED)
    return list(claimed.select_related("member", "campaign", "version", "action__action_type").order_by("due_at"))


def give_back(messages: list[Message]) -> None:
    """Return claimed messages to the queue; nothing was sent."""
    for message in messages:
        crash_point("before_give_back")
        mine = Message.objects.filter(pk=message.pk, fence=message.fence, state=State.CLAIMED)
        mine.update(state=State.QUEUED, lease_until=None)


def sweep() -> int:
    """Free what dead workers left behind, and end what is too old; return how many messages changed."""
    # A worker that was only slow finds its messages in another state, or claimed anew with a higher fence.
    lost = Message.objects.filter(lease_until__lt=Now())
    changed = lost.filter(state=State.CLAIMED).update(state=State.QUEUED, lease_until=None)
    crash_point("after_claims_freed")
    with transaction.atomic():
        rows = lost.filter(state=State.SENDING).select_for_update(skip_locked=True)
        begun = list(rows.values_list("pk", flat=True)[:1000])
        if begun:
            SendAttempt.objects.filter(message__in=begun, outcome=SendAttempt.Outcome.OPEN).update(
                outcome=SendAttempt.Outcome.UNKNOWN, cause=Code.LEASE_LOST, ended_at=Now()
            )
            changed += Message.objects.filter(pk__in=begun).update(
                state=State.UNKNOWN, reason=Code.LEASE_LOST, lease_until=None, updated_at=Now()
            )
            crash_point("before_sweep_commit")
    crash_point("after_sweep")
    for state in (State.QUEUED, State.HELD):
        over = Message.objects.filter(state=state, expires_at__lte=Now())
        # What a message waited for while it became too old is the better reason.
        over.filter(reason="").update(reason=Code.EXPIRED)
        changed += over.update(state=State.EXPIRED, updated_at=Now())
    return changed


def hold_behind_breakers() -> None:
    """Hold what would be sent with a token that is refused, or to a vendor that is down."""
    for breaker in breakers.opened():
        reason = Code.VENDOR_DOWN if breakers.is_outage(breaker) else Code.TOKEN_REFUSED
        _hold(_of_token(State.QUEUED, breaker.site_id, breaker.token_kind), reason)


def hold_without_token(site: Site, route: str) -> None:
    """Hold what cannot be sent because the site has no token for it yet."""
    _hold(Message.objects.filter(state=State.QUEUED, site=site, campaign__route=route), Code.TOKEN_MISSING)


def release() -> None:
    """Let go what no longer waits behind a pause, a breaker or a missing token."""
    held = Message.objects.filter(state=State.HELD)
    # The last look holds again what is still forbidden; so it is enough to ask whether anything has changed.
    paused = Q(site__state=Site.State.PAUSED) | Q(campaign__state=Campaign.State.PAUSED)
    _let_go(held.filter(reason__in=[Code.SITE_PAUSED, Code.CAMPAIGN_PAUSED]).exclude(paused))
    waiting = held.filter(reason=Code.CANARY).exclude(campaign__canary_passed_at=None, campaign__canary_size__gt=0)
    _let_go(waiting)
    for site_id in held.filter(reason=Code.STOPPED).order_by().values_list("site_id", flat=True).distinct():
        if not stops.is_stopped(site_id):
            _let_go(held.filter(reason=Code.STOPPED, site=site_id))
    for site_id, route in (
        held.filter(reason__in=_TOKEN_REASONS).order_by().values_list("site_id", "campaign__route").distinct()
    ):
        kind = TOKEN_OF_ROUTE[route]
        if not breakers.is_open(site_id, kind) and _has_token(site_id, kind):
            _let_go(_of_token(State.HELD, site_id, kind).filter(reason__in=_TOKEN_REASONS))


def expire_stopped(site: Site | None) -> int:
    """End the messages that a stop held, instead of sending them when it ends; return how many."""
    held = Message.objects.filter(state=State.HELD, reason=Code.STOPPED)
    if site is not None:
        held = held.filter(site=site)
    return held.update(state=State.EXPIRED, updated_at=Now())


def waits_for_probe(site: Site, token_kind: str) -> bool:
    """Tell whether a message is held behind a breaker that could be sent to probe it."""
    return _behind_breaker(site, token_kind).exists()


def take_probe(site: Site, token_kind: str) -> list[Message]:
    """Claim one message that is held behind a breaker, to see whether the vendor answers again."""
    with transaction.atomic():
        held = _behind_breaker(site, token_kind)
        oldest = held.select_for_update(skip_locked=True, of=("self",)).order_by("due_at").values_list("pk", flat=True)
        taken = list(oldest[:1])
        Message.objects.filter(pk__in=taken).update(
            state=State.CLAIMED, lease_until=Now() + CLAIM_LEASE, fence=F("fence") + 1
        )
    crash_point("after_probe_claim")
    claimed = Message.objects.filter(pk__in=taken, state=State.CLAIMED)
    return list(claimed.select_related("member", "campaign", "version", "action__action_type"))


def _behind_breaker(site: Site, token_kind: str) -> QuerySet[Message]:
    return _of_token(State.HELD, site.pk, token_kind).filter(reason__in=_TOKEN_REASONS, expires_at__gt=Now())


def _of_token(state: str, site_id: int, token_kind: str) -> QuerySet[Message]:
    routes = [route for route, needed in TOKEN_OF_ROUTE.items() if needed == token_kind]
    return Message.objects.filter(state=state, site_id=site_id, campaign__route__in=routes)


def _has_token(site_id: int, kind: str) -> bool:
    return AccessToken.objects.filter(
        site_id=site_id, kind=kind, slot=AccessToken.Slot.CURRENT, revoked_at=None
    ).exists()


# An UPDATE cannot join, so both choose their rows by a subquery.


def _hold(queued: QuerySet[Message], reason: str) -> None:
    rows = Message.objects.filter(pk__in=queued.values("pk"), state=State.QUEUED)
    if rows.update(state=State.HELD, reason=reason, updated_at=Now()):
        crash_point("after_hold")


def _let_go(held: QuerySet[Message]) -> None:
    rows = Message.objects.filter(pk__in=held.values("pk"), state=State.HELD)
    if rows.update(state=State.QUEUED, reason="", due_at=Now(), updated_at=Now()):
        crash_point("after_release")
