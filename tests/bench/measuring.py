"""How a bench measures: an installation with real processes, a task in a process of its own, and rows of a table.

A task is a function of a module of this folder that returns rows. It runs in a process of its own, which is part of a
fresh installation: PostgreSQL with fsync on (or SQLite, where it says so), an embedded broker, the sandbox, and a web
server where it asks for one.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path

import django

from attentive_integration.embedded_broker import EmbeddedBroker
from attentive_integration.sandbox.process import SandboxControl
from tests.installation import BEAT, ROOT, WORKER, Installation
from tests.postgres import PostgresCluster


@dataclass(frozen=True)
class Row:
    """One measure. Of `at_most` and `at_least` one is given; `note` says what stands behind the value."""

    measure: str
    value: float
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool:
        if self.at_most is not None:
            return self.value <= self.at_most
        return self.at_least is not None and self.value >= self.at_least

    def __str__(self) -> str:
        goal = f"at most {self.at_most:,g}" if self.at_most is not None else f"at least {self.at_least:,g}"
        return f"{self.measure:<76}{self.value:>11,.2f}  ({goal})  {'ok' if self.holds else 'MISSED'}  {self.note}"


@dataclass(frozen=True)
class Task:
    """A function (`module.function`) that measures, and the installation it needs."""

    name: str
    web: bool = False
    on_sqlite: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str) -> list[Row]:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="loyalty-sms-bench-"))
            url = "" if self.on_sqlite else stack.enter_context(PostgresCluster(durable=True)).url
            broker = stack.enter_context(EmbeddedBroker(Path(folder)))
            os.environ.update(
                DATABASE_URL=url, SECRET_KEY="for-benches-only-" * 4, FIELD_ENCRYPTION_KEYS="A" * 43 + "="
            )
            installation = stack.enter_context(
                Installation(web=self.web, web_workers=2, REDIS_URL=broker.url, LOG_LEVEL="WARNING", **self.environment)
            )
            assert broker.process is not None
            return in_child(
                self.name,
                *arguments,
                environment={
                    **installation.environment,
                    "DJANGO_SETTINGS_MODULE": "attentive_integration.settings",
                    "SANDBOX_CONTROL_URL": installation.sandbox.control_url,
                    "SANDBOX_LEDGER": str(installation.sandbox.ledger_path),
                    "BROKER_PID": str(broker.process.pid),
                },
            )


def in_child(name: str, *arguments: str, environment: dict[str, str] | None = None) -> list[Row]:
    """Run `module.function` in a process of its own, with a peak of memory of its own, and return its rows."""
    command = [sys.executable, "-m", "tests.bench.measuring", name, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


# --- In the process of a task -----------------------------------------------------------------------------------------


def sandbox() -> SandboxControl:
    """Return the installation's sandbox."""
    return SandboxControl(os.environ["SANDBOX_CONTROL_URL"])


def ledger(kind: str) -> list[dict[str, object]]:
    """Return what the sandbox has accepted of a kind, in order."""
    lines = Path(os.environ["SANDBOX_LEDGER"]).read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


@contextmanager
def celery(workers: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run so many Celery workers of one process each, and beat, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="loyalty-sms-beat-") as folder:
        commands = [(*WORKER, "-n", f"bench{number}@localhost") for number in range(workers)]
        started = [start(*command) for command in [*commands, (*BEAT, f"{folder}/schedule")]]
        try:
            yield started[:-1]
        finally:
            end(started)


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """Start a Python process of the installation."""
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT)


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    """End processes, and wait until they have."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], bool], *, seconds: float, every: float = 0.1) -> float:
    """Wait until the condition holds; return how many seconds that took. Raises TimeoutError after so many seconds."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise TimeoutError(f"This still does not hold after {seconds:g} s: {condition}")
        time.sleep(every)
    return time.monotonic() - started


def main() -> None:
    django.setup()
    name, *arguments = sys.argv[1:]
    module, function = name.rsplit(".", 1)
    rows = getattr(import_module(f"tests.bench.{module}"), function)(*arguments)
    print(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
