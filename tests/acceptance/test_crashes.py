"""Real processes die by SIGKILL where it hurts most: nothing is lost, doubled, or called sent without proof.

A subset, one case for each kind of window; `python -m tests.soak crashes` runs the whole matrix.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.crash_cases import CASES, SUBSET

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def problems() -> dict[str, list[str]]:
    """What went wrong in each case; run in a process of its own, on a database of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "crashes", "--database", "given", "--subset", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.stdout, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", [*SUBSET, "verify_invariants"])
def test_a_process_dies_and_nothing_is_lost_or_doubled(problems: dict[str, list[str]], case: str) -> None:
    assert problems[case] == []


def test_every_named_point_is_in_the_matrix() -> None:
    sources = [path for app in ("attentive_integration", "loyalty", "messaging") for path in (ROOT / app).rglob("*.py")]
    named = {name for path in sources for name in re.findall(r'crash_point\("(\w+)"\)', path.read_text())}
    assert named == {case.point for case in CASES}
    assert len(named) >= 25
    assert set(SUBSET) <= {case.name for case in CASES}


def test_points_cost_nothing_where_nobody_is_to_die() -> None:
    code = "from attentive_integration import crash; print(crash.crash_point is crash._do_nothing)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "True"
