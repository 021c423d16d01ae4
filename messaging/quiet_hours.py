"""When a text may reach a person: the site's quiet hours, the federal and state windows, and where the person may be.

Time is cut into minutes. A day is one whole number of 1,440 bits, a bit for each allowed minute, so that what several
time zones and rules allow together is their `&`, and the next allowed minute is the next bit.
"""

import json
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from attentive_integration.phones import country_of, state_of, time_zones
from loyalty.models import Site
from loyalty.sending_limits import check_caps, check_quiet_hours, is_quiet, minutes_of_day

__all__ = ["HORIZON_DAYS", "check_caps", "check_quiet_hours", "next_allowed"]

# Where nothing is allowed for so long, the end of that time is returned: the message expires, or is asked about again.
HORIZON_DAYS = 8
_MINUTES = 24 * 60
_UNITED_STATES = frozenset({"US", "PR", "VI", "GU", "AS", "MP"})
_DATA = json.loads((Path(__file__).parent / "state_windows.json").read_text())
_STATE_WINDOWS: dict[str, dict[str, Any]] = _DATA["states"]
_STATE_ZONES: dict[str, tuple[str, ...]] = {state: tuple(zones) for state, zones in _DATA["time_zones"].items()}
_US_ZONES = frozenset(zone for zones in _STATE_ZONES.values() for zone in zones)


class _Rules(NamedTuple):
    """What limits a text beside the time zone: quiet hours as texts, the US window, and the windows of states."""

    start: str
    end: str
    federal: bool
    states: tuple[str, ...]


def next_allowed(site: Site, *, phone: str, time_zone: str = "", state: str = "", now: datetime) -> datetime:
    """Return the earliest moment from `now` (aware) at which the person may be texted, in UTC; `now` when it is now.

    The person's time is the member's `time_zone`; else that of the member's `state` (two letters); else that of the
    phone's area code; else the site's. Where that leaves several zones, a moment must be allowed in each of them. The
    windows of the member's state and of the area code's state both hold. A site whose quiet hours are None has no
    limits at all, the state windows included. Raises ValueError for quiet hours that `check_quiet_hours` refuses.
    """
    now = now.astimezone(UTC)
    if site.quiet_hours is None:
        return now
    american = (country_of(phone) or site.default_country) in _UNITED_STATES
    state = state.upper() if american else ""
    states = tuple(sorted({state, state_of(phone) or ""} & _STATE_WINDOWS.keys())) if american else ()
    rules = _Rules(site.quiet_hours.get("start", ""), site.quiet_hours.get("end", ""), american, states)
    zones = _zones(phone, time_zone, state, american) or (site.time_zone,)
    today, minute = now.toordinal(), now.hour * 60 + now.minute
    for day in range(today, today + HORIZON_DAYS):
        allowed = _allowed(zones, rules, day) >> minute
        if allowed & 1 and day == today:
            return now
        if allowed:
            first = (allowed & -allowed).bit_length() - 1
            return datetime.combine(date.fromordinal(day), datetime.min.time(), UTC) + timedelta(minutes=minute + first)
        minute = 0
    return now + timedelta(days=HORIZON_DAYS)


# --- Where the person may be ------------------------------------------------------------------------------------------


def _zones(phone: str, time_zone: str, state: str, american: bool) -> tuple[str, ...]:
    """Return every zone in which the person may be; empty when nothing is known."""
    if time_zone and time_zone in _known_zones():
        return (time_zone,)
    if state in _STATE_ZONES:
        return _STATE_ZONES[state]
    zones = time_zones(phone)
    # Toll-free numbers and the like are of all North America; a number of the United States is at home there.
    return tuple(zone for zone in zones if zone in _US_ZONES) or zones if american else zones


@cache
def _known_zones() -> frozenset[str]:
    return frozenset(available_timezones())


# --- Which minutes are allowed ----------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _allowed(zones: tuple[str, ...], rules: _Rules, day: int) -> int:
    """Return the minutes of a UTC day, given by its ordinal, that are allowed in every zone."""
    allowed = (1 << _MINUTES) - 1
    for zone in zones:
        allowed &= _allowed_in_zone(zone, rules, day)
    return allowed


@lru_cache(maxsize=4096)
def _allowed_in_zone(zone: str, rules: _Rules, day: int) -> int:
    allowed = 0
    for start, length, local_day, local_minute in _stretches(zone, day):
        minutes = _allowed_on(rules, local_day) >> local_minute & ((1 << length) - 1)
        allowed |= minutes << start
    return allowed


@lru_cache(maxsize=1024)
def _stretches(zone: str, day: int) -> tuple[tuple[int, int, int, int], ...]:
    """Cut a UTC day where the zone's date or offset changes: (first minute, length, local day, local minute)."""
    local_zone = ZoneInfo(zone)
    midnight = datetime.combine(date.fromordinal(day), datetime.min.time(), UTC)
    stretches: list[tuple[int, int, int, int]] = []
    for minute in range(_MINUTES):
        local = (midnight + timedelta(minutes=minute)).astimezone(local_zone)
        local_day, local_minute = local.toordinal(), local.hour * 60 + local.minute
        if stretches:
            start, length, day_before, first = stretches[-1]
            if (day_before, first + length) == (local_day, local_minute):
                stretches[-1] = (start, length + 1, day_before, first)
                continue
        stretches.append((minute, 1, local_day, local_minute))
    return tuple(stretches)


@lru_cache(maxsize=4096)
def _allowed_on(rules: _Rules, day: int) -> int:
    """Return the allowed minutes of a local day by the clock on the wall."""
    allowed = _outside_quiet_hours(rules.start, rules.end)
    if rules.federal:
        allowed &= _window(_DATA["federal"]["window"])
    local_date = date.fromordinal(day)
    for state in rules.states:
        row = _STATE_WINDOWS[state]
        if row["closed_on_holidays"] and local_date in _holidays(local_date.year):
            return 0
        weekday = local_date.weekday()
        allowed &= _window(row["sunday"] if weekday == 6 else row["saturday"] if weekday == 5 else row["weekdays"])
    return allowed


@cache
def _outside_quiet_hours(start: str, end: str) -> int:
    check_quiet_hours({"start": start, "end": end})
    first, last = minutes_of_day(start), minutes_of_day(end)
    return sum(1 << minute for minute in range(_MINUTES) if not is_quiet(minute, first, last))


def _window(window: list[str] | None) -> int:
    """Return the minutes from the first time up to the second, such as 08:00 and 20:00; None allows nothing."""
    if window is None:
        return 0
    start, end = map(minutes_of_day, window)
    return (1 << end) - (1 << start)


@cache
def _holidays(year: int) -> frozenset[date]:
    """Return the federal holidays of the United States, with the weekday on which one of a weekend is observed."""
    fixed = [date(year, *day) for day in ((1, 1), (6, 19), (7, 4), (11, 11), (12, 25))]
    observed = [day + timedelta(days={5: -1, 6: 1}.get(day.weekday(), 0)) for day in [*fixed, date(year + 1, 1, 1)]]
    by_weekday = [
        _nth(year, 1, 0, 3), _nth(year, 2, 0, 3), _nth(year, 6, 0, 1) - timedelta(days=7), _nth(year, 9, 0, 1),
        _nth(year, 10, 0, 2), _nth(year, 11, 3, 4),
    ]  # fmt: skip
    return frozenset([*fixed, *observed, *by_weekday])


def _nth(year: int, month: int, weekday: int, number: int) -> date:
    """Return the month's n-th Monday (0) … Sunday (6)."""
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (number - 1))
