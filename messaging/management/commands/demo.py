"""`manage.py demo`: the whole product on this machine, with data to look at and a stand-in for both vendors."""

import os
import socket
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from attentive_integration.embedded_broker import EmbeddedBroker, free_port
from attentive_integration.sandbox.process import SandboxControl
from messaging.demo import login, seed
from messaging.demo.processes import MANAGE, ChildEnded, Processes

# Seconds that a child may take until it listens.
_PATIENCE = 60


class Command(BaseCommand):
    help = (
        "Start the product with demonstration data: web server, worker, beat, an embedded broker and a sandbox that "
        "stands in for Attentive and Annex Cloud. Ctrl-C ends all of them; a second run goes on with the same data."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, help="port of the web server; else the first free one from 8000")
        parser.add_argument("--data-dir", type=Path, default=settings.DATA_DIR / "demo", help="where the demo writes")
        parser.add_argument("--seed", action="store_true", help="only fill the database with data (used by the demo)")
        parser.add_argument("--login-link", action="store_true", help="only print a one-time log-in link")

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["seed"]:
            seed.fill()
            seed.introduce(SandboxControl(settings.ATTENTIVE_API_URL))
        elif options["login_link"]:
            self.stdout.write(login.one_time_link())
        else:
            self._run(options["port"], options["data_dir"].resolve())

    def _run(self, wanted_port: int | None, data_dir: Path) -> None:
        port = self._check(wanted_port, data_dir)
        sandbox_port = free_port()
        public_url, sandbox_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{sandbox_port}"
        environment = {
            **os.environ,
            "DATA_DIR": str(data_dir),
            # The demo never touches a database that somebody works with.
            "DATABASE_URL": "",
            "SECRET_KEY": "",
            "FIELD_ENCRYPTION_KEYS": "",
            "DEBUG": "False",
            "PUBLIC_URL": public_url,
            "ENVIRONMENT_LABEL": "DEMO",
            "ATTENTIVE_API_URL": sandbox_url,
            "ANNEX_CLOUD_API_URL": f"{sandbox_url}/api/3.0",
            "EMAIL_URL": "consolemail://",
            "PYTHONUNBUFFERED": "1",
        }
        self.stdout.write("Starting the demo …")
        python, celery = sys.executable, [sys.executable, "-m", "celery", "-A", "attentive_integration"]
        broker = None if settings.REDIS_URL else EmbeddedBroker(data_dir / "broker")
        try:
            if broker:
                environment["REDIS_URL"] = broker.start().url
            with Processes(environment, data_dir / "log") as processes:
                processes.run("migration", "migrate", "--no-input", "-v0")
                ledger = str(data_dir / "sandbox-ledger.jsonl")
                processes.start("sandbox", [python, MANAGE, "sandbox", "--port", str(sandbox_port), "--ledger", ledger])
                self._wait_for(processes, sandbox_port)
                processes.run("seeding", "demo", "--seed")
                queues = "celery,send,import,export,webhook"
                processes.start("worker", [*celery, "worker", "-c", "2", "-Q", queues, "-l", "INFO"])
                processes.start("beat", [*celery, "beat", "-s", str(data_dir / "beat-schedule"), "-l", "INFO"])
                bind = f"127.0.0.1:{port}"
                gunicorn = [python, "-m", "gunicorn", "attentive_integration.wsgi", "--no-control-socket"]
                processes.start("web server", [*gunicorn, "-b", bind, "--workers", "2", "--threads", "4"])
                self._wait_for(processes, port)
                processes.run("login link", "demo", "--login-link")
                link = (data_dir / "log" / "login link.log").read_text().strip().splitlines()[-1]
                self.stdout.write(
                    "\nThe demo is ready. This link logs you in, once; on its page press “Fire a loyalty action”:\n\n"
                    f"    {link}\n\nCtrl-C ends the demo. Its data stays in {data_dir}."
                )
                processes.watch()
                self.stdout.write("\nEnding the demo …")
        except (ChildEnded, RuntimeError, FileNotFoundError) as error:
            raise CommandError(str(error)) from None
        finally:
            if broker:
                broker.stop()

    def _check(self, wanted_port: int | None, data_dir: Path) -> int:
        """Refuse with a sentence before anything is touched; return the port to listen on."""
        if sys.prefix == sys.base_prefix:
            self.stderr.write("No virtual environment is active. `make run` makes one.")
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            probe = data_dir / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise CommandError(
                f"The demo cannot write to {data_dir} ({error.strerror}). Choose another folder with --data-dir."
            ) from None
        for port in [wanted_port] if wanted_port else range(8000, 8020):
            with socket.socket() as probe_socket:
                probe_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe_socket.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port
        raise CommandError("The port is in use. Choose another with --port, for instance: manage.py demo --port 8100")

    def _wait_for(self, processes: Processes, port: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and not processes.stopping:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
            name, child = processes.children[-1]
            if child.poll() is not None:
                raise ChildEnded(processes.blame(name))
        if not processes.stopping:
            raise ChildEnded(processes.blame(processes.children[-1][0]))
