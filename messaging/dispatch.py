"""Sends what is due: claims it, looks a last time, calls Attentive, and writes down what came of it.

One loop owns the database; a pool of threads makes the calls and touches nothing else. Each site is served in turn, at
the pace of its own token and with a bounded share of the threads, so that a slow one never holds up the others.
"""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice

from django.utils import timezone
from django.utils.translation import gettext as _

from attentive_integration import rate_limit
from attentive_integration.attentive import EVENT_KEY_REFUSES, EVENT_KEYS, AttentiveClient
from attentive_integration.crash import crash_point
from attentive_integration.http import ErrorKind, VendorError
from loyalty import breakers, tokens
from loyalty.models import AccessToken, Site
from messaging import last_look, outcomes, queue
from messaging.models import Campaign, Message
from messaging.outcomes import Call
from messaging.reasons import Code

logger = logging.getLogger(__name__)

# Calls under way at a time in one process.
_THREADS = 160
# Of these, how many one site may have: it begins with few, has more while its answers come fast, and fewer when slow.
_FIRST_WINDOW, _LEAST_WINDOW, _WIDEST_WINDOW = 16, 4, 64
_FAST_MS, _SLOW_MS = 1_000, 3_000
# From the reservation of a slot to the first byte (seconds): the time of the last look.
_LEAD = 0.06
# How often leases, holds and breakers are looked after, and the list of sites is read again (seconds).
_SWEEP_SECONDS = 2.0
# A site whose limit is reached is not asked again before so many seconds.
_REST = 0.1
# What is tried again this soon is waited for (seconds).
WORTH_WAITING = 20.0


def send_due(*, seconds: float, more_work: Callable[[], int] = lambda: 0) -> Counter[str]:
    """Send until nothing is due or `seconds` have passed, then wait for the calls under way; return counts by state.

    `more_work` may make further messages, now and then and when nothing is due; it returns how much it found.
    """
    return _Dispatcher(time.monotonic() + seconds, more_work).run()


@dataclass
class _Lane:
    """One kind of calls of one site: its own token, pace and share of the threads."""

    site: Site
    route: str
    client: AttentiveClient
    # The limiter's key (one token, one endpoint class) and the vendor's limit in calls a second.
    key: str
    limit: int
    calls: set[Future[Call]] = field(default_factory=set)
    # How many calls may be under way at a time.
    window: int = _FIRST_WINDOW
    # Slots were lost to messages that might not be sent: now they are sifted before slots are taken.
    sifts: bool = False
    rests_until: float = 0.0

    @property
    def token_kind(self) -> str:
        return queue.TOKEN_OF_ROUTE[self.route]


class _Dispatcher:
    def __init__(self, deadline: float, more_work: Callable[[], int]) -> None:
        self.deadline = deadline
        self.more_work = more_work
        self.lanes: dict[tuple[int, str], _Lane] = {}
        self.swept_at = -_SWEEP_SECONDS
        self.counts: Counter[str] = Counter()

    def run(self) -> Counter[str]:
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="send") as self.pool:
            try:
                self._work()
            finally:
                # What has begun is written down, whatever ended the work.
                while self._under_way():
                    self._collect(wait_seconds=1.0)
        return self.counts

    def _work(self) -> None:
        while time.monotonic() < self.deadline:
            if time.monotonic() - self.swept_at >= _SWEEP_SECONDS:
                self._look_around()
            begun = sum(self._fill(lane) for lane in list(self.lanes.values()))
            if self._under_way():
                self._collect(wait_seconds=0.0 if begun else 0.02)
            elif not begun and self._is_idle():
                return

    def _look_around(self) -> int:
        """Look after everything that may have changed; return how much further work was found."""
        found = self.more_work()
        queue.sweep()
        queue.hold_behind_breakers()
        queue.release()
        self._read_sites()
        self._probe()
        self.swept_at = time.monotonic()
        return found

    def _is_idle(self) -> bool:
        """Say whether there is no more to do; waits a moment when there is, but not yet."""
        if self.lanes and time.monotonic() - self.swept_at < _SWEEP_SECONDS / 4:
            time.sleep(0.02)
            return False
        if self._look_around() or self.lanes:
            return False
        soon = seconds_until_next()
        if soon is not None and soon <= min(WORTH_WAITING, self.deadline - time.monotonic()):
            time.sleep(min(max(soon, 0.01), 0.25))
            return False
        return True

    # --- Lanes --------------------------------------------------------------------------------------------------------

    def _read_sites(self) -> None:
        """Keep a lane for each site and route with something to send; read its tokens and settings anew."""
        self.lanes = {key: lane for key, lane in self.lanes.items() if lane.calls}
        sites = {site.pk: site for site in queue.sites_with_due_messages()}
        for site_id, route in queue.routes_of(sites):
            self._open_lane(sites[site_id], route)

    def _open_lane(self, site: Site, route: str) -> None:
        lane = _lane(site, route)
        if lane is None:
            queue.hold_without_token(site, route)
            return
        known = self.lanes.setdefault((site.pk, route), lane)
        known.site, known.client, known.key, known.limit = lane.site, lane.client, lane.key, lane.limit

    # --- Calls --------------------------------------------------------------------------------------------------------

    def _fill(self, lane: _Lane) -> int:
        """Begin as many calls as the lane's pace and share allow; return how many."""
        room = min(lane.window - len(lane.calls), _THREADS - len(self._under_way()))
        # Calls that end one by one are not worth a transaction each.
        if room < lane.window / 2 or time.monotonic() < lane.rests_until:
            return 0
        room = min(room, rate_limit.available(lane.key, lane.limit))
        claimed = queue.claim(lane.site, room, route=lane.route) if room > 0 else []
        crash_point("after_claim")
        if not claimed:
            lane.rests_until = time.monotonic() + _REST
        return self._begin(lane, claimed) if claimed else 0

    def _begin(self, lane: _Lane, claimed: list[Message]) -> int:
        """Reserve slots for claimed messages, look a last time, and hand the calls to the threads."""
        looked_at = len(claimed)
        if lane.sifts:
            claimed = last_look.sift(lane.site.pk, claimed)
            lane.sifts = len(claimed) < looked_at
            if not claimed:
                return looked_at
        reservation = rate_limit.reserve(lane.key, lane.limit, len(claimed), lead=_LEAD)
        taken = len(reservation.slots) if reservation else 0
        queue.give_back(claimed[taken:])
        if reservation is None:
            lane.rests_until = time.monotonic() + _REST
            return 0
        messages = last_look.begin(lane.site.pk, claimed[:taken])
        lane.sifts = lane.sifts or len(messages) < taken
        crash_point("after_attempt_commit")
        for message, slot in zip(messages, reservation.slots, strict=False):
            lane.calls.add(self.pool.submit(_call, lane.client, message, slot, reservation))
        return taken

    def _probe(self) -> None:
        """Send one message through each breaker whose probe is due."""
        for breaker in breakers.opened():
            site, kind = breaker.site, breaker.token_kind
            route = next((route for route, needed in queue.TOKEN_OF_ROUTE.items() if needed == kind), None)
            lane = _lane(site, route) if route else None
            if lane is None or site.state in (Site.State.DRAFT, Site.State.PAUSED):
                continue
            # The probe of a token that members are asked with as well is left to them when no text waits for it.
            if not queue.waits_for_probe(site, kind) or not breakers.may_probe(site, kind, timezone.now()):
                continue
            if probe := queue.take_probe(site, kind):
                self._begin(self.lanes.setdefault((site.pk, lane.route), lane), probe)

    def _under_way(self) -> set[Future[Call]]:
        return set().union(*(lane.calls for lane in self.lanes.values())) if self.lanes else set()

    def _collect(self, *, wait_seconds: float) -> None:
        """Write down the calls that have ended."""
        ended, _rest = wait(self._under_way(), timeout=wait_seconds, return_when=FIRST_COMPLETED)
        if not ended:
            return
        by_lane: dict[tuple[int, str], list[Call]] = defaultdict(list)
        for key, lane in self.lanes.items():
            done = lane.calls & ended
            lane.calls -= done
            by_lane[key] = [future.result() for future in done]
        calls = [call for found in by_lane.values() for call in found]
        crash_point("before_outcome_commit")
        outcomes.record_patiently(calls)
        crash_point("after_outcome_commit")
        self.counts.update(outcomes.verdict(call).state.value for call in calls)
        for key, found in by_lane.items():
            if found:
                _learn(self.lanes[key], found)
        crash_point("after_lessons")


def _lane(site: Site, route: str) -> _Lane | None:
    """Return a lane with a client for the site's token of this route; None when there is none that can be read."""
    try:
        secrets = tokens.attentive_secrets(site)
        secret = secrets.get(queue.TOKEN_OF_ROUTE[route])
        if not secret:
            return None
        return _Lane(site, route, tokens.client_with(site, secrets), *tokens.pace(secret))
    except tokens.TokenUnusable:
        return None


def _call(client: AttentiveClient, message: Message, slot: float, reservation: rate_limit.Reservation) -> Call:
    """Make one call at its slot, in a thread of the pool; never raises."""
    time.sleep(max(0.0, slot - time.monotonic()))
    began_at = timezone.now()
    if reservation.is_late(slot):
        return Call(message, began_at)
    crash_point("before_call")
    try:
        if message.campaign.route == Campaign.Route.EVENT:
            answer = client.custom_event(
                type=message.version.event_type or message.campaign.name,
                phone=message.to,
                properties=_properties(message),
                external_event_id=str(message.external_event_id),
                occurred_at=message.action.occurred_at,
            )
        else:
            version = message.version
            answer = client.messages(
                to=message.to, body=message.body, link=version.link or None, media_url=version.media_url or None
            ).answer
    except VendorError as error:
        crash_point("after_call")
        return Call(message, began_at, error=error)
    except ValueError as refusal:
        return Call(message, began_at, error=VendorError(str(refusal), ErrorKind.REFUSED, cause="NOT_SENT"))
    except Exception as fault:
        # Whether anything left is not known here; the other calls of this worker must still be written down.
        logger.exception("A call for message %s broke off.", message.pk)
        sentence = _("This server stumbled over the call (%(fault)s). Whether the text left is not known.")
        unclear = VendorError(sentence % {"fault": type(fault).__name__}, ErrorKind.UNKNOWN, cause="OUR_FAULT")
        return Call(message, began_at, error=unclear)
    crash_point("after_call")
    return Call(message, began_at, answer=answer)


def _properties(message: Message) -> dict[str, str | int | float | bool]:
    """Return what a custom event tells of the action: its own scalars, and what the program says of the member.

    Names that Attentive refuses, and those beyond its number, stay behind: the event itself is worth more.
    """
    action, member = message.action, message.member
    own = {
        key: value
        for key, value in action.data.items()
        if isinstance(value, str | int | float | bool) and not EVENT_KEY_REFUSES & set(key)
    }
    facts = {
        "action": action.action_type.code,
        "points": action.points if action.points is not None else member.points,
        "points_delta": action.points_delta,
        "tier": member.tier,
        "first_name": member.first_name,
        "last_name": member.last_name,
    }
    told = {key: value for key, value in facts.items() if value is not None and value != ""}
    return {**dict(islice(own.items(), EVENT_KEYS - len(told))), **told}


def _learn(lane: _Lane, calls: list[Call]) -> None:
    """Draw the lessons of a few calls: the pace the vendor wants, the breaker, and when the token last worked."""
    for call in calls:
        if call.error is not None:
            breakers.record_failure(lane.site, lane.token_kind, call.error)
            if call.error.status == 429:
                rate_limit.block(lane.key, call.error.retry_after if call.error.retry_after is not None else 1.0)
        elif call.answer is not None and call.answer.rate_limit_remaining == 0:
            rate_limit.block(lane.key, 0.25)
    slowest = max((reply.duration_ms for call in calls if (reply := call.answer or call.error)), default=0)
    if slowest > _SLOW_MS:
        lane.window = max(_LEAST_WINDOW, lane.window // 2)
    elif slowest < _FAST_MS:
        lane.window = min(_WIDEST_WINDOW, lane.window * 2)
    accepted = [call for call in calls if call.answer is not None]
    if accepted:
        breakers.record_success(lane.site, lane.token_kind)
    last = max(calls, key=lambda call: call.began_at)
    if last.answer is not None or last.error is not None:
        result = last.error.sentence[:300] if last.error is not None else ""
        AccessToken.objects.filter(
            site=lane.site, kind=lane.token_kind, slot=AccessToken.Slot.CURRENT, revoked_at=None
        ).update(last_used_at=last.began_at, last_result=result)
    if len(accepted) < len(calls) and breakers.is_open(lane.site.pk, lane.token_kind):
        # Nothing more begins with this token: what waits is held when breakers are next looked after.
        lane.rests_until = time.monotonic() + _SWEEP_SECONDS


def seconds_until_next() -> float | None:
    """Return in how many seconds a message is tried again or an outage is probed, None when nothing waits for that."""
    retried = Message.objects.filter(state=Message.State.QUEUED, attempt_count__gt=0).exclude(reason=Code.QUIET_HOURS)
    moments = [retried.order_by("due_at").values_list("due_at", flat=True).first()]
    held = Message.objects.filter(state=Message.State.HELD, reason=Code.VENDOR_DOWN)
    moments += [
        breaker.probe_at
        for breaker in breakers.opened()
        if breakers.is_outage(breaker) and held.filter(site=breaker.site_id).exists()
    ]
    known = [moment for moment in moments if moment is not None]
    return (min(known) - timezone.now()).total_seconds() if known else None
