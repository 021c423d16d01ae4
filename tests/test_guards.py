"""The list of guards cannot rot: each stands where the list says, and so does the test that must miss it."""

import re
from functools import cache
from pathlib import Path

from tests.soak.guards import MUTATIONS

ROOT = Path(__file__).resolve().parents[1]


@cache
def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def test_every_guard_stands_once_in_its_file() -> None:
    assert [one.guard for one in MUTATIONS if text_of(one.file).count(one.old) != 1 or one.old == one.new] == []


def test_every_guard_has_its_test() -> None:
    missing = []
    for one in MUTATIONS:
        file, _, name = one.test.partition("::")
        if not (ROOT / file).is_file() or (name and not re.search(rf"^ *def {name}\(", text_of(file), re.M)):
            missing.append(one.guard)
    assert missing == []


def test_every_guard_has_a_name_of_its_own() -> None:
    assert len({one.guard for one in MUTATIONS}) == len(MUTATIONS)
