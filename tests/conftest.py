"""What every test shares. No test may reach a host other than this machine."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections

from attentive_integration.sandbox.process import SandboxProcess

_LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail any test that tries to connect to another machine: the real vendors are never called."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if host and not str(host).startswith(_LOOPBACK):
            raise AssertionError(f"A test tried to connect to {host}.")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    yield


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """On SQLite the tests' database is a file, as in real use: one in memory locks whole tables between threads."""
    database = connections["default"]
    if database.vendor == "sqlite":
        database.settings_dict["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")


@pytest.fixture(autouse=True)
def private_files(settings: Any, tmp_path: Any) -> None:
    """Uploads and exports of a test land in its own folder."""
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "files")},
        },
    }


@pytest.fixture(scope="session")
def running_sandbox() -> Iterator[SandboxProcess]:
    """The stand-in for both vendors, started when a test first needs it."""
    with SandboxProcess() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running_sandbox: SandboxProcess, settings: Any) -> Iterator[SandboxProcess]:
    """The stand-in, as the vendor that our clients call; faults end with the test."""
    settings.ATTENTIVE_API_URL = running_sandbox.url
    settings.ANNEX_CLOUD_API_URL = f"{running_sandbox.url}/api/3.0"
    yield running_sandbox
    running_sandbox.clear_faults()
