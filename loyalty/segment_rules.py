"""The rules of a segment: what may stand in them, and the condition on members that they mean.

A flat object means all of its keys; `{"any": [{…}, {…}]}` joins several such objects. Days are days of the site's zone,
the first and the last included.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from attentive_integration.storable import is_storable
from loyalty.models import ActionType, LoyaltyAction, Member, Site
from loyalty.reach import is_reachable

ANY = "any"
MAX_GROUPS = 20
MAX_VALUES = 200
_MAX_TEXT = 200
_BIGGEST = 2**63 - 1


class RulesError(ValueError):
    """Rules that cannot be used; `str()` says what is wrong and what is known."""


@dataclass(frozen=True)
class _Key:
    """One key of the rules: what staff call it, how its value is read, and what it means."""

    label: Any
    read: Callable[[str, Any], Any]
    condition: Callable[[Site, Any], Q]


def validate_rules(rules: Any) -> None:
    """Raise `RulesError` unless the rules can be used. No rules at all means every member."""
    _groups(rules)


def condition(rules: Any, site: Site) -> Q:
    """Return what the rules mean for members of the site; raises `RulesError`."""
    whole = Q()
    for group in _groups(rules):
        whole |= all_of(group, site)
    return whole


def groups(rules: Any) -> list[dict[str, Any]]:
    """Return the flat objects that the rules join, one of them for flat rules; raises `RulesError`."""
    return _groups(rules)


def all_of(group: dict[str, Any], site: Site) -> Q:
    """Return what one flat object means: all of its keys."""
    whole = Q()
    for name, value in group.items():
        whole &= KEYS[name].condition(site, KEYS[name].read(name, value))
    return whole


# --- Reading ----------------------------------------------------------------------------------------------------------


def _groups(rules: Any) -> list[dict[str, Any]]:
    if not isinstance(rules, dict):
        raise RulesError(
            _('The rules must be a JSON object, for instance {"tier": ["Gold"]}. Known keys: %(known)s.')
            % {"known": _known()}
        )
    if ANY not in rules:
        return [_checked(rules)]
    if len(rules) > 1:
        raise RulesError(_("“any” must stand alone. Put the other keys into each of its objects."))
    joined = rules[ANY]
    if not isinstance(joined, list) or not 1 <= len(joined) <= MAX_GROUPS:
        raise RulesError(
            _('“any” must be a list of 1 to %(limit)d objects, such as [{"tier": "Gold"}, {"points_min": 500}].')
            % {"limit": MAX_GROUPS}
        )
    for group in joined:
        if not isinstance(group, dict) or not group:
            raise RulesError(
                _("Each entry of “any” must be an object with at least one of these keys: %(known)s.")
                % {"known": _known()}
            )
        if ANY in group:
            raise RulesError(_("“any” cannot stand inside “any”. Write its objects side by side."))
    return [_checked(group) for group in joined]


def _checked(group: dict[str, Any]) -> dict[str, Any]:
    for name in group:
        if name not in KEYS:
            raise RulesError(
                _("Unknown rule “%(name)s”. Known are: %(known)s.") % {"name": str(name)[:60], "known": _known()}
            )
    values = {name: KEYS[name].read(name, value) for name, value in group.items()}
    for stem in ("points", "joined", "last_action"):
        for low, high in ((f"{stem}_min", f"{stem}_max"), (f"{stem}_from", f"{stem}_to")):
            if low in values and high in values and values[low] > values[high]:
                raise RulesError(
                    _("“%(low)s” lies above “%(high)s”, so nobody could match. Swap the two.")
                    % {"low": low, "high": high}
                )
    return group


def _known() -> str:
    return ", ".join([*KEYS, ANY])


def _texts(name: str, value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if name == "action_types":
        # A code such as 109 may come as a number.
        values = [str(one) if type(one) is int else one for one in values]
    if not 1 <= len(values) <= MAX_VALUES or not all(isinstance(entry, str) and entry.strip() for entry in values):
        raise RulesError(
            _('“%(name)s” must be a text or a list of 1 to %(limit)d texts, for instance ["Gold", "Silver"].')
            % {"name": name, "limit": MAX_VALUES}
        )
    for entry in values:
        if len(entry) > _MAX_TEXT or not is_storable(entry):
            raise RulesError(
                _("“%(name)s” has a value that is longer than %(limit)d characters or cannot be stored.")
                % {"name": name, "limit": _MAX_TEXT}
            )
    return [entry.strip() for entry in values]


def _opt_ins(name: str, value: Any) -> list[str]:
    known = Member.OptInStatus.values
    values = [entry.upper() for entry in _texts(name, value)]
    for entry in values:
        if entry not in known:
            raise RulesError(
                _("“%(name)s” cannot be “%(value)s”. Known are: %(known)s.")
                % {"name": name, "value": entry[:60], "known": ", ".join(known)}
            )
    return values


def _whole_number(name: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _BIGGEST:
        raise RulesError(_("“%(name)s” must be a whole number, for instance 500.") % {"name": name})
    return value


def _day(name: str, value: Any) -> date:
    try:
        # Django's and Python's parsers take week dates and times too; a rule is a plain day.
        day = datetime.strptime(value, "%Y-%m-%d").date() if isinstance(value, str) and len(value) == 10 else None
    except ValueError:
        day = None
    if day is None or not 1900 <= day.year <= 2200:
        raise RulesError(_("“%(name)s” must be a day such as 2026-11-01.") % {"name": name})
    return day


def _yes_or_no(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise RulesError(_("“%(name)s” must be true or false.") % {"name": name})
    return value


# --- Meaning ----------------------------------------------------------------------------------------------------------


def _start(site: Site, day: date) -> datetime:
    return datetime.combine(day, time.min, ZoneInfo(site.time_zone))


def _end(site: Site, day: date) -> datetime:
    """Return the first moment after the day."""
    return _start(site, day + timedelta(days=1))


def _actions_of_member() -> QuerySet[LoyaltyAction]:
    return LoyaltyAction.objects.filter(member=OuterRef("pk"))


def _last_action_to(site: Site, day: date) -> Q:
    # The newest action is not after the day: there is one, and none comes later.
    later = _actions_of_member().filter(occurred_at__gte=_end(site, day))
    return Q(Exists(_actions_of_member())) & ~Q(Exists(later))


def _did(site: Site, codes: list[str]) -> Q:
    types = ActionType.objects.filter(site_id=site.pk, code__in=codes).values("pk")
    return Q(Exists(_actions_of_member().filter(action_type__in=types)))


KEYS: dict[str, _Key] = {
    "tier": _Key(gettext_lazy("Tier is one of"), _texts, lambda site, value: Q(tier__in=value)),
    "points_min": _Key(gettext_lazy("Points from"), _whole_number, lambda site, value: Q(points__gte=value)),
    "points_max": _Key(gettext_lazy("Points up to"), _whole_number, lambda site, value: Q(points__lte=value)),
    "joined_from": _Key(gettext_lazy("Joined from"), _day, lambda site, value: Q(joined_at__gte=_start(site, value))),
    "joined_to": _Key(gettext_lazy("Joined up to"), _day, lambda site, value: Q(joined_at__lt=_end(site, value))),
    "last_action_from": _Key(
        gettext_lazy("Last action from"),
        _day,
        lambda site, value: Q(Exists(_actions_of_member().filter(occurred_at__gte=_start(site, value)))),
    ),
    "last_action_to": _Key(gettext_lazy("Last action up to"), _day, _last_action_to),
    "action_types": _Key(gettext_lazy("Did one of"), _texts, _did),
    "opt_in_status": _Key(gettext_lazy("Loyalty opt-in"), _opt_ins, lambda site, value: Q(opt_in_status__in=value)),
    "reachable": _Key(
        gettext_lazy("Reachable by text"),
        _yes_or_no,
        lambda site, value: is_reachable(site) if value else ~is_reachable(site),
    ),
}
