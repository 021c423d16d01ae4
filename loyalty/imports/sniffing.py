"""Finds out how a file is written, and refuses what is no list, before anything of it is stored.

The whole file is read once, block by block: its checksum, its encoding, its lines, and the faults that would stop an
import half-way (an unclosed quote, NUL characters, cells without end) are known before the first row is written.
"""

import codecs
import csv
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from loyalty.imports.ending import cut, is_cut, is_summary, last_rows
from loyalty.imports.rejects import are_named_as_ours, ours_among
from loyalty.imports.rows import (
    MAX_BYTES,
    MAX_CELL,
    MAX_COLUMNS,
    MAX_LINE,
    MAX_ROWS,
    Dialect,
    ImportRefused,
    Lines,
    cell_too_long,
    line_too_long,
    slices,
    too_many_columns,
    unreadable,
)
from loyalty.spreadsheets import restore, typed

# Tells which of some headers are recognised, and as which fields.
Known = Callable[[Sequence[str]], Mapping[str, str]]

DELIMITERS = {
    ",": gettext_lazy("comma"),
    ";": gettext_lazy("semicolon"),
    "\t": gettext_lazy("tab"),
    "|": gettext_lazy("bar"),
}
ENCODINGS = ("utf-8", "cp1252", "latin-1", "utf-16-le", "utf-16-be")
# Byte order marks, and the encodings that begin with them.
MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))

_SAMPLE_LINES = 60
# Rows among which the header is looked for.
_TOP_ROWS = 6
_BLOCK = 1_048_576
# Bytes that Windows-1252 does not define.
_NOT_CP1252 = b"\x81\x8d\x8f\x90\x9d"
_PHONE_LIKE = re.compile(r"\+?\(?\d[\d ().-]{5,18}\d", re.ASCII)


@dataclass(frozen=True)
class Survey:
    """What a whole file turned out to be."""

    dialect: Dialect
    sha256: str
    size: int


def survey(file: Any, known: Known, *, has_header: bool | None = None) -> Survey:
    """Read the whole file and return how it is written; raises `ImportRefused`.

    `known` settles doubts about the delimiter, the header, and whether the last row is a summary; `has_header` is taken
    where it is given.
    """
    file.seek(0)
    head = file.read(_BLOCK)
    _refuse_other_kinds(head)
    encoding, start = _by_mark(head)
    scan = _Scan(encoding)
    file.seek(0)
    while block := file.read(_BLOCK):
        scan.feed(block)
    scan.end()
    if scan.cut_at_end:
        raise ImportRefused(cut(scan.lines))
    dialect = describe(file, scan.encoding, known=known, start=start, has_header=has_header)
    dialect.lines = scan.lines
    if scan.lines - 1 > MAX_ROWS:
        raise ImportRefused(
            _("The file has more than %(rows)s rows (line %(line)d). Split it and import the parts.")
            % {"rows": f"{MAX_ROWS:,}", "line": MAX_ROWS + 2}
        )
    rows = last_rows(file, dialect, whole=scan.has_quotes or scan.has_long_lines)
    last_line, last = rows[-1]
    known_fields = known(dialect.columns)
    fields = [known_fields.get(name, "") for name in dialect.columns]
    if not scan.ends_with_newline and not is_summary(last, fields) and is_cut(last, last_line, dialect, file):
        raise ImportRefused(
            _(
                "The file is cut in the middle: it ends inside a row that begins in line %(line)d. Export or upload it "
                "again; if the file is whole, put a line end behind its last row."
            )
            % {"line": last_line}
        )
    dialect.last_line = last_line
    for line, cells in reversed(rows):
        if line <= dialect.body_line or not is_summary(cells, fields):
            break
        dialect.last_line = line
        dialect.summary_line = line
    note_summary(dialect)
    if last_line < dialect.body_line or (dialect.summary_line and dialect.rows == 0):
        raise ImportRefused(_("The file has a header and no rows below it. Export the list again."))
    return Survey(dialect, scan.sha256.hexdigest(), scan.size)


def note_summary(dialect: Dialect) -> None:
    """Add the remark that a summary is left out, where one is."""
    if dialect.summary_line:
        dialect.remarks.append(
            _("The last row is a summary and is left out (line %(line)d).") % {"line": dialect.summary_line}
        )


# --- What is no list --------------------------------------------------------------------------------------------------

_OTHER_KINDS = (
    (b"\x89PNG\r\n", gettext_lazy("a PNG image")),
    (b"\xff\xd8\xff", gettext_lazy("a JPEG image")),
    (b"GIF8", gettext_lazy("a GIF image")),
    (b"%PDF", gettext_lazy("a PDF document")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", gettext_lazy("an old Excel workbook")),
    (b"SQLite format 3", gettext_lazy("a database")),
    (b"{\\rtf", gettext_lazy("a text document (RTF)")),
)
_PACKED = (
    (b"PK\x03\x04", gettext_lazy("a ZIP file")),
    (b"PK\x05\x06", gettext_lazy("a ZIP file")),
    (b"\x1f\x8b", gettext_lazy("a compressed (gzip) file")),
    (b"7z\xbc\xaf", gettext_lazy("a compressed (7z) file")),
    (b"Rar!", gettext_lazy("a compressed (RAR) file")),
    (b"BZh", gettext_lazy("a compressed (bzip2) file")),
)
_MARKUP = (b"<!doctype", b"<!--", b"<?xml", b"<html", b"<head", b"<meta", b"<style", b"<body", b"<div", b"<table")
_JSON = re.compile(rb'[\[{]\s*["\[{]')


def _refuse_other_kinds(head: bytes) -> None:
    if not head.strip(b"\xef\xbb\xbf\xff\xfe \t\r\n\x00"):
        raise ImportRefused(_("The file is empty. Export the list again."))
    kind: str = next((str(name) for magic, name in _OTHER_KINDS if head.startswith(magic)), "")
    packed = next((str(name) for magic, name in _PACKED if head.startswith(magic)), "")
    text = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if packed and (b"xl/" in head or b"[Content_Types]" in head):
        kind = _("an Excel workbook")
    elif packed:
        raise ImportRefused(
            _("This is not a CSV file (it looks like %(kind)s). Unpack it and import the list inside.")
            % {"kind": packed}
        )
    elif text.startswith(_MARKUP):
        kind = _("a web page or XML")
    elif _JSON.match(text):
        kind = _("JSON")
    if kind:
        raise ImportRefused(
            _("This is not a CSV file (it looks like %(kind)s). In Excel: File → Save as → CSV UTF-8.") % {"kind": kind}
        )


# --- Encoding ---------------------------------------------------------------------------------------------------------


def _by_mark(head: bytes) -> tuple[str, int]:
    """Return the encoding and the length of the byte order mark; without one, UTF-16 shows by its NUL bytes."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise ImportRefused(_("The file is in UTF-32. Save it as CSV UTF-8 and import it again."))
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    sample = head[:4096]
    pairs = max(1, len(sample) // 2)
    if sample[1::2].count(0) > pairs * 0.4 and sample[::2].count(0) < pairs * 0.1:
        return "utf-16-le", 0
    if sample[::2].count(0) > pairs * 0.4 and sample[1::2].count(0) < pairs * 0.1:
        return "utf-16-be", 0
    return "utf-8", 0


class _Scan:
    """Reads every byte once: checksum, encoding, lines, and whether a closer look is needed."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.sha256 = hashlib.sha256()
        self.size = 0
        self.has_quotes = self.has_long_lines = self.cut_at_end = False
        self.ends_with_newline = True
        self._newlines = 0
        self._after_cr = False
        self._line_length = 0
        self._beyond_ascii = False
        self._decoder = codecs.getincrementaldecoder(encoding)()

    @property
    def lines(self) -> int:
        return self._newlines + (not self.ends_with_newline)

    def feed(self, block: bytes) -> None:
        self.size += len(block)
        if self.size > MAX_BYTES:
            raise ImportRefused(
                _("The file is larger than 1 GB (line %(line)d). Split it and import the parts.")
                % {"line": self._newlines + 1}
            )
        self.sha256.update(block)
        if self.encoding.startswith("utf-16"):
            block = self._decoded(block, final=False).encode()
        elif self.encoding == "utf-8":
            self._check_utf8(block)
        elif self.encoding == "cp1252" and _is_beyond_cp1252(block):
            self.encoding = "latin-1"
        if block:
            self._measure(block)

    def end(self) -> None:
        """Note what only the end can tell."""
        try:
            self._decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            held = self._decoder.getstate()[0]
            if self.encoding == "utf-8" and not self._beyond_ascii and not _is_beyond_cp1252(held):
                # One odd byte at the very end of a plain file is a letter of an older encoding.
                self.encoding = "cp1252"
            elif self.encoding.startswith("utf"):
                self.cut_at_end = True

    def _decoded(self, block: bytes, *, final: bool) -> str:
        try:
            return self._decoder.decode(block, final)
        except UnicodeDecodeError as error:
            good = error.object[: error.start].decode(self.encoding).encode()
            raise ImportRefused(
                _("Line %(line)d holds bytes that are no text in %(encoding)s. Save the list as CSV UTF-8.")
                % {"line": self._newlines + 1 + _count_newlines(good), "encoding": self.encoding.upper()}
            ) from None

    def _check_utf8(self, block: bytes) -> None:
        try:
            text = self._decoder.decode(block)
        except UnicodeDecodeError as error:
            good = error.object[: error.start]
            if self._beyond_ascii or not good.isascii():
                line = self._newlines + 1 + _count_newlines(good)
                raise ImportRefused(
                    _(
                        "Line %(line)d holds a byte that is not UTF-8, as the rest of the file is. Save the list as "
                        "CSV UTF-8 and import it again."
                    )
                    % {"line": line}
                ) from None
            # With the bytes that were held back from the block before.
            self.encoding = "latin-1" if _is_beyond_cp1252(error.object) else "cp1252"
            self._decoder = codecs.getincrementaldecoder("latin-1")()
        else:
            self._beyond_ascii = self._beyond_ascii or not text.isascii()

    def _measure(self, block: bytes) -> None:
        nul = block.find(0)
        if nul >= 0:
            raise ImportRefused(
                _("Line %(line)d holds a NUL character, which no list has. The file is damaged; export it again.")
                % {"line": self._newlines + 1 + _count_newlines(block[:nul])}
            )
        self.has_quotes = self.has_quotes or b'"' in block
        lengths = list(map(len, block.replace(b"\r", b"\n").split(b"\n") if b"\r" in block else block.split(b"\n")))
        lengths[0] += self._line_length
        self.has_long_lines = self.has_long_lines or max(lengths) > MAX_CELL
        if max(lengths) > MAX_LINE * 4:
            raise ImportRefused(line_too_long(self._newlines + 1 + lengths.index(max(lengths))))
        self._line_length = lengths[-1]
        self._newlines += _count_newlines(block) - (self._after_cr and block[:1] == b"\n")
        self._after_cr = block[-1:] == b"\r"
        self.ends_with_newline = block[-1:] in b"\r\n"


def _is_beyond_cp1252(block: bytes) -> bool:
    return len(block.translate(None, _NOT_CP1252)) != len(block)


def _count_newlines(block: bytes) -> int:
    returns = block.count(b"\r")
    return block.count(b"\n") + (returns - block.count(b"\r\n") if returns else 0)


# --- Delimiter and header ---------------------------------------------------------------------------------------------


def describe(
    file: Any,
    encoding: str,
    *,
    known: Known,
    start: int = 0,
    delimiter: str = "",
    has_header: bool | None = None,
) -> Dialect:
    """Return the dialect of a file whose encoding is known; what is given is taken, the rest is detected."""
    try:
        sample = list(islice(Lines(file, encoding, offset=start), _SAMPLE_LINES))
    except UnicodeDecodeError:
        raise ImportRefused(unreadable(encoding)) from None
    if any("\0" in line for line in sample):
        raise ImportRefused(unreadable(encoding))
    dialect = Dialect(encoding=encoding, start=start)
    hint = re.fullmatch(r'(?i)"?sep=(.)"?\s*', sample[0])
    if hint:
        # Excel's own line that names the delimiter.
        dialect.start += len(sample[0].encode(encoding))
        dialect.start_line = 2
        del sample[0]
        delimiter = delimiter or (hint[1] if hint[1] in DELIMITERS else "")
    if not sample:
        raise ImportRefused(_("The file is empty. Export the list again."))
    dialect.delimiter = delimiter or _delimiter(sample, known)
    first = _first_row(file, dialect, known)
    dialect.has_header = _is_header(first.cells, known) if has_header is None else has_header
    if len(first.cells) > MAX_COLUMNS:
        raise ImportRefused(too_many_columns(len(first.cells), first.line))
    if dialect.has_header:
        if first.below_titles:
            dialect.remarks.append(
                _("What stands above the header (line %(line)d) is left out.") % {"line": first.line}
            )
        dialect.columns = _names(first.cells, dialect)
        dialect.body, dialect.body_line = first.offset, first.next_line
        dialect.ours = _ours(file, dialect)
    else:
        dialect.columns = [_("Column %(n)d") % {"n": n} for n in range(1, len(first.cells) + 1)]
        dialect.body, dialect.body_line = dialect.start, dialect.start_line
        dialect.remarks.append(_("The file has no header row; its columns are numbered."))
    return dialect


def _ours(file: Any, dialect: Dialect) -> list[str]:
    if not are_named_as_ours(dialect.columns):
        return []
    # A row that cannot be read is refused with its line, when the whole file is looked at.
    with suppress(ImportRefused):
        for piece in slices(file, dialect, offset=dialect.body, line=dialect.body_line, size=_SAMPLE_LINES):
            return ours_among(dialect.columns, piece.rows)
    return []


def _delimiter(sample: list[str], known: Known) -> str:
    def score(delimiter: str) -> tuple[int, float, int]:
        try:
            rows = [row for row in csv.reader(sample, delimiter=delimiter) if row]
        except csv.Error:
            return (0, 0.0, 0)
        header = next((row for row in rows[:_TOP_ROWS] if known(row)), rows[0] if rows else [])
        width = len(header)
        if width < 2:
            return (len(known(header)), 0.0, 0)
        return (len(known(header)), sum(len(row) == width for row in rows) / len(rows), width)

    return max(DELIMITERS, key=score)


@dataclass(frozen=True)
class _Row:
    line: int
    cells: list[str]
    offset: int
    next_line: int
    below_titles: bool


def _first_row(file: Any, dialect: Dialect, known: Known) -> _Row:
    """Return the first row that is not blank or, below titles of one cell each, the header."""
    source = Lines(file, dialect.encoding, offset=dialect.start, number=dialect.start_line)
    rows: list[_Row] = []
    line = dialect.start_line
    try:
        for cells in csv.reader(iter(source), delimiter=dialect.delimiter):
            if texts := sum(bool(cell.strip()) for cell in cells):
                rows.append(_Row(line, cells, source.offset, source.number, below_titles=bool(rows)))
                if known(cells):
                    return rows[-1]
                if texts > 1 or len(rows) == _TOP_ROWS:
                    break
            line = source.number
    except csv.Error:
        raise ImportRefused(cell_too_long(line)) from None
    if not rows:
        raise ImportRefused(_("The file is empty. Export the list again."))
    return rows[0]


def _is_header(cells: Sequence[str], known: Known) -> bool:
    recognised = known(cells)
    # One known word may be a cell of a person, such as ID for Idaho.
    if len(recognised) > 1 or (recognised and not any(map(_is_address, cells))):
        return True
    data = (_PHONE_LIKE.fullmatch(cell.strip()) or "@" in cell or cell.strip().isdigit() for cell in cells)
    return not any(data)


def _is_address(cell: str) -> bool:
    text = typed(cell)
    return "@" in text or (_PHONE_LIKE.fullmatch(text) is not None and sum(map(str.isdecimal, text)) >= 10)


def _names(cells: Sequence[str], dialect: Dialect) -> list[str]:
    names: list[str] = []
    for number, cell in enumerate(cells, 1):
        name = restore(" ".join(cell.replace("\ufeff", "").split()))[:200] or _("Column %(n)d") % {"n": number}
        base, again = name, 1
        while name in names:
            again += 1
            name = f"{base} ({again})"
        if name != base:
            dialect.remarks.append(
                _("Two columns are called “%(name)s”; the second is shown as “%(renamed)s”.")
                % {"name": base, "renamed": name}
            )
        names.append(name)
    return names
