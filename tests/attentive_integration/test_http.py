"""Calls to the vendors against a real server that misbehaves in every way we know."""

import gzip
import pickle
import socket
import time
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from django.views.debug import ExceptionReporter

from attentive_integration.http import (
    ANSWER_BYTES,
    RULES,
    Answer,
    ErrorKind,
    VendorError,
    call,
    parse_retry_after,
    rule_for,
    vendor_message,
)
from tests.attentive_integration import calls
from tests.attentive_integration.calls import TOKEN, failure, get, post
from tests.attentive_integration.vendor_server import hang_up, raw, reset, response

RETRY, REFUSED, CREDENTIALS, UNKNOWN = "RETRY", "REFUSED", "CREDENTIALS", "UNKNOWN"


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


# --- The table --------------------------------------------------------------------------------------------------------

EXPECTED = {
    "NAME_NOT_FOUND": (RETRY, RETRY),
    "CONNECT_FAILED": (RETRY, RETRY),
    "CONNECT_TIMEOUT": (RETRY, RETRY),
    "TLS_FAILED": (RETRY, RETRY),
    "BAD_ADDRESS": (CREDENTIALS, CREDENTIALS),
    "NO_TOKEN": (CREDENTIALS, CREDENTIALS),
    "BAD_TOKEN": (CREDENTIALS, CREDENTIALS),
    "READ_TIMEOUT": (UNKNOWN, RETRY),
    "RESET": (UNKNOWN, RETRY),
    "DISCONNECTED": (UNKNOWN, RETRY),
    "BROKEN_ANSWER": (UNKNOWN, RETRY),
    "BROKEN_BODY": (UNKNOWN, RETRY),
    "REDIRECT": (CREDENTIALS, CREDENTIALS),
    "HTTP_401": (CREDENTIALS, CREDENTIALS),
    "HTTP_403": (CREDENTIALS, CREDENTIALS),
    "HTTP_404": (CREDENTIALS, REFUSED),
    "HTTP_405": (CREDENTIALS, REFUSED),
    "HTTP_410": (CREDENTIALS, REFUSED),
    "HTTP_408": (UNKNOWN, RETRY),
    "HTTP_429": (RETRY, RETRY),
    "HTTP_503": (RETRY, RETRY),
    "HTTP_4XX": (REFUSED, REFUSED),
    "HTTP_5XX": (UNKNOWN, RETRY),
}


def test_every_row_of_the_table_is_expected():
    assert {cause: (rule.side_effect, rule.repeatable) for cause, rule in RULES.items()} == EXPECTED


@pytest.mark.parametrize(
    ("status", "side_effect", "read", "cause"),
    [
        (301, CREDENTIALS, CREDENTIALS, "REDIRECT"),
        (302, CREDENTIALS, CREDENTIALS, "REDIRECT"),
        (304, CREDENTIALS, CREDENTIALS, "REDIRECT"),
        (307, CREDENTIALS, CREDENTIALS, "REDIRECT"),
        (400, REFUSED, REFUSED, "HTTP_400"),
        (401, CREDENTIALS, CREDENTIALS, "HTTP_401"),
        (403, CREDENTIALS, CREDENTIALS, "HTTP_403"),
        (404, CREDENTIALS, REFUSED, "HTTP_404"),
        (405, CREDENTIALS, REFUSED, "HTTP_405"),
        (408, UNKNOWN, RETRY, "HTTP_408"),
        (409, REFUSED, REFUSED, "HTTP_409"),
        (410, CREDENTIALS, REFUSED, "HTTP_410"),
        (413, REFUSED, REFUSED, "HTTP_413"),
        (422, REFUSED, REFUSED, "HTTP_422"),
        (429, RETRY, RETRY, "HTTP_429"),
        (500, UNKNOWN, RETRY, "HTTP_500"),
        (502, UNKNOWN, RETRY, "HTTP_502"),
        (503, RETRY, RETRY, "HTTP_503"),
        (504, UNKNOWN, RETRY, "HTTP_504"),
        (599, UNKNOWN, RETRY, "HTTP_599"),
        (799, UNKNOWN, RETRY, "BROKEN_ANSWER"),
    ],
)
def test_each_status_is_classified_for_both_sorts_of_call(serve, status, side_effect, read, cause):
    server = serve(response(status, {"message": "why"}))
    for send, kind in ((post, side_effect), (get, read)):
        error = failure(send, server.url)
        assert (error.kind, error.cause, error.status) == (ErrorKind(kind), cause, status)
        assert error.sentence == str(error)
        assert error.sentence.endswith(".")
        assert "%" not in error.sentence
    assert len(server.requests) == 2


def test_every_rule_has_a_whole_sentence():
    for rule in RULES.values():
        for side_effect in (True, False):
            words = rule.words(side_effect=side_effect)
            sentence = words % {"vendor": "Attentive", "cause": "400", "detail": "No phone."}
            assert sentence[0].isupper()
            assert sentence.endswith(".")
            assert side_effect or "twice" not in sentence
    assert rule_for("HTTP_418") is RULES["HTTP_4XX"]


# --- Before the request left ------------------------------------------------------------------------------------------


def test_nothing_listening_is_retried():
    error = failure(post, f"http://127.0.0.1:{closed_port()}")
    assert (error.kind, error.cause, error.status, error.answer) == (ErrorKind.RETRY, "CONNECT_FAILED", None, "")


def test_an_unknown_host_name_is_retried():
    error = failure(post, "http://vendor.invalid")
    assert (error.kind, error.cause) == (ErrorKind.RETRY, "NAME_NOT_FOUND")


@pytest.mark.parametrize("url", ["vendor", "ftp://127.0.0.1/", "http://", "http://[::1"])
def test_an_address_that_is_none_holds_the_token(url):
    error = failure(post, url)
    assert (error.kind, error.cause) == (ErrorKind.CREDENTIALS, "BAD_ADDRESS")


@pytest.mark.parametrize(
    ("token", "cause"),
    [("", "NO_TOKEN"), ("two words", "BAD_TOKEN"), ("line\r\nX-Evil: 1", "BAD_TOKEN"), ("tökén", "BAD_TOKEN")],
)
def test_a_token_that_cannot_be_one_is_never_sent(serve, token, cause):
    server = serve(response())
    with pytest.raises(VendorError) as caught:
        call("POST", server.url, token=token, side_effect=True)
    assert (caught.value.kind, caught.value.cause, server.connections) == (ErrorKind.CREDENTIALS, cause, 0)
    assert token == "" or token not in str(caught.value)


# --- After it left ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        (reset, "RESET"),
        (hang_up, "DISCONNECTED"),
        (raw(b"\x00\xff garbage\r\n\r\n"), "BROKEN_ANSWER"),
        (raw(b"HTTP/1.1 abc\r\n\r\n"), "BROKEN_ANSWER"),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"), "BROKEN_ANSWER"),
    ],
)
def test_a_broken_answer_leaves_the_outcome_open_and_is_not_repeated(serve, script, cause):
    server = serve(script)
    error = failure(post, server.url)
    assert (error.kind, error.cause, error.status, len(server.requests)) == (ErrorKind.UNKNOWN, cause, None, 1)
    assert failure(get, server.url).kind == ErrorKind.RETRY


def test_no_answer_until_the_deadline_leaves_the_outcome_open(serve, short_deadline):
    server = serve(lambda request, connection: server.wait_for_stop(5))
    started = time.monotonic()
    error = failure(post, server.url)
    assert (error.kind, error.cause, len(server.requests)) == (ErrorKind.UNKNOWN, "READ_TIMEOUT", 1)
    assert 500 <= error.duration_ms < 1500
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize(
    "script",
    [
        response(200, b"<html>fine</html>"),
        response(202, b'{"cut": '),
        response(200, b"[" * 50_000),
        response(200, b"x" * (ANSWER_BYTES + 1)),
        response(200, {"a": 1}, headers={"Content-Length": "500"}, keep_alive=False),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"),
    ],
    ids=["html", "bad JSON", "deep JSON", "too long", "cut", "bad chunk", "cut chunk"],
)
def test_a_2xx_with_a_broken_body_is_a_success_unless_we_only_read(serve, script):
    server = serve(script)
    answer = post(server.url)
    assert answer.data is None
    assert answer.status in (200, 202)
    assert len(answer.text) <= 2_000
    error = failure(get, server.url)
    assert (error.kind, error.cause) == (ErrorKind.RETRY, "BROKEN_BODY")


def test_an_endless_body_is_cut_at_the_cap(serve):
    def script(request, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not server.wait_for_stop(0):
            connection.sendall(b"x" * 65_536)

    server = serve(script)
    assert post(server.url).data is None
    assert failure(get, server.url).cause == "BROKEN_BODY"


def test_no_more_is_read_than_the_cap_and_the_connection_is_not_used_again(serve, short_deadline):
    def script(request, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n{}" + b" " * ANSWER_BYTES)
        return not server.wait_for_stop(3)

    server = serve(script, response(200, {"a": 1}))
    started = time.monotonic()
    assert failure(get, server.url).cause == "BROKEN_BODY"
    assert time.monotonic() - started < 0.5, "waited for more than the cap"
    assert get(server.url).data == {"a": 1}
    assert server.connections == 2


def test_a_long_list_is_read_where_the_caller_allows_it(serve):
    rows = [{"segmentId": number} for number in range(20_000)]
    server = serve(response(200, rows))
    assert get(server.url, answer_bytes=1_000_000).data == rows


def test_a_gzip_bomb_is_not_inflated(serve):
    bomb = gzip.compress(b"[" + b" " * 50_000_000 + b"]")
    server = serve(response(200, bomb, headers={"Content-Encoding": "gzip"}))
    answer = post(server.url)
    assert (answer.data, len(answer.text) <= 2_000) == (None, True)
    assert server.request.headers["accept-encoding"] == "identity"


def test_a_compressed_body_that_nobody_asked_for_stays_unread(serve):
    compressed = gzip.compress(b'{"ok": true}')
    assert post(serve(response(200, compressed, headers={"Content-Encoding": "gzip"})).url).data is None


def test_redirects_are_not_followed(serve):
    stranger = serve(response(200, {}))
    server = serve(response(307, None, headers={"Location": f"{stranger.url}/v1/subscriptions"}))
    error = failure(post, server.url)
    assert (error.kind, error.cause, stranger.requests) == (ErrorKind.CREDENTIALS, "REDIRECT", [])
    assert len(server.requests) == 1


# --- What is sent and kept --------------------------------------------------------------------------------------------


def test_the_request_carries_what_was_given_and_nothing_from_the_environment(serve, settings, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login stranger password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    server = serve(response(200, {}, headers={"Set-Cookie": "session=1"}))
    call("POST", server.url + "/1/messages", token=TOKEN, json={"body": "Grüße"}, side_effect=True)
    call(
        "POST", server.url + "/1/messages", token=TOKEN, raw_body=b'{"a": 1}', headers={"X-Site": "1"}, side_effect=True
    )
    first, second = server.requests
    assert first.headers == {
        "host": server.url.removeprefix("http://"),
        "authorization": f"Bearer {TOKEN}",
        "user-agent": f"loyalty-sms/{settings.VERSION}",
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": str(len(first.body)),
    }
    assert first.json == {"body": "Grüße"}
    assert (second.body, second.headers["x-site"], second.headers.get("cookie")) == (b'{"a": 1}', "1", None)


def test_an_answer_is_typed(serve):
    headers = {"x-ratelimit-limit": "150", "x-ratelimit-remaining": "149"}
    answer = get(serve(response(200, {"a": [1]}, headers=headers)).url)
    assert answer == Answer(200, {"a": [1]}, '{"a": [1]}', 149, 150, answer.duration_ms)
    assert 0 <= answer.duration_ms < 1_000
    bare = get(serve(response(204, None, headers={"x-ratelimit-limit": "many"})).url)
    assert (bare.data, bare.text, bare.rate_limit, bare.rate_limit_remaining) == (None, "", None, None)


def test_tokens_and_control_characters_do_not_reach_the_kept_answer(serve):
    echoed = f'{{"message": "bad token {TOKEN} or {TOKEN.replace("/", chr(92) + "/")}, Bearer abcdefghijk\\u0000\x00"}}'
    error = failure(post, serve(response(403, echoed.encode())).url)
    assert error.answer == '{"message": "bad token [removed] or [removed], Bearer [removed]\\u0000"}'
    assert TOKEN not in repr(vars(error))
    long = failure(post, serve(response(400, b"y" * 50_000)).url)
    assert len(long.answer) == 2_000


@pytest.mark.parametrize(
    "script", [None, hang_up, response(403, {}), response(200, b"<html>")], ids=["closed", "open", "403", "odd"]
)
def test_neither_token_nor_phone_reaches_a_traceback_or_an_error_report(serve, script):
    url = serve(script).url if script else f"http://127.0.0.1:{closed_port()}"
    error = failure(get, f"{url}/v1/subscriptions?phone=%2B17705550101")
    shown = "".join(traceback.format_exception(error))
    report = ExceptionReporter(None, type(error), error, error.__traceback__).get_traceback_data()
    frames = [frame for frame in report["frames"] if frame["filename"] not in (__file__, calls.__file__)]
    assert frames
    for text in (shown, str([frame["vars"] for frame in frames])):
        assert TOKEN not in text
        assert "7705550101" not in text


def test_an_error_survives_pickling_between_processes():
    error = VendorError("It failed.", ErrorKind.RETRY, status=503, answer="down", retry_after=2.0, cause="HTTP_503")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_the_pause_that_the_vendor_asks_for_reaches_the_caller(serve):
    assert failure(post, serve(response(429, {}, headers={"Retry-After": "7"})).url).retry_after == 7.0
    assert failure(post, serve(response(429, {})).url).retry_after is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("12", 12.0),
        ("1.5", 1.5),
        ("-5", 0.0),
        ("86400", 900.0),
        ("inf", 900.0),
        ("nan", None),
        ("soon", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0),
        ("Fri, 31 Dec 2999 23:59:59 GMT", 900.0),
        ("Fri, 31 Dec 2999 23:59:59", 900.0),
    ],
)
def test_retry_after_in_every_form(header, seconds):
    assert parse_retry_after(header) == seconds


def test_a_retry_after_beyond_every_calendar_is_none():
    assert parse_retry_after("Wed, 21 Oct 2026 07:28:00 +99999999999999") is None


def test_retry_after_as_a_date_soon():
    header = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert parse_retry_after(header) == pytest.approx(60, abs=2)


@pytest.mark.parametrize(
    ("data", "text", "words"),
    [
        ({"message": " Found both. "}, "", "Found both."),
        ({"error": {"id": 1, "message": "Nested."}}, "", "Nested."),
        ({"error": "Plain."}, "", "Plain."),
        ({"errorCode": "AC1001", "errorMessage": "Generic."}, "", "Generic."),
        ({"message": 5, "error": None}, "raw\n text", "raw text"),
        (None, "<html>down</html>", ""),
        ([1], "", ""),
    ],
)
def test_the_vendors_words_are_found_in_every_known_shape(data, text, words):
    assert vendor_message(data, text) == words
