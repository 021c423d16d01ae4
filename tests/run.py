"""`make test`: the checks, then every test on SQLite and again on PostgreSQL.

Installs what the tests need from Debian (chromium, PostgreSQL's server, gettext) when run as root, and otherwise says
in one sentence what to install. Nothing is skipped: a test that lacks its part fails with that sentence.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .postgres import PostgresCluster, binaries

ROOT = Path(__file__).resolve().parent.parent
# These touch no database, so that once is enough.
_WITHOUT_DATABASE = (
    "tests/attentive_integration/sandbox",
    "tests/attentive_integration/test_phones.py",
    "tests/messaging/test_text.py",
)
_CHECKS = (
    ["ruff", "format", "--check", "."],
    ["ruff", "check", "."],
    ["mypy", "attentive_integration", "loyalty", "messaging"],
    ["manage.py", "makemigrations", "--check", "--dry-run"],
    ["tests.check_translations"],
)


def install_debian_parts() -> None:
    """Install chromium, PostgreSQL and gettext where they are missing and we may."""
    there = {"chromium": shutil.which("chromium"), "postgresql": binaries(), "gettext": shutil.which("xgettext")}
    missing = [name for name, found in there.items() if not found]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        say(f"These tests need {' and '.join(missing)}. On Debian: sudo apt-get install {' '.join(missing)}")
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-q"], env=environment, stdout=subprocess.DEVNULL, check=False)
    subprocess.run(
        ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing, "fonts-liberation"],
        env=environment,
        stdout=subprocess.DEVNULL,
        check=False,
    )


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(title: str, command: list[str], **environment: str) -> bool:
    """Run one step in the project's folder; return whether it succeeded."""
    say(f"== {title}")
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False)
    say(f"== {title}: {'ok' if done.returncode == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s")
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks-only", action="store_true", help="format, lint, types and migrations, no tests")
    parser.add_argument("pytest", nargs="*", help="what to hand to pytest, for instance a path")
    options = parser.parse_args()
    python = sys.executable
    with tempfile.TemporaryDirectory(prefix="loyalty-sms-tests-") as folder:
        # A data folder of their own: the tests never touch the files of a demo in the same checkout.
        install_debian_parts()
        environment = {"DATA_DIR": folder, "DATABASE_URL": "", "REDIS_URL": ""}
        passed = [
            run(" ".join(command), [python, *(["-m"] if command[0] != "manage.py" else []), *command], **environment)
            for command in _CHECKS
        ]
        if not options.checks_only:
            pytest = [python, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *options.pytest]
            passed.append(run("tests on SQLite", pytest, **environment))
            try:
                with PostgresCluster() as cluster:
                    keys = {"SECRET_KEY": "for-tests-only-" * 4, "FIELD_ENCRYPTION_KEYS": "A" * 43 + "="}
                    passed.append(
                        run(
                            "tests on PostgreSQL",
                            [*pytest, *(f"--ignore={path}" for path in _WITHOUT_DATABASE)],
                            **{**environment, **keys, "DATABASE_URL": cluster.url},
                        )
                    )
            except RuntimeError as error:
                say(str(error))
                passed.append(False)
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
