"""A real HTTP server that does what a test scripts, byte by byte: it drips, resets, redirects, lies about lengths."""

import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from json import dumps, loads
from typing import Any


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return loads(self.body)


# A script writes the answer; True keeps the connection open for another request.
Script = Callable[[Request, socket.socket], bool | None]


def response(
    status: int = 200, body: Any = None, *, headers: dict[str, str] | None = None, keep_alive: bool = True
) -> Script:
    """Script an ordinary answer; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else b"" if body is None else dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Scripted"]
    sent = {"Content-Length": str(len(content)), "Content-Type": "application/json"} | (headers or {})
    lines += [f"{name}: {value}" for name, value in sent.items()]
    whole = "\r\n".join(lines).encode() + b"\r\n\r\n" + content

    def script(request: Request, connection: socket.socket) -> bool:
        connection.sendall(whole)
        return keep_alive

    return script


def reset(request: Request, connection: socket.socket) -> None:
    """Read the request, then break the connection off with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang_up(request: Request, connection: socket.socket) -> None:
    """Read the request, then close without a word."""


def raw(content: bytes) -> Script:
    """Script an answer of exactly these bytes, and a close."""

    def script(request: Request, connection: socket.socket) -> None:
        connection.sendall(content)

    return script


@dataclass
class VendorServer:
    """Serves one request after another with the scripts given, the last one for ever."""

    scripts: list[Script]
    tls: Any = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._lock = threading.Lock()
        scheme = "https" if self.tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def request(self) -> Request:
        """The one request that was made."""
        (only,) = self.requests
        return only

    def wait_for_stop(self, seconds: float) -> bool:
        return self._stopped.wait(seconds)

    def stop(self) -> None:
        self._stopped.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while request := _read_request(connection):
                    with self._lock:
                        self.requests.append(request)
                        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
                    if not script(request, connection):
                        return
        except OSError:
            return


def _read_request(connection: socket.socket) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65_536)
        if not piece:
            return None
        data += piece
    head, body = data.split(b"\r\n\r\n", 1)
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    length = int(headers.get("content-length", "0"))
    while len(body) < length:
        piece = connection.recv(65_536)
        if not piece:
            return None
        body += piece
    return Request(method, target, headers, body)
