"""Looks at the picture that a text is to carry, before Attentive refuses it: is it there, of which kind, how large?

Staff may write any address, so the look must not reach what only this server can: it connects to public addresses
alone, follows no redirect, sends nothing of ours, and reads no more than tells the size.
"""

import socket
import time
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

import certifi
from django.utils.translation import gettext as _
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util import Url

from attentive_integration.deadline import TLSConnection, TLSPool, running

# What Attentive takes.
MOST_BYTES = 500_000
_KINDS = {b"GIF8": "gif", b"\x89PNG": "png", b"\xff\xd8\xff": "jpg"}
# A larger picture is read on this far, so that its size can be told.
_READ_ON = 5_000_000
_SECONDS = 6.0


class PictureError(Exception):
    """The picture cannot be sent; `str()` is a sentence with the remedy."""


@dataclass(frozen=True)
class Picture:
    """A picture that Attentive takes: its kind (gif, png or jpg) and its size in bytes."""

    kind: str
    size: int


class PublicPeer:
    """A connection to a public address, or none: the one connected to is judged, since a name may lead elsewhere."""

    def _new_conn(self) -> socket.socket:
        opened: socket.socket = super()._new_conn()  # type: ignore[misc]
        if not ip_address(opened.getpeername()[0].partition("%")[0]).is_global:
            opened.close()
            raise OSError("not a public address")
        return opened


class _PublicConnection(PublicPeer, TLSConnection):
    pass


class _PublicPool(TLSPool):
    ConnectionCls = _PublicConnection


def _pool(host: str, port: int) -> HTTPConnectionPool:
    return _PublicPool(host, port, ca_certs=certifi.where(), cert_reqs="CERT_REQUIRED")


def look_at(address: str) -> Picture:
    """Fetch the picture at an https address and return what it is; raises `PictureError`. Takes six seconds at most."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or 443
        is_usable = parts.scheme == "https" and bool(host) and parts.username is None
    except ValueError:
        is_usable = False
    if not is_usable:
        raise PictureError(_("The address must begin with https:// and name a public server."))
    running.deadline, running.sent = time.monotonic() + _SECONDS, False
    pool = _pool(host, port)
    try:
        answer = pool.urlopen(
            "GET", Url(path=parts.path or "/", query=parts.query or None).url, retries=False, redirect=False,
            preload_content=False, headers={"Accept": "image/*", "Accept-Encoding": "identity"},
        )  # fmt: skip
        if answer.status != 200:
            raise PictureError(
                _("The picture's server answers %(status)d. Open the address in a private window and correct it.")
                % {"status": answer.status}
            )
        head, size = b"", 0
        while size <= _READ_ON and (block := answer.read(65_536)):
            head, size = head or block[:8], size + len(block)
    except (HTTPError, OSError, UnicodeError, ValueError):
        sentence = _("The picture cannot be fetched from %(host)s. It must be reachable by everybody, over https.")
        raise PictureError(sentence % {"host": host[:100]}) from None
    finally:
        pool.close()
    kind = next((kind for mark, kind in _KINDS.items() if head.startswith(mark)), "")
    if not kind:
        raise PictureError(_("What stands at this address is no gif, png or jpg. Give the address of the file itself."))
    if size > MOST_BYTES:
        raise PictureError(
            _("The picture is %(size)d KB; Attentive's limit is 500 KB (gif, png, jpg). Make it smaller.")
            % {"size": size // 1000}
        )
    return Picture(kind, size)
