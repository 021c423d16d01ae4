"""`make soak`: proves the sending engine with real processes that are killed, frozen and cut off, and the tests
themselves by taking away one guard after the other.

python -m tests.soak                      crashes and imports on both databases, spreadsheets, the storm, the mutations
python -m tests.soak crashes [--database sqlite|postgresql|given] [--only TEXT] [--subset] [--json]
python -m tests.soak imports [--database sqlite|postgresql|given] [--kills 10] [--seed N]
python -m tests.soak spreadsheets
python -m tests.soak storm [--minutes 5] [--seed N]
python -m tests.soak mutations [--only TEXT]
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from attentive_integration.embedded_broker import EmbeddedBroker
from tests.installation import Installation
from tests.postgres import PostgresCluster
from tests.soak.crash_cases import CASES, SUBSET, Case
from tests.soak.mutations import mutations


def crashes(options: argparse.Namespace) -> int:
    """Run the crash matrix on both databases, or here on the one that is given."""
    if options.database == "given":
        return _crashes_here(options)
    return _on_databases(options, "crashes", "--only", options.only, *["--subset"] * options.subset)


def _on_databases(options: argparse.Namespace, part: str, *arguments: str) -> int:
    """Run a part on each database that is wanted, in a process of its own."""
    command = [sys.executable, "-m", "tests.soak", part, "--database", "given", *arguments]
    failed = 0
    if options.database in ("both", "sqlite"):
        print(f"== {part} on SQLite", flush=True)
        failed |= subprocess.run(command, env={**os.environ, "DATABASE_URL": ""}, check=False).returncode
    if options.database in ("both", "postgresql"):
        print(f"== {part} on PostgreSQL", flush=True)
        with PostgresCluster() as cluster:
            environment = {**os.environ, "DATABASE_URL": cluster.url}
            failed |= subprocess.run(command, env=environment, check=False).returncode
    return failed


def _crashes_here(options: argparse.Namespace) -> int:
    cases = [case for case in CASES if _is_wanted(case, options)]
    results: dict[str, list[str]] = {}
    with Installation(VENDOR_DEADLINE_SECONDS="1.5") as installation:
        installation.join()
        runner = import_module("tests.soak.crash_runner").CrashRunner(installation)
        for case in cases:
            started = time.monotonic()
            results[case.name] = runner.run(case)
            if not options.json:
                verdict = "; ".join(results[case.name]) or "ok"
                print(f"{case.name:<48} {time.monotonic() - started:5.1f} s  {verdict}", flush=True)
        final = installation.run("verify_invariants", "--ledger", str(installation.sandbox.ledger_path), "--json")
    results["verify_invariants"] = [] if final.returncode == 0 else [(final.stdout + final.stderr)[-1000:]]
    if options.json:
        print(json.dumps(results))
    failed = [name for name, problems in results.items() if problems]
    print(f"{len(results) - len(failed)} of {len(results)} held", file=sys.stderr)
    return bool(failed)


def _is_wanted(case: Case, options: argparse.Namespace) -> bool:
    return options.only in case.name and (not options.subset or case.name in SUBSET)


def imports(options: argparse.Namespace) -> int:
    """Kill an import at random slices, on both databases or here on the one that is given."""
    seed = _seed(options)
    if options.database != "given":
        return _on_databases(options, "imports", "--kills", str(options.kills), "--seed", str(seed))
    started = time.monotonic()
    with Installation(web=False) as installation:
        installation.join()
        problems = import_module("tests.soak.import_kills").ImportKills(installation, seed).run(options.kills)
    verdict = "; ".join(problems) or "the table of an undisturbed import"
    print(f"{options.kills} kills, --seed {seed}: {verdict} ({time.monotonic() - started:.0f} s)", flush=True)
    return bool(problems)


def spreadsheets(options: argparse.Namespace) -> int:
    """Have LibreOffice open our files and save them again."""
    if shutil.which("soffice") is None:
        print("LibreOffice is not installed. Install it: apt-get install libreoffice-calc-nogui", file=sys.stderr)
        return 1
    with Installation(web=False) as installation, tempfile.TemporaryDirectory(prefix="loyalty-sms-sheets-") as folder:
        installation.join()
        problems = import_module("tests.soak.spreadsheets").Spreadsheets(Path(folder)).run()
    print("; ".join(problems) or "Nothing ran as a formula, and every text came back.", flush=True)
    return bool(problems)


def _seed(options: argparse.Namespace) -> int:
    return options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)


def storm(options: argparse.Namespace) -> int:
    """Run one storm on PostgreSQL with fsync on, and print what happened."""
    seed = _seed(options)
    print(f"== storm of {options.minutes:g} minutes, {options.actions:,} actions; --seed {seed}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="loyalty-sms-broker-") as folder,
        PostgresCluster(durable=True) as cluster,
        EmbeddedBroker(Path(folder)) as broker,
    ):
        os.environ["DATABASE_URL"] = cluster.url
        calm = {"REDIS_URL": broker.url, "VENDOR_DEADLINE_SECONDS": "4", "LOG_LEVEL": "WARNING"}
        with Installation(**calm) as installation:
            installation.join()
            weather = import_module("tests.soak.storm").Storm(installation, cluster, broker, seed)
            problems = weather.run(minutes=options.minutes, actions=options.actions)
    for what, count in sorted(weather.did.items()):
        print(f"{what:<40}{count:>10,}")
    for problem in problems:
        print(problem)
    print(f"The storm with --seed {seed} {'did damage' if problems else 'did no damage'}.", flush=True)
    return bool(problems)


def everything(options: argparse.Namespace) -> int:
    """Run the crash matrix, then the imports, the spreadsheets, a storm, and the mutations."""
    return crashes(options) | imports(options) | spreadsheets(options) | storm(options) | mutations(options)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(
        run=everything,
        database="both",
        only="",
        subset=False,
        json=False,
        minutes=5.0,
        actions=10_000,
        seed=None,
        kills=10,
    )
    parts = parser.add_subparsers()
    part = parts.add_parser("crashes", help="the crash matrix")
    part.add_argument("--database", choices=["both", "sqlite", "postgresql", "given"], default="both")
    part.add_argument("--only", default="", metavar="TEXT", help="cases whose name has this text")
    part.add_argument("--subset", action="store_true", help="the cases that `make test` runs")
    part.add_argument("--json", action="store_true", help="print one object: case → problems")
    part.set_defaults(run=crashes)
    part = parts.add_parser("imports", help="an import that is killed at random slices")
    part.add_argument("--database", choices=["both", "sqlite", "postgresql", "given"], default="both")
    part.add_argument("--kills", type=int, default=10, help="how often it is killed (10)")
    part.add_argument("--seed", type=int, help="the file and the chance of another run again")
    part.set_defaults(run=imports)
    part = parts.add_parser("spreadsheets", help="our files in LibreOffice")
    part.set_defaults(run=spreadsheets)
    part = parts.add_parser("storm", help="everything at once, by chance")
    part.add_argument("--minutes", type=float, default=5.0, help="how long the storm lasts (5)")
    part.add_argument("--actions", type=int, default=10_000, help="how many actions are posted meanwhile (10,000)")
    part.add_argument("--seed", type=int, help="the chance of another storm again")
    part.set_defaults(run=storm)
    part = parts.add_parser("mutations", help="remove one guard after the other, and see a test fail")
    part.add_argument("--only", default="", metavar="TEXT", help="guards that have this text in their file or name")
    part.set_defaults(run=mutations)
    options = parser.parse_args()
    os.environ.setdefault("SECRET_KEY", "for-tests-only-" * 4)
    os.environ.setdefault("FIELD_ENCRYPTION_KEYS", "A" * 43 + "=")
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
