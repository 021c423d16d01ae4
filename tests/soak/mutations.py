"""Removes one guard after the other in a copy of the project, and sees the test that must notice fail.

A guard whose removal no test notices is no guard: somebody will remove it one day.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from tests.postgres import PostgresCluster
from tests.soak.guards import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
# What is private, built, or not of the project's own making.
_NOT_COPIED = shutil.ignore_patterns(".git", ".env", ".venv", "var", "__pycache__", ".*_cache", ".hypothesis")
# A test that hangs without its guard does not count as one that notices (seconds).
_LONGEST = 180


def mutations(options: argparse.Namespace) -> int:
    """Run the tests as they are, which must pass; then remove each guard alone, and its test must fail."""
    wanted = [one for one in MUTATIONS if options.only in f"{one.file} {one.guard}"]
    problems = []
    needs_server = any(one.postgresql for one in wanted)
    with (
        tempfile.TemporaryDirectory(prefix="loyalty-sms-mutations-") as folder,
        PostgresCluster() if needs_server else nullcontext() as cluster,
    ):
        copy = Path(shutil.copytree(ROOT, Path(folder) / "project", ignore=_NOT_COPIED))
        urls = {False: "", True: cluster.url if cluster else ""}
        for on_server, url in urls.items():
            tests = sorted({one.test for one in wanted if one.postgresql == on_server})
            if tests and (verdict := _verdict_of(copy, tests, url)) != "passed":
                problems.append(f"nothing removed, and the tests {verdict}")
        for one in wanted:
            started = time.monotonic()
            verdict = _without(copy, one, urls[one.postgresql])
            problems += [] if verdict == "noticed" else [f"{one.guard}: {verdict}"]
            print(f"{one.guard:<72} {time.monotonic() - started:6.1f} s  {verdict}", flush=True)
    for problem in problems:
        print(problem)
    print(f"{len(wanted)} guards were removed; {len(problems)} problems.", flush=True)
    return bool(problems)


def _without(copy: Path, mutation: Mutation, database_url: str) -> str:
    """Remove one guard and run its test; return "noticed" when it failed as it must, else why it counts for nothing."""
    path = copy / mutation.file
    before = path.read_text()
    if before.count(mutation.old) != 1:
        return "STALE, the guard does not stand where the list says"
    path.write_text(before.replace(mutation.old, mutation.new))
    try:
        verdict = _verdict_of(copy, [mutation.test], database_url)
    finally:
        path.write_text(before)
    return {"failed": "noticed", "passed": "SURVIVED, no test misses it"}.get(verdict, f"BROKEN, the test {verdict}")


def _verdict_of(copy: Path, tests: list[str], database_url: str) -> str:
    """Run tests of the copy until one fails; return "passed", "failed", or how they came to neither."""
    environment = {**os.environ, "DATABASE_URL": database_url, "REDIS_URL": "", "DATA_DIR": str(copy / "var")}
    # Tables are made from the models, in a third of the time that migrations take.
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=line", "--nomigrations", *tests]
    try:
        longest = _LONGEST * len(tests)
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=longest)
    except subprocess.TimeoutExpired:
        return "hung"
    last_line = done.stdout.strip().rpartition("\n")[2]
    if done.returncode == 0:
        return "passed"
    return "failed" if "failed" in last_line else f"ended with {done.returncode}: {last_line}"
