"""Records what members did: facts that the tick turns into messages."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from attentive_integration.crash import crash_point
from attentive_integration.phones import PhoneError, to_e164
from attentive_integration.storable import is_storable
from loyalty import consent
from loyalty.models import ActionType, LoyaltyAction, Member, Site
from loyalty.retrying import retrying

FIELDS = (
    "activity_id", "action", "phone", "external_id", "email", "points", "points_delta", "occurred_at", "data",
)  # fmt: skip
# A clock that runs ahead of ours by more than this is wrong.
_FUTURE = timedelta(hours=1)
# The first and the last years have moments that are none in another zone.
_EARLIEST_YEAR = 1900
_MAX_DATA_BYTES = 16_384
_LIMITS = {"activity_id": 128, "action": 60, "external_id": 128, "email": 254}
_BIGGEST = 2**63 - 1


@dataclass(frozen=True)
class Result:
    """What became of one item: accepted, duplicate, conflict or rejected.

    Then `error` is a sentence, `code` one word for counting, and `field` what it is about, where it is one field.
    """

    activity_id: str | None
    status: str
    error: str | None = None
    code: str = ""
    field: str = ""


@dataclass
class _Item:
    """An item that was understood."""

    position: int
    activity_id: str
    action: str
    phone: str
    external_id: str
    email: str
    points: int | None
    points_delta: int | None
    occurred_at: datetime
    data: dict[str, Any]
    digest: str
    member: Member | None = None


class _Refused(Exception):
    """An item cannot be recorded; `str()` is the sentence, `code` and `field` tell what it is about."""

    def __init__(self, code: str, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.field = field


def record_actions(site: Site, items: Sequence[Any], *, history: bool = False) -> list[Result]:
    """Record up to a few thousand items and return a result for each, in order.

    Idempotent on `activity_id` within the site: the same item again is a duplicate, another one is a conflict. A member
    that is not known is created when the item carries a usable phone. `history` marks the actions as processed, so that
    no campaign ever sees them.
    """
    now = timezone.now()
    results: dict[int, Result] = {}
    understood: list[_Item] = []
    for position, raw in enumerate(items):
        try:
            understood.append(_understand(site, raw, position, now))
        except _Refused as refusal:
            name = raw.get("activity_id") if isinstance(raw, Mapping) else None
            name = name if isinstance(name, str) else None
            results[position] = Result(name, "rejected", str(refusal), refusal.code, refusal.field)
    first_of = _first_of_each(understood, results)
    results |= retrying(site.pk, lambda: _record(site, list(first_of.values()), now=now, history=history))
    crash_point("after_actions_commit")
    for item in understood:
        # A repeat within the call shares the fate of the first: a repeat of a rejected item is rejected too.
        if item.position not in results:
            first = results[first_of[item.activity_id].position]
            results[item.position] = first if first.status == "rejected" else Result(item.activity_id, "duplicate")
    return [results[position] for position in range(len(items))]


def _record(site: Site, items: list[_Item], *, now: datetime, history: bool) -> dict[int, Result]:
    results: dict[int, Result] = {}
    # Copies: what a failed attempt learnt of them must not reach the next one.
    fresh = _without_known(site, [replace(item) for item in items], results)
    fresh = _with_members(site, fresh, results)
    _write(site, fresh, results, now=now, history=history)
    crash_point("before_actions_commit")
    return results


def _understand(site: Site, raw: Any, position: int, now: datetime) -> _Item:
    if not isinstance(raw, Mapping):
        raise _Refused("NOT_AN_OBJECT", "", _("An action must be a JSON object."))
    unknown = sorted(str(key) for key in set(raw) - set(FIELDS))
    if unknown:
        raise _Refused(
            "UNKNOWN_FIELD",
            "",
            _("Unknown field “%(field)s”. An action may have: %(known)s.")
            % {"field": unknown[0][:60], "known": ", ".join(FIELDS)},
        )
    texts = {name: _text(raw, name) for name in ("activity_id", "action", "phone", "external_id", "email")}
    for name in ("activity_id", "action"):
        if not texts[name]:
            raise _Refused("MISSING", name, _("“%(field)s” is missing.") % {"field": name})
    for name, limit in _LIMITS.items():
        if len(texts[name]) > limit:
            raise _Refused(
                "TOO_LONG",
                name,
                _("“%(field)s” is longer than %(limit)d characters.") % {"field": name, "limit": limit},
            )
    phone = ""
    if texts["phone"]:
        try:
            phone = to_e164(texts["phone"], site.default_country, site.allowed_countries)
        except PhoneError as error:
            raise _Refused(error.code, "phone", error.sentence) from None
    if not phone and not texts["external_id"] and not texts["email"]:
        raise _Refused("NOBODY", "", _("The action names nobody. Give a phone, an external_id or an email."))
    data = raw.get("data") if raw.get("data") is not None else {}
    if not isinstance(data, dict):
        raise _Refused("JSON", "data", _("“data” must be a JSON object."))
    normalised = json.dumps(data, sort_keys=True, ensure_ascii=False)
    if len(normalised.encode(errors="replace")) > _MAX_DATA_BYTES:
        raise _Refused("TOO_LONG", "data", _("“data” is larger than 16 KB."))
    if not is_storable(normalised) or "\\u0000" in normalised:
        raise _Refused(
            "CHARACTERS", "data", _("“%(field)s” holds a character that cannot be stored.") % {"field": "data"}
        )
    occurred_at = _moment(raw.get("occurred_at"), now)
    points, delta = _whole_number(raw, "points"), _whole_number(raw, "points_delta")
    fact = [
        texts["action"], phone, texts["external_id"], texts["email"].lower(), points, delta,
        # An action without a time is the same action when it comes again later.
        occurred_at.isoformat() if raw.get("occurred_at") is not None else None, data,
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(fact, sort_keys=True).encode()).hexdigest()
    return _Item(
        position, texts["activity_id"], texts["action"], phone, texts["external_id"], texts["email"].lower(),
        points, delta, occurred_at, data, digest,
    )  # fmt: skip


def _text(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name)
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise _Refused("TYPE", name, _("“%(field)s” must be text.") % {"field": name})
    value = value.strip()
    if not is_storable(value):
        raise _Refused("CHARACTERS", name, _("“%(field)s” holds a character that cannot be stored.") % {"field": name})
    return value


def _whole_number(raw: Mapping[str, Any], name: str) -> int | None:
    value = raw.get(name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _BIGGEST:
        raise _Refused("NOT_A_NUMBER", name, _("“%(field)s” must be a whole number.") % {"field": name})
    return value


def _moment(value: Any, now: datetime) -> datetime:
    if value is None:
        return now
    try:
        moment = parse_datetime(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.year < _EARLIEST_YEAR:
        raise _Refused("TIME", "occurred_at", _("“occurred_at” must be a time such as 2026-11-01T10:00:00Z."))
    if moment.tzinfo is None:
        raise _Refused(
            "OFFSET",
            "occurred_at",
            _("“occurred_at” has no offset. Write for instance 2026-11-01T10:00:00Z or …-05:00."),
        )
    if moment > now + _FUTURE:
        raise _Refused(
            "TIME_RANGE", "occurred_at", _("“occurred_at” lies in the future. Check the clock and the offset.")
        )
    return moment


def _first_of_each(items: list[_Item], results: dict[int, Result]) -> dict[str, _Item]:
    """Return the first item of each activity; later ones that differ are conflicts, equal ones wait for its fate."""
    first_of: dict[str, _Item] = {}
    for item in items:
        first = first_of.setdefault(item.activity_id, item)
        if first.digest != item.digest:
            results[item.position] = _conflict(item.activity_id)
    return first_of


def repeated(activity_id: str, *, same: bool) -> Result:
    """Return the result of an item whose activity is recorded already: a duplicate, or a conflict when it differs."""
    return Result(activity_id, "duplicate") if same else _conflict(activity_id)


def _conflict(activity_id: str) -> Result:
    return Result(
        activity_id,
        "conflict",
        _("This activity_id was used for another action. Each action needs an id of its own."),
        "CONFLICT",
    )


def _without_known(site: Site, items: list[_Item], results: dict[int, Result]) -> list[_Item]:
    """Answer the items whose activity is recorded already; return the others."""
    wanted = [item.activity_id for item in items]
    known = dict(LoyaltyAction.objects.filter(site=site, activity_id__in=wanted).values_list("activity_id", "digest"))
    for item in items:
        if item.activity_id in known:
            results[item.position] = repeated(item.activity_id, same=known[item.activity_id] == item.digest)
    return [item for item in items if item.activity_id not in known]


def _with_members(site: Site, items: list[_Item], results: dict[int, Result]) -> list[_Item]:
    """Find or create the member of each item; answer the items without one."""
    phones = {item.phone for item in items if item.phone}
    erased = consent.erased_addresses(site, sorted(phones))
    by_phone = {m.phone: m for m in Member.objects.filter(site=site, phone__in=phones).only("phone")}
    by_external_id = _members_by(site, "external_id", {item.external_id for item in items})
    unnamed = [item for item in items if not item.phone and item.external_id not in by_external_id]
    by_email = _members_by(site, "email", {item.email for item in unnamed})
    fresh: dict[str, Member] = {}
    for item in items:
        if item.phone:
            if item.phone in erased:
                results[item.position] = Result(
                    item.activity_id,
                    "rejected",
                    _("This person was erased on request and is not recorded again."),
                    "ERASED",
                )
                continue
            item.member = by_phone.get(item.phone) or fresh.setdefault(item.phone, _new_member(site, item))
        else:
            item.member = by_external_id.get(item.external_id) or by_email.get(item.email)
            if item.member is None:
                # An earlier item of the same call may have introduced the person.
                item.phone = next((new.phone for new in fresh.values() if _is_meant(item, new)), "")
                item.member = fresh.get(item.phone)
        if item.member is None:
            results[item.position] = Result(
                item.activity_id,
                "rejected",
                _("No member has this external_id or email. Add the phone, and one is made."),
                "UNKNOWN_MEMBER",
            )
    if fresh:
        # In one order everywhere, so that two requests with the same new people wait for each other, and do not lock.
        Member.objects.bulk_create([fresh[phone] for phone in sorted(fresh)], ignore_conflicts=True)
        stored = {m.phone: m for m in Member.objects.filter(site=site, phone__in=fresh)}
        replaced = []
        for item in items:
            if item.phone in fresh and item.member is not None:
                item.member = stored[item.phone]
                # A new phone for a known loyalty ID is a new member; the one with the old phone is marked.
                old = by_external_id.get(item.external_id)
                if old is not None and old.pk != item.member.pk:
                    old.replaced_by = item.member
                    replaced.append(old)
        Member.objects.bulk_update(sorted(replaced, key=lambda member: member.pk), ["replaced_by"])
    return [item for item in items if item.member is not None]


def _members_by(site: Site, name: str, values: set[str]) -> dict[str, Member]:
    """Return the members of a site, by this field, that have one of the values; those that were replaced stay out."""
    wanted = values - {""}
    if not wanted:
        return {}
    # `+ 0` keeps a planner without statistics from reading all members of the site instead of one person's.
    members = Member.objects.alias(its_site=F("site_id") + 0).filter(its_site=site.pk, **{f"{name}__in": wanted})
    # SQLite uses the partial index only where its condition stands in the query, and would rather read all members that
    # nobody replaced; so that is looked at here.
    found = members.exclude(**{name: ""}).order_by("pk")
    return {getattr(member, name): member for member in found if member.replaced_by_id is None}


def _is_meant(item: _Item, member: Member) -> bool:
    if item.external_id:
        return member.external_id == item.external_id
    return member.email == item.email


def _new_member(site: Site, item: _Item) -> Member:
    def of_data(key: str, limit: int) -> str:
        value = item.data.get(key)
        return value.strip()[:limit] if isinstance(value, str) else ""

    return Member(
        site=site,
        phone=item.phone,
        email=item.email,
        external_id=item.external_id,
        first_name=of_data("first_name", 100),
        last_name=of_data("last_name", 100),
        tier=of_data("tier", 60),
    )


def _write(site: Site, items: list[_Item], results: dict[int, Result], *, now: datetime, history: bool) -> None:
    if not items:
        return
    codes = {item.action for item in items}
    stored = ActionType.objects.filter(site=site, code__in=codes).values_list("code", "pk")
    types = dict(stored)
    if codes - set(types):
        # An unknown code creates its type, which no campaign matches yet.
        ActionType.objects.bulk_create(
            [ActionType(site=site, code=code) for code in sorted(codes - set(types))], ignore_conflicts=True
        )
        types = dict(stored.all())
    ended = {"processed_at": now, "outcome": LoyaltyAction.Outcome.HISTORY} if history else {}
    # Where another request records the same activity at the same moment, this fails as a whole, and the next attempt
    # sees what stands there then.
    LoyaltyAction.objects.bulk_create(
        LoyaltyAction(
            site=site, member=item.member, action_type_id=types[item.action], activity_id=item.activity_id,
            points=item.points, points_delta=item.points_delta, data=item.data, digest=item.digest,
            occurred_at=item.occurred_at, recorded_at=now, **ended,
        )
        for item in items
    )  # fmt: skip
    for item in items:
        results[item.position] = Result(item.activity_id, "accepted")
