"""`python -m tests.check_translations`: is every text of the product translated? Exits with 1, and says which, if not.

The texts are collected anew from a copy of the sources, as `make translations` does in place, and compared with the
catalogues. Needs xgettext and msgfmt (Debian's gettext).
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import polib

ROOT = Path(__file__).resolve().parent.parent
_SOURCES = ("manage.py", "attentive_integration", "loyalty", "messaging", "templates", "locale")
_IN_BRACES = re.compile(r"""f["'].*\{n?gettext\w*\(|f["'].*\{_\(""")


def problems(language: str) -> list[str]:
    """Return what is wrong with the catalogue of a language, a sentence each."""
    name = Path("locale") / language / "LC_MESSAGES" / "django.po"
    with tempfile.TemporaryDirectory(prefix="loyalty-sms-texts-") as folder:
        copy = Path(folder)
        for source in _SOURCES:
            (shutil.copytree if (ROOT / source).is_dir() else shutil.copy)(ROOT / source, copy / source)
        command = [sys.executable, "manage.py", "makemessages", "-l", language, "--no-obsolete", "-v0"]
        subprocess.run(command, cwd=copy, check=True)
        subprocess.run(["msgfmt", "--check-format", "-o", "/dev/null", name], cwd=copy, check=True)
        fresh = polib.pofile(str(copy / name))
    compiled = {(entry.msgctxt, entry.msgid): entry for entry in polib.mofile(str(ROOT / name.with_suffix(".mo")))}
    found = [f"Not translated: {entry.msgid!r}" for entry in fresh.untranslated_entries()]
    found += [f"Only guessed at: {entry.msgid!r}" for entry in fresh.fuzzy_entries()]
    for entry in fresh.translated_entries():
        stands = compiled.get((entry.msgctxt, entry.msgid))
        if stands is None or (stands.msgstr, stands.msgstr_plural) != (entry.msgstr, entry.msgstr_plural):
            found.append(f"Not compiled: {entry.msgid!r}")
    return found


def hidden() -> list[str]:
    """Return where a text stands inside an f-string, from which xgettext does not collect it."""
    return [
        f"Not collected, take it out of the f-string: {path.relative_to(ROOT)}, line {number}"
        for room in _SOURCES
        for path in sorted((ROOT / room).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if _IN_BRACES.search(line)
    ]


def main() -> int:
    if not shutil.which("xgettext"):
        print("This check needs gettext. On Debian: sudo apt-get install gettext")
        return 1
    found = hidden() + problems("fr")
    print("\n".join(found) or "Every text is translated.")
    if found:
        print("Run `make translations`, translate what is empty or fuzzy in locale/fr, and run it again.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
