"""Consent: the only code that writes `Consent` and `ConsentEvent`.

Facts about an address arrive from webhooks, lists, calls and staff, in any order and more than once. They are ordered
by when they happened, not by when they were heard: an older fact never overwrites a newer one, a tie goes to the
opt-out, and a fact without a time never beats one that has it. Every fact is kept in the ledger, also when it changed
nothing. Opt-outs and the sending engine lock the same row.
"""

import hashlib
import hmac
import secrets as random_secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from attentive_integration.secrets import seal, unseal
from loyalty.models import Consent, ConsentEvent, Site
from loyalty.models.scope import Someone, known_user

State = Consent.State
Channel = Consent.Channel
Source = ConsentEvent.Source

# Vendors' clocks may run ahead of ours by this much; a time further ahead counts as this one.
_CLOCK_SKEW = timedelta(minutes=5)
# States that a list, an import or a call may raise to SUBSCRIBED.
_RAISABLE = (State.UNKNOWN, State.TO_ASK, State.REQUESTED)
_OUT = (State.UNSUBSCRIBED, State.BLOCKED, State.ERASED)
_HASHED = "hash:"


def suppression_hash(site: Site, address: str) -> str:
    """Return the keyed hash under which an erased address of this site is remembered."""
    if not site.sealed_suppression_key:
        key = seal(random_secrets.token_hex(32), context=_key_context(site))
        # Whoever comes second keeps the first key: a later one would forget what was erased before.
        Site.objects.filter(pk=site.pk, sealed_suppression_key="").update(sealed_suppression_key=key)
        site.refresh_from_db(fields=["sealed_suppression_key"])
    key = unseal(site.sealed_suppression_key, context=_key_context(site))
    return _HASHED + hmac.new(key.encode(), address.encode(), hashlib.sha256).hexdigest()


def _key_context(site: Site) -> str:
    return f"site:{site.uuid}:SUPPRESSION"


def hidden_addresses(site: Site, addresses: Sequence[str]) -> dict[str, str]:
    """Return those of the addresses that are BLOCKED or ERASED, with their state; two queries at most."""
    if not addresses:
        return {}
    found = dict(
        Consent.objects.filter(site=site, address__in=addresses, state=State.BLOCKED).values_list("address", "state")
    )
    if site.sealed_suppression_key:
        of_hash = {suppression_hash(site, address): address for address in addresses}
        erased = Consent.objects.filter(site=site, address__in=of_hash, state=State.ERASED)
        found.update({of_hash[hashed]: State.ERASED.value for hashed in erased.values_list("address", flat=True)})
    return found


def state_of(site: Site, address: str, channel: str = Channel.TEXT) -> str:
    """Return the state of one address; UNKNOWN when nothing was ever heard of it."""
    row = Consent.objects.filter(site=site, channel=channel, address=address).values_list("state", flat=True).first()
    return row or State.UNKNOWN


def lock_states(site_id: int, phones: Iterable[str]) -> dict[str, str]:
    """Lock the TEXT consent of these phones until the transaction ends, and return their states.

    Rows that are missing are made, so that there is something to lock; the order of locking is that of the addresses,
    so that two senders cannot deadlock. Must run inside a transaction.
    """
    wanted = sorted(set(phones))
    rows = Consent.objects.filter(site_id=site_id, channel=Channel.TEXT, address__in=wanted)
    known = set(rows.values_list("address", flat=True))
    if missing := [phone for phone in wanted if phone not in known]:
        Consent.objects.bulk_create(
            [Consent(site_id=site_id, channel=Channel.TEXT, address=phone) for phone in missing], ignore_conflicts=True
        )
    return dict(rows.select_for_update().order_by("address").values_list("address", "state"))


def _locked(site: Site, channel: str, address: str) -> Consent:
    """Return the locked row of an address; an erased address answers with its hashed row."""
    addresses = [address]
    if site.sealed_suppression_key:
        addresses.append(suppression_hash(site, address))
    rows = Consent.objects.select_for_update().filter(site=site, channel=channel, address__in=addresses)
    found = {row.address: row for row in rows.order_by("address")}
    erased = found.get(addresses[-1]) if len(addresses) > 1 else None
    if erased is not None:
        return erased
    if address not in found:
        Consent.objects.bulk_create([Consent(site=site, channel=channel, address=address)], ignore_conflicts=True)
        return Consent.objects.select_for_update().get(site=site, channel=channel, address=address)
    return found[address]


def _wins(consent: Consent, state: str, source: str, event_at: datetime | None) -> bool:
    """Tell whether a fact changes the row: the whole of the rules in one place."""
    if source == Source.STAFF and state in (State.BLOCKED, State.UNKNOWN):
        # Blocking and lifting a block are staff's own decisions.
        return state == State.BLOCKED or consent.state == State.BLOCKED
    if consent.state == State.BLOCKED:
        return False
    if state == State.ERASED:
        return True
    newer = event_at is not None and (consent.event_at is None or event_at > consent.event_at)
    if consent.state == State.ERASED:
        # The person came back by themselves, after the erasure.
        return state == State.SUBSCRIBED and source == Source.WEBHOOK and newer
    if state == State.UNSUBSCRIBED:
        # A tie goes to the opt-out; so does a doubt, where neither fact has a time.
        return newer or event_at == consent.event_at
    if state == State.SUBSCRIBED:
        if consent.state in _RAISABLE:
            return True
        if consent.state == State.SUBSCRIBED:
            return newer
        return newer and source == Source.WEBHOOK
    if state == State.REQUESTED:
        return consent.state in (State.UNKNOWN, State.TO_ASK)
    if state == State.TO_ASK:
        return consent.state in (State.UNKNOWN, State.REQUESTED)
    return consent.state in (State.TO_ASK, State.REQUESTED)


@transaction.atomic
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
    now = timezone.now()
    if event_at is not None:
        event_at = min(event_at, now + _CLOCK_SKEW)
    consent = _locked(site, channel, address)
    before = consent.state
    if _wins(consent, state, source, event_at):
        if before == State.ERASED and state != State.ERASED:
            consent.address = address
        if state == State.ERASED:
            consent.address, consent.detail = suppression_hash(site, address), ""
        consent.state = state
        if event_at is not None:
            consent.event_at = event_at
        consent.updated_at = now
        consent.lease_until = None
        consent.due_at = None
        consent.save()
    ConsentEvent.objects.create(
        consent=consent, from_state=before, to_state=consent.state, source=source, event_at=event_at, recorded_at=now,
        by=known_user(by), evidence=evidence,
    )  # fmt: skip
    return consent


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
    return hear(
        site, channel=channel, address=address, state=State.UNSUBSCRIBED, source=source, event_at=timezone.now(), by=by,
        evidence=evidence,
    )  # fmt: skip


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
    times = {phone: min(at, now + _CLOCK_SKEW) if at else None for phone, at in facts if phone not in hidden}
    lock_states(site.pk, times)
    raised, changed, events = 0, [], []
    for row in Consent.objects.filter(site=site, channel=Channel.TEXT, address__in=times).order_by("address"):
        before, at = row.state, times[row.address]
        if _wins(row, State.SUBSCRIBED, source, at):
            row.state, row.updated_at, row.lease_until, row.due_at = State.SUBSCRIBED, now, None, None
            row.event_at = at or row.event_at
            changed.append(row)
            raised += before != State.SUBSCRIBED
        events.append(
            ConsentEvent(
                consent=row, from_state=before, to_state=row.state, source=source, event_at=at, recorded_at=now,
                by=person, evidence=evidence,
            )
        )  # fmt: skip
    Consent.objects.bulk_update(changed, ["state", "updated_at", "lease_until", "due_at", "event_at"], batch_size=500)
    ConsentEvent.objects.bulk_create(events, batch_size=1000)
    return raised


@transaction.atomic
def mark_to_ask(
    site: Site,
    phones: Sequence[str],
    *,
    source: str = Source.IMPORT,
    by: Someone = None,
    evidence: str = "",
) -> int:
    """Put these phones into the subscribe queue, if nothing is known of them yet; return how many."""
    now = timezone.now()
    hidden = hidden_addresses(site, phones)
    wanted = [phone for phone in dict.fromkeys(phones) if phone not in hidden]
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


def erase(site: Site, address: str, *, channel: str = Channel.TEXT, by: Someone = None) -> Consent:
    """Forget an address and remember only its keyed hash, so that no import brings it back."""
    consent = hear(
        site, channel=channel, address=address, state=State.ERASED, source=Source.ERASURE, event_at=timezone.now(),
        by=by,
    )  # fmt: skip
    # The evidence may quote the person; the ledger keeps states and times.
    consent.events.update(evidence="")
    return consent
