"""Asks members to subscribe, and takes them out, at Attentive's pace and never twice.

Subscribing somebody who is subscribed, and unsubscribing twice, makes Attentive text them. So eligibility is asked
first: "may be texted" means subscribed already, and nothing is posted. Otherwise the row becomes REQUESTED, committed,
before the one POST leaves.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from loyalty import breakers, consent, stops, tokens
from loyalty.models import AccessToken, Consent, ConsentEvent, Member, SignUpSource, Site
from loyalty.models.scope import Someone

State = Consent.State
Source = ConsentEvent.Source
APP = AccessToken.Kind.ATTENTIVE_APP

# Rows taken at a time, calls under way at a time, and how long a worker owns a row.
_SLICE = 50
_THREADS = 16
_LEASE = timedelta(minutes=2)
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
    began_at: datetime | None = None


def require_ready(site: Site) -> tuple[AttentiveClient, SignUpSource]:
    """Return what asking members takes; raises `CannotSubscribe` while the site is not ready for it."""
    if site.state == Site.State.DRAFT:
        raise CannotSubscribe(
            _("%(site)s is a draft. Activate it before members are asked.") % {"site": site.client_name}
        )
    if site.state == Site.State.PAUSED:
        raise CannotSubscribe(_("%(site)s is paused. Resume it before members are asked.") % {"site": site.client_name})
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
        if not tokens.token_secret(site, APP):
            raise tokens.TokenUnusable(
                _("%(site)s has no Attentive app key yet. Enter it on the site's Activate page.")
                % {"site": site.client_name}
            )
        return tokens.attentive_client(site), source
    except tokens.TokenUnusable as missing:
        raise CannotSubscribe(str(missing)) from None


def subscribe_due(site: Site, *, deadline: float | None = None) -> Counter[str]:
    """Work through the site's TO_ASK rows until none is left or `deadline` (time.monotonic()) has passed.

    Returns counts: already_subscribed, requested, refused, unclear, retried, and `left`, the rows still to ask. Raises
    `CannotSubscribe` when the site is not ready. In test mode only guest phones are asked.
    """
    client, source = require_ready(site)
    counts: Counter[str] = Counter()
    started_at = timezone.now()
    while deadline is None or time.monotonic() < deadline:
        most = _at_a_time(site, _to_ask(site))
        if not most:
            break
        rows = [] if stops.is_stopped(site.pk) else _claim(site, most)
        if not rows:
            pause = _seconds_until_next(site)
            if pause is None or pause > 10:
                break
            time.sleep(pause)
            continue
        crash_point("after_ask_claim")
        if not _work_through(site, client, source, rows, counts):
            break
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
    active = Site.objects.filter(state__in=[Site.State.TEST, Site.State.LIVE])
    return list(active.filter(Exists(waiting)).order_by("pk").values_list("pk", flat=True))


def _at_a_time(site: Site, waiting: Any) -> int:
    """Return how many of the waiting rows may be worked on now: behind an open breaker one that probes it, or none."""
    if not breakers.is_open(site.pk, APP):
        return _SLICE
    return 1 if waiting.exists() and breakers.may_probe(site, APP, timezone.now()) else 0


def _to_ask(site: Site) -> Any:
    rows = Consent.objects.filter(site=site, channel=Consent.Channel.TEXT, state=State.TO_ASK)
    return rows.filter(address__in=site.guest_phones) if site.state == Site.State.TEST else rows


def _seconds_until_next(site: Site) -> float | None:
    """Return how long until a row may be tried again, None when there is none."""
    due = _to_ask(site).exclude(due_at=None).order_by("due_at").values_list("due_at", flat=True).first()
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


def _work_through(
    site: Site, client: AttentiveClient, source: SignUpSource, rows: list[Consent], counts: Counter[str]
) -> bool:
    """Ask for each row's eligibility, then post those that are not textable; False = the token is held."""
    answers = _in_parallel(site, "DEFAULT", rows, lambda row: client.get_lists(phone=row.address))
    to_post: list[Consent] = []
    for row, answer in zip(rows, answers, strict=True):
        if answer is None:
            continue
        if answer.error is not None:
            if not _give_back(site, row, answer.error, counts):
                _release(rows)
                return False
        elif _is_textable(answer.value):
            consent.hear(
                site, channel=row.channel, address=row.address, state=State.SUBSCRIBED, source=Source.ELIGIBILITY,
                event_at=None, evidence=_("Attentive answered that this phone may be texted."),
            )  # fmt: skip
            breakers.record_success(site, APP)
            counts["already_subscribed"] += 1
        else:
            to_post.append(row)
    crash_point("after_eligibility")
    emails = _emails(site, to_post)
    answers = _in_parallel(
        site,
        "SUBSCRIBE",
        to_post,
        lambda row: client.add_or_update_contact(
            phone=row.address, email=emails.get(row.address) or None, sign_up_source_id=source.sign_up_source_id
        ),
        may_begin=partial(_mark_requested, site),
    )
    crash_point("after_subscribe_calls")
    alive = True
    for row, answer in zip(to_post, answers, strict=True):
        if answer is not None:
            alive = _after_post(site, row, answer, counts) and alive
    return alive


def _is_textable(eligibilities: Eligibilities) -> bool:
    return eligibilities.is_eligible("MARKETING", "TEXT")


def _emails(site: Site, rows: Sequence[Consent]) -> dict[str, str]:
    if not site.subscribe_email:
        return {}
    return dict(Member.objects.filter(site=site, phone__in=[row.address for row in rows]).values_list("phone", "email"))


def _in_parallel(
    site: Site,
    endpoint: str,
    rows: Sequence[Consent],
    call: Callable[[Consent], Any],
    *,
    may_begin: Callable[[Consent], bool] = lambda row: True,
) -> list[_Answer | None]:
    """Make one call for each row at the token's pace; the threads do not touch the database.

    `may_begin` is asked at the last moment; where it says no, no call is made and the answer is None.
    """
    key, limit = _pace(site, endpoint)

    def one(row: Consent) -> _Answer:
        began_at = timezone.now()
        try:
            return _Answer(call(row), None, began_at)
        except VendorError as error:
            return _Answer(None, error, began_at)

    if not rows:
        return []
    with ThreadPoolExecutor(max_workers=min(_THREADS, len(rows))) as pool:
        calls = [pool.submit(one, row) if may_begin(row) else None for row in rate_limit.paced(key, limit, rows)]
        return [begun.result() if begun else None for begun in calls]


def _pace(site: Site, endpoint: str) -> tuple[str, int]:
    """Return the limiter's key of the app key for an endpoint class, and the vendor's limit in calls a second."""
    secret = tokens.token_secret(site, APP) or ""
    return tokens.pace(secret, endpoint)


def _mark_requested(site: Site, row: Consent) -> bool:
    """Commit that this person is being asked, before the request leaves; False when somebody else changed the row."""
    is_mine = consent.step(row, State.REQUESTED, expected=[State.TO_ASK], requested_at=timezone.now())
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
    return _give_back(site, row, error, counts)


def _give_back(site: Site, row: Consent, error: VendorError, counts: Counter[str]) -> bool:
    """Return a row to the queue after a call that did nothing, or take it out when asking again is no use."""
    breakers.record_failure(site, APP, error)
    waiting = [State.TO_ASK, State.REQUESTED]
    if error.kind == ErrorKind.REFUSED:
        # Back to UNKNOWN: it is not asked again by itself, and the sentence says why.
        consent.step(row, State.UNKNOWN, expected=waiting, detail=error.sentence)
        counts["refused"] += 1
        return True
    pause = error.retry_after if error.retry_after is not None else _RETRY_PAUSE
    if error.status == 429:
        rate_limit.block(_pace(site, "SUBSCRIBE")[0], pause)
    due_at = timezone.now() + timedelta(seconds=pause)
    consent.step(row, State.TO_ASK, expected=waiting, detail=error.sentence, due_at=due_at)
    counts["retried"] += 1
    return error.kind != ErrorKind.CREDENTIALS


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
        answers = _in_parallel(site, "DEFAULT", rows, lambda row: client.get_lists(phone=row.address))
        now = timezone.now()
        for row, answer in zip(rows, answers, strict=True):
            if answer is None:
                continue
            if answer.error is not None:
                breakers.record_failure(site, APP, answer.error)
                continue
            breakers.record_success(site, APP)
            Consent.objects.filter(pk=row.pk).update(checked_at=now)
            if _is_textable(answer.value):
                consent.hear(
                    site, channel=row.channel, address=row.address, state=State.SUBSCRIBED, source=Source.ELIGIBILITY,
                    event_at=None, evidence=_("Attentive answered that this phone may be texted."),
                )  # fmt: skip
                counts["confirmed"] += 1


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


def unsubscribe(site: Site, phone_or_email: str, *, by: Someone = None, evidence: str = "") -> Unsubscribed:
    """Take a person out here, whatever Attentive says, and then tell Attentive once.

    The person need not be a member. Raises `PhoneError` for a number that is none. Who left by Attentive's own word, or
    was reported to it, is not reported again, because it would text them; after a call that failed it is tried anew.
    """
    channel, address = consent.address_of(site, phone_or_email)
    with transaction.atomic():
        is_erased = consent.locked(site, channel, address).state == State.ERASED
        row = consent.opt_out(site, address, channel=channel, source=Source.STAFF, by=by, evidence=evidence)
        if is_erased or _attentive_knows(row):
            return Unsubscribed(channel, address, row.state, "already")
        # Written before the call, so that a second request at this moment, or after a crash, does not repeat it.
        _report(site, row, address)
    crash_point("after_opt_out_commit")
    try:
        client = tokens.attentive_client(site)
        rate_limit.acquire(*_pace(site, "UNSUBSCRIBE"))
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
