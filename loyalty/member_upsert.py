"""Brings a slice of cleaned member rows into the database with a few statements, the same on both databases.

The rows are staged in a temporary table (PostgreSQL: COPY), matched once with the members by phone, and then only what
is new or different is written. A staged NULL leaves a field as it is; clearing has a value of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

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

Row = Sequence[str | None]


def cleared(name: str) -> str | None:
    """Return what is staged for a cell of `--`; the joining date cannot be emptied."""
    return None if name == "joined_at" else _CLEARED.get(name, "")


@dataclass
class Merged:
    """What becomes of staged rows."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    # Lines whose phone belongs to a member with another loyalty ID.
    conflicts: list[int] = field(default_factory=list)
    # Whether some row takes a loyalty ID that its phone did not have.
    moves: bool = False


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

    def stage(self, lines: Sequence[int], rows: Sequence[Row]) -> None:
        """Put rows of distinct phones, each with its line, into the temporary table."""
        columns = ", ".join(("line", *self.fields))
        with connection.cursor() as cursor:
            for statement in self._prepare():
                cursor.execute(statement)
            staged = ((line, *row) for line, row in zip(lines, rows, strict=True))
            if self.on_postgresql:
                with cursor.copy(f"COPY import_staged ({columns}) FROM STDIN") as copy:
                    for row in staged:
                        copy.write_row(row)
            else:
                marks = ", ".join(["%s"] * (len(self.fields) + 1))
                cursor.executemany(f"INSERT INTO import_staged ({columns}) VALUES ({marks})", list(staged))

    def match(self) -> Merged:
        """Find the members of the staged rows, and return what `write` would do."""
        with connection.cursor() as cursor:
            cursor.execute(self._match_sql())
            if self.reject_conflicts:
                cursor.execute("UPDATE import_found SET changed = FALSE, claims = FALSE WHERE conflict")
            cursor.execute(
                "SELECT count(*), count(member_id), "
                + ", ".join(f"count(CASE WHEN {flag} THEN 1 END)" for flag in ("changed", "conflict", "claims"))
                + " FROM import_found"
            )
            rows, known, updated, conflicts, claims = cursor.fetchone()
            merged = Merged(rows - known, updated, known - updated, moves=claims > 0)
            if conflicts:
                cursor.execute("SELECT line FROM import_found WHERE conflict ORDER BY line")
                merged.conflicts = [line for (line,) in cursor.fetchall()]
                if self.reject_conflicts:
                    merged.unchanged -= conflicts
        return merged

    def write(self, merged: Merged, *, superseded: Sequence[tuple[int, int]] = (), now: datetime) -> None:
        """Write what `match` found. `superseded`: pairs of lines, an earlier and a later one with its loyalty ID."""
        moment = connection.ops.adapt_datetimefield_value(now)
        with connection.cursor() as cursor:
            if merged.moves:
                self._note_moves(cursor, superseded)
            if merged.updated:
                if self.job_id is not None:
                    cursor.execute(self._changes_sql())
                cursor.execute(self._update_sql(), [moment])
            if merged.created:
                statement, parameters = self._insert_sql(moment)
                cursor.execute(statement, parameters)
            if merged.moves:
                self._mark_moves(cursor, superseded)

    def new_phones(self) -> list[str]:
        """Return the phones that were no members before."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT s.phone FROM import_found f JOIN import_staged s ON s.line = f.line"
                " WHERE f.member_id IS NULL ORDER BY s.line"
            )
            return [phone for (phone,) in cursor.fetchall()]

    def outcomes(self) -> Iterator[tuple[int, str]]:
        """Yield each staged line with what becomes of it."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT line, member_id, changed FROM import_found")
            for line, member_id, changed in cursor.fetchall():
                yield line, "created" if member_id is None else "updated" if changed else "unchanged"

    # --- SQL: `s` is a staged row, `m` the member with its phone, `f` what was found ----------------------------------
    #
    # `site_id + 0` keeps planners, which know nothing of a table that grows this fast, from walking through all members
    # of the site by one of its indexes: phones and loyalty IDs are looked up by their own.

    def _prepare(self) -> Iterator[str]:
        end = " ON COMMIT DELETE ROWS" if self.on_postgresql else ""
        columns = ", ".join(f"{name} {self._type(name)}" for name in FIELDS)
        yield f"CREATE TEMPORARY TABLE IF NOT EXISTS import_staged (line bigint PRIMARY KEY, {columns}){end}"
        yield (
            "CREATE TEMPORARY TABLE IF NOT EXISTS import_found (line bigint PRIMARY KEY, member_id bigint,"
            f" changed boolean, conflict boolean, claims boolean){end}"
        )
        yield f"CREATE TEMPORARY TABLE IF NOT EXISTS import_moved (old_id bigint PRIMARY KEY, line bigint){end}"
        for table in ("import_staged", "import_found", "import_moved"):
            yield f"DELETE FROM {table}"
        if self.on_postgresql:
            # The planner has no statistics of temporary tables, and might scan all members for a handful of rows.
            for setting in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"):
                yield f"SET LOCAL {setting} = off"

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
        conflict = claims = "FALSE"
        if "external_id" in self.fields:
            conflict = "m.external_id <> '' AND s.external_id <> '' AND s.external_id <> m.external_id"
            claims = (
                "s.external_id <> ''"
                " AND (m.id IS NULL OR s.external_id <> m.external_id OR m.replaced_by_id IS NOT NULL)"
            )
        return (
            "INSERT INTO import_found (line, member_id, changed, conflict, claims)"
            f" SELECT s.line, m.id, m.id IS NOT NULL AND COALESCE({changed}, FALSE),"
            f" COALESCE({conflict}, FALSE), COALESCE({claims}, FALSE)"
            f" FROM import_staged s LEFT JOIN loyalty_member m ON m.site_id + 0 = {self.site_id} AND m.phone = s.phone"
        )

    def _changes_sql(self) -> str:
        """Keep the old and new values of what is about to change, but in members that this very import has made."""
        array, build, strip = (
            ("jsonb_build_array", "jsonb_build_object", "jsonb_strip_nulls({})")
            if self.on_postgresql
            else ("json_array", "json_object", "json_patch('{{}}', {})")
        )
        pairs = ", ".join(
            f"'{name}', CASE WHEN {self._is_different(name)} THEN"
            f" {array}({self._json(f'm.{name}', name)}, {self._json(self._merged(name), name)}) END"
            for name in self.others
        )
        return (
            "INSERT INTO loyalty_memberchange (job_id, member_id, changes)"
            f" SELECT {self.job_id}, m.id, {strip.format(f'{build}({pairs})')}"
            " FROM import_found f JOIN import_staged s ON s.line = f.line JOIN loyalty_member m ON m.id = f.member_id"
            f" WHERE f.changed AND m.created_by_import_id {self._differs} {self.job_id}"
        )

    def _json(self, expression: str, name: str) -> str:
        return f"json({expression})" if name == "extended_attributes" and not self.on_postgresql else expression

    def _update_sql(self) -> str:
        values = ", ".join(f"{name} = {self._merged(name)}" for name in self.others)
        return (
            f"UPDATE loyalty_member AS m SET {values}, updated_at = %s"
            " FROM import_found f JOIN import_staged s ON s.line = f.line WHERE f.changed AND m.id = f.member_id"
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
            if name in self.fields:
                value = self._inserted(name)
            elif name in ("joined_at", "created_at", "updated_at"):
                value = "%s"
            else:
                value = "%s"
                default = known[name] if name in known else model_field.get_default()
                parameters.append(model_field.get_db_prep_save(default, connection))
            if name in ("created_at", "updated_at", "joined_at"):
                parameters.append(moment)
            names.append(str(model_field.column))
            values.append(value)
        statement = (
            f"INSERT INTO loyalty_member ({', '.join(names)}) SELECT {', '.join(values)}"
            " FROM import_found f JOIN import_staged s ON s.line = f.line WHERE f.member_id IS NULL ORDER BY s.line"
        )
        return statement, parameters

    def _inserted(self, name: str) -> str:
        if name == "phone":
            return "s.phone"
        if name == "joined_at":
            return (
                "COALESCE(s.joined_at, CAST(%s AS timestamp with time zone))"
                if self.on_postgresql
                else "COALESCE(s.joined_at, %s)"
            )
        if name == "extended_attributes":
            empty = "'{}'"
            return (
                f"jsonb_strip_nulls(COALESCE(s.{name}, {empty}))"
                if self.on_postgresql
                else f"json_patch({empty}, COALESCE(s.{name}, {empty}))"
            )
        return f"NULLIF(s.{name}, {self._cleared(name)})" if name in _CLEARED else f"COALESCE(s.{name}, '')"

    # --- A loyalty ID that comes with a new phone ---------------------------------------------------------------------

    def _note_moves(self, cursor: Any, superseded: Sequence[tuple[int, int]]) -> None:
        """Note the members that hold a claimed loyalty ID with another phone, before the new ones are written."""
        for earlier, _later in superseded:
            cursor.execute("UPDATE import_found SET claims = FALSE WHERE line = %s", [earlier])
        # In the index's own words: SQLite uses a partial index for no other spelling of its condition.
        cursor.execute(
            "INSERT INTO import_moved (old_id, line) SELECT o.id, s.line"
            " FROM import_found f JOIN import_staged s ON s.line = f.line"
            " JOIN loyalty_member o ON o.external_id = s.external_id AND NOT (o.external_id = '')"
            f" WHERE f.claims AND o.site_id + 0 = {self.site_id} AND o.phone <> s.phone AND o.replaced_by_id IS NULL"
        )

    def _mark_moves(self, cursor: Any, superseded: Sequence[tuple[int, int]]) -> None:
        """Mark the old members as replaced; who comes back to an old phone is no longer replaced."""
        for earlier, later in superseded:
            cursor.execute(
                "INSERT INTO import_moved (old_id, line) SELECT m.id, %s FROM import_staged s"
                f" JOIN loyalty_member m ON m.site_id + 0 = {self.site_id} AND m.phone = s.phone WHERE s.line = %s"
                " ON CONFLICT (old_id) DO NOTHING",
                [later, earlier],
            )
        cursor.execute(
            "UPDATE loyalty_member SET replaced_by_id = NULL WHERE replaced_by_id IS NOT NULL"
            " AND id IN (SELECT member_id FROM import_found WHERE claims)"
        )
        cursor.execute(
            "UPDATE loyalty_member AS o SET replaced_by_id = n.id FROM import_moved v"
            " JOIN import_staged s ON s.line = v.line"
            f" JOIN loyalty_member n ON n.site_id + 0 = {self.site_id} AND n.phone = s.phone"
            f" WHERE o.id = v.old_id AND o.replaced_by_id {self._differs} n.id"
        )
