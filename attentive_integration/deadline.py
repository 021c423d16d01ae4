"""Connections whose every wait ends at one deadline: connecting, the TLS handshake, sending, each byte of the answer.

requests and urllib3 limit a single wait only, and a server that sends a byte a second outlasts any such limit.
"""

import math
import socket
import threading
import time
from queue import Empty, SimpleQueue
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

# A server that is about to close an idle connection may swallow a request without a trace, so ours retire first.
IDLE_SECONDS = 2.0


class Running(threading.local):
    """The call that this thread is making: when it must be over (monotonic), and whether a byte of it has left."""

    deadline = math.inf
    sent = False

    def seconds_left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline of the call has passed")
        return left


running = Running()


class DeadlineSocket:
    """A connected socket whose every wait ends at the deadline of the running call, which a drip cannot stretch."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self.used_at = time.monotonic()

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._inner.settimeout(running.seconds_left())
            running.sent = True
            rest = rest[self._inner.send(rest[:65_536]) :]
        self.used_at = time.monotonic()

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        self._inner.settimeout(running.seconds_left())
        count = self._inner.recv_into(buffer, nbytes, flags)
        self.used_at = time.monotonic()
        return count

    # socket.makefile works on any object that counts its readers, which keeps the socket open until the body is read.
    makefile = socket.socket.makefile

    @property
    def _io_refs(self) -> int:
        return self._inner._io_refs  # type: ignore[attr-defined]

    @_io_refs.setter
    def _io_refs(self, count: int) -> None:
        self._inner._io_refs = count  # type: ignore[attr-defined]

    def _decref_socketios(self) -> None:
        self._inner._decref_socketios()  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _addresses(host: str, port: int) -> list[Any]:
    """Look the host up in a thread of its own, because nothing else can end a look-up that hangs."""
    found: SimpleQueue[Any] = SimpleQueue()

    def look_up() -> None:
        try:
            found.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.put(error)

    threading.Thread(target=look_up, name="look-up", daemon=True).start()
    try:
        result = found.get(timeout=running.seconds_left())
    except Empty:
        raise TimeoutError("the name was not found in time") from None
    if isinstance(result, Exception):
        raise result
    return result


def _connect(connection: HTTPConnection) -> socket.socket:
    """Open a TCP connection, trying each address of the host within the one deadline."""
    host = connection.host
    try:
        addresses = _addresses(host.strip("[]"), connection.port or connection.default_port or 443)
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, f"Looking up {host} timed out.") from error
    except (OSError, UnicodeError) as error:
        raise NameResolutionError(host, connection, socket.gaierror(str(error))) from error
    failure: OSError = OSError("no address")
    for number, (family, kind, protocol, _name, address) in enumerate(addresses):
        opened = socket.socket(family, kind, protocol)
        try:
            # An address that swallows packets leaves time for the ones behind it.
            opened.settimeout(running.seconds_left() / (len(addresses) - number))
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.connect(address)
            opened.settimeout(running.seconds_left())
            return opened
        except OSError as error:
            opened.close()
            failure = error
    if isinstance(failure, TimeoutError):
        raise ConnectTimeoutError(connection, f"Connection to {host} timed out.") from failure
    raise NewConnectionError(connection, f"Failed to establish a new connection: {failure}") from failure


def _is_fresh(connection: HTTPConnection) -> bool:
    return time.monotonic() - connection.sock.used_at < IDLE_SECONDS  # type: ignore[union-attr]


class PlainConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self)

    def connect(self) -> None:
        super().connect()
        self.sock = DeadlineSocket(self.sock)

    @property
    def is_connected(self) -> bool:
        return super().is_connected and _is_fresh(self)


class TLSConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self)

    def connect(self) -> None:
        super().connect()
        self.sock = DeadlineSocket(self.sock)

    @property
    def is_connected(self) -> bool:
        return super().is_connected and _is_fresh(self)


class PlainPool(HTTPConnectionPool):
    ConnectionCls = PlainConnection


class TLSPool(HTTPSConnectionPool):
    ConnectionCls = TLSConnection
