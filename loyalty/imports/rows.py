"""Reads delimited text as slices of rows, straight from storage: no file is ever held in memory.

A slice knows at which byte the next one begins, so that work can go on there in another process.
"""

import codecs
import csv
import io
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Self

from django.utils.translation import gettext as _

MAX_BYTES = 1_073_741_824
MAX_ROWS = 10_000_000
MAX_COLUMNS = 64
MAX_CELL = 10_240
# As many full cells as a line may have, with their quotes and delimiters.
MAX_LINE = MAX_COLUMNS * (MAX_CELL + 3)
_BLOCK = 262_144
# A slice ends after this many rows or bytes, whichever comes first.
SLICE_ROWS = 10_000
_SLICE_BYTES = 4_194_304

csv.field_size_limit(MAX_LINE)


class ImportRefused(Exception):
    """A file cannot be imported; `str()` is a sentence that says why and what to do."""


@dataclass
class Dialect:
    """How a file is written, as detected or as chosen by staff; kept with the import."""

    encoding: str = "utf-8"
    delimiter: str = ","
    has_header: bool = True
    # The names of the columns, each once; those of a file without header are numbered.
    columns: list[str] = field(default_factory=list)
    # Those of them that a rejects file of ours has added: line and reason.
    ours: list[str] = field(default_factory=list)
    # Byte and line where the text begins (after a byte order mark), and where its first row of data does.
    start: int = 0
    start_line: int = 1
    body: int = 0
    body_line: int = 1
    lines: int = 0
    # Where the last row begins, or the summary.
    last_line: int = 0
    # The line of a summary under the data (“Total …”), which is left out.
    summary_line: int | None = None
    remarks: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        return cls(**stored)

    @property
    def columns_of_theirs(self) -> list[str]:
        """The columns without those that we have added."""
        return [name for name in self.columns if name not in self.ours]

    @property
    def rows(self) -> int:
        """About how many rows the file has: lines below the header, which is exact unless cells hold line breaks."""
        end = self.lines + 1 if self.summary_line is None else self.summary_line
        return max(0, end - self.body_line)


class Lines:
    """The lines of a file from a byte on, with their ends; `offset` and `number` say where the next one begins."""

    def __init__(self, file: Any, encoding: str, *, offset: int = 0, number: int = 1) -> None:
        self.file = file
        self.encoding = encoding
        self.offset = offset
        self.number = number

    def __iter__(self) -> Iterator[str]:
        self.file.seek(self.offset)
        decoder = codecs.getincrementaldecoder(self.encoding)()
        one_byte_each = self.encoding in ("cp1252", "latin-1")
        held = ""
        while True:
            block = self.file.read(_BLOCK)
            text = held + decoder.decode(block, final=not block)
            # Only CR, LF and CR LF end a line; str.splitlines() knows many more.
            lines = io.StringIO(text, newline="").readlines()
            # The last line may go on in the next block.
            held = lines.pop() if block and lines else ""
            plain = one_byte_each or (self.encoding == "utf-8" and text.isascii())
            for line in lines:
                self.offset += len(line) if plain else len(line.encode(self.encoding))
                self.number += 1
                yield line
            if not block:
                return
            if len(held) > MAX_LINE:
                raise ImportRefused(line_too_long(self.number))


def unreadable(encoding: str) -> str:
    return _("The file cannot be read as %(encoding)s. Choose another encoding.") % {"encoding": encoding.upper()}


def line_too_long(number: int) -> str:
    return _(
        "Line %(line)d is longer than any row may be. This is no CSV file, or a quote is not closed there. Export the "
        "list again."
    ) % {"line": number}


def cell_too_long(line: int) -> str:
    return _(
        "Line %(line)d has a cell longer than %(most)s characters. Shorten it; if there is none, a quote is not closed "
        "there."
    ) % {"line": line, "most": f"{MAX_CELL:,}"}


def too_many_columns(count: int, line: int) -> str:
    return _("Line %(line)d has %(count)d columns; at most %(most)d are taken. Remove columns, or check the file.") % {
        "line": line, "count": count, "most": MAX_COLUMNS,
    }  # fmt: skip


@dataclass
class Slice:
    """Rows with the lines and bytes where they begin, and where the next slice begins."""

    lines: list[int] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    offset: int = 0
    next_line: int = 0

    def cut(self, lines: Sequence[int]) -> Iterator[Self]:
        """Yield the slice in parts, each of which but the first begins with the row of one of the lines."""
        places = [0, *(bisect_left(self.lines, line) for line in lines), len(self.lines)]
        for at, end in pairwise(places):
            is_last = end == len(self.lines)
            yield type(self)(
                self.lines[at:end], self.rows[at:end], self.starts[at:end],
                self.offset if is_last else self.starts[end], self.next_line if is_last else self.lines[end],
            )  # fmt: skip


def slices(
    file: Any, dialect: Dialect, *, offset: int, line: int, size: int = SLICE_ROWS, cut_at: int | None = None
) -> Iterator[Slice]:
    """Yield the rows from a byte (that begins line `line`) to the end; rows without any text are left out.

    A slice ends at the byte `cut_at`, if a row does. Raises `ImportRefused` for what cannot be read.
    """
    source = Lines(file, dialect.encoding, offset=offset, number=line)
    reader = csv.reader(iter(source), delimiter=dialect.delimiter)
    piece = Slice()
    begins, starts = line, offset
    try:
        for cells in reader:
            if begins == dialect.summary_line:
                break
            if any(map(str.strip, cells)):
                piece.lines.append(begins)
                piece.rows.append(cells)
                piece.starts.append(starts)
                is_full = len(piece.rows) == size or source.offset - piece.starts[0] >= _SLICE_BYTES
                if is_full or source.offset == cut_at:
                    piece.offset, piece.next_line = source.offset, source.number
                    yield piece
                    piece = Slice()
            begins, starts = source.number, source.offset
    except csv.Error:
        raise ImportRefused(line_too_long(begins)) from None
    except UnicodeDecodeError:
        raise ImportRefused(unreadable(dialect.encoding)) from None
    if piece.rows:
        piece.offset, piece.next_line = source.offset, source.number
        yield piece
