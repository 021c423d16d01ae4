"""Remembers which phones of a file have been met, exactly and in flat memory, whatever the size of the file."""

import sqlite3
from collections.abc import Sequence


class Seen:
    """A temporary table on this host's disk; it is made again from the file when an import goes on elsewhere."""

    def __init__(self) -> None:
        # An empty name is SQLite's own temporary file: cached in memory up to the limit, gone when closed.
        self._table = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._table.execute("PRAGMA cache_size = -8192")
        self._table.execute("PRAGMA journal_mode = OFF")
        self._table.execute("CREATE TABLE seen (phone INTEGER PRIMARY KEY, line INTEGER)")

    def add(self, phones: Sequence[str], lines: Sequence[int]) -> dict[str, int]:
        """Take in distinct phones (E.164) with their lines; return those met before, with the line of the first."""
        rows = sorted((int(phone), line) for phone, line in zip(phones, lines, strict=True))
        before = self._table.total_changes
        self._table.execute("BEGIN")
        self._table.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", rows)
        self._table.execute("COMMIT")
        if self._table.total_changes - before == len(rows):
            return {}
        first_line = dict(rows)
        met = {}
        for phone in phones:
            (line,) = self._table.execute("SELECT line FROM seen WHERE phone = ?", (int(phone),)).fetchone()
            if line != first_line[int(phone)]:
                met[phone] = line
        return met

    def close(self) -> None:
        self._table.close()
