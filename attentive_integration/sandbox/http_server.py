"""A small HTTP/1.1 server on asyncio streams, which can also misbehave: reset, hang up, drip, cut an answer short."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from json import dumps, loads
from typing import Any
from urllib.parse import parse_qsl, unquote

HOST = "127.0.0.1"
HEAD_BYTES = 65_536
BODY_BYTES = 16 * 1024 * 1024
DRIP_SECONDS = 0.5
_REASONS = {status.value: status.phrase for status in HTTPStatus}
# An abort with this option makes the kernel send a RST instead of a FIN.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class BadRequest(Exception):
    """A request that cannot be read; `str()` is the answer's text."""


@dataclass(slots=True)
class Request:
    """One request; header names are lower case, `path` and `query` are decoded."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body's JSON; raises BadRequest when it is none."""
        try:
            return loads(self.body)
        except (ValueError, RecursionError):
            raise BadRequest("The body is not valid JSON.") from None


class Manner(StrEnum):
    """How an answer leaves."""

    WHOLE = "WHOLE"
    RESET = "RESET"  # the connection is reset instead
    CLOSE = "CLOSE"  # the connection is closed instead
    DRIP = "DRIP"  # a byte each half second
    CUT = "CUT"  # half the body, then a close


@dataclass(slots=True)
class Reply:
    """An answer. A body that is not bytes leaves as JSON, None as an empty body."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    manner: Manner = Manner.WHOLE
    # What the ledger keeps of the request, when it was accepted.
    record: dict[str, Any] | None = None

    def encoded(self) -> tuple[bytes, bytes]:
        """Return the head and the body as they go over the wire."""
        if self.body is None:
            content, kind = b"", ""
        elif isinstance(self.body, bytes):
            content, kind = self.body, "text/plain; charset=utf-8"
        else:
            content, kind = dumps(self.body, separators=(",", ":")).encode(), "application/json"
        headers = {"Content-Length": str(len(content)), **({"Content-Type": kind} if kind else {}), **self.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Answer')}\r\n{lines}\r\n".encode(), content


Handler = Callable[[Request], Awaitable[Reply]]


class HttpServer:
    """Serves one loopback port with a handler. It can be closed and opened again on the same port."""

    def __init__(self, handler: Handler, port: int) -> None:
        self.port = port
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def open(self) -> None:
        """Listen; port 0 takes a free one and keeps it. Raises OSError when the port is taken."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, HOST, self.port, limit=HEAD_BYTES, backlog=1024, reuse_address=True
            )
            self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Refuse new connections and reset the open ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while (request := await _read(reader, writer)) is not None:
                reply = await self._handler(request)
                if not await _send(writer, request, reply):
                    break
        except BadRequest as error:
            with suppress(OSError):
                head, body = Reply(400, str(error).encode(), {"Connection": "close"}).encoded()
                writer.write(head + body)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client is gone
        finally:
            self._writers.discard(writer)
            writer.close()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """Return the next request of the connection, or None when the client has closed it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    except asyncio.LimitOverrunError:
        raise BadRequest("The head of the request is too long.") from None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3:
        raise BadRequest("The request line is not HTTP.")
    method, target, _version = words
    headers = {}
    for line in lines:
        name, _colon, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise BadRequest("Send a Content-Length: chunked requests are not taken.")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length) > BODY_BYTES:
        raise BadRequest("The Content-Length is no number or too large.")
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await reader.readexactly(int(length)) if length != "0" else b""
    path, _mark, query = target.partition("?")
    return Request(
        method, unquote(path), dict(parse_qsl(query, keep_blank_values=True)) if query else {}, headers, body
    )


async def _send(writer: asyncio.StreamWriter, request: Request, reply: Reply) -> bool:
    """Send the answer in its manner; return whether the connection stays open."""
    if reply.manner is Manner.RESET:
        _reset(writer)
        return False
    if reply.manner is Manner.CLOSE:
        return False
    head, body = reply.encoded()
    if request.method == "HEAD":
        body = b""
    if reply.manner is Manner.CUT:
        writer.write(head + body[: len(body) // 2])
        await writer.drain()
        return False
    if reply.manner is Manner.DRIP:
        for byte in head + body:
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(DRIP_SECONDS)
        return False
    writer.write(head + body)
    await writer.drain()
    return request.headers.get("connection", "").lower() != "close"


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
