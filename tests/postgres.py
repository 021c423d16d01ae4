"""A PostgreSQL cluster of the tests' own: made with initdb in a temporary folder, gone afterwards."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from attentive_integration.embedded_broker import free_port

# The first of these users that exists owns the cluster when the tests run as root, which PostgreSQL refuses to be.
_OWNERS = ("postgres", "nobody")


def binaries() -> Path | None:
    """Return the folder that holds initdb and pg_ctl, or None when PostgreSQL's server is not installed."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda bin: -int(bin.parent.name.split(".")[0]))
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "pg_ctl").exists()), None)


class PostgresCluster:
    """A running server on a free loopback port; `url` goes into DATABASE_URL. Use as a context manager."""

    def __init__(self, *, durable: bool = False) -> None:
        self.port = free_port()
        self.durable = durable
        self.folder = Path(tempfile.mkdtemp(prefix="loyalty-sms-postgres-"))
        self.owner = next((name for name in _OWNERS if _user_exists(name)), None) if os.geteuid() == 0 else None

    @property
    def url(self) -> str:
        return f"postgres://loyalty@127.0.0.1:{self.port}/postgres"

    def _run(self, *command: str) -> None:
        environment = {**os.environ, "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            command, user=self.owner, cwd=self.folder, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"PostgreSQL for the tests did not start: {done.stdout[-2000:]}")

    def start(self) -> Self:
        folder = binaries()
        if folder is None:
            raise RuntimeError("PostgreSQL's server is needed for the tests. On Debian: apt-get install postgresql")
        if self.owner:
            shutil.chown(self.folder, self.owner)
        data = str(self.folder / "data")
        self._run(str(folder / "initdb"), "-D", data, "-U", "loyalty", "-A", "trust", "-E", "UTF8", "--no-sync")
        self._control("start")
        return self

    def restart(self) -> None:
        """Stop the server as a power cut would, and start it again."""
        self._control("-m", "immediate", "restart")

    def _control(self, *command: str) -> None:
        folder = binaries()
        assert folder is not None
        options = [f"-p {self.port}", "-c listen_addresses=127.0.0.1", f"-c unix_socket_directories={self.folder}"]
        options += ["-c max_connections=200"]
        if not self.durable:
            options += ["-c fsync=off", "-c synchronous_commit=off", "-c full_page_writes=off"]
        data, log = str(self.folder / "data"), str(self.folder / "log")
        self._run(str(folder / "pg_ctl"), "-D", data, "-l", log, "-w", "-o", " ".join(options), *command)

    def stop(self) -> None:
        folder = binaries()
        if folder:
            self._run(str(folder / "pg_ctl"), "-D", str(self.folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _user_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
