"""No token, phone or e-mail address leaves through the logs, however it is written and whoever logs it."""

import io
import logging
import time
from collections.abc import Iterator

import pytest
from django.conf import settings

from attentive_integration.masking import MaskSecrets, mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("to +17705550101 now", "to +177•••01 now"),
        ("phone=%2B17705550101&x=1", "phone=%2B177•••01&x=1"),
        ("+447400123456", "+447•••56"),
        ("+5511955550101", "+551•••01"),
        ("call (770) 555-0101.", "call 770•••01."),
        ("770-555-0101, 7705550101; 1 770 555 0101", "770•••01, 770•••01; 770•••01"),
        ("Ada.Byron+x@mail.example.com wrote", "A•••@mail.example.com wrote"),
        ("email=ada%40example.com", "email=a•••%40example.com"),
        ("Authorization: Bearer placeholder-token-1", "Authorization: Bearer [removed]"),
        ("{'Authorization': 'bearer placeholder'}", "{'Authorization': 'bearer [removed]'}"),
        ("key ingest_Zm9v-YmFy_0 refused", "key [removed] refused"),
        ("jwt eyJhbGciOi.eyJzaXRl.c2ln-bmF0 end", "jwt [removed] end"),
        (
            "Key (site_id, phone)=(1, +17705550101) already exists.",
            "Key (site_id, phone)=(1, +177•••01) already exists.",
        ),
    ],
)
def test_secrets_are_masked_in_every_spelling(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-25 10:50:19,123 INFO took 1234 ms",
        "Message 8812345 of site 1000001",
        "127.0.0.1:8900 GET /admin/loyalty/member/12345/ 200",
        "0f9b2c77-1d2e-4a55-9a31-5f0c7705550a",
        "at 0x7facb76d0b90",
        "1764067890123 ms",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize("part", ["a", "7", "+1", "eyJ", "a.", "@", "%40", "770 555 ", "Bearer ", "ingest_"])
def test_the_time_grows_with_the_text_and_not_faster(part: str) -> None:
    began = time.monotonic()
    mask(part * 200_000)
    # A pattern that looks back over the whole text would take hours.
    assert time.monotonic() - began < 20


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger whose handler is masked as that of the settings is."""
    assert settings.LOGGING["handlers"]["console"]["filters"] == ["mask"]
    stream, logger = io.StringIO(), logging.getLogger("tests.masking")
    handler = logging.StreamHandler(stream)
    handler.addFilter(MaskSecrets())
    logger.addHandler(handler)
    yield logger, stream
    logger.removeHandler(handler)


def test_arguments_tracebacks_and_stacks_are_masked(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    logger.warning("to %s and %s", "+17705550101", {"email": "ada@example.com"})
    try:
        raise ValueError("Bearer placeholder-token for +17705550101")
    except ValueError:
        logger.exception("failed for ada@example.com", stack_info=True)
    written = stream.getvalue()
    assert "ValueError" in written
    for canary in ("7705550101", "ada@", "placeholder-token"):
        # The source line of a traceback quotes the code, which is no data.
        assert canary not in "\n".join(line for line in written.splitlines() if "raise ValueError" not in line)


def test_a_traceback_that_another_handler_formatted_is_masked(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    record = logger.makeRecord("tests", logging.ERROR, __file__, 1, "failed", (), None)
    record.exc_text = "ValueError: +17705550101"
    logger.handle(record)
    assert "7705550101" not in stream.getvalue() and "ValueError" in stream.getvalue()


def test_a_log_call_that_does_not_fit_ends_nothing(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    logger.warning("%d texts to %s", "many", "+17705550101")
    assert "7705550101" not in stream.getvalue() and "texts to" in stream.getvalue()
