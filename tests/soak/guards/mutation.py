"""What a mutation is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One guard that is removed: `old`, which stands in `file` once, becomes `new`, and `test` must fail.

    `test` is what pytest takes: a file, or a file and a name. `postgresql` says that SQLite cannot show it, because
    there one writer waits for the other anyway.
    """

    guard: str
    file: str
    old: str
    new: str
    test: str
    postgresql: bool = False
