"""The picture of a campaign is looked at before Attentive is: its kind, its size, and never on a private address."""

from collections.abc import Callable
from typing import Any

import pytest

from attentive_integration import pictures
from attentive_integration.deadline import PlainConnection, PlainPool

from .vendor_server import VendorServer, hang_up, response

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pictures come from this machine without TLS."""
    monkeypatch.setattr(pictures, "_pool", lambda host, port: PlainPool(host, port))


def address(server: VendorServer) -> str:
    return server.url.replace("http://", "https://") + "/spring.png?size=2"


@pytest.mark.usefixtures("plainly")
@pytest.mark.parametrize(
    ("content", "kind"), [(PNG + b"0" * 99_992, "png"), (b"GIF89a" + b"0" * 2_000, "gif"), (b"\xff\xd8\xff\xe0", "jpg")]
)
def test_kind_and_size_of_a_picture_are_told(serve: Callable[..., VendorServer], content: bytes, kind: str) -> None:
    server = serve(response(200, content))
    assert pictures.look_at(address(server)) == pictures.Picture(kind, len(content))
    assert server.requests[0].target == "/spring.png?size=2"


@pytest.mark.usefixtures("plainly")
@pytest.mark.parametrize(
    ("script", "words"),
    [
        (response(200, PNG + b"0" * 720_000), "The picture is 720 KB; Attentive's limit is 500 KB"),
        (response(200, b"<html>"), "no gif, png or jpg"),
        (response(200, b""), "no gif, png or jpg"),
        (response(404, b""), "answers 404"),
        (response(302, b"", headers={"Location": "http://127.0.0.1/"}), "answers 302"),
        (hang_up, "cannot be fetched"),
    ],
)
def test_what_attentive_would_refuse_is_said(serve: Callable[..., VendorServer], script: Any, words: str) -> None:
    server = serve(script)
    with pytest.raises(pictures.PictureError, match=words):
        pictures.look_at(address(server))
    assert len(server.requests) == 1, "no redirect is followed, and nothing is asked twice"


@pytest.mark.parametrize(
    "bad",
    ["http://example.com/a.png", "https:///a.png", "https://user:pass@example.com/a.png", "https://[::1", "", "a b"],
)
def test_an_address_that_is_none_is_refused(bad: str) -> None:
    with pytest.raises(pictures.PictureError):
        pictures.look_at(bad)


def test_a_private_address_is_never_spoken_to(
    serve: Callable[..., VendorServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Connection(pictures.PublicPeer, PlainConnection):
        pass

    class Pool(PlainPool):
        ConnectionCls = Connection

    assert issubclass(pictures._PublicPool.ConnectionCls, pictures.PublicPeer)
    monkeypatch.setattr(pictures, "_pool", Pool)
    server = serve(response(200, PNG))
    with pytest.raises(pictures.PictureError, match="cannot be fetched"):
        pictures.look_at(address(server))
    assert server.requests == []
