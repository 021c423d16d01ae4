"""A whole installation for tests: its own database and files, the sandbox, and a real web server on loopback.

On SQLite the database is a file in a temporary folder; where DATABASE_URL names a PostgreSQL server, a database of its
own is created there and dropped afterwards.
"""

import atexit
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any, ClassVar, Self

import django
import environ
import psycopg
from cryptography.fernet import Fernet

from attentive_integration.embedded_broker import free_port
from attentive_integration.sandbox.process import SandboxProcess

ROOT = Path(__file__).resolve().parent.parent
_SQLITE_FILE = "db.sqlite3"
# What Python runs as a Celery worker of one process, which wants a name (`-n`), and as beat, which wants a file (`-s`).
WORKER = (
    "-m", "celery", "-A", "attentive_integration", "worker", "-Q", "celery,send,webhook,import,export", "-c", "1",
    "-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat",
)  # fmt: skip
BEAT = ("-m", "celery", "-A", "attentive_integration", "beat", "-l", "WARNING", "-s")


class Installation:
    """Use as a context manager: `manage` runs commands, `post` calls the web server, `sandbox` plays the vendors."""

    def __init__(self, *, web: bool = True, web_workers: int = 1, **environment: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="loyalty-sms-installation-"))
        self.web, self.web_workers = web, web_workers
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.sandbox = SandboxProcess()
        self.server: subprocess.Popen[bytes] | None = None
        self.processes: list[subprocess.Popen[bytes]] = []
        self.database_url = ""
        self.server_url = os.environ.get("DATABASE_URL", "")
        self.extra = environment

    def __enter__(self) -> Self:
        self.sandbox.__enter__()
        self._create_database()
        self.environment = {
            **os.environ,
            "DATA_DIR": str(self.folder),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": "",
            "SECRET_KEY": "for-tests-only-" * 4,
            "FIELD_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
            "PUBLIC_URL": self.url,
            "ATTENTIVE_API_URL": self.sandbox.url,
            "ANNEX_CLOUD_API_URL": f"{self.sandbox.url}/api/3.0",
            **self.extra,
        }
        if not self._is_migrated:
            self.manage("migrate", "--no-input", "-v0")
            self._keep_as_template()
        if self.web:
            self.server = self.start(
                "-m", "gunicorn", "attentive_integration.wsgi", "--no-control-socket", "-b", f"127.0.0.1:{self.port}",
                "--workers", str(self.web_workers), "--threads", "8",
            )  # fmt: skip
            self._wait_for_web()
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.sandbox.__exit__(None, None, None)
        if self.database_url:
            with psycopg.connect(self.server_url, autocommit=True) as server:
                server.execute(f'DROP DATABASE IF EXISTS "{self.database_url.rsplit("/", 1)[1]}" WITH (FORCE)')
        shutil.rmtree(self.folder, ignore_errors=True)

    def join(self) -> None:
        """Make this very process a part of the installation: Django with its database and its vendors.

        For programs that have not set Django up; import what needs it afterwards.
        """
        os.environ.update(self.environment, DJANGO_SETTINGS_MODULE="attentive_integration.settings")
        django.setup()

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a Python process that ends with the installation at the latest."""
        log = (self.folder / f"process-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env={**self.environment, **environment}, stdout=log, stderr=log
        )
        self.processes.append(process)
        return process

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a management command, whatever its exit code."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    def manage(self, *arguments: str) -> Any:
        """Run a management command that must succeed; return the JSON object of its last line when it has one."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"{arguments[0]} failed: {done.stdout[-1500:]}{done.stderr[-3000:]}"
        if "--json" not in arguments:
            return None
        return json.loads(done.stdout.strip().splitlines()[-1])

    def run_module(self, module: str, stdin: str = "") -> Any:
        """Run a module with the installation's environment; return the JSON of its last line."""
        done = subprocess.run(
            [sys.executable, "-m", module],
            cwd=ROOT, env=self.environment, input=stdin, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{module} failed: {done.stderr[-3000:]}"
        return json.loads(done.stdout.strip().splitlines()[-1])

    def create_site(self, **spec: Any) -> dict[str, Any]:
        """Run create_site on this specification; fields left out are those of a live site without limits."""
        name = spec.get("client_name", "Harbor Goods").split()[0].lower()
        whole = {
            "site_id": "1000001",
            "client_name": "Harbor Goods",
            "state": "LIVE",
            "quiet_hours": None,
            "caps": None,
            "webhook_signing_key": f"signing-{name}",
            "tokens": {
                "LOYALTY": f"loyalty-{name}",
                "ATTENTIVE_APP": f"app-{name}",
                "ATTENTIVE_LEGACY": f"legacy-{name}",
            },
            "sign_up_sources": [
                {"sign_up_source_id": "132109", "name": "API", "type": "MARKETING", "is_default": True}
            ],
            "action_types": [{"code": "109", "name": "Purchase"}],
            "campaigns": [
                {
                    "name": "Thanks", "action_type": "109", "route": "MESSAGE", "state": "LIVE",
                    "body": "Thanks {{ first_name }}, you now have {{ points }} points.",
                }
            ],
            "segments": [{"name": "Gold", "rules": {"tier": ["Gold"]}, "external_id": "gold-1"}],
            **spec,
        }  # fmt: skip
        path = self.write(f"site-{whole['site_id']}.json", json.dumps(whole))
        return self.manage("create_site", "--from", path, "--json")

    def write(self, name: str, content: str | bytes) -> str:
        """Write a file into the installation's folder and return its path."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def post(self, path: str, body: Any, *, token: str = "", headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """POST JSON (or raw bytes) to the web server; return the status and the parsed answer."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = path if path.startswith("http") else self.url + path
        request = urllib.request.Request(url, data=raw, method="POST", headers={"Content-Type": "application/json"})
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        return self._answer(request)

    def post_in_pieces(
        self, path: str, body: Any, *, token: str = "", headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """POST as `post` does, but with chunked transfer encoding."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        pieces = (raw[start : start + 1_000] for start in range(0, len(raw), 1_000))
        all_headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked", **(headers or {})}
        if token:
            all_headers["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", path, body=pieces, headers=all_headers, encode_chunked=True)
        answer = connection.getresponse()
        raw = answer.read()
        connection.close()
        return answer.status, json.loads(raw) if raw else None

    def get(self, path: str) -> tuple[int, Any]:
        url = path if path.startswith("http") else self.url + path
        return self._answer(urllib.request.Request(url))

    def _answer(self, request: urllib.request.Request) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, raw = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, raw = error.code, error.read()
        try:
            return status, json.loads(raw)
        except ValueError:
            return status, raw.decode(errors="replace")

    # --- The database: migrated once in a process, and then copied, because that takes seconds ------------------------

    _templates: ClassVar[dict[str, str]] = {}

    @property
    def _is_migrated(self) -> bool:
        return self.server_url in self._templates

    def _create_database(self) -> None:
        template = self._templates.get(self.server_url)
        if self.server_url:
            self.database_url = self._copy_on_server(template or "template1")
        elif template:
            shutil.copy(template, self.folder / _SQLITE_FILE)

    def _keep_as_template(self) -> None:
        if self.server_url:
            made = self._copy_on_server(self.database_url.rsplit("/", 1)[1])
            self._templates[self.server_url] = made.rsplit("/", 1)[1]
        else:
            folder = Path(tempfile.mkdtemp(prefix="loyalty-sms-migrated-"))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            self._templates[self.server_url] = str(shutil.copy(self.folder / _SQLITE_FILE, folder))

    def _copy_on_server(self, template: str) -> str:
        """Create a database as a copy of another one, and return its address."""
        settings = environ.Env.db_url_config(self.server_url)
        name = f"installation_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return f"postgres://{settings['USER']}@{settings['HOST']}:{settings['PORT']}/{name}"

    def _wait_for_web(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if self.get("/healthz")[0] == 200:
                    return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("The web server of the installation did not start.")
