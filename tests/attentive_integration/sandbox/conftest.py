"""One sandbox for each module of tests; each test has a company of its own."""

import itertools
import json
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from attentive_integration.sandbox.process import SandboxProcess

_numbers = itertools.count(1)


class Answer(NamedTuple):
    status: int
    data: Any
    headers: dict[str, str]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess() as running:
        yield running


@pytest.fixture
def company(sandbox: SandboxProcess) -> Iterator[str]:
    yield f"brand{next(_numbers)}"
    sandbox.clear_faults()


@pytest.fixture
def ask(sandbox: SandboxProcess) -> Callable[..., Answer]:
    """Make one plain request, whatever the client library of ours would refuse to send."""

    def request(method: str, path: str, body: Any = None, *, token: str = "", **headers: str) -> Answer:
        parts = urlsplit(sandbox.url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {
            "Content-Type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if token:
            sent["Authorization"] = f"Bearer {token}"
        try:
            connection.request(method, path, raw, sent)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        try:
            data = json.loads(content) if content else None
        except ValueError:
            data = content
        return Answer(answer.status, data, {name.lower(): value for name, value in answer.getheaders()})

    return request
