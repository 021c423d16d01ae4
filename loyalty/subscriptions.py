"""Asks members to subscribe, at Attentive's pace and never twice.

Subscribing somebody who is subscribed makes Attentive text them. So eligibility is asked first: "may be texted" means
subscribed already, and nothing is posted. Otherwise the row becomes REQUESTED, committed, before the one POST leaves.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from attentive_integration import rate_limit
from attentive_integration.attentive import AttentiveClient, Eligibilities
from attentive_integration.crash import crash_point
from attentive_integration.http import ErrorKind, VendorError
from loyalty import audit, breakers, consent, stops, tokens
from loyalty.models import AccessToken, Consent, ConsentEvent, Member, SignUpSource, Site
from loyalty.models.scope import Someone

State = Consent.State
Source = ConsentEvent.Source
APP = AccessToken.Kind.ATTENTIVE_APP

# Rows taken at a time while nobody waits to be asked, and how many of those there may be before more are looked for.
_SLICE, _AHEAD = 50, 10
# Calls under way at a time, and how long a worker owns a row.
_THREADS = 16
_LEASE = timedelta(minutes=2)
# From the reservation of a slot to the call (seconds): the time to write down who is about to be asked.
_LEAD = 0.1
# A person who has to answer "Y" may take their time: how often their eligibility is read again.
_RECHECK = timedelta(hours=1)
# How long to wait before another try where Attentive does not say it (seconds).
_RETRY_PAUSE = 2.0


class CannotSubscribe(Exception):
    """The site is not ready to subscribe anybody; `str()` is a sentence with the remedy."""


@dataclass(frozen=True)
class _Answer:
    value: Any = None
    error: VendorError | None = None


def require_ready(site: Site) -> tuple[AttentiveClient, SignUpSource]:
    """Return what asking members takes; raises `CannotSubscribe` while the site is not ready for it."""
    if site.state == Site.State.DRAFT:
        raise CannotSubscribe(
            _("%(site)s is a draft. Activate it before members are asked.") % {"site": site.client_name}
        )
    if site.state == Site.State.PAUSED:
        raise CannotSubscribe(_("%(site)s is paused. Resume it before members are asked.") % {"site": site.client_name})
    if site.asking_paused_at is not None:
        raise CannotSubscribe(
            _("The subscribe queue of %(site)s is paused. Resume it on the site's page.") % {"site": site.client_name}
        )
    if stops.is_stopped(site.pk):
        raise CannotSubscribe(_("Everything is stopped for %(site)s. End the stop first.") % {"site": site.client_name})
    source = site.sign_up_sources.filter(is_default=True).first() or site.sign_up_sources.order_by("pk").first()
    if source is None:
        raise CannotSubscribe(
            _(
                "Attentive needs a sign-up source ID. In Attentive open the Subscribers tab (newer screens: Sign-up "
                "Units), copy the ID of the sign-up flow, and enter it on the Activate page of %(site)s."
            )
            % {"site": site.client_name}
        )
    try:
        if not (secret := tokens.token_secret(site, APP)):
            raise tokens.TokenUnusable(
                _("%(site)s has no Attentive app key yet. Enter it on the site's Activate page.")
                % {"site": site.client_name}
            )
        if (pause := _long_pause(secret)) is not None:
            raise CannotSubscribe(pause.sentence)
        return tokens.attentive_client(site), source
    except tokens.TokenUnusable as missing:
        raise CannotSubscribe(str(missing)) from None


@transaction.atomic
def pause(site: Site, by: Someone = None) -> None:
    """Let nobody of the site be asked until `resume`; calls under way end. Texts go on."""
    if Site.objects.filter(pk=site.pk, asking_paused_at=None).update(asking_paused_at=timezone.now()):
        audit.record("asking.paused", site=site, user=by)
    site.refresh_from_db(fields=["asking_paused_at"])


@transaction.atomic
def resume(site: Site, by: Someone = None) -> None:
    """Let those who wait be asked again."""
    if Site.objects.filter(pk=site.pk, asking_paused_at__isnull=False).update(asking_paused_at=None):
        audit.record("asking.resumed", site=site, user=by)
    site.refresh_from_db(fields=["asking_paused_at"])


def _long_pause(secret: str) -> rate_limit.LongPause | None:
    """Return the pause that the vendor asked for, of reading or of asking, when it is not worth waiting for."""
    seconds = rate_limit.seconds_blocked(*(tokens.pace(secret, endpoint)[0] for endpoint in ("DEFAULT", "SUBSCRIBE")))
    return rate_limit.LongPause(seconds) if seconds > rate_limit.PATIENCE else None


def subscribe_due(site: Site, *, deadline: float | None = None) -> Counter[str]:
    """Work through the site's TO_ASK rows until none is left, `deadline` (time.monotonic()) has passed, or Attentive
    asks for a long pause.

    Returns counts: already_subscribed, requested, refused, unclear, retried, and `left`, the rows still to ask. Raises
    `CannotSubscribe` when the site is not ready. In test mode only guest phones are asked.
    """
    client, source = require_ready(site)
    counts: Counter[str] = Counter()
    started_at = timezone.now()
    _Asking(site, client, source, counts).run(deadline)
    _confirm_requested(site, client, since=started_at, deadline=deadline, counts=counts)
    counts["left"] = _to_ask(site).count()
    return counts


def subscribe_if_ready(site: Site, *, deadline: float | None = None) -> Counter[str]:
    """Do as `subscribe_due`, and nothing when the site is not ready to ask anybody."""
    try:
        return subscribe_due(site, deadline=deadline)
    except CannotSubscribe:
        return Counter()


def sites_with_waiting_members() -> list[int]:
    """Return the ids of the active sites that have members to ask or answers to look up."""
    waiting = Consent.objects.filter(
        site=OuterRef("pk"), channel=Consent.Channel.TEXT, state__in=[State.TO_ASK, State.REQUESTED]
    )
    active = Site.objects.filter(state__in=[Site.State.TEST, Site.State.LIVE], asking_paused_at=None)
    return list(active.filter(Exists(waiting)).order_by("pk").values_list("pk", flat=True))


def _at_a_time(site: Site, waiting: Any) -> int:
    """Return how many of the waiting rows may be worked on now: behind an open breaker one that probes it, or none."""
    if not breakers.is_open(site.pk, APP):
        return _SLICE
    return 1 if waiting.exists() and breakers.may_probe(site, APP, timezone.now()) else 0


def _to_ask(site: Site) -> Any:
    rows = Consent.objects.filter(site=site, channel=Consent.Channel.TEXT, state=State.TO_ASK)
    return rows.filter(address__in=site.guest_phones) if site.state == Site.State.TEST else rows


def _tried_again(site: Site) -> Any:
    """Return the rows that wait for another try, soonest first; an index holds these alone."""
    return _to_ask(site).filter(due_at__isnull=False).order_by("due_at")


def _seconds_until_next(site: Site) -> float | None:
    """Return how long until a row may be tried again, None when there is none."""
    due = _tried_again(site).values_list("due_at", flat=True).first()
    return max(0.1, (due - timezone.now()).total_seconds()) if due else None


@transaction.atomic
def _claim(site: Site, most: int) -> list[Consent]:
    """Own up to so many rows for a while; rows of a worker that died come free when its lease ends."""
    now = timezone.now()
    free = _to_ask(site).filter(Q(lease_until=None) | Q(lease_until__lt=now), Q(due_at=None) | Q(due_at__lte=now))
    rows = list(free.select_for_update(skip_locked=True).order_by("pk")[:most])
    for row in rows:
        row.lease_until, row.fence = now + _LEASE, row.fence + 1
    Consent.objects.bulk_update(rows, ["lease_until", "fence"])
    return rows


class _Asking:
    """Works through the waiting rows: eligibility first, then one POST for each person who may not be texted yet.

    While posts wait for their slots, the next rows' eligibility is asked, so that no slot is lost.
    """

    def __init__(self, site: Site, client: AttentiveClient, source: SignUpSource, counts: Counter[str]) -> None:
        self.site, self.client, self.source, self.counts = site, client, source, counts
        self.to_post: list[Consent] = []
        self.posts: dict[Future[_Answer | None], Consent] = {}
        self.secret = tokens.token_secret(site, APP) or ""
        self.token_works = True

    def run(self, deadline: float | None) -> None:
        with ThreadPoolExecutor(_THREADS) as self.pool:
            while self.token_works and self._may_go_on() and (deadline is None or time.monotonic() < deadline):
                found = self._look_ahead()
                # Looking may have taken a while.
                begun = self._post() if not found or self._may_go_on() else 0
                late = self._collect(wait_seconds=0.0 if begun else 0.05)
                if not (found or late or self.to_post or self.posts) and not self._wait_for_more():
                    break
            while self.posts:
                self._collect(wait_seconds=1.0)
        _release(self.to_post)

    def _may_go_on(self) -> bool:
        """Read the site anew: a pause or a stop takes effect at once, also one that Attentive asks for."""
        self.site.refresh_from_db(fields=["state", "asking_paused_at", "guest_phones", "subscribe_email"])
        may_be_asked = self.site.state in (Site.State.TEST, Site.State.LIVE) and not stops.is_stopped(self.site.pk)
        return may_be_asked and self.site.asking_paused_at is None and _long_pause(self.secret) is None

    def _wait_for_more(self) -> bool:
        """Wait for a row that may be tried again soon; False when there is none."""
        pause = _seconds_until_next(self.site)
        if pause is None or pause > rate_limit.PATIENCE:
            return False
        time.sleep(pause)
        return True

    def _look_ahead(self) -> int:
        """Claim some rows and ask for their eligibility; return how many."""
        most = _at_a_time(self.site, _to_ask(self.site))
        if most < _SLICE:
            # Behind an open breaker one person probes, and nobody else.
            _release(self.to_post)
            self.to_post = []
        elif self.to_post:
            most = _AHEAD
        rows = _claim(self.site, most) if len(self.to_post) < _AHEAD else []
        if not rows:
            return 0
        crash_point("after_ask_claim")
        answers = _in_parallel(self.site, rows, lambda row: self.client.get_lists(phone=row.address))
        for row, answer in zip(rows, answers, strict=True):
            if answer.error is not None:
                if not _give_back(self.site, "DEFAULT", row, answer.error, self.counts):
                    self.token_works = False
            elif _is_textable(answer.value):
                consent.hear(
                    self.site, channel=row.channel, address=row.address, state=State.SUBSCRIBED,
                    source=Source.ELIGIBILITY, event_at=None,
                    evidence=_("Attentive answered that this phone may be texted."),
                )  # fmt: skip
                breakers.record_success(self.site, APP)
                self.counts["already_subscribed"] += 1
            else:
                self.to_post.append(row)
        crash_point("after_eligibility")
        return len(rows)

    def _post(self) -> int:
        """Begin as many posts as slots lie close ahead; return how many."""
        if not self.to_post or not self.token_works:
            return 0
        reservation = rate_limit.reserve(*_pace(self.site, "SUBSCRIBE"), len(self.to_post), lead=_LEAD)
        taken = len(reservation.slots) if reservation else 0
        rows, self.to_post = self.to_post[:taken], self.to_post[taken:]
        if reservation is None:
            return 0
        emails = _emails(self.site, rows)
        for row, slot in zip(rows, reservation.slots, strict=True):
            if _mark_requested(row, slot):
                self.posts[self.pool.submit(self._call, row, emails.get(row.address), slot, reservation)] = row
        return taken

    def _call(
        self, row: Consent, email: str | None, slot: float, reservation: rate_limit.Reservation
    ) -> _Answer | None:
        """Subscribe one person at this slot, in a thread of the pool; None when it was too late, and nothing went."""
        time.sleep(max(0.0, slot - time.monotonic()))
        if reservation.is_late(slot):
            return None
        source = self.source.sign_up_source_id
        return _answer(
            lambda: self.client.add_or_update_contact(phone=row.address, email=email or None, sign_up_source_id=source)
        )

    def _collect(self, *, wait_seconds: float) -> int:
        """Write down what came of the posts that have ended; return how many came too late and are asked anew."""
        late = 0
        ended, _rest = wait(self.posts, timeout=wait_seconds, return_when=FIRST_COMPLETED)
        if ended:
            crash_point("after_subscribe_calls")
        for post in ended:
            row, answer = self.posts.pop(post), post.result()
            if answer is None:
                late += consent.step(row, State.TO_ASK, expected=[State.REQUESTED])
            elif not _after_post(self.site, row, answer, self.counts):
                self.token_works = False
        return late


def _is_textable(eligibilities: Eligibilities) -> bool:
    return eligibilities.is_eligible("MARKETING", "TEXT")


def _emails(site: Site, rows: Sequence[Consent]) -> dict[str, str]:
    if not site.subscribe_email:
        return {}
    return dict(Member.objects.filter(site=site, phone__in=[row.address for row in rows]).values_list("phone", "email"))


def _in_parallel(site: Site, rows: Sequence[Consent], call: Callable[[Consent], Any]) -> list[_Answer]:
    """Make one reading call for each row at the token's pace; the threads do not touch the database.

    Rows that were not called, because Attentive wants a long pause, are answered with that error.
    """
    if not rows:
        return []
    with ThreadPoolExecutor(max_workers=min(_THREADS, len(rows))) as pool:
        calls, not_called = [], []
        try:
            for row in rate_limit.paced(*_pace(site, "DEFAULT"), rows):
                calls.append(pool.submit(_answer, partial(call, row)))
        except rate_limit.LongPause as pause:
            not_called = [_Answer(error=pause)] * (len(rows) - len(calls))
        return [begun.result() for begun in calls] + not_called


def _answer(call: Callable[[], Any]) -> _Answer:
    try:
        return _Answer(call())
    except VendorError as error:
        return _Answer(error=error)


def _pace(site: Site, endpoint: str) -> tuple[str, int]:
    """Return the limiter's key of the app key for an endpoint class, and the vendor's limit in calls a second."""
    return tokens.pace(tokens.token_secret(site, APP) or "", endpoint)


def _mark_requested(row: Consent, slot: float) -> bool:
    """Commit that this person is asked at this slot, before the request leaves; False when the row is ours no more."""
    at = timezone.now() + timedelta(seconds=max(0.0, slot - time.monotonic()))
    is_mine = consent.step(row, State.REQUESTED, expected=[State.TO_ASK], requested_at=at)
    crash_point("after_request_commit")
    return is_mine


def _after_post(site: Site, row: Consent, answer: _Answer, counts: Counter[str]) -> bool:
    """Write down what came of a subscription that was asked for; False = the token is held."""
    error = answer.error
    if error is None:
        breakers.record_success(site, APP)
        words = ", ".join(f"{r.type}/{r.channel}: {r.status}" for r in answer.value)
        Consent.objects.filter(pk=row.pk, state=State.REQUESTED).update(detail=words[:300])
        counts["requested"] += 1
        return True
    if error.kind == ErrorKind.UNKNOWN:
        # Attentive may have taken it. Asking again could text the person twice; eligibility will tell.
        breakers.record_failure(site, APP, error)
        Consent.objects.filter(pk=row.pk, state=State.REQUESTED).update(detail=error.sentence[:300])
        counts["unclear"] += 1
        return True
    return _give_back(site, "SUBSCRIBE", row, error, counts)


def _give_back(site: Site, endpoint: str, row: Consent, error: VendorError, counts: Counter[str]) -> bool:
    """Return a row to the queue after a call that did nothing, or take it out when asking again is no use."""
    breakers.record_failure(site, APP, error)
    waiting = [State.TO_ASK, State.REQUESTED]
    if error.kind == ErrorKind.REFUSED:
        # Back to UNKNOWN: it is not asked again by itself, and the sentence says why.
        consent.step(row, State.UNKNOWN, expected=waiting, detail=error.sentence)
        counts["refused"] += 1
        return True
    due_at = timezone.now() + timedelta(seconds=_obey(site, endpoint, error))
    consent.step(row, State.TO_ASK, expected=waiting, detail=error.sentence, due_at=due_at)
    counts["retried"] += 1
    return error.kind != ErrorKind.CREDENTIALS


def _obey(site: Site, endpoint: str, error: VendorError) -> float:
    """Let every process keep the pause that Attentive asks for; return the seconds before another try."""
    pause = error.retry_after if error.retry_after is not None else _RETRY_PAUSE
    if error.status == 429:
        rate_limit.block(_pace(site, endpoint)[0], pause)
    return pause


def _release(rows: list[Consent]) -> None:
    """Give up the lease on rows that are still to ask."""
    for row in rows:
        Consent.objects.filter(pk=row.pk, fence=row.fence, state=State.TO_ASK).update(lease_until=None)


def _confirm_requested(
    site: Site, client: AttentiveClient, *, since: datetime, deadline: float | None, counts: Counter[str]
) -> None:
    """Read the eligibility of people who were asked: those who may be texted now have subscribed."""
    stale = Q(checked_at=None) | Q(checked_at__lt=timezone.now() - _RECHECK) | Q(requested_at__gte=since)
    waiting = Consent.objects.filter(site=site, channel=Consent.Channel.TEXT, state=State.REQUESTED).filter(stale)
    last = 0
    while deadline is None or time.monotonic() < deadline:
        rest = waiting.filter(pk__gt=last)
        rows = list(rest.order_by("pk")[: _at_a_time(site, rest)])
        if not rows:
            return
        last = rows[-1].pk
        answers = _in_parallel(site, rows, lambda row: client.get_lists(phone=row.address))
        now = timezone.now()
        for row, answer in zip(rows, answers, strict=True):
            if answer.error is not None:
                breakers.record_failure(site, APP, answer.error)
                if _obey(site, "DEFAULT", answer.error) > rate_limit.PATIENCE:
                    return
                continue
            breakers.record_success(site, APP)
            Consent.objects.filter(pk=row.pk).update(checked_at=now)
            if _is_textable(answer.value):
                consent.hear(
                    site, channel=row.channel, address=row.address, state=State.SUBSCRIBED, source=Source.ELIGIBILITY,
                    event_at=None, evidence=_("Attentive answered that this phone may be texted."),
                )  # fmt: skip
                counts["confirmed"] += 1
