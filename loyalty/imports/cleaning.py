"""Turns the rows of a slice into what is staged, or into a reason why not. Pure: it never looks at the database."""

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

from django.utils.translation import gettext as _

from loyalty.cells import CLEAR, Cell
from loyalty.imports.rows import ImportRefused, Slice
from loyalty.member_upsert import cleared
from loyalty.models import ImportIssue
from loyalty.resources import EXTENDED, column_of

Kind = ImportIssue.Kind


@dataclass(frozen=True)
class Issue:
    """A row that staff must look at, with the cells as they stand in the file."""

    line: int
    kind: str
    code: str
    reason: str
    cells: Sequence[Any]
    field: str = ""
    value: str = ""


@dataclass
class Cleaned:
    """Rows that can be used, with their lines and original cells, and an issue for each of the others."""

    lines: list[int] = field(default_factory=list)
    rows: list[Sequence[Any]] = field(default_factory=list)
    cells: list[Sequence[Any]] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)

    def keep(self, wanted: Sequence[bool]) -> None:
        """Keep the rows that are wanted."""
        self.lines = list(compress(self.lines, wanted))
        self.rows = list(compress(self.rows, wanted))
        self.cells = list(compress(self.cells, wanted))

    def split(self, lines: Sequence[int]) -> "list[Cleaned]":
        """Return the rows and issues in parts, each of which but the first begins at one of the lines."""
        parts = [Cleaned() for _ in range(len(lines) + 1)]
        for line, row, cells in zip(self.lines, self.rows, self.cells, strict=True):
            part = parts[bisect_right(lines, line)]
            part.lines.append(line)
            part.rows.append(row)
            part.cells.append(cells)
        for issue in self.issues:
            parts[bisect_right(lines, issue.line)].issues.append(issue)
        return parts


class RowCleaner:
    """Cleans rows by a mapping of file columns to fields; raises `ImportRefused` for a mapping that makes no sense."""

    def __init__(self, resource: Any, columns: Sequence[str], mapping: Mapping[str, str]) -> None:
        self.width = len(columns)
        self.plan: list[tuple[int, str, Cell]] = []
        for index, name in enumerate(columns):
            target = mapping.get(name) or ""
            if not target:
                continue
            column = column_of(resource, target)
            if column is None:
                raise ImportRefused(
                    _("“%(column)s” cannot be matched with “%(field)s”: there is no such field. Choose another.")
                    % {"column": name, "field": target}
                )
            if any(target == planned for _index, planned, _cell in self.plan):
                raise ImportRefused(
                    _("Two columns are matched with “%(field)s”. Choose one of them.") % {"field": target}
                )
            self.plan.append((index, target, column.cell))

    @property
    def targets(self) -> list[str]:
        return [target for _index, target, _cell in self.plan]

    def clean(self, piece: Slice) -> Cleaned:
        """Return each row as its texts in the order of `arranged`: None for a blank cell, `--` for a clear."""
        cleaned = self._fitting(piece)
        if not cleaned.cells:
            return cleaned
        raw = list(zip(*cleaned.rows, strict=True))
        columns: list[list[str | None]] = []
        rejected: dict[int, Issue] = {}
        for index, target, cell in self.plan:
            column, errors = cell.clean_column(raw[index])
            columns.append(column)
            for at, error in errors.items():
                if at not in rejected:
                    rejected[at] = Issue(
                        cleaned.lines[at], Kind.REJECTED, error.code, error.sentence, cleaned.cells[at], target,
                        raw[index][at].strip()[:60],
                    )  # fmt: skip
        cleaned.rows = list(zip(*self.arranged(columns), strict=True))
        if rejected:
            cleaned.keep([at not in rejected for at in range(len(cleaned.rows))])
            cleaned.issues += rejected.values()
        return cleaned

    def arranged(self, columns: list[list[str | None]]) -> list[list[str | None]]:
        """Return the columns of the plan in the order in which they are wanted."""
        return columns

    def _fitting(self, piece: Slice) -> Cleaned:
        """Give each row as many cells as the header has; an issue says where there are too many."""
        cleaned = Cleaned(list(piece.lines), list(piece.rows), list(piece.rows))
        if set(map(len, piece.rows)) == {self.width}:
            return cleaned
        for at, cells in enumerate(piece.rows):
            cleaned.rows[at] = (cells + [""] * self.width)[: self.width]
            if any(cells[self.width :]):
                problem = _(
                    "The row has %(count)d cells and the header %(width)d. Put quotes around a value that holds the "
                    "delimiter."
                ) % {"count": len(cells), "width": self.width}
                cleaned.issues.append(Issue(piece.lines[at], Kind.REJECTED, "COLUMNS", problem, cells))
        too_long = {issue.line for issue in cleaned.issues}
        cleaned.keep([line not in too_long for line in cleaned.lines])
        return cleaned


def _no_phone(columns: Sequence[str]) -> str:
    found = {"columns": ", ".join(columns)}
    if len(columns) == 1 and not columns[0].replace("_", "").isalnum():
        return (
            _(
                "Your file was read as one column, “%(columns)s”. If that is several, save the list with commas, "
                "semicolons, tabs or | between them; if it is one, name it “phone”, or match it."
            )
            % found
        )
    return (
        _("Your file has no column for the phone. It has: %(columns)s. Name the column “phone”, or match it.") % found
    )


class PhoneCleaner(RowCleaner):
    """Cleans rows that are about a phone into the fields of `order` that the file has; the phone comes first."""

    def __init__(
        self, resource: Any, columns: Sequence[str], mapping: Mapping[str, str], *, order: Sequence[str]
    ) -> None:
        super().__init__(resource, columns, mapping)
        planned = self.targets
        if "phone" not in planned:
            raise ImportRefused(_no_phone(columns))
        self.fields = tuple(name for name in order if name in planned)
        self._order = [planned.index(name) for name in self.fields]
        self._extended = [
            (planned.index(name), name.removeprefix(EXTENDED)) for name in planned if name.startswith(EXTENDED)
        ]
        if self._extended:
            self.fields += ("extended_attributes",)

    def arranged(self, columns: list[list[str | None]]) -> list[list[str | None]]:
        arranged = []
        for name, index in zip(self.fields, self._order, strict=False):
            column = columns[index]
            if CLEAR in column:
                empty = cleared(name)
                column = [empty if text == CLEAR else text for text in column]
            arranged.append(column)
        if self._extended:
            keys = [key for _index, key in self._extended]
            texts = zip(*(columns[index] for index, _key in self._extended), strict=True)
            arranged.append([_attributes(keys, row) for row in texts])
        return arranged


def _attributes(keys: Sequence[str], texts: Sequence[str | None]) -> str | None:
    """Return extended attributes as JSON, in which null removes a key; None when no cell is given."""
    given = {key: None if text == CLEAR else text for key, text in zip(keys, texts, strict=True) if text}
    return json.dumps(given) if given else None
