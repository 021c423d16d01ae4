"""The ledger of accepted requests: one JSON object a line, on disk before the request is answered.

It is an independent witness: tests compare it with what the product believes. Requests that arrive while a write is
being synced share the next one, so a slow disk costs time and not throughput.
"""

import asyncio
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from json import dumps
from pathlib import Path
from typing import Any

# Kept in memory for the control API; the file has everything.
KEPT_RECORDS = 10_000


class Ledger:
    """Writes records to a file, or only into memory when there is none. For one event loop."""

    def __init__(self, path: Path | None) -> None:
        self.recent: deque[dict[str, Any]] = deque(maxlen=KEPT_RECORDS)
        self.count = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if path else None
        self._lines: list[bytes] = []
        self._written: asyncio.Future[None] | None = None
        self._committer: asyncio.Task[None] | None = None
        self._disk = ThreadPoolExecutor(1, "ledger")

    async def write(self, record: dict[str, Any]) -> None:
        """Return when the record is on disk. Records lie in the file in the order of these calls."""
        self.recent.append(record)
        self.count += 1
        if self._file is None:
            return
        self._lines.append(dumps(record, separators=(",", ":")).encode() + b"\n")
        if self._written is None:
            self._written = asyncio.get_running_loop().create_future()
        written = self._written
        if self._committer is None or self._committer.done():
            self._committer = asyncio.create_task(self._commit())
        await asyncio.shield(written)

    async def _commit(self) -> None:
        """Write and sync what has gathered, again and again until nothing is left."""
        loop = asyncio.get_running_loop()
        while self._lines and self._written is not None:
            lines, self._lines = b"".join(self._lines), []
            written, self._written = self._written, None
            try:
                await loop.run_in_executor(self._disk, self._append, lines)
            except OSError as error:
                written.set_exception(error)
            else:
                written.set_result(None)

    def _append(self, lines: bytes) -> None:
        assert self._file is not None
        while lines:
            lines = lines[os.write(self._file, lines) :]
        os.fsync(self._file)

    def close(self) -> None:
        """Wait for the write that is under way, and close the file."""
        self._disk.shutdown()
        if self._file is not None:
            os.close(self._file)
            self._file = None
