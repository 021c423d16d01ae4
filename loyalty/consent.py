"""Consent: the only code that writes `Consent` and `ConsentEvent`.

Facts about an address arrive from webhooks, lists, calls and staff, in any order and more than once. They are ordered
by when they happened, not by when they were heard: an older fact never overwrites a newer one, a tie goes to the
opt-out, and a fact without a time never beats one that has it. Every fact is kept in the ledger, also when it changed
nothing. Opt-outs and the sending engine lock the same row.
"""

import hmac
import secrets as random_secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import OuterRef, Subquery
from django.utils import timezone

from attentive_integration import phones
from attentive_integration.crash import crash_point
from attentive_integration.secrets import seal, unseal
from loyalty.models import Consent, ConsentEvent, Member, Site
from loyalty.models.members import ERASED_MARK
from loyalty.models.scope import Someone, known_user

State = Consent.State
Channel = Consent.Channel
Source = ConsentEvent.Source

# Vendors' clocks may run ahead of ours by this much; a time further ahead is no time.
_CLOCK_SKEW = timedelta(minutes=5)
# What a person decided: only these facts move the row's event time.
_DECISIONS = (State.SUBSCRIBED, State.UNSUBSCRIBED, State.ERASED)
_HASHED = "hash:"


def suppression_hash(site: Site, address: str) -> str:
    """Return the keyed hash under which an erased address of this site is remembered."""
    if not _has_erased(site):
        key = seal(random_secrets.token_hex(32), context=_key_context(site))
        # Whoever comes second keeps the first key: a later one would forget what was erased before.
        Site.objects.filter(pk=site.pk, sealed_suppression_key="").update(sealed_suppression_key=key)
        site.refresh_from_db(fields=["sealed_suppression_key"])
    return _hashed(_suppression_key(site), address)


def _suppression_key(site: Site) -> bytes:
    return unseal(site.sealed_suppression_key, context=_key_context(site)).encode()


def _hashed(key: bytes, address: str) -> str:
    return _HASHED + hmac.digest(key, address.encode(), "sha256").hex()


def _key_context(site: Site) -> str:
    return f"site:{site.uuid}:SUPPRESSION"


def _has_erased(site: Site) -> bool:
    """Tell whether anybody of the site was ever erased, also since this object was read."""
    if not site.sealed_suppression_key:
        keys = Site.objects.values_list("sealed_suppression_key", flat=True)
        site.sealed_suppression_key = keys.get(pk=site.pk)
    return bool(site.sealed_suppression_key)


def hidden_addresses(site: Site, addresses: Sequence[str]) -> dict[str, str]:
    """Return those of the addresses that are BLOCKED or ERASED, with their state; three queries at most."""
    if not addresses:
        return {}
    found = dict(
        Consent.objects.filter(site=site, address__in=addresses, state=State.BLOCKED).values_list("address", "state")
    )
    found.update(dict.fromkeys(erased_addresses(site, addresses), State.ERASED.value))
    return found


def erased_addresses(site: Site, addresses: Sequence[str]) -> set[str]:
    """Return those of the addresses, phones or e-mails, that were erased; two queries at most."""
    if not addresses or not _has_erased(site):
        return set()
    key = _suppression_key(site)
    of_hash = {_hashed(key, address): address for address in addresses}
    erased = Consent.objects.filter(site=site, address__in=of_hash, state=State.ERASED)
    emptied = {address for address in addresses if address.startswith(ERASED_MARK)}
    return emptied | {of_hash[hashed] for hashed in erased.values_list("address", flat=True)}


def state_of(site: Site, address: str, channel: str = Channel.TEXT) -> str:
    """Return the state of one address; UNKNOWN when nothing was ever heard of it."""
    if address.startswith(ERASED_MARK):
        return State.ERASED.value
    rows = Consent.objects.filter(site=site, channel=channel, address__in=_names(site, address))
    states = dict(rows.values_list("address", "state"))
    # An erased address may have a second, empty row that a sender made to have something to lock.
    return State.ERASED.value if State.ERASED in states.values() else states.get(address, State.UNKNOWN.value)


def _names(site: Site, address: str) -> list[str]:
    """Return what an address may be called in the table: itself, and its hash where the site has erased anybody."""
    return [address, suppression_hash(site, address)] if _has_erased(site) else [address]


def address_of(site: Site, phone_or_email: str) -> tuple[str, str]:
    """Return the channel and the address that somebody means by a phone in any spelling, of any country, or an e-mail.

    Raises `PhoneError`, whose text is a sentence, for what is neither.
    """
    text = phone_or_email.strip()
    if "@" in text:
        return Channel.EMAIL, text.lower()
    phone = phones.spellings(text, site.default_country)
    return Channel.TEXT, phone or phones.to_e164(text, site.default_country, site.allowed_countries)


def lock_states(site_id: int, numbers: Iterable[str]) -> dict[str, str]:
    """Lock the TEXT consent of these phones until the transaction ends, and return their states.

    Rows that are missing are made, so that there is something to lock; the order of locking is that of the addresses,
    so that two senders cannot deadlock. Must run inside a transaction.
    """
    wanted = sorted(set(numbers))
    rows = Consent.objects.filter(site_id=site_id, channel=Channel.TEXT, address__in=wanted)
    known = set(rows.values_list("address", flat=True))
    if missing := [phone for phone in wanted if phone not in known]:
        Consent.objects.bulk_create(
            [Consent(site_id=site_id, channel=Channel.TEXT, address=phone) for phone in missing], ignore_conflicts=True
        )
    return dict(rows.select_for_update().order_by("address").values_list("address", "state"))


def locked(site: Site, channel: str, address: str) -> Consent:
    """Return the row of an address, locked until the transaction ends, and made if it is missing.

    An erased address answers with its hashed row. Must run inside a transaction.
    """
    while True:
        names = _names(site, address)
        rows = Consent.objects.select_for_update().filter(site=site, channel=channel, address__in=names)
        found = {row.address: row for row in rows.order_by("address")}
        erased = found.get(names[-1]) if len(names) > 1 else None
        if erased is not None:
            if address in found:
                found[address].delete()
            return erased
        if address in found:
            return found[address]
        # Then look again: another transaction may have made the row first, or have erased it meanwhile.
        Consent.objects.bulk_create([Consent(site=site, channel=channel, address=address)], ignore_conflicts=True)


def _wins(consent: Consent, state: str, source: str, event_at: datetime | None) -> bool:
    """Tell whether a fact changes the row: the whole of the rules in one place."""
    if state == State.ERASED:
        return True
    if source == Source.STAFF and state in (State.BLOCKED, State.UNKNOWN):
        # Blocking and lifting a block are staff's own decisions; whoever is erased is out already.
        return consent.state != State.ERASED if state == State.BLOCKED else consent.state == State.BLOCKED
    if consent.state == State.BLOCKED:
        return False
    newer = event_at is not None and (consent.event_at is None or event_at > consent.event_at)
    if consent.state == State.ERASED:
        # The person came back by themselves, after the erasure.
        return state == State.SUBSCRIBED and source == Source.WEBHOOK and newer
    if state == State.UNSUBSCRIBED:
        # A tie goes to the opt-out; so does a doubt, where neither fact has a time.
        return newer or event_at == consent.event_at
    if state == State.SUBSCRIBED:
        if consent.state == State.SUBSCRIBED:
            return newer
        if consent.state == State.UNSUBSCRIBED:
            return newer and source == Source.WEBHOOK
        return True
    if state == State.REQUESTED:
        return consent.state in (State.UNKNOWN, State.TO_ASK)
    if state == State.TO_ASK:
        return consent.state in (State.UNKNOWN, State.REQUESTED)
    return consent.state in (State.TO_ASK, State.REQUESTED)


def _apply(consent: Consent, state: str, event_at: datetime | None) -> None:
    consent.state = state
    if event_at is not None and state in _DECISIONS:
        consent.event_at = event_at


def _credible(state: str, event_at: datetime | None, now: datetime) -> datetime | None:
    """Return the event's time as far as it can be believed.

    A time far ahead of our clock would win over every true one until then. Such an opt-out counts from now on; such an
    opt-in has no time.
    """
    if event_at is None or event_at <= now + _CLOCK_SKEW:
        return event_at
    return now if state == State.UNSUBSCRIBED else None


def hear(
    site: Site,
    *,
    channel: str,
    address: str,
    state: str,
    source: str,
    event_at: datetime | None,
    by: Someone = None,
    evidence: str = "",
) -> Consent:
    """Take in one fact about an address, and return the row as it stands afterwards.

    `event_at` is when the person decided, None when that is not known. The fact goes into the ledger in any case.
    """
    event_at = _credible(state, event_at, timezone.now())
    return _take_in(site, channel, address, state, source, event_at, by=by, evidence=evidence)


@transaction.atomic
def _take_in(
    site: Site,
    channel: str,
    address: str,
    state: str,
    source: str,
    event_at: datetime | None,
    *,
    decided_now: bool = False,
    by: Someone = None,
    evidence: str = "",
) -> Consent:
    """Apply one fact and write it down. `decided_now` dates it after all that was heard, whatever the clocks say."""
    consent = locked(site, channel, address)
    # Read after the lock was waited for: an attempt that began before this moment began before the opt-out stood.
    now = timezone.now()
    if decided_now:
        event_at = max(now, consent.event_at or now)
    before = consent.state
    if _wins(consent, state, source, event_at):
        if state == State.ERASED:
            consent.address, consent.detail = suppression_hash(site, address), ""
        elif before == State.ERASED:
            consent.address = address
        _apply(consent, state, event_at)
        if before == State.BLOCKED and state == State.UNKNOWN:
            _apply_what_was_heard(consent)
        elif before == State.ERASED and state == State.SUBSCRIBED and _is_blocked_by_ledger(consent):
            consent.state = State.BLOCKED
        consent.updated_at, consent.lease_until, consent.due_at = now, None, None
        consent.save()
    ConsentEvent.objects.create(
        consent=consent, from_state=before, to_state=consent.state, heard="" if state == consent.state else state,
        source=source, event_at=event_at, recorded_at=now, by=known_user(by), evidence=evidence,
    )  # fmt: skip
    crash_point("before_consent_commit")
    return consent


def _apply_what_was_heard(consent: Consent) -> None:
    """Give a row whose block is lifted the state that its ledger makes without blocks: a STOP heard meanwhile holds."""
    facts = list(consent.events.order_by("recorded_at", "pk"))
    consent.state, consent.event_at = (facts[0].from_state if facts else State.UNKNOWN), None
    for fact in facts:
        state = fact.heard or fact.to_state
        if state == State.BLOCKED or (state == State.UNKNOWN and fact.source == Source.STAFF):
            continue
        if _wins(consent, state, fact.source, fact.event_at):
            _apply(consent, state, fact.event_at)


def _is_blocked_by_ledger(consent: Consent) -> bool:
    """Tell whether staff's last word on a row was a block, which an erasure does not undo."""
    words = consent.events.filter(source=Source.STAFF).order_by("-recorded_at", "-pk")
    for to_state, heard in words.values_list("to_state", "heard"):
        if (heard or to_state) in (State.BLOCKED, State.UNKNOWN):
            return (heard or to_state) == State.BLOCKED
    return False


def opt_out(
    site: Site,
    address: str,
    *,
    channel: str = Channel.TEXT,
    source: str = Source.STAFF,
    by: Someone = None,
    evidence: str = "",
) -> Consent:
    """Take an address out at once: the moment of the decision is now."""
    return _take_in(
        site, channel, address, State.UNSUBSCRIBED, source, None, decided_now=True, by=by, evidence=evidence
    )


def block(site: Site, address: str, *, channel: str = Channel.TEXT, by: Someone = None, evidence: str = "") -> Consent:
    """Never write to this address again, whatever is heard of it, until staff lift the block."""
    return _take_in(site, channel, address, State.BLOCKED, Source.STAFF, None, by=by, evidence=evidence)


def block_everywhere(address: str, *, channel: str = Channel.TEXT, by: Someone = None, evidence: str = "") -> int:
    """Block this address on every site, each in a transaction of its own, and return the number of sites."""
    sites = list(Site.objects.order_by("pk"))
    for site in sites:
        block(site, address, channel=channel, by=by, evidence=evidence)
    return len(sites)


def lift_block(
    site: Site, address: str, *, channel: str = Channel.TEXT, by: Someone = None, evidence: str = ""
) -> Consent:
    """End a block. What was heard before and during the block holds: an opt-out stays an opt-out."""
    return _take_in(site, channel, address, State.UNKNOWN, Source.STAFF, None, by=by, evidence=evidence)


@transaction.atomic
def hear_many(
    site: Site,
    facts: Sequence[tuple[str, datetime | None]],
    *,
    source: str,
    by: Someone = None,
    evidence: str = "",
) -> int:
    """Take in that these phones are subscribed, (phone, event time or None) each, and return how many were raised.

    For lists of a few thousand: a constant number of queries. Phones must be distinct.
    """
    now = timezone.now()
    person = known_user(by)
    hidden = hidden_addresses(site, [phone for phone, _at in facts])
    times = {phone: _credible(State.SUBSCRIBED, at, now) for phone, at in facts if phone not in hidden}
    lock_states(site.pk, times)
    raised, changed, events = 0, [], []
    for row in Consent.objects.filter(site=site, channel=Channel.TEXT, address__in=times).order_by("address"):
        before, at = row.state, times[row.address]
        if _wins(row, State.SUBSCRIBED, source, at):
            _apply(row, State.SUBSCRIBED, at)
            row.updated_at, row.lease_until, row.due_at = now, None, None
            changed.append(row)
            raised += before != State.SUBSCRIBED
        events.append(
            ConsentEvent(
                consent=row, from_state=before, to_state=row.state,
                heard="" if row.state == State.SUBSCRIBED else State.SUBSCRIBED, source=source, event_at=at,
                recorded_at=now, by=person, evidence=evidence,
            )
        )  # fmt: skip
    Consent.objects.bulk_update(changed, ["state", "updated_at", "lease_until", "due_at", "event_at"], batch_size=500)
    ConsentEvent.objects.bulk_create(events, batch_size=1000)
    return raised


def count_raisable(site: Site, phones: Sequence[str]) -> int:
    """Return how many of these distinct phones `hear_many` would raise to SUBSCRIBED; writes nothing."""
    raisable = (State.UNKNOWN, State.TO_ASK, State.REQUESTED)
    stay = Consent.objects.filter(site=site, channel=Channel.TEXT, address__in=phones).exclude(state__in=raisable)
    return len(set(phones).difference(stay.values_list("address", flat=True), hidden_addresses(site, phones)))


def count_subscribed(members: Sequence[Member]) -> int:
    """Return how many of the members may be texted already; a query for each thousand."""
    texts = Consent.objects.filter(channel=Channel.TEXT, state=State.SUBSCRIBED)
    pairs = {(member.site_id, member.phone) for member in members}
    found = 0
    for start in range(0, len(members), 1_000):
        some = members[start : start + 1_000]
        rows = texts.filter(site__in={one.site_id for one in some}, address__in=[one.phone for one in some])
        found += sum(pair in pairs for pair in rows.values_list("site", "address"))
    return found


@transaction.atomic
def mark_to_ask(
    site: Site,
    numbers: Sequence[str],
    *,
    source: str = Source.IMPORT,
    by: Someone = None,
    evidence: str = "",
) -> int:
    """Put these phones into the subscribe queue, if nothing is known of them yet; return how many."""
    now = timezone.now()
    hidden = hidden_addresses(site, numbers)
    wanted = [phone for phone in dict.fromkeys(numbers) if phone not in hidden]
    states = lock_states(site.pk, wanted)
    unknown = [phone for phone, state in states.items() if state == State.UNKNOWN]
    rows = Consent.objects.filter(site=site, channel=Channel.TEXT, address__in=unknown)
    rows.update(state=State.TO_ASK, updated_at=now)
    person = known_user(by)
    ConsentEvent.objects.bulk_create(
        [
            ConsentEvent(
                consent_id=pk, from_state=State.UNKNOWN, to_state=State.TO_ASK, source=source, recorded_at=now,
                by=person, evidence=evidence,
            )
            for pk in rows.values_list("pk", flat=True)
        ],
        batch_size=1000,
    )  # fmt: skip
    return len(unknown)


@transaction.atomic
def take_back(site: Site, numbers: Sequence[str], *, evidence: str) -> int:
    """Take phones out of the subscribe queue again that an import put there and nobody touched since; return how many.

    `evidence` is what the import gave to `mark_to_ask`.
    """
    now = timezone.now()
    waiting = Consent.objects.filter(site=site, channel=Channel.TEXT, address__in=numbers, state=State.TO_ASK)
    last_event = ConsentEvent.objects.filter(consent=OuterRef("pk")).order_by("-pk")
    untouched = waiting.select_for_update().annotate(
        last_source=Subquery(last_event.values("source")[:1]), last_evidence=Subquery(last_event.values("evidence")[:1])
    )
    ids = [row.pk for row in untouched if row.last_source == Source.IMPORT and row.last_evidence == evidence]
    Consent.objects.filter(pk__in=ids).update(state=State.UNKNOWN, updated_at=now)
    ConsentEvent.objects.bulk_create(
        [
            ConsentEvent(
                consent_id=pk, from_state=State.TO_ASK, to_state=State.UNKNOWN, source=Source.IMPORT, recorded_at=now,
                evidence=evidence,
            )
            for pk in ids
        ],
        batch_size=1000,
    )  # fmt: skip
    return len(ids)


@transaction.atomic
def step(
    row: Consent,
    state: str,
    *,
    expected: Sequence[str],
    detail: str = "",
    due_at: datetime | None = None,
    requested_at: datetime | None = None,
) -> bool:
    """Move a row of the subscribe queue on and end its lease; False when somebody else has changed it meanwhile.

    `row` is as its owner claimed it: its fence must still stand, and its state be one of `expected`.
    """
    current = Consent.objects.select_for_update().filter(pk=row.pk, fence=row.fence, state__in=expected).first()
    if current is None:
        return False
    now, before = timezone.now(), current.state
    current.state, current.detail, current.updated_at = state, detail[:300], now
    current.lease_until, current.due_at = None, due_at
    current.requested_at = requested_at or current.requested_at
    current.save()
    if state != before:
        ConsentEvent.objects.create(
            consent=current, from_state=before, to_state=state, source=Source.SUBSCRIBE_CALL, recorded_at=now,
            evidence=detail,
        )  # fmt: skip
        crash_point("before_request_commit")
    return True


def erase(site: Site, address: str, *, channel: str = Channel.TEXT, by: Someone = None) -> Consent:
    """Forget an address and remember only its keyed hash, so that no import brings it back."""
    with transaction.atomic():
        consent = _take_in(site, channel, address, State.ERASED, Source.ERASURE, None, decided_now=True, by=by)
        # The evidence may quote the person; the ledger keeps states and times.
        consent.events.update(evidence="")
    return consent
