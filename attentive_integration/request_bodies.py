"""Reads requests' bodies to their end, whatever their form.

Django takes a chunked body for an empty one. And where an answer is sent while the request is still coming, as for one
that is too large, many clients see a broken connection instead of the answer.
"""

import time
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from django.conf import settings

# How much of an unread body is read, and for how long at most (bytes, seconds).
_MOST_DRAINED, _DRAIN_SECONDS = 67_108_864, 10.0
_PIECE = 65_536


class _Body:
    """The body of a request, which knows how much of it is unread."""

    def __init__(self, stream: Any, length: int) -> None:
        self._stream = stream
        self.unread = length

    def read(self, size: int | None = -1) -> bytes:
        return self._taken(self._stream.read, size)

    def readline(self, size: int | None = -1) -> bytes:
        return self._taken(self._stream.readline, size)

    def _taken(self, read: Callable[[int], bytes], size: int | None) -> bytes:
        wanted = self.unread if size is None or size < 0 else min(size, self.unread)
        data = read(wanted) if wanted else b""
        # A client that went away: nothing more will come.
        self.unread = self.unread - len(data) if data else 0
        return data

    def drain(self) -> None:
        """Read what is left, if that is worth it."""
        until = time.monotonic() + _DRAIN_SECONDS
        if self.unread > _MOST_DRAINED:
            return
        while self.unread and time.monotonic() < until:
            self.read(_PIECE)


class WholeBodies:
    """A WSGI application around another one."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
            body = _Body(environ["wsgi.input"], _MOST_DRAINED)
            # One byte more than anybody accepts: then it is refused as too long.
            data = body.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
            environ["wsgi.input"], environ["CONTENT_LENGTH"] = BytesIO(data), str(len(data))
        else:
            length = environ.get("CONTENT_LENGTH", "")
            body = environ["wsgi.input"] = _Body(environ["wsgi.input"], int(length) if length.isdecimal() else 0)
        answer = self._application(environ, start_response)
        body.drain()
        return answer
