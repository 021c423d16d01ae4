"""Keeps tokens, phones and e-mail addresses out of the logs, whoever writes them."""

import logging
import re

_SECRETS = re.compile(
    r"(?P<bearer>(?i:bearer)\s+)[^\s'\",]+"
    # Our own ingest keys, the clients' links, and JSON Web Tokens.
    r"|(?P<key>\bingest_[\w-]+|\blink_[\w-]{40,}|\beyJ[\w-]+\.[\w-]+\.[\w-]*)"
    r"|(?P<phone>(?:\+|%2[Bb])\d{3})\d{4,9}(?P<end>\d{2})(?!\d)"
    # A North American number as people write it.
    r"|(?<![\w.-])(?:\+?1[ .-]?)?\(?(?P<area>[2-9]\d\d)\)?[ .-]?[2-9]\d\d[ .-]?\d\d(?P<last>\d\d)(?![\w-])"
    r"|(?<![\w.%+-])(?P<mail>[\w.%+-])[\w.%+-]*(?P<at>@|%40)(?P<host>[\w-]+\.[\w.-]+)"
)


def _replacement(match: re.Match[str]) -> str:
    if match["bearer"]:
        return f"{match['bearer']}[removed]"
    if match["key"]:
        return "[removed]"
    if match["area"]:
        return f"{match['area']}•••{match['last']}"
    if match["phone"]:
        return f"{match['phone']}•••{match['end']}"
    return f"{match['mail']}•••{match['at']}{match['host']}"


def mask(text: str) -> str:
    """Return the text with bearer tokens removed and phones and e-mail addresses shortened."""
    return _SECRETS.sub(_replacement, text)


class MaskSecrets(logging.Filter):
    """A logging filter that masks the finished message, its arguments and its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            # A log call whose arguments do not fit its words must not end the work that it speaks of.
            message = f"{record.msg} {record.args}"
        record.msg, record.args = mask(message), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = mask(record.exc_text)
        if record.stack_info:
            record.stack_info = mask(record.stack_info)
        return True
