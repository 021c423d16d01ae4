"""Keeps tokens, phones and e-mail addresses out of the logs, whoever writes them."""

import logging
import re

_SECRETS = re.compile(
    r"(?P<bearer>(?i:bearer)\s+)[^\s'\",]+"
    r"|(?P<phone>\+\d{3})\d{4,9}(?P<end>\d{2})(?!\d)"
    r"|(?P<mail>[\w.%+-])[\w.%+-]*@(?P<host>[\w-]+\.[\w.-]+)"
)


def _replacement(match: re.Match[str]) -> str:
    if match["bearer"]:
        return f"{match['bearer']}[removed]"
    if match["phone"]:
        return f"{match['phone']}•••{match['end']}"
    return f"{match['mail']}•••@{match['host']}"


def mask(text: str) -> str:
    """Return the text with bearer tokens removed and phones and e-mail addresses shortened."""
    return _SECRETS.sub(_replacement, text)


class MaskSecrets(logging.Filter):
    """A logging filter that masks the finished message, its arguments and its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = mask(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = mask(logging.Formatter().formatException(record.exc_info))
        return True
