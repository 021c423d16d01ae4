"""A language that shows where pages break: each text in brackets, with accents, and longer by about 40 %.

"Save" becomes "⟦Sáávéé⟧". Text without brackets was not marked for translation, and what is cut or sticks out of its
box would be so in German too. The catalogue stands in for English, so that dates and numbers stay as they are.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import axes
import django
import import_export
import polib

from tests.installation import ROOT, Installation

_LONGER = {vowel: accented * 2 for vowel, accented in zip("aeiouAEIOU", "áéíóúÁÉÍÓÚ", strict=True)}
# Placeholders, tags, entities and addresses stay as they are.
_KEPT = re.compile(r"(\{\{.*?\}\}|\{.*?\}|%\(\w+\)[a-z]|%[sd%]|<[^>]*>|&#?\w+;|https?://\S+|\S+@\S+)")


@contextmanager
def installation_in_pseudo(**environment: str) -> Iterator[Installation]:
    """Start an installation whose English is the pseudo-locale."""
    settings = "tests.browser.pseudo_settings"
    with (
        _catalogues_made() as folder,
        Installation(DJANGO_SETTINGS_MODULE=settings, PSEUDO_LOCALE=folder, **environment) as installation,
    ):
        yield installation


@contextmanager
def _catalogues_made() -> Iterator[str]:
    """Make the catalogues in a folder that goes afterwards; yield its path, which `pseudo_settings.py` reads."""
    with TemporaryDirectory(prefix="loyalty-sms-pseudo-") as folder:
        texts = Path(folder) / "en" / "LC_MESSAGES"
        texts.mkdir(parents=True)
        for domain in ("django", "djangojs"):
            catalogue = polib.POFile()
            catalogue.metadata = {
                "Content-Type": "text/plain; charset=UTF-8",
                "Plural-Forms": "nplurals=2; plural=n != 1;",
            }
            known = set()
            for path in _catalogues(domain):
                for entry in polib.pofile(str(path)):
                    if entry.obsolete or (entry.msgctxt, entry.msgid) in known:
                        continue
                    known.add((entry.msgctxt, entry.msgid))
                    catalogue.append(_lengthened(entry))
            catalogue.save_as_mofile(str(texts / f"{domain}.mo"))
        yield folder


def _catalogues(domain: str) -> Iterator[Path]:
    """The French ones, ours first: French is complete, and their msgids are the texts of the sources."""
    for room in (ROOT, *(Path(package.__file__).parent for package in (django, axes, import_export))):
        yield from sorted(room.rglob(f"locale/fr/LC_MESSAGES/{domain}.po"))


def _lengthened(entry: polib.POEntry) -> polib.POEntry:
    if not entry.msgid_plural:
        return polib.POEntry(msgctxt=entry.msgctxt, msgid=entry.msgid, msgstr=lengthened(entry.msgid))
    plural = {0: lengthened(entry.msgid), 1: lengthened(entry.msgid_plural)}
    return polib.POEntry(
        msgctxt=entry.msgctxt, msgid=entry.msgid, msgid_plural=entry.msgid_plural, msgstr_plural=plural
    )


def lengthened(text: str) -> str:
    """Return a text as the pseudo-locale has it."""
    parts = _KEPT.split(text)
    parts[::2] = ["".join(_LONGER.get(letter, letter) for letter in part) for part in parts[::2]]
    return f"⟦{''.join(parts)}⟧"
