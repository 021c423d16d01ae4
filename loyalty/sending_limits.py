"""The limits a site sets on its texts, quiet hours and frequency caps: what may be entered."""

import re
from typing import Any

from django.utils.translation import gettext as _

_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
# Texts to the United States may arrive between these minutes of the day (47 CFR 64.1200(c)(1)).
_DAY = range(8 * 60, 21 * 60)
_LONGEST_CAP_HOURS = 24 * 366
_MOST_CAPS = 10


def minutes_of_day(clock: str) -> int:
    """Return the minutes since midnight of a time such as 20:00; raises ValueError with a sentence."""
    match = _CLOCK.fullmatch(clock) if isinstance(clock, str) else None
    if match is None:
        raise ValueError(_("“%(time)s” is not a time of day. Write it as 20:00.") % {"time": str(clock)[:20]})
    return int(match[1]) * 60 + int(match[2])


def is_quiet(minute: int, start: int, end: int) -> bool:
    """Say whether the minute of the day lies in quiet hours that begin at `start` and end before `end`."""
    return start <= minute < end if start < end else minute >= start or minute < end


def check_quiet_hours(value: Any) -> None:
    """Raise ValueError with a sentence unless the value is {"start": "20:00", "end": "09:00"} or None (no limits)."""
    if value is None:
        return
    if not isinstance(value, dict) or set(value) != {"start", "end"}:
        raise ValueError(_('Quiet hours have a start and an end, such as {"start": "20:00", "end": "09:00"}.'))
    start, end = minutes_of_day(value["start"]), minutes_of_day(value["end"])
    if start == end:
        raise ValueError(_("Quiet hours cannot end when they begin. Choose another end, or turn them off."))
    if all(is_quiet(minute, start, end) for minute in _DAY):
        raise ValueError(
            _("These quiet hours leave no time between 8:00 and 21:00, so no text could ever go. Shorten them.")
        )


def check_caps(value: Any) -> None:
    """Raise ValueError with a sentence unless the value is like [{"hours": 8, "messages": 1}]; None or [] = no caps."""
    if value is None:
        return
    if not isinstance(value, list) or not all(
        isinstance(cap, dict) and set(cap) == {"hours", "messages"} for cap in value
    ):
        raise ValueError(_('Caps are a list such as [{"hours": 8, "messages": 1}, {"hours": 24, "messages": 3}].'))
    if len(value) > _MOST_CAPS:
        raise ValueError(_("There are more than %(most)d caps. Keep those that matter.") % {"most": _MOST_CAPS})
    for cap in value:
        if not _is_whole(cap["hours"], _LONGEST_CAP_HOURS) or not _is_whole(cap["messages"], 1_000):
            raise ValueError(
                _("A cap needs whole numbers: hours from 1 to %(hours)d and messages from 1 to 1000.")
                % {"hours": _LONGEST_CAP_HOURS}
            )
    if len({cap["hours"] for cap in value}) < len(value):
        raise ValueError(_("Two caps are for the same number of hours. Keep the one with fewer messages."))


def _is_whole(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
