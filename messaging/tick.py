"""The CRON mechanism: one tick turns new actions into messages, sends what is due, and tells staff what is held.

Any number of ticks may run at once; each takes what the others have not.
"""

import time

from django.core.mail import send_mail
from django.db.models import Count, Max, Min, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from attentive_integration import heartbeats
from attentive_integration.markup import Inexact
from loyalty import breakers
from loyalty.capped_counts import CountOf, Sample, values_of
from loyalty.models import Breaker, LoyaltyAction, Site, SiteMembership
from messaging import canary, queue
from messaging.dispatch import send_due
from messaging.models import Message
from messaging.reasons import Code
from messaging.triggers import match_actions
from messaging.webhooks import process_webhooks

# A tick ends before the next minute's begins.
TICK_SECONDS = 50.0
# How long new actions are matched before sending goes on.
_MATCHING_SECONDS = 0.5
# So many messages of a state are counted one by one.
_COUNTED = 100_000


def run_tick(*, seconds: float = TICK_SECONDS) -> None:
    """Match, send and alert until nothing is due or the time is over."""
    send_due(seconds=seconds, more_work=_match_and_process)
    alert()
    heartbeats.show_alive(heartbeats.TICK)


def _match_and_process() -> int:
    until = time.monotonic() + _MATCHING_SECONDS
    found = process_webhooks(limit=500)
    canary.review()
    while time.monotonic() < until and (matched := match_actions()):
        found += matched
    return found


def counts() -> dict[str, int]:
    """Return the number of messages in each state, and `left`: what will still be sent or decided by itself soon.

    A state with more than 100,000 messages is estimated from a sample (an `Inexact` number): reading years of messages
    at the end of each tick would take longer than the tick. `verify_invariants` counts them all.
    """
    messages = Message.objects.filter(site__in=Site.objects.values("pk"))
    found = values_of({state: CountOf(messages.filter(state=state), _COUNTED) for state in Message.State.values})
    by_state = {state: count or 0 for state, count in found.items()}
    if many := [state for state, count in by_state.items() if count > _COUNTED]:
        sample = Sample.between(*Message.objects.aggregate(Min("pk"), Max("pk")).values())
        drawn = Message.objects.filter(pk__in=sample.pks, state__in=many).order_by().values_list("state")
        hits = dict(drawn.annotate(Count("pk")))
        by_state |= {state: max(sample.estimate(hits.get(state, 0)), Inexact(_COUNTED, "≥")) for state in many}
    again = Q(attempt_count__gt=0) & ~Q(reason=Code.QUIET_HOURS)
    left = (
        LoyaltyAction.objects.filter(processed_at=None).count()
        + queue.due().count()
        + Message.objects.filter(again, state=Message.State.QUEUED, due_at__gt=timezone.now()).count()
        + by_state[Message.State.CLAIMED]
        + by_state[Message.State.SENDING]
        + Message.objects.filter(state=Message.State.HELD, reason=Code.VENDOR_DOWN).count()
    )
    return {**by_state, "left": left}


def alert() -> None:
    """Tell the people of a site, once, why its texts are held."""
    for breaker in breakers.take_alerts():
        if addresses := _people_of(breaker):
            send_mail(
                _("Texts of %(site)s are held") % {"site": breaker.site.client_name},
                f"{breaker.sentence}\n\n"
                + _("Nothing is lost: the texts wait until they expire, and go on once the cause is gone."),
                None,
                addresses,
                fail_silently=True,
            )


def _people_of(breaker: Breaker) -> list[str]:
    roles = [SiteMembership.Role.MANAGER, SiteMembership.Role.ADMIN]
    members = SiteMembership.objects.filter(site=breaker.site, role__in=roles, user__is_active=True)
    return [address for address in members.values_list("user__email", flat=True).distinct() if address]
