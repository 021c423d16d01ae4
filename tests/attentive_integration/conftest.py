"""Fixtures for the vendors' leaves."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.attentive_integration.vendor_server import Script, VendorServer


@pytest.fixture
def serve() -> Iterator[Callable[..., VendorServer]]:
    """Start servers that answer with the scripts given; they stop with the test."""
    started: list[VendorServer] = []

    def start(*scripts: Script, tls: object = None) -> VendorServer:
        started.append(VendorServer(list(scripts), tls=tls))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def short_deadline(settings: Any) -> None:
    """Let calls end after 0.6 s."""
    settings.VENDOR_DEADLINE_SECONDS = 0.6
