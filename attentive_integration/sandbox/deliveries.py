"""Webhooks to the product: signed, sent from a queue of each company so that no answer waits, repeated a few times."""

import asyncio
import hashlib
import hmac
import random
import ssl
from contextlib import suppress
from dataclasses import dataclass
from json import dumps
from typing import Any
from urllib.parse import urlsplit

SIGNATURE_HEADER = "x-attentive-hmac-sha256"
WORKERS = 4
QUEUE = 100_000
TIMEOUT_SECONDS = 15.0
# Waits before each repeat; after the last one the event is given up.
REPEAT_AFTER_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(slots=True)
class Delivery:
    """One event on its way to one address."""

    url: str
    body: bytes
    signature: str
    repeats: int = 0


def check_url(url: str) -> None:
    """Raise ValueError unless events can be sent to this address."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and url.isascii()
    except ValueError:  # a port that is none, or half a bracket
        usable = False
    if not usable:
        raise ValueError("The address of a webhook begins with http:// or https:// and names a host.")


class Deliveries:
    """The queue and the workers of one company. `jitter_seconds` and `replay` disturb the order and double events."""

    def __init__(self) -> None:
        self.delivered = 0
        self.failed = 0
        self.repeated = 0
        self.last_error = ""
        self.jitter_seconds = 0.0
        self.replay = 0.0
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue(QUEUE)
        self._workers: list[asyncio.Task[None]] = []
        self._later = 0
        self._under_way = 0

    def send(self, url: str, key: str, event: dict[str, Any]) -> None:
        """Queue an event for an address."""
        body = dumps(event, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
        signature = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
        for _ in range(2 if random.random() < self.replay else 1):
            self._put(Delivery(url, body, signature), random.uniform(0, self.jitter_seconds))
        if not self._workers:
            self._workers = [asyncio.create_task(self._work()) for _ in range(WORKERS)]

    def as_json(self) -> dict[str, Any]:
        return {
            "delivered": self.delivered,
            "failed": self.failed,
            "repeated": self.repeated,
            "waiting": self._queue.qsize() + self._later + self._under_way,
            "last_error": self.last_error,
        }

    def _put(self, delivery: Delivery, wait: float = 0.0) -> None:
        if wait > 0:
            self._later += 1
            asyncio.get_running_loop().call_later(wait, self._put_later, delivery)
        else:
            self._put_now(delivery)

    def _put_later(self, delivery: Delivery) -> None:
        self._later -= 1
        self._put_now(delivery)

    def _put_now(self, delivery: Delivery) -> None:
        try:
            self._queue.put_nowait(delivery)
        except asyncio.QueueFull:
            self._give_up("The queue is full.")

    async def _work(self) -> None:
        connections: dict[str, _Connection] = {}
        while True:
            delivery = await self._queue.get()
            self._under_way += 1
            connection = connections.setdefault(delivery.url, _Connection(delivery.url))
            try:
                status = await asyncio.wait_for(connection.post(delivery), TIMEOUT_SECONDS)
                error = "" if 200 <= status < 300 else f"The address answered {status}."
            except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError) as failure:
                connection.close()
                error = f"The address cannot be reached: {type(failure).__name__}."
            self._under_way -= 1
            if not error:
                self.delivered += 1
            elif delivery.repeats < len(REPEAT_AFTER_SECONDS):
                self.last_error = error
                self.repeated += 1
                delivery.repeats += 1
                self._put(delivery, REPEAT_AFTER_SECONDS[delivery.repeats - 1])
            else:
                self._give_up(error)

    def _give_up(self, error: str) -> None:
        self.failed += 1
        self.last_error = error


class _Connection:
    """A kept connection to one address; a POST opens it when needed."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._tls = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._host_header = parts.netloc
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, delivery: Delivery) -> int:
        """Send the event and return the status. A kept connection that has died is opened anew, once."""
        if self._streams is not None:
            with suppress(OSError, EOFError):
                return await self._exchange(delivery)
            self.close()
        context = ssl.create_default_context() if self._tls else None
        self._streams = await asyncio.open_connection(self._host, self._port, ssl=context)
        return await self._exchange(delivery)

    async def _exchange(self, delivery: Delivery) -> int:
        assert self._streams is not None
        reader, writer = self._streams
        head = (
            f"POST {self._target} HTTP/1.1\r\nHost: {self._host_header}\r\nUser-Agent: attentive-sandbox\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(delivery.body)}\r\n"
            f"{SIGNATURE_HEADER}: {delivery.signature}\r\n\r\n"
        )
        writer.write(head.encode() + delivery.body)
        await writer.drain()
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = dict(line.partition(":")[::2] for line in lines[1:])
        length = headers.get("content-length", "").strip()
        if length.isdigit() and "close" not in headers.get("connection", ""):
            await reader.readexactly(int(length))
        else:
            self.close()
        return status

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
