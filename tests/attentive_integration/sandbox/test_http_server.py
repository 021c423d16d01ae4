"""HTTP as clients speak it: kept connections, pipelining, and bytes that are no HTTP."""

import re
import socket
from urllib.parse import urlsplit

import pytest


def talk(sandbox, sent, *, until_closed=False):
    """Send bytes and return what comes back within a moment, or until the server closes."""
    parts = urlsplit(sandbox.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as connection:
        connection.sendall(sent)
        connection.settimeout(5 if until_closed else 0.4)
        received = b""
        try:
            while piece := connection.recv(65_536):
                received += piece
        except TimeoutError:
            assert not until_closed, received
        return received


def get(path, *headers):
    lines = "".join(f"{header}\r\n" for header in ("Authorization: Bearer app-harbor", *headers))
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()


def test_connections_are_kept_and_answers_come_in_order(sandbox):
    received = talk(sandbox, get("/v1/me") + get("/v1/nothing") + get("/v1/me"))
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"404", b"200"]


def test_a_connection_is_closed_when_asked(sandbox):
    assert talk(sandbox, get("/v1/me", "Connection: close"), until_closed=True).count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"POST /1/messages HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /1/messages HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_request_gets_400_and_a_close(sandbox, sent):
    assert talk(sandbox, sent, until_closed=True).startswith(b"HTTP/1.1 400")
    assert sandbox.state()["version"] >= 0


def test_a_request_that_breaks_off_is_not_accepted(sandbox):
    before = len(sandbox.ledger())
    head = b"POST /1/messages HTTP/1.1\r\nAuthorization: Bearer legacy-harbor\r\nContent-Length: 50\r\n\r\n{"
    assert talk(sandbox, head) == b""
    assert len(sandbox.ledger()) == before


def test_a_client_may_wait_for_100_continue(sandbox):
    head = b"POST /1/messages HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"
    received = talk(sandbox, head)
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403")
