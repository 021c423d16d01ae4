"""Files that are whole or absent: written in parts under a hidden name, counted and hashed, and shown all at once."""

import csv
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _

from loyalty.spreadsheets import WATCHED, defuse_strictly

# Attentive takes at most this many rows in one file.
ROWS_PER_FILE = 500_000
MANIFEST = "manifest.json"
# Rows handed on at a time.
BATCH = 2_000
_PROGRAM = "loyalty-sms"
_HIDDEN = ".export-"


class ExportFailed(Exception):
    """An export that left nothing behind; `str()` is a sentence with the remedy."""


@dataclass(frozen=True)
class PartFile:
    """One finished file: its rows (a header is none), its size in bytes and its SHA-256."""

    name: str
    rows: int
    bytes: int
    sha256: str


class PartFiles:
    """The parts of one export. Rows go in by `add`; a part that is full is closed and the next begun.

    `name_of` names part n (from 1); `header` is written at the top of each part.
    """

    def __init__(self, folder: Path, name_of: Callable[[int], str], header: bytes, rows_per_file: int) -> None:
        self._folder, self._name_of, self._header, self._rows_per_file = folder, name_of, header, rows_per_file
        self._done: list[PartFile] = []
        self.rows = 0
        self._open()

    def _open(self) -> None:
        self._file = (self._folder / str(len(self._done) + 1)).open("xb", buffering=1 << 20)
        self._hash = hashlib.sha256()
        self._part_rows = self._part_bytes = 0
        self._write(self._header)

    def _write(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)
        self._part_bytes += len(data)

    def add(self, rows: Sequence[bytes]) -> None:
        """Write whole rows, line ends included."""
        start = 0
        while start < len(rows):
            if self._part_rows == self._rows_per_file:
                self._close()
                self._open()
            piece = rows[start : start + self._rows_per_file - self._part_rows]
            self._write(b"".join(piece))
            self._part_rows += len(piece)
            start += len(piece)
        self.rows += len(rows)

    def _close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        name = self._name_of(len(self._done) + 1)
        self._done.append(PartFile(name, self._part_rows, self._part_bytes, self._hash.hexdigest()))

    def finish(self) -> list[PartFile]:
        """Bring every byte to the disk, and return the parts; there is at least one, with no rows when none came."""
        self._close()
        return self._done

    def abandon(self) -> None:
        """Close the file at hand without bringing it anywhere."""
        with suppress(OSError):
            self._file.close()


@dataclass
class Publication:
    """Where the parts of an export are written, and how they are shown."""

    folder: Path
    hidden: Path
    parts: PartFiles

    def show(self, facts: dict[str, Any], outdated: Callable[[Path], bool]) -> dict[str, Any]:
        """Give every part its name, put the manifest beside them, and return it.

        `outdated` tells of a file in the folder whether it is left from an earlier, longer export of the same thing.
        While there is a manifest, the files are those it lists: it leaves first and comes last.
        """
        done = self.parts.finish()
        manifest = {"made_by": _PROGRAM, **facts, "rows": self.parts.rows, "files": [asdict(part) for part in done]}
        written = self.hidden / MANIFEST
        with written.open("x", encoding="utf-8") as file:
            file.write(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        names = {part.name for part in done}
        for name in (*names, MANIFEST):
            if (self.folder / name).is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        leftovers = [path for path in self.folder.iterdir() if path.name not in names and outdated(path)]
        (self.folder / MANIFEST).unlink(missing_ok=True)
        for number, part in enumerate(done, 1):
            os.replace(self.hidden / str(number), self.folder / part.name)
        for path in leftovers:
            path.unlink()
        os.replace(written, self.folder / MANIFEST)
        _sync_folder(self.folder)
        return manifest


@contextmanager
def publication(
    folder: Path, name_of: Callable[[int], str], *, header: bytes = b"", rows_per_file: int = ROWS_PER_FILE
) -> Iterator[Publication]:
    """Open the files of an export; whatever goes wrong before `show` has ended leaves the folder as it was.

    The folder is made when it is missing. Raises `ExportFailed` for what the disk refuses.
    """
    made, hidden, lock, parts = not folder.exists(), None, None, None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        hidden, lock = _hidden_in(folder)
        parts = PartFiles(hidden, name_of, header, rows_per_file)
        yield Publication(folder, hidden, parts)
    except OSError as error:
        raise ExportFailed(sentence_of(error, folder)) from error
    finally:
        if parts is not None:
            parts.abandon()
        if hidden is not None:
            shutil.rmtree(hidden, ignore_errors=True)
        if lock is not None:
            os.close(lock)
        if made:
            # Only succeeds when nothing was shown.
            with suppress(OSError):
                folder.rmdir()


def _hidden_in(folder: Path) -> tuple[Path, int | None]:
    """Make a hidden folder, and remove those of exports whose process was killed; return it with its lock's descriptor.

    Inside the folder, so that showing a file is a rename on one disk. Each export locks its own while it lives.
    """
    # One at a time, so that nobody takes a new folder for one that was left.
    outer = _locked(folder, wait=True)
    try:
        for left in folder.glob(f"{_HIDDEN}*") if outer is not None else ():
            if (free := _locked(left, wait=False)) is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(free)
        hidden = Path(tempfile.mkdtemp(prefix=_HIDDEN, dir=folder))
        return hidden, _locked(hidden, wait=False)
    finally:
        if outer is not None:
            os.close(outer)


def _locked(folder: Path, *, wait: bool) -> int | None:
    """Lock a folder until the descriptor is closed or the process ends.

    None when another process has it, or the file system knows no locks: then nothing is cleaned up there.
    """
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sentence_of(error: OSError, folder: Path) -> str:
    """Say what the disk refused, and what to do."""
    place = {"folder": str(folder)}
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            _("The disk under %(folder)s is full. Free some space and export again; nothing half-written was left.")
            % place
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return _("The folder %(folder)s cannot be written to. Choose another one, or change its permissions.") % place
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT):
        return _("%(folder)s is no folder that files can be put into. Choose another one.") % place
    return _("Writing to %(folder)s failed: %(reason)s. Check the disk and export again.") % {
        **place,
        "reason": error.strerror or type(error).__name__,
    }


# --- Rows for people ------------------------------------------------------------------------------------------------


class _Rows(list[str]):
    """What csv.writer writes to: each row as it would stand in the file."""

    write = list.append


def spreadsheet_rows(rows: Iterable[Sequence[object]]) -> Iterator[list[bytes]]:
    """Return the rows as CSV (comma, quotes where needed, CRLF, UTF-8), formula-safe, some thousand at a time."""
    lines = _Rows()
    writer = csv.writer(lines, lineterminator="\r\n")
    for row in rows:
        # Nearly every cell is a text that is harmless by its first character.
        writer.writerow([v if isinstance(v, str) and v[:1] not in WATCHED else _safe_cell(v) for v in row])
        if len(lines) == BATCH:
            yield [line.encode() for line in lines]
            lines.clear()
    if lines:
        yield [line.encode() for line in lines]


def _safe_cell(value: object) -> str:
    return "" if value is None else defuse_strictly(str(value))


def spreadsheet_header(columns: Sequence[str]) -> bytes:
    """Return the first line of a file for spreadsheets, with the mark by which they know UTF-8."""
    return "\ufeff".encode() + next(spreadsheet_rows([columns]))[0]


def csv_cell(text: str) -> str:
    """Return one value as it stands in a CSV row, quoted where it must be, and otherwise untouched."""
    lines = _Rows()
    csv.writer(lines, lineterminator="").writerow([text])
    return lines[0]
