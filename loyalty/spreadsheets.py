"""Cells that people open in a spreadsheet: no cell may run as a formula there, and every cell comes back unchanged."""

import re

# What a spreadsheet may take for the beginning of a formula, with the full-width forms of the signs.
_FORMULA = frozenset("=+-@\t\r\n\0＝＋－＠")
_BEFORE_FORMULA = " '\u00a0\u3000\ufeff"
# Where neither stands first, a cell is harmless: nearly every one.
WATCHED = _FORMULA.union(_BEFORE_FORMULA)
# A cell that is a number or a phone as a whole is kept as it is: people and Attentive need it that way.
_NUMBER_OR_PHONE = re.compile(r"[+-]?\d[\d.,]*(?:[eE][+-]?\d+)?|\+?\(?\d[\d ().-]{5,22}\d", re.ASCII)
# How exports keep a spreadsheet from taking a text for a number.
_TEXT_FORMULA = re.compile(r'="([^"]*)"')


def defuse(cell: str) -> str:
    """Return a cell of a file with a `'` before it when a spreadsheet could run it; `typed` reads it as before.

    A cell that begins with a `'` runs nowhere, and keeps the one that it has; a blank one stays blank.
    """
    if cell[:1] not in WATCHED or cell.strip()[:1] in ("'", ""):
        return cell
    if cell.lstrip(_BEFORE_FORMULA)[:1] in _FORMULA and not _NUMBER_OR_PHONE.fullmatch(cell):
        return f"'{cell}"
    return cell


def defuse_strictly(cell: str) -> str:
    """Return the cell with a `'` before it whenever it begins like a formula, phones and numbers too.

    For lists that people open: a spreadsheet would take the + of a phone away. `restore` undoes it exactly.
    """
    if cell[:1] in WATCHED and (cell.lstrip(_BEFORE_FORMULA)[:1] in _FORMULA or restore(cell) != cell):
        return f"'{cell}"
    return cell


def restore(cell: str) -> str:
    """Return the cell without the one `'` that `defuse`, or a spreadsheet's text format, has put before it.

    A name such as 't Hart keeps its apostrophe: nothing would have put it there.
    """
    if cell[:1] != "'":
        return cell
    rest = cell[1:].lstrip(_BEFORE_FORMULA)
    return cell[1:] if rest[:1] in _FORMULA or rest[:1].isdigit() else cell


def typed(cell: str) -> str:
    """Return what was meant by a raw cell of a file: restored, taken out of `="…"`, and stripped."""
    text = restore(cell.strip())
    formula = _TEXT_FORMULA.fullmatch(text)
    return (formula[1] if formula else text).strip()
