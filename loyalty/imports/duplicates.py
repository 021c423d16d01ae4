"""Remembers what of a file has been met, exactly and in flat memory, whatever the size of the file.

Each memory is asked once per slice; asking again for the same slice, after its transaction had to be repeated, gives
the same answer.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping

# Ids of one map: 8 for each of its bytes.
_MAP_BYTES = 4096
_MAP_BITS = 15


class SeenIds:
    """The ids of members, one bit each: ids are given in turn, so that the maps are few and full."""

    def __init__(self) -> None:
        self._maps: dict[int, bytearray] = {}
        self._latest: Collection[int] = ()
        self._slice: int | None = None

    def met_before(self, ids: Collection[int], *, piece: int) -> set[int]:
        """Take in the distinct ids of a slice, and return those that an earlier slice had."""
        if piece != self._slice:
            self._add(self._latest)
            self._slice = piece
        self._latest = ids
        maps = self._maps
        met = set()
        for number in ids:
            bits = maps.get(number >> _MAP_BITS)
            if bits is not None and bits[(number >> 3) % _MAP_BYTES] >> (number & 7) & 1:
                met.add(number)
        return met

    def _add(self, ids: Collection[int]) -> None:
        maps = self._maps
        for number in ids:
            bits = maps.get(number >> _MAP_BITS)
            if bits is None:
                bits = maps[number >> _MAP_BITS] = bytearray(_MAP_BYTES)
            bits[(number >> 3) % _MAP_BYTES] |= 1 << (number & 7)


class SeenKeys:
    """Texts of a file (phones, IDs of actions) with a value each, in a temporary table on this host's disk."""

    def __init__(self) -> None:
        # An empty name is SQLite's own temporary file: cached in memory up to the limit, gone when closed.
        self._table = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._table.execute("PRAGMA cache_size = -8192")
        self._table.execute("PRAGMA journal_mode = OFF")
        self._table.execute("CREATE TABLE seen (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        self._latest: Mapping[str, str] = {}
        self._slice: int | None = None

    def met_before(self, keys: Iterable[str], *, piece: int) -> dict[str, str]:
        """Return those of the keys of a slice that earlier slices have kept, with their values."""
        if piece != self._slice:
            self._add(self._latest)
            self._slice = piece
        self._latest = {}
        met = self._table.execute(
            "SELECT seen.key, seen.value FROM json_each(?) AS new JOIN seen ON seen.key = new.value",
            (json.dumps(list(keys)),),
        )
        return dict(met)

    def keep(self, values: Mapping[str, str]) -> None:
        """Keep keys of the slice that was asked for last, for the next ones."""
        self._latest = values

    def _add(self, values: Mapping[str, str]) -> None:
        self._table.execute("BEGIN")
        self._table.executemany(
            "INSERT INTO seen VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            sorted(values.items()),
        )
        self._table.execute("COMMIT")

    def close(self) -> None:
        self._table.close()
