"""Brings a slice of cleaned member rows into the database with a few statements, the same on both databases.

The rows are staged in a temporary table (PostgreSQL: COPY), matched once with the members by phone, and then only what
is new or different is written. A staged NULL leaves a field as it is; clearing has a value of its own.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

from loyalty.models import Member

# The fields of a member that a file or an item can carry, and PostgreSQL's types of those that are no text.
_TYPES = {
    "points": "bigint", "birth_date": "date", "joined_at": "timestamp with time zone", "extended_attributes": "jsonb",
}  # fmt: skip
FIELDS = (
    "phone", "email", "external_id", "first_name", "last_name", "tier", "points", "birth_date", "opt_in_status",
    "joined_at", "state", "time_zone", "extended_attributes",
)  # fmt: skip
# What is staged to empty a field that may be NULL; no cleaned cell equals it.
_CLEARED = {"points": str(-(2**63)), "birth_date": "0001-01-01"}
# What is noted of each staged row when it is matched.
_FLAGS = ("changed", "conflict", "claims", "revives", "returns", "ours")
# A member who only returns, with all values as they were, counts as updated too.
_UPDATED = "changed OR returns"

Row = Sequence[str | None]


def cleared(name: str) -> str | None:
    """Return what is staged for a cell of `--`; the joining date cannot be emptied."""
    return None if name == "joined_at" else _CLEARED.get(name, "")


class Superseded(NamedTuple):
    """A row whose loyalty ID a later row of the slice has with another phone."""

    line: int
    phone: str
    later_line: int
    later_phone: str


@dataclass
class Merged:
    """What becomes of staged rows."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    # Rows of members that this very import has made.
    ours: int = 0
    # Lines whose phone belongs to a member with another loyalty ID.
    conflicts: list[int] = field(default_factory=list)
    # Whether some row takes a loyalty ID that its phone did not have, or gives one up that another phone has taken.
    moves: bool = False
    revives: bool = False


class MemberUpsert:
    """Upserts rows of the given fields into one site's members. Each use is one transaction: stage, match, write.

    Raises IntegrityError when somebody made one of the members in the meantime; the transaction is then tried again.
    """

    def __init__(
        self, site_id: int, fields: Sequence[str], *, job_id: int | None = None, reject_conflicts: bool = False
    ) -> None:
        self.site_id = int(site_id)
        self.fields = tuple(fields)
        self.others = tuple(name for name in self.fields if name != "phone")
        self.job_id = job_id
        self.reject_conflicts = reject_conflicts
        self.on_postgresql = connection.vendor == "postgresql"
        self._differs = "IS DISTINCT FROM" if self.on_postgresql else "IS NOT"
        self._json_functions = (
            ("jsonb_build_array", "jsonb_build_object", "jsonb_strip_nulls({})")
            if self.on_postgresql
            else ("json_array", "json_object", "json_patch('{{}}', {})")
        )

    def stage(self, lines: Sequence[int], rows: Sequence[Row], *, text: bytes | None = None) -> None:
        """Put rows of distinct phones, each with its line, into the temporary table; `text` is what `as_text` made."""
        columns = ", ".join(("line", *self.fields))
        with connection.cursor() as cursor:
            self._prepare(cursor)
            if not rows:
                return
            if self.on_postgresql:
                with cursor.copy(f"COPY import_staged ({columns}) FROM STDIN") as copy:
                    copy.write(text or _copy_text(lines, rows))
            else:
                marks = ", ".join(["%s"] * (len(self.fields) + 1))
                staged = [(line, *row) for line, row in zip(lines, rows, strict=True)]
                cursor.executemany(f"INSERT INTO import_staged ({columns}) VALUES ({marks})", staged)

    def as_text(self, lines: Sequence[int], rows: Sequence[Row]) -> bytes | None:
        """Return rows in the form in which the database takes them, so that they can be made ready beforehand."""
        return _copy_text(lines, rows) if self.on_postgresql and rows else None

    def match(self) -> Merged:
        """Find the members of the staged rows, and return what `write` would do."""
        with connection.cursor() as cursor:
            cursor.execute(self._match_sql())
            if self.reject_conflicts:
                cursor.execute(
                    "UPDATE import_found SET changed = FALSE, claims = FALSE, revives = FALSE WHERE conflict"
                )
            flags = ", ".join(f"count(CASE WHEN {flag} THEN 1 END)" for flag in (_UPDATED, *_FLAGS[1:]))
            cursor.execute(f"SELECT count(*), count(member_id), {flags} FROM import_found")
            rows, known, updated, conflicts, claims, revives, returns, ours = cursor.fetchone()
            if returns and self.job_id:
                updated -= self._forget_own_moves(cursor)
            merged = Merged(
                rows - known, updated, known - updated, ours, moves=claims + revives > 0, revives=revives > 0
            )
            if conflicts:
                cursor.execute("SELECT line FROM import_found WHERE conflict ORDER BY line")
                merged.conflicts = [line for (line,) in cursor.fetchall()]
                if self.reject_conflicts:
                    merged.unchanged -= conflicts
        return merged

    def _forget_own_moves(self, cursor: Any) -> int:
        """Return how many only get back what an earlier slice took away: a check, where nothing was, saw no change."""
        cursor.execute(
            "UPDATE import_found SET returns = FALSE WHERE returns AND EXISTS (SELECT 1 FROM loyalty_memberchange c"
            f" WHERE c.member_id = import_found.member_id AND c.job_id + 0 = {self.job_id})"
        )
        return int(cursor.rowcount)

    def write(self, merged: Merged, *, superseded: Sequence[Superseded] = (), now: datetime) -> None:
        """Write what `match` found."""
        moment = connection.ops.adapt_datetimefield_value(now)
        with connection.cursor() as cursor:
            moved = self._note_moves(cursor, superseded) if merged.moves else 0
            if merged.updated:
                if self.job_id is not None:
                    cursor.execute(self._changes_sql())
                cursor.execute(self._update_sql(), [moment])
            if merged.created:
                statement, parameters = self._insert_sql(moment)
                cursor.execute(statement, parameters)
            if moved or superseded or merged.revives:
                self._mark_moves(cursor, superseded, revives=merged.revives)

    # --- What was found -----------------------------------------------------------------------------------------------

    def new_phones(self) -> list[str]:
        """Return the phones that were no members before."""
        return [phone for (phone,) in _fetch("SELECT phone FROM import_found WHERE member_id IS NULL")]

    def known_ids(self) -> list[int]:
        """Return the ids of the members that this import has not made itself, without those of rejected rows."""
        # As one text: thousands of rows of one number each take longer to fetch than to find.
        joined = "string_agg(member_id::text, ',')" if self.on_postgresql else "group_concat(member_id)"
        taken = "AND NOT conflict" if self.reject_conflicts else ""
        ((ids,),) = _fetch(f"SELECT {joined} FROM import_found WHERE member_id IS NOT NULL AND NOT ours {taken}")
        return list(map(int, ids.split(","))) if ids else []

    def outcomes(self) -> list[tuple[int, str, int | None, bool, str]]:
        """Return line, phone, member id (None: new), whether this import made it, and what becomes of it."""
        rows = _fetch(f"SELECT line, phone, member_id, ours, {_UPDATED} FROM import_found")
        return [
            (line, phone, pk, bool(ours), "created" if pk is None else "updated" if updated else "unchanged")
            for line, phone, pk, ours, updated in rows
        ]

    # --- SQL: `s` is a staged row, `m` the member with its phone, `f` a row with what was found -----------------------

    def _lookup(self, alias: str, condition: str, join: str = "") -> str:
        """SQL that looks members of the site up for each row, by the index of the phone or of the loyalty ID.

        Planners know nothing of a table that grows this fast, and would sometimes walk through all members instead. So
        each is told: PostgreSQL by LATERAL and OFFSET 0, SQLite by CROSS JOIN, and both by sums and functions that no
        other index answers.
        """
        condition = f"{alias}.site_id + 0 = {self.site_id} AND {condition}"
        if self.on_postgresql:
            row = f"(SELECT * FROM loyalty_member {alias} WHERE {condition} OFFSET 0)"
            return f"{join} JOIN LATERAL {row} {alias} ON TRUE"
        return f"{join or 'CROSS'} JOIN loyalty_member {alias} ON {condition}"

    def _prepare(self, cursor: Any) -> None:
        end = " ON COMMIT DELETE ROWS" if self.on_postgresql else ""
        columns = ", ".join(f"{name} {self._type(name)}" for name in FIELDS)
        flags = ", ".join(f"{flag} boolean" for flag in _FLAGS)
        tables = {
            "import_staged": f"line bigint, {columns}",
            "import_found": f"line bigint, {columns}, member_id bigint, {flags}",
            "import_moved": "old_id bigint, external_id text, phone text, was bigint",
            "import_pairs": "phone text, later_phone text",
        }
        statements = [f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({is_}){end}" for name, is_ in tables.items()]
        statements += [f"DELETE FROM {name}" for name in tables]
        if self.on_postgresql:
            # The planner has no statistics of temporary tables, and might scan all members for a handful of rows.
            ways = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_material", "jit")
            statements += [f"SET LOCAL {name} = off" for name in ways]
            cursor.execute("; ".join(statements))
        else:
            for statement in statements:
                cursor.execute(statement)

    def _type(self, name: str) -> str:
        kind = _TYPES.get(name, "text")
        return kind if self.on_postgresql else "integer" if name == "points" else "text"

    def _cleared(self, name: str) -> str:
        return f"CAST('{_CLEARED[name]}' AS {self._type(name)})"

    def _merged(self, name: str) -> str:
        """SQL for the value of a member's field after the merge."""
        if name == "extended_attributes":
            if self.on_postgresql:
                return "jsonb_strip_nulls(m.extended_attributes || COALESCE(s.extended_attributes, '{}'))"
            return "json_patch(m.extended_attributes, COALESCE(s.extended_attributes, '{}'))"
        value = f"COALESCE(s.{name}, m.{name})"
        return f"NULLIF({value}, {self._cleared(name)})" if name in _CLEARED else value

    def _is_different(self, name: str) -> str:
        if name in _CLEARED or name == "extended_attributes":
            old = f"m.{name}" if name in _CLEARED or self.on_postgresql else f"json(m.{name})"
            return f"(s.{name} IS NOT NULL AND {self._merged(name)} {self._differs} {old})"
        return f"s.{name} <> m.{name}"

    def _match_sql(self) -> str:
        changed = " OR ".join(self._is_different(name) for name in self.others) or "FALSE"
        conflict = claims = leaves = "FALSE"
        if "external_id" in self.fields:
            conflict = "m.external_id <> '' AND s.external_id <> '' AND s.external_id <> m.external_id"
            claims = (
                "s.external_id <> ''"
                " AND (m.id IS NULL OR s.external_id <> m.external_id OR m.replaced_by_id IS NOT NULL)"
            )
            leaves = "s.external_id <> m.external_id"
        flags = {
            "changed": f"m.id IS NOT NULL AND COALESCE({changed}, FALSE)",
            "conflict": f"COALESCE({conflict}, FALSE)",
            "claims": f"COALESCE({claims}, FALSE)",
            "revives": f"m.replaced_by_id IS NOT NULL AND COALESCE({claims} OR {leaves}, FALSE)",
            "returns": f"m.replaced_by_id IS NOT NULL AND COALESCE({claims}, FALSE) AND NOT COALESCE({changed}, FALSE)",
            "ours": f"COALESCE(m.created_by_import_id = {self.job_id}, FALSE)" if self.job_id else "FALSE",
        }
        columns = ("line", *self.fields)
        return (
            f"INSERT INTO import_found ({', '.join((*columns, 'member_id', *flags))})"
            f" SELECT {', '.join(f's.{name}' for name in columns)}, m.id, {', '.join(flags.values())}"
            f" FROM import_staged s {self._lookup('m', 'm.phone = s.phone', 'LEFT')}"
        )

    def _changes_sql(self) -> str:
        """Keep the old and new values of what is about to change, but in members that this very import has made."""
        array, build, strip = self._json_functions
        pairs = ", ".join(
            f"'{name}', CASE WHEN {self._is_different(name)} THEN"
            f" {array}({self._json(f'm.{name}', name)}, {self._json(self._merged(name), name)}) END"
            for name in self.others
        )
        return (
            "INSERT INTO loyalty_memberchange (job_id, member_id, changes)"
            f" SELECT {self.job_id}, m.id, {strip.format(f'{build}({pairs})')}"
            " FROM import_found s JOIN loyalty_member m ON m.id = s.member_id WHERE s.changed AND NOT s.ours"
        )

    def _json(self, expression: str, name: str) -> str:
        return f"json({expression})" if name == "extended_attributes" and not self.on_postgresql else expression

    def _update_sql(self) -> str:
        values = ", ".join(f"{name} = {self._merged(name)}" for name in self.others)
        return (
            f"UPDATE loyalty_member AS m SET {values}, updated_at = %s"
            " FROM import_found s WHERE s.changed AND m.id = s.member_id"
        )

    def _insert_sql(self, moment: Any) -> tuple[str, list[Any]]:
        """Insert the new members in the order of the file."""
        names: list[str] = []
        values: list[str] = []
        parameters: list[Any] = []
        known = {"site": self.site_id, "created_by_import": self.job_id}
        for model_field in Member._meta.concrete_fields:
            name = model_field.name
            if model_field.primary_key:
                continue
            value = self._inserted(name) if name in self.fields else "%s"
            if name in ("created_at", "updated_at", "joined_at"):
                parameters.append(moment)
            elif name not in self.fields:
                default = known[name] if name in known else model_field.get_default()
                parameters.append(model_field.get_db_prep_save(default, connection))
            names.append(str(model_field.column))
            values.append(value)
        statement = (
            f"INSERT INTO loyalty_member ({', '.join(names)}) SELECT {', '.join(values)}"
            " FROM import_found s WHERE s.member_id IS NULL ORDER BY s.line"
        )
        return statement, parameters

    def _inserted(self, name: str) -> str:
        if name == "phone":
            return "s.phone"
        if name == "joined_at":
            now = "CAST(%s AS timestamp with time zone)" if self.on_postgresql else "%s"
            return f"COALESCE(s.joined_at, {now})"
        if name == "extended_attributes":
            given = f"COALESCE(s.{name}, '{{}}')"
            return f"jsonb_strip_nulls({given})" if self.on_postgresql else f"json_patch('{{}}', {given})"
        return f"NULLIF(s.{name}, {self._cleared(name)})" if name in _CLEARED else f"COALESCE(s.{name}, '')"

    # --- A loyalty ID that comes with a new phone ---------------------------------------------------------------------

    def _note_moves(self, cursor: Any, superseded: Sequence[Superseded]) -> int:
        """Note the members that hold a claimed loyalty ID with another phone, before the new ones are written.

        Return how many they are.
        """
        if superseded:
            lines = [row.line for row in superseded]
            any_of = "= ANY(%s)" if self.on_postgresql else "IN (SELECT value FROM json_each(%s))"
            cursor.execute(
                f"UPDATE import_found SET claims = FALSE, revives = FALSE WHERE line {any_of}",
                [lines if self.on_postgresql else json.dumps(lines)],
            )
            pairs = [(row.phone, row.later_phone) for row in superseded]
            cursor.executemany("INSERT INTO import_pairs (phone, later_phone) VALUES (%s, %s)", pairs)
        # In the index's own words: SQLite uses a partial index for no other spelling of its condition.
        holds = (
            "o.external_id = f.external_id AND NOT (o.external_id = '') AND o.phone <> f.phone"
            " AND COALESCE(o.replaced_by_id, 0) = 0"
        )
        cursor.execute(
            "INSERT INTO import_moved (old_id, external_id, phone) SELECT o.id, f.external_id, f.phone"
            f" FROM import_found f {self._lookup('o', holds)} WHERE f.claims"
        )
        return int(cursor.rowcount)

    def _mark_moves(self, cursor: Any, superseded: Sequence[Superseded], *, revives: bool) -> None:
        """Mark the members that still hold a claimed loyalty ID as replaced; who has another one now is not.

        Whatever that changes in members whom this import has not made is kept like other changes.
        """
        if superseded:
            cursor.execute(
                "INSERT INTO import_moved (old_id, external_id, phone, was)"
                " SELECT m.id, m.external_id, p.later_phone, m.replaced_by_id"
                f" FROM import_pairs p {self._lookup('m', 'm.phone = p.phone')}"
            )
        if revives:
            cursor.execute(
                "INSERT INTO import_moved (old_id, was) SELECT m.id, m.replaced_by_id"
                " FROM import_found f JOIN loyalty_member m ON m.id = f.member_id WHERE f.revives"
            )
            cursor.execute(
                "UPDATE loyalty_member AS m SET replaced_by_id = NULL FROM import_found f"
                " WHERE f.revives AND m.id = f.member_id"
            )
        cursor.execute(
            "UPDATE loyalty_member AS o SET replaced_by_id = n.id"
            f" FROM import_moved v {self._lookup('n', 'n.phone = v.phone')}"
            f" WHERE o.id = v.old_id AND o.external_id = v.external_id AND o.replaced_by_id {self._differs} n.id"
        )
        if self.job_id is not None and (revives or cursor.rowcount):
            array, build, _strip = self._json_functions
            cursor.execute(
                "INSERT INTO loyalty_memberchange (job_id, member_id, changes)"
                f" SELECT DISTINCT {self.job_id}, o.id, {build}('replaced_by', {array}(v.was, o.replaced_by_id))"
                " FROM import_moved v JOIN loyalty_member o ON o.id = v.old_id"
                f" WHERE o.replaced_by_id {self._differs} v.was"
                f" AND o.created_by_import_id {self._differs} {self.job_id}"
            )


def _fetch(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def _copy_text(lines: Sequence[int], rows: Sequence[Row]) -> bytes:
    r"""Return rows in COPY's text format. Cleaned cells have no tabs and line ends; NULL is written as \N."""
    columns: list[Sequence[str]] = [list(map(str, lines))]
    for column in zip(*rows, strict=True):
        if None in column:
            columns.append([r"\N" if text is None else text.replace("\\", r"\\") for text in column])
        elif "\\" in "".join(column):
            columns.append([text.replace("\\", r"\\") for text in column])
        else:
            columns.append(column)
    return ("\n".join(map("\t".join, zip(*columns, strict=True))) + "\n").encode()
