"""Every wait of a call ends at one deadline, and connections are kept, retired and never shared."""

import os
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from attentive_integration import deadline
from attentive_integration.http import (
    ErrorKind,
    call,
)
from tests.attentive_integration.calls import TOKEN, failure, post
from tests.attentive_integration.vendor_server import hang_up, reset, response


def test_a_look_up_that_hangs_ends_at_the_deadline(short_deadline, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(5) and [])
    started = time.monotonic()
    error = failure(post, "http://vendor.invalid")
    release.set()
    assert (error.kind, error.cause) == (ErrorKind.RETRY, "CONNECT_TIMEOUT")
    assert time.monotonic() - started < 1.5


def test_a_server_that_accepts_nobody_is_retried(short_deadline):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for queued in waiting:
            queued.setblocking(False)
            queued.connect_ex(listener.getsockname())
        error = failure(post, f"http://127.0.0.1:{listener.getsockname()[1]}")
        for queued in waiting:
            queued.close()
    assert (error.kind, error.cause) == (ErrorKind.RETRY, "CONNECT_TIMEOUT")


def test_a_server_without_tls_behind_an_https_address_is_retried():
    def answer_plainly():
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer_plainly, daemon=True).start()
        error = failure(post, f"https://127.0.0.1:{listener.getsockname()[1]}")
    assert (error.kind, error.cause) == (ErrorKind.RETRY, "TLS_FAILED")


def test_a_tls_handshake_that_stalls_is_retried(short_deadline):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        error = failure(post, f"https://127.0.0.1:{listener.getsockname()[1]}")
    assert (error.kind, error.cause) == (ErrorKind.RETRY, "CONNECT_TIMEOUT")


def drip(content):
    def script(request, connection):
        for byte in content:
            connection.sendall(bytes([byte]))
            time.sleep(0.1)

    return script


def test_headers_dripped_byte_by_byte_do_not_stretch_the_deadline(serve, short_deadline):
    server = serve(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
    started = time.monotonic()
    error = failure(post, server.url)
    assert (error.kind, error.cause) == (ErrorKind.UNKNOWN, "READ_TIMEOUT")
    assert time.monotonic() - started < 1.0


def test_a_dripped_body_after_a_200_is_a_success_without_data(serve, short_deadline):
    def script(request, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n")
        drip(b'{"type": "TRANSACTIONAL", "to": "x", "body": "y"} ')(request, connection)

    server = serve(script)
    started = time.monotonic()
    answer = post(server.url)
    assert (answer.status, answer.data) == (200, None)
    assert time.monotonic() - started < 1.0


def test_a_server_that_reads_slowly_does_not_stretch_the_deadline(short_deadline):
    def sip():
        with listener.accept()[0] as connection:
            while connection.recv(65_536):
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=sip, daemon=True).start()
        started = time.monotonic()
        error = failure(
            lambda url: call("POST", url, token=TOKEN, raw_body=b"x" * 30_000_000, side_effect=True),
            f"http://127.0.0.1:{listener.getsockname()[1]}",
        )
    assert (error.kind, error.cause) == (ErrorKind.UNKNOWN, "READ_TIMEOUT")
    assert time.monotonic() - started < 1.5


def test_a_server_that_stops_reading_ends_at_the_deadline(short_deadline):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        started = time.monotonic()
        error = failure(
            lambda url: call("POST", url, token=TOKEN, raw_body=b"x" * 30_000_000, side_effect=True),
            f"http://127.0.0.1:{listener.getsockname()[1]}",
        )
    assert (error.kind, error.cause) == (ErrorKind.UNKNOWN, "READ_TIMEOUT")
    assert time.monotonic() - started < 1.5


# --- Connections ------------------------------------------------------------------------------------------------------


def test_a_connection_is_used_again(serve):
    server = serve(response(200, {}))
    for _ in range(5):
        post(server.url)
    assert (server.connections, len(server.requests)) == (1, 5)


def test_an_idle_connection_retires(serve, monkeypatch):
    monkeypatch.setattr(deadline, "IDLE_SECONDS", 0.1)
    server = serve(response(200, {}))
    post(server.url)
    time.sleep(0.2)
    post(server.url)
    assert server.connections == 2


def test_a_connection_that_the_server_closed_while_idle_is_noticed(serve):
    server = serve(response(200, {}, keep_alive=False))
    for _ in range(3):
        assert post(server.url).data == {}
        time.sleep(0.05)
    assert (server.connections, len(server.requests)) == (3, 3)


@pytest.mark.parametrize(("script", "cause"), [(hang_up, "DISCONNECTED"), (reset, "RESET")])
def test_a_kept_connection_that_breaks_after_reading_is_not_sent_again(serve, script, cause):
    server = serve(response(200, {}), script)
    post(server.url)
    error = failure(post, server.url)
    assert (error.kind, error.cause, len(server.requests)) == (ErrorKind.UNKNOWN, cause, 2)


def test_many_threads_each_get_their_own_answer(serve):
    def echo(request, connection):
        return response(200, {"path": request.target})(request, connection)

    server = serve(echo)
    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(lambda number: post(f"{server.url}/{number}").data, range(640)))
    assert answers == [{"path": f"/{number}"} for number in range(640)]
    assert server.connections <= 128


def test_a_forked_process_does_not_share_connections(serve):
    server = serve(response(200, {"ok": True}))
    post(server.url)
    child = os.fork()
    if child == 0:
        os._exit(0 if post(server.url).data == {"ok": True} else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert post(server.url).data == {"ok": True}
    assert server.connections == 2


@pytest.fixture
def own_authority(tmp_path, monkeypatch):
    """A TLS server context whose certificate this process trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    monkeypatch.setattr(requests.adapters, "DEFAULT_CA_BUNDLE_PATH", str(tmp_path / "certificate.pem"))
    return context


def test_tls_works_and_keeps_the_connection(serve, own_authority):
    server = serve(response(200, {"ok": True}), tls=own_authority)
    assert [post(server.url).data for _ in range(3)] == [{"ok": True}] * 3
    assert server.connections == 1


def test_a_drip_over_tls_does_not_stretch_the_deadline(serve, own_authority, short_deadline):
    server = serve(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), tls=own_authority)
    started = time.monotonic()
    assert failure(post, server.url).cause == "READ_TIMEOUT"
    assert time.monotonic() - started < 1.0


def test_a_certificate_that_nobody_trusts_is_refused_before_the_token_leaves(serve, own_authority, monkeypatch):
    monkeypatch.undo()
    server = serve(response(200, {}), tls=own_authority)
    error = failure(post, server.url)
    assert (error.kind, error.cause, server.requests) == (ErrorKind.RETRY, "TLS_FAILED", [])
