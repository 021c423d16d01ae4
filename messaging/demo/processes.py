"""Starts the demo's child processes, watches them, and ends every one of them."""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from django.conf import settings

MANAGE = str(settings.BASE_DIR / "manage.py")


class ChildEnded(Exception):
    """A child that should run on has ended; `str()` says which one and where it wrote why."""


class Processes:
    """Child processes that live no longer than this object's `with` block. Their output goes to files in `log_dir`."""

    def __init__(self, environment: Mapping[str, str], log_dir: Path) -> None:
        self.environment = dict(environment)
        self.log_dir = log_dir
        self.children: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.stopping = False

    def __enter__(self) -> "Processes":
        self.log_dir.mkdir(parents=True, exist_ok=True)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask_to_stop)
        return self

    def __exit__(self, *_: object) -> None:
        for _name, child in reversed(self.children):
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + 10
        for _name, child in reversed(self.children):
            try:
                child.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _ask_to_stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def run(self, name: str, *arguments: str) -> None:
        """Run a management command to its end; raises `ChildEnded` when it fails."""
        with (self.log_dir / f"{name}.log").open("wb") as log:
            done = subprocess.run(
                [sys.executable, MANAGE, *arguments], env=self.environment, stdout=log, stderr=log, check=False
            )
        if done.returncode:
            raise ChildEnded(self.blame(name))

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a child that runs until the block ends."""
        with (self.log_dir / f"{name}.log").open("wb") as log:
            child = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal must reach us first: we end our children in order.
                start_new_session=True,
            )
        self.children.append((name, child))

    def watch(self) -> None:
        """Return when asked to stop (Ctrl-C, SIGTERM); raises `ChildEnded` when a child ends by itself."""
        while not self.stopping:
            for name, child in self.children:
                if child.poll() is not None:
                    raise ChildEnded(self.blame(name))
            time.sleep(0.3)

    def blame(self, name: str) -> str:
        """Return a sentence that names the child and the last line it wrote."""
        log = self.log_dir / f"{name}.log"
        last_line = (log.read_text(errors="replace").strip().splitlines() or [""])[-1]
        return f"The {name} has stopped: {last_line} ({log} has the whole story.)"
