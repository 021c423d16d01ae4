"""The text of a campaign: a closed list of placeholders, filled in one pass; no template engine and no format string.

A text that Attentive would drop without a word (with a brace), an empty or an over-long one is refused with a reason.
"""

import difflib
import math
import re
import unicodedata
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from django.utils.translation import gettext as _

from loyalty.models import LoyaltyAction, Member
from messaging.parts import Culprit, Parts, parts
from messaging.reasons import Code

__all__ = [
    "KNOWN",
    "MAX_PARTS",
    "MAX_VALUE",
    "BodyError",
    "Culprit",
    "Parts",
    "Rendered",
    "check_body",
    "is_known",
    "parts",
    "placeholders",
    "render",
    "worst_case",
]

KNOWN = ("first_name", "last_name", "tier", "points", "points_delta")
# A text of more parts (1,530 plain characters) is a mistake, and a dear one.
MAX_PARTS = 10
# A longer value is a mistake too. It is refused and not cut: half a link or half a sentence is worse than no text.
MAX_VALUE = 500
# What the counter assumes where nothing better is known.
_LONGEST = {
    "first_name": "W" * 15,
    "last_name": "W" * 20,
    "tier": "W" * 15,
    "points": "9" * 8,
    "points_delta": "-" + "9" * 7,
}
_LONGEST_DATA = "W" * 30

_PLACEHOLDER = re.compile(r"\{\{([^{}|]*)(\|[^{}]*)?\}\}")
_DATA_NAME = re.compile(r"data\.([A-Za-z0-9_-]+)")
_BRACE = re.compile(r"[{}]")
_SPACES = re.compile(r"\s+")
# Zero-width joiners belong to emoji and to the spelling of names.
_JOINERS = "\u200c\u200d"
_INVISIBLE = ("Cc", "Cf", "Cs")


class BodyError(ValueError):
    """A campaign's text cannot be used; `str()` is a sentence with the remedy."""


class Rendered(NamedTuple):
    """The text to send. `reason` is empty when it may be sent; else it is a `Code`, the text is empty, and `detail`
    names the placeholder at fault, where there is one."""

    text: str
    reason: str
    detail: str


def placeholders(body: str) -> list[str]:
    """Return the distinct placeholders of the text in order, known or not, without their fallbacks."""
    return list(dict.fromkeys(match[1].strip() for match in _PLACEHOLDER.finditer(body)))


def check_body(body: str) -> None:
    """Raise BodyError unless the text can be sent once its placeholders have values."""
    if not _clean_body(body):
        raise BodyError(_("The text is empty. Write what the member should read."))
    for name in placeholders(body):
        if not is_known(name):
            raise BodyError(_unknown_placeholder(name))
    fixed = _PLACEHOLDER.sub("", body)
    if brace := _BRACE.search(fixed):
        near = fixed[max(brace.start() - 12, 0) : brace.end() + 12]
        raise BodyError(
            _(
                "A brace is left over in “%(near)s”. Attentive drops a text with { or } without an error, so it cannot "
                "be saved. Remove it, or write a placeholder such as {{ first_name }}."
            )
            % {"near": " ".join(near.split())}
        )
    count = parts(_clean_body(fixed)).count
    if count > MAX_PARTS:
        raise BodyError(
            _("The text takes %(count)d SMS parts; at most %(limit)d are sent. Shorten it.")
            % {"count": count, "limit": MAX_PARTS}
        )


def render(body: str, member: Member, action: LoyaltyAction | None) -> Rendered:
    """Fill the placeholders with what the member and the action hold; never raises. Without an action: a preview.

    The reason is MISSING_VALUE, TOO_LONG, BRACE or EMPTY when the text must not be sent.
    """
    faults: dict[Code, str] = {}

    def fill(match: re.Match[str]) -> str:
        name, fallback = match[1].strip(), match[2]
        if not is_known(name):
            return match[0]
        value = _value(name, member, action)
        if not value:
            if fallback is None:
                faults.setdefault(Code.MISSING_VALUE, name)
                return ""
            return fallback[1:].strip()
        if len(value) > MAX_VALUE:
            faults.setdefault(Code.TOO_LONG, name)
            return ""
        if _BRACE.search(value):
            faults.setdefault(Code.BRACE, name)
        return value

    text = _clean_body(_PLACEHOLDER.sub(fill, body))
    for code in (Code.MISSING_VALUE, Code.TOO_LONG, Code.BRACE):
        if code in faults:
            return Rendered("", code, faults[code])
    if _BRACE.search(text):
        return Rendered("", Code.BRACE, "")
    if not text:
        return Rendered("", Code.EMPTY, "")
    if parts(text).count > MAX_PARTS:
        return Rendered("", Code.TOO_LONG, "")
    return Rendered(text, "", "")


def worst_case(body: str, longest: Mapping[str, str] | None = None) -> str:
    """Return the text with long values in its placeholders, for counting parts; `longest` gives better known ones."""
    known = {**_LONGEST, **(longest or {})}

    def fill(match: re.Match[str]) -> str:
        value = known.get(match[1].strip(), _LONGEST_DATA)
        fallback = (match[2] or "|")[1:].strip()
        return max(value, fallback, key=len)

    return _clean_body(_PLACEHOLDER.sub(fill, body))


# --- Values -----------------------------------------------------------------------------------------------------------


def is_known(name: str) -> bool:
    """Tell whether a placeholder of this name can be filled."""
    return name in KNOWN or _DATA_NAME.fullmatch(name) is not None


def _unknown_placeholder(name: str) -> str:
    closest = difflib.get_close_matches(name.lower(), [*KNOWN, "data."], n=1)
    shown = {"name": name[:60], "known": ", ".join(KNOWN)}
    if closest and closest[0] != "data.":
        return _("Unknown placeholder {{ %(name)s }}. Did you mean {{ %(closest)s }}?") % {
            **shown,
            "closest": closest[0],
        }
    return (
        _("Unknown placeholder {{ %(name)s }}. There are %(known)s, and data.KEY for a value that the action carries.")
        % shown
    )


def _value(name: str, member: Member, action: LoyaltyAction | None) -> str:
    """Return the value as it may stand in a text; empty when it is missing."""
    data = action.data if action is not None and isinstance(action.data, dict) else {}
    if key := _DATA_NAME.fullmatch(name):
        return _plain(data.get(key[1]))
    if name == "points":
        return _plain(action.points if action is not None and action.points is not None else member.points)
    if name == "points_delta":
        return _plain(action.points_delta if action is not None else None)
    own = _plain(getattr(member, name))
    return own or (_plain(data.get(name)) if isinstance(data.get(name), str) else "")


def _plain(value: Any) -> str:
    """Return a text, a number or a yes/no in plain writing; empty for anything else."""
    if isinstance(value, str):
        # Far more than may stand in a text, so that a huge value costs nothing.
        return _clean(value[: 4 * MAX_VALUE])
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # Python refuses to write out numbers of thousands of digits.
        return str(value) if value.bit_length() < 4 * MAX_VALUE else "9" * (MAX_VALUE + 1)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else f"{Decimal(repr(value)):f}"
    return ""


def _clean(value: str) -> str:
    """Return the value on one line, without control, bidi and other invisible characters."""
    if not value.isprintable():
        value = _visible(_SPACES.sub(" ", value))
    return value.strip()


def _clean_body(text: str) -> str:
    """Return the text with plain line breaks and without invisible characters."""
    if not text.isprintable():
        lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ").split("\n")
        text = "\n".join(line if line.isprintable() else _visible(line) for line in lines)
    return text.strip()


def _visible(text: str) -> str:
    return "".join(char for char in text if char in _JOINERS or unicodedata.category(char) not in _INVISIBLE)
