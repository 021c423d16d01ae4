"""How many SMS parts a text takes, and which characters make it dearer; counts as Twilio's segment calculator does."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from wcwidth import iter_graphemes

# The alphabet of GSM 03.38 takes one unit a character; those of its extension table take two.
_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = "\f^{}\\[~]|€"
_ONLY_BASIC = re.compile(f"[{re.escape(_BASIC)}]*")
_ONLY_GSM = re.compile(f"[{re.escape(_BASIC + _EXTENSION)}]*")
_NOT_GSM = re.compile(f"[^{re.escape(_BASIC + _EXTENSION)}]")

# What people mean when a word processor or a keyboard gave them a look-alike.
_LOOK_ALIKES = {
    **dict.fromkeys("‘’‚‛′´`ʼʻˈ＇", "'"),
    **dict.fromkeys("“”„‟″«»", '"'),
    **dict.fromkeys("‐‑‒–—―−﹣－", "-"),
    **dict.fromkeys("\t\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a", " "),
    **dict.fromkeys("\u202f\u205f\u3000", " "),
    **dict.fromkeys("•·●▪", "*"),
    **dict.fromkeys("ı", "i"),
    **dict.fromkeys("ł", "l"),
    **dict.fromkeys("Ł", "L"),
    **dict.fromkeys("đð", "d"),
    **dict.fromkeys("ĐÐ", "D"),
    "…": "...", "™": "TM", "®": "(R)", "©": "(C)", "œ": "oe", "Œ": "OE", "⁄": "/", "÷": "/", "×": "x", "∗": "*",
    "þ": "th", "Þ": "Th",
}  # fmt: skip


class Capacity(NamedTuple):
    """Units in a text of one part, and in each part of a longer one."""

    single: int
    joined: int


CAPACITY = {"GSM-7": Capacity(160, 153), "UCS-2": Capacity(70, 67)}


class Culprit(NamedTuple):
    """A character that is not in the GSM alphabet, its Unicode name, and a plain one; empty = best left out."""

    character: str
    name: str
    suggestion: str


@dataclass(frozen=True)
class Parts:
    """`units` are septets (GSM-7) or UTF-16 units (UCS-2); `left` still fit into the last part."""

    count: int
    encoding: str
    units: int
    left: int
    culprits: tuple[Culprit, ...] = ()


def with_prefix(text: str, prefix: str) -> str:
    """Return the text as the phone shows it: after the sender's prefix, with a space between where it has none."""
    return f"{prefix}{text}" if not prefix or prefix[-1].isspace() else f"{prefix} {text}"


def parts(text: str, prefix: str = "") -> Parts:
    """Count the parts of any text with the prefix that Attentive puts before it; an empty text has one part.

    A character that takes two units, and a combined one such as an emoji of several code points, is never split.
    """
    text = with_prefix(text, prefix)
    if _ONLY_BASIC.fullmatch(text):
        units, (single, joined) = len(text), CAPACITY["GSM-7"]
        if units <= single:
            return Parts(1, "GSM-7", units, single - units)
        count = -(-units // joined)
        return Parts(count, "GSM-7", units, count * joined - units)
    if _ONLY_GSM.fullmatch(text):
        return _packed("GSM-7", [2 if char in _EXTENSION else 1 for char in text])
    return _packed("UCS-2", [_utf_16_units(piece) for piece in _pieces(text)], _culprits(text))


def suggestion(character: str) -> str:
    """Return what may stand in the GSM alphabet for the character; empty when nothing does."""
    if character in _LOOK_ALIKES:
        return _LOOK_ALIKES[character]
    plain = "".join(char for char in unicodedata.normalize("NFKD", character) if not unicodedata.combining(char))
    return plain if plain and _ONLY_GSM.fullmatch(plain) and "{" not in plain and "}" not in plain else ""


def _packed(encoding: str, sizes: list[int], culprits: tuple[Culprit, ...] = ()) -> Parts:
    """Fill parts from the left; a piece that does not fit begins the next part."""
    single, joined = CAPACITY[encoding]
    units = sum(sizes)
    if units <= single:
        return Parts(1, encoding, units, single - units, culprits)
    count, used = 1, 0
    for size in sizes:
        if used and used + size > joined:
            count, used = count + 1, 0
        used += size
    return Parts(count, encoding, units, max(joined - used, 0), culprits)


def _pieces(text: str) -> Iterator[str]:
    """Yield what a reader sees as one character; a line break in two characters counts as two."""
    for piece in iter_graphemes(text):
        if piece == "\r\n":
            yield from piece
        else:
            yield piece


def _utf_16_units(text: str) -> int:
    return len(text) + sum(char > "\uffff" for char in text)


def _culprits(text: str) -> tuple[Culprit, ...]:
    return tuple(
        Culprit(char, unicodedata.name(char, f"U+{ord(char):04X}"), suggestion(char))
        for char in dict.fromkeys(_NOT_GSM.findall(text))
    )
