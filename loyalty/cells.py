"""What a cell of a file may hold. Each kind of cell is cleaned, or refused with a sentence that says what to do.

Every kind is a widget of django-import-export. `clean_text` gives the canonical text that the import pipeline stages;
`clean` gives the Python value of it. Cells arrive stripped and not empty.
"""

import json
import re
import unicodedata
import zoneinfo
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.translation import gettext as _
from import_export.widgets import Widget

from attentive_integration.phones import PhoneError, to_e164
from attentive_integration.storable import is_storable
from loyalty.spreadsheets import typed

# A cell of these two dashes empties the field; a blank cell leaves it as it is.
CLEAR = "--"
BIGGEST = 2**63 - 1
# Signs, in cells joined by line ends, that a cell is not to be taken as it is: a space at its edge, a leading
# apostrophe, a text in the form of a formula, a clear.
_MARKS = ("\n ", " \n", "\n'", '\n="', f"\n{CLEAR}\n")


class CellError(ValueError):
    """A cell that cannot be used. `code` is one word for counting, `sentence` says what to do."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class Cell(Widget):
    """What all kinds share."""

    def __init__(self, label: Any = "") -> None:
        super().__init__()
        self.label = label

    def clean_text(self, raw: str) -> str:
        raise NotImplementedError

    def clean_column(self, cells: Sequence[str]) -> tuple[list[str | None], dict[int, CellError]]:
        """Clean raw cells of a file: None for a blank one, CLEAR for `--`; errors by the index of their cell.

        Most columns need no change at all, and that is found out for all cells at once.
        """
        whole, lines = "".join(cells), "\n".join(("", *cells, ""))
        as_it_is = whole.isprintable() and not any(mark in lines for mark in _MARKS)
        if as_it_is and self.are_clean(cells, whole):
            return [cell or None for cell in cells] if "\n\n" in lines else list(cells), {}
        return self._one_by_one(cells)

    def are_clean(self, cells: Sequence[str], whole: str) -> bool:
        """Tell whether `clean_text` would return each cell as it is, or the cell is blank; `whole` is their text."""
        return False

    def _one_by_one(self, cells: Sequence[str]) -> tuple[list[str | None], dict[int, CellError]]:
        known: dict[str, str | None] = {}
        wrong: dict[str, CellError] = {}
        for cell in set(cells):
            text = typed(cell)
            try:
                known[cell] = text if text == CLEAR else self.clean_text(text) if text else None
            except CellError as error:
                wrong[cell] = error
        if not wrong:
            return [known[cell] for cell in cells], {}
        return [known.get(cell) for cell in cells], {
            index: wrong[cell] for index, cell in enumerate(cells) if cell in wrong
        }

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> Any:
        """Return the Python value of a cell; raises `CellError`."""
        text = "" if value is None else str(value).strip()
        return self.value(self.clean_text(text)) if text else self.value("")

    def value(self, text: str) -> Any:
        return text


class TextCell(Cell):
    """Text of a limited length; line breaks and other control characters become spaces."""

    def __init__(self, label: str, limit: int) -> None:
        super().__init__(label)
        self.limit = limit

    def are_clean(self, cells: Sequence[str], whole: str) -> bool:
        return max(map(len, cells), default=0) <= self.limit

    def clean_text(self, raw: str) -> str:
        text = raw if raw.isprintable() else _printable(raw)
        if len(text) > self.limit:
            raise CellError(
                "TOO_LONG",
                _("The %(field)s is longer than %(limit)d characters. Shorten it.")
                % {"field": self.label, "limit": self.limit},
            )
        return text


# They hold together the parts of an emoji, and letters of some scripts.
_JOINERS = "\u200c\u200d"


def _printable(raw: str) -> str:
    """Return the text without characters that change how it is read or cannot be stored."""
    kept = (" " if char.isspace() or unicodedata.category(char) == "Cc" else char for char in raw)
    seen = (char for char in kept if char in _JOINERS or unicodedata.category(char) not in ("Cf", "Cs"))
    return "".join(seen).strip(f" {_JOINERS}")


class PhoneCell(Cell):
    """A mobile number in any spelling, to E.164."""

    def __init__(self, label: str, country: str = "US", allowed: Collection[str] = ("US", "CA", "GB")) -> None:
        super().__init__(label)
        self.country = country
        self.allowed = tuple(allowed)

    def clean_text(self, raw: str) -> str:
        try:
            return to_e164(raw, self.country, self.allowed)
        except PhoneError as error:
            raise CellError(error.code, error.sentence) from None

    def clean_column(self, cells: Sequence[str]) -> tuple[list[str | None], dict[int, CellError]]:
        """Clean phones; a member's cannot be blank, nor be cleared."""
        country, allowed = self.country, self.allowed
        with suppress(PhoneError):
            return [to_e164(cell, country, allowed) for cell in cells], {}
        column: list[str | None] = []
        errors: dict[int, CellError] = {}
        for index, cell in enumerate(cells):
            try:
                column.append(self.clean_text("" if typed(cell) == CLEAR else cell))
            except CellError as error:
                column.append(None)
                errors[index] = error
        return column, errors

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> Any:
        return self.clean_text("" if value is None else str(value).strip())


_EMAIL = re.compile(r"[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}", re.ASCII)


class EmailCell(Cell):
    """An e-mail address, in lower case."""

    def are_clean(self, cells: Sequence[str], whole: str) -> bool:
        return max(map(len, cells), default=0) <= 64 and all(map(_EMAIL.fullmatch, filter(None, cells)))

    def clean_text(self, raw: str) -> str:
        text = raw.lower()
        if len(text) <= 64 and _EMAIL.fullmatch(text):
            return text
        try:
            validate_email(text)
        except ValidationError:
            raise CellError(
                "EMAIL", _("This is no e-mail address. Write it as name@example.com, or leave the cell blank.")
            ) from None
        if len(text) > 254 or not text.isprintable():
            raise CellError("EMAIL", _("The e-mail address is longer than 254 characters. Check the cell."))
        return text


_WHOLE = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d{1,24})(?:\.0{1,6})?", re.ASCII)


class PointsCell(Cell):
    """A whole number, also written as 1,234 or 1234.00."""

    def are_clean(self, cells: Sequence[str], whole: str) -> bool:
        return (whole.isdecimal() and whole.isascii() and max(map(len, cells)) < 19) or not whole

    def clean_text(self, raw: str) -> str:
        if raw.isdecimal() and raw.isascii() and len(raw) < 19:
            return raw
        if not _WHOLE.fullmatch(raw):
            raise CellError(
                "NOT_A_NUMBER",
                _("The %(field)s must be a whole number, such as 1200.") % {"field": self.label},
            )
        number = int(raw.partition(".")[0].replace(",", ""))
        if abs(number) > BIGGEST:
            raise CellError("TOO_BIG", _("Too many digits for the %(field)s. Check the cell.") % {"field": self.label})
        return str(number)

    def value(self, text: str) -> Any:
        return int(text) if text else None


_ISO_DATE = re.compile(r"(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})(?:[T ].*)?", re.ASCII)
_SHORT_DATE = re.compile(r"(?P<first>\d{1,2})[-/.](?P<second>\d{1,2})[-/.](?P<year>\d{4})(?P<rest>[T ].*)?", re.ASCII)
_PLAIN_DATE = re.compile(r"(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])", re.ASCII)


def parse_date(raw: str, *, day_first: bool) -> date | None:
    """Return the date of 1990-12-10 or 12/10/1990 (10/12/1990 where the day comes first); None when it is none."""
    iso = _ISO_DATE.fullmatch(raw)
    match = iso or _SHORT_DATE.fullmatch(raw)
    if match is None:
        return None
    if iso:
        month, day = int(match["month"]), int(match["day"])
    else:
        month, day = int(match["first"]), int(match["second"])
        if day_first:
            month, day = day, month
    try:
        return date(int(match["year"]), month, day)
    except ValueError:
        return None


class DateCell(Cell):
    """A day in the past, as 1990-12-10, or month first (day first in Britain) with four digits for the year."""

    def __init__(self, label: str, *, day_first: bool = False) -> None:
        super().__init__(label)
        self.day_first = day_first

    def are_clean(self, cells: Sequence[str], whole: str) -> bool:
        return max(cells, default="") < _this_year() and all(map(_PLAIN_DATE.fullmatch, filter(None, cells)))

    def clean_text(self, raw: str) -> str:
        if _PLAIN_DATE.fullmatch(raw) and raw < _this_year():
            return raw
        day = parse_date(raw, day_first=self.day_first)
        if day is None:
            raise CellError(
                "DATE",
                _("The %(field)s is no date. Write it as 1990-12-31 (year, month, day).") % {"field": self.label},
            )
        if not date(1900, 1, 1) <= day <= date.today():
            raise CellError(
                "DATE_RANGE",
                _("The %(field)s lies in the future or before 1900. Check the year.") % {"field": self.label},
            )
        return day.isoformat()

    def value(self, text: str) -> Any:
        return date.fromisoformat(text) if text else None


def _this_year() -> str:
    return str(date.today().year)


_SHORT_TIME = re.compile(r"[T ]\s*(\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?\s*([AaPp][Mm])?", re.ASCII)


def parse_moment(raw: str, zone: zoneinfo.ZoneInfo, *, day_first: bool) -> datetime | None:
    """Return the moment of an ISO or a short date with or without a time; without an offset it is the zone's time."""
    try:
        moment = datetime.fromisoformat(raw)
    except ValueError:
        day = parse_date(raw, day_first=day_first)
        short = _SHORT_DATE.fullmatch(raw)
        if day is None or short is None:
            return None
        clock = _SHORT_TIME.fullmatch(short["rest"]) if short["rest"] else None
        if short["rest"] and clock is None:
            return None
        hour, minute, second = (int(part or 0) for part in clock.groups()[:3]) if clock else (0, 0, 0)
        if clock and clock[4]:
            hour = hour % 12 + (12 if clock[4].lower() == "pm" else 0)
        if hour > 23 or minute > 59 or second > 59:
            return None
        moment = datetime(day.year, day.month, day.day, hour, minute, second)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return None


_AHEAD = timedelta(hours=1)


class MomentCell(Cell):
    """A moment; without an offset it is the site's local time. Text form: UTC, as 2026-11-01 10:00:00.

    With `in_past` none that lies ahead by more than a clock may be wrong.
    """

    def __init__(
        self,
        label: str,
        zone: zoneinfo.ZoneInfo | None = None,
        *,
        day_first: bool = False,
        in_past: bool = False,
    ) -> None:
        super().__init__(label)
        self.in_past = in_past
        self.zone = zone or zoneinfo.ZoneInfo("UTC")
        self.day_first = day_first

    def clean_text(self, raw: str) -> str:
        moment = parse_moment(raw, self.zone, day_first=self.day_first)
        if moment is None or moment.year < 1900:
            raise CellError(
                "TIME",
                _("The %(field)s is no time. Write it as 2026-11-01 10:00 or 2026-11-01T10:00:00Z.")
                % {"field": self.label},
            )
        if self.in_past and moment > datetime.now(UTC) + _AHEAD:
            raise CellError(
                "TIME_RANGE", _("The %(field)s lies in the future. Check the year.") % {"field": self.label}
            )
        return moment.replace(tzinfo=None).isoformat(sep=" ")

    def value(self, text: str) -> Any:
        return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None


_OPT_IN = {
    **dict.fromkeys(("yes", "y", "true", "t", "1", "opted in", "opted-in", "opt-in", "in", "active"), "YES"),
    **dict.fromkeys(("no", "n", "false", "f", "0", "opted out", "opted-out", "opt-out", "out", "inactive"), "NO"),
}


class OptInCell(Cell):
    """The loyalty program's opt-in: yes or no."""

    def are_clean(self, cells: Sequence[str], whole: str) -> bool:
        return {"", "YES", "NO"}.issuperset(cells)

    def clean_text(self, raw: str) -> str:
        if raw in ("YES", "NO"):
            return raw
        known = _OPT_IN.get(raw.lower())
        if known is None:
            raise CellError("YES_NO", _("The %(field)s must be YES or NO, or blank.") % {"field": self.label})
        return known


class StateCell(Cell):
    """A state of the United States by its two letters."""

    def clean_text(self, raw: str) -> str:
        text = raw.upper()
        if not (len(text) == 2 and text.isascii() and text.isalpha()):
            raise CellError("STATE", _("The %(field)s must be two letters, such as GA.") % {"field": self.label})
        return text


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


class TimeZoneCell(Cell):
    """A time zone by its name."""

    def clean_text(self, raw: str) -> str:
        if raw not in _zones():
            raise CellError("ZONE", _("The %(field)s must be a name such as America/New_York.") % {"field": self.label})
        return raw


class ObjectCell(Cell):
    """A JSON object."""

    def clean_text(self, raw: str) -> str:
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            value = None
        text = json.dumps(value, ensure_ascii=False)
        if not isinstance(value, dict) or not is_storable(text) or "\\u0000" in text:
            raise CellError(
                "JSON", _('The %(field)s must be a JSON object, such as {"order_id": "o-9"}.') % {"field": self.label}
            )
        return json.dumps(value)

    def value(self, text: str) -> Any:
        return json.loads(text) if text else {}
