"""Turns the rows of a slice into what is staged, or into a reason why not. Pure: it never looks at the database."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from loyalty.cells import CLEAR, CellError
from loyalty.member_upsert import cleared
from loyalty.models import ImportIssue
from loyalty.resources import EXTENDED, column_of
from loyalty.rows import ImportRefused, Slice
from loyalty.spreadsheets import restore

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
    rows: list[list[Any]] = field(default_factory=list)
    cells: list[Sequence[Any]] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)


class RowCleaner:
    """Cleans rows by a mapping of file columns to fields; raises `ImportRefused` for a mapping that makes no sense."""

    def __init__(self, resource: Any, columns: Sequence[str], mapping: Mapping[str, str]) -> None:
        self.width = len(columns)
        self.plan: list[tuple[int, str, Callable[[str], str]]] = []
        for index, name in enumerate(columns):
            target = mapping.get(name) or ""
            if not target:
                continue
            column = column_of(resource, target)
            if column is None:
                raise ImportRefused(
                    _("“%(column)s” cannot be matched with “%(field)s”: there is no such field.")
                    % {"column": name, "field": target}
                )
            if any(target == planned for _index, planned, _clean in self.plan):
                raise ImportRefused(
                    _("Two columns are matched with “%(field)s”. Choose one of them.") % {"field": target}
                )
            self.plan.append((index, target, column.cell.clean_text))

    def clean(self, piece: Slice) -> Cleaned:
        """Return each row as a list of texts in the order of the plan: None for a blank cell, `--` for a clear."""
        cleaned = Cleaned()
        width = self.width
        for line, cells in zip(piece.lines, piece.rows, strict=True):
            if len(cells) != width and (problem := self._fit(cells)):
                cleaned.issues.append(Issue(line, Kind.REJECTED, "COLUMNS", problem, cells))
                continue
            row: list[str | None] = []
            for index, target, clean in self.plan:
                text = cells[index].strip() if index < len(cells) else ""
                if not text:
                    row.append(None)
                    continue
                if text[0] == "'":
                    text = restore(text).strip()
                try:
                    row.append(CLEAR if text == CLEAR else clean(text))
                except CellError as error:
                    cleaned.issues.append(
                        Issue(line, Kind.REJECTED, error.code, error.sentence, cells, target, text[:60])
                    )
                    break
            else:
                cleaned.lines.append(line)
                cleaned.rows.append(row)
                cleaned.cells.append(cells)
        return cleaned

    def _fit(self, cells: list[str]) -> str:
        """Return why a row has the wrong number of cells; too few are blank ones, and blank ones too many are none."""
        if len(cells) < self.width or not any(cells[self.width :]):
            return ""
        return _(
            "The row has %(count)d cells and the header %(width)d. Put quotes around a value that holds the delimiter."
        ) % {"count": len(cells), "width": self.width}


class PhoneCleaner(RowCleaner):
    """Cleans rows that are about a phone into the fields of `order` that the file has; the phone comes first."""

    def __init__(
        self, resource: Any, columns: Sequence[str], mapping: Mapping[str, str], *, order: Sequence[str]
    ) -> None:
        super().__init__(resource, columns, mapping)
        planned = [target for _index, target, _clean in self.plan]
        if "phone" not in planned:
            raise ImportRefused(
                _("Your file has no column for the phone. It has: %(columns)s. Name the column “phone”, or match it.")
                % {"columns": ", ".join(columns)}
            )
        self.fields = tuple(name for name in order if name in planned)
        self._order = [planned.index(name) for name in self.fields]
        self._extended = [
            (planned.index(name), name.removeprefix(EXTENDED)) for name in planned if name.startswith(EXTENDED)
        ]
        if self._extended:
            self.fields += ("extended_attributes",)
        self._clears = [cleared(name) for name in self.fields]

    def clean(self, piece: Slice) -> Cleaned:
        cleaned = super().clean(piece)
        kept = Cleaned(issues=cleaned.issues)
        for line, row, cells in zip(cleaned.lines, cleaned.rows, cleaned.cells, strict=True):
            staged = [row[index] for index in self._order]
            if staged[0] is None or staged[0] == CLEAR:
                reason = _("The phone is empty. Enter the member's mobile number.")
                kept.issues.append(Issue(line, Kind.REJECTED, "EMPTY", reason, cells, "phone"))
                continue
            if CLEAR in staged:
                staged = [self._clears[at] if text == CLEAR else text for at, text in enumerate(staged)]
            if self._extended:
                staged.append(self._attributes(row))
            kept.lines.append(line)
            kept.rows.append(staged)
            kept.cells.append(cells)
        return kept

    def _attributes(self, row: Sequence[str | None]) -> str | None:
        """Return the extended attributes as JSON, in which null removes a key."""
        given = {key: None if row[index] == CLEAR else row[index] for index, key in self._extended if row[index]}
        return json.dumps(given) if given else None
