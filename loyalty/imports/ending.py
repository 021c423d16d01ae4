"""The end of a file: its last rows, whether it was cut there, and whether they are a summary and nobody's."""

import csv
import re
import unicodedata
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from django.utils.translation import gettext as _

from loyalty.imports.rows import (
    MAX_CELL,
    MAX_COLUMNS,
    Dialect,
    ImportRefused,
    Lines,
    cell_too_long,
    too_many_columns,
)
from loyalty.spreadsheets import typed

_SUMMARY = re.compile(
    r"(?i)\W*(grand total|sub-?total|total|sum|count|records|rows|row count|number of|end of|generated|exported)\b",
    re.ASCII,
)
# Rows at the end that may be a summary together.
_SUMMARY_ROWS = 3
_DIGITS_OF_A_PHONE = 7
_SCIENTIFIC = re.compile(r"\d(?:[.,]\d+)?e\+?\d{1,2}", re.IGNORECASE | re.ASCII)
_END = "\x1eEND\x1e"
# Bytes in which the last rows are looked for, and rows at the top that show how long rows are.
_TAIL = 65_536
_TOP_ROWS = 60


def last_rows(file: Any, dialect: Dialect, *, whole: bool) -> list[tuple[int, list[str]]]:
    """Return line and cells of the last rows, having looked at every cell where quotes or long lines ask for it."""
    if whole:
        return _walk(file, dialect)
    file.seek(0, 2)
    size = file.tell()
    step = 2 if dialect.encoding.startswith("utf-16") else 1
    begin = max(dialect.start, size - _TAIL * step)
    begin -= (begin - dialect.start) % step
    file.seek(begin)
    text = file.read().decode(dialect.encoding, errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    texts = text.removesuffix("\n").split("\n")
    first_line = dialect.lines - len(texts) + 1
    filled = [(line, text) for line, text in enumerate(texts, first_line) if text.strip(f" {dialect.delimiter}")]
    rows = filled[-_SUMMARY_ROWS:] or [(first_line, texts[0])]
    return [(line, next(csv.reader([text], delimiter=dialect.delimiter), [])) for line, text in rows]


def _walk(file: Any, dialect: Dialect) -> list[tuple[int, list[str]]]:
    source = Lines(file, dialect.encoding, offset=dialect.start, number=dialect.start_line)

    def with_end() -> Iterator[str]:
        text = ""
        for text in source:
            yield text
        if text[-1:] not in ("\n", "\r"):
            yield "\n"
        yield _END

    line = dialect.start_line
    last = deque([(line, [""])], maxlen=_SUMMARY_ROWS)
    try:
        for cells in csv.reader(with_end(), delimiter=dialect.delimiter):
            if cells == [_END]:
                return list(last)
            if len(cells) > MAX_COLUMNS and any(cells[MAX_COLUMNS:]):
                raise ImportRefused(too_many_columns(len(cells), line))
            if max(map(len, cells), default=0) > MAX_CELL:
                raise ImportRefused(cell_too_long(line))
            if any(map(str.strip, cells)):
                last.append((line, cells))
            line = source.number
    except csv.Error:
        raise ImportRefused(cell_too_long(line)) from None
    # The mark of the end stands within a quote, in the last row.
    raise ImportRefused(cut(last[-1][0]))


def is_cut(last: list[str], line: int, dialect: Dialect, file: Any) -> bool:
    """Tell whether a last line without a line end is the beginning of a row: shorter than all rows at the top."""
    width = len(dialect.columns)
    if line <= dialect.body_line or len(last) >= width:
        return False
    source = Lines(file, dialect.encoding, offset=dialect.body, number=dialect.body_line)
    for number, cells in enumerate(csv.reader(iter(source), delimiter=dialect.delimiter)):
        if source.number > line or number == _TOP_ROWS:
            break
        if cells and len(cells) < width:
            return False
    return True


def is_summary(cells: Sequence[str], fields: Sequence[str]) -> bool:
    """Tell whether a row begins as a summary does, and can be nobody and no action.

    `fields` tells what each column is, "" for one that is not known: no address may stand there, nor in those of phones
    and e-mail addresses.
    """
    filled = [(at, typed(cell)) for at, cell in enumerate(cells) if cell.strip()]
    if not filled or not _SUMMARY.match(filled[0][1]):
        return False
    known = [(fields[at], text) for at, text in filled if at < len(fields)]
    if any(field == "action" for field, _text in known[1:]):
        return False
    addresses = [text for field, text in known if field in ("", "phone", "email")]
    return not any("@" in text for text in addresses) and not any(map(_may_be_phone, addresses))


def _may_be_phone(text: str) -> bool:
    """Tell whether a cell may be meant as a phone, in whatever spelling; “Total on 2026-11-20” is none."""
    plain = unicodedata.normalize("NFKC", text)
    if _SUMMARY.match(plain):
        return False
    return sum(map(str.isdecimal, plain)) >= _DIGITS_OF_A_PHONE or _SCIENTIFIC.fullmatch(plain) is not None


def cut(line: int) -> str:
    return _(
        "The file is cut in the middle: it ends inside a row that begins in line %(line)d. Export or upload it again; "
        "if the file is whole, a quote is not closed there."
    ) % {"line": line}
