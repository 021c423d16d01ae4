"""System checks of our own: `manage.py check`, and with `--deploy` those that matter in production.

Their ids are stable, so that SILENCED_SYSTEM_CHECKS can name them: loyalty_sms.E001 …, loyalty_sms.W001 …
"""

from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.http.request import validate_host

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# What Django's own check calls long enough.
_SECRET_KEY_LENGTH = 50
_SECRET_KEY_VARIETY = 5


def _is_for_trying() -> bool:
    return settings.DEBUG or settings.ENVIRONMENT_LABEL == "DEMO"


@register(Tags.security)
def check_encryption_keys(**_kwargs: Any) -> list[CheckMessage]:
    """Every key must be one, or no token can be stored."""
    found: list[CheckMessage] = []
    for position, key in enumerate(settings.FIELD_ENCRYPTION_KEYS, start=1):
        try:
            Fernet(key)
        except ValueError:
            found.append(
                Error(
                    f"Key {position} of FIELD_ENCRYPTION_KEYS is no Fernet key.",
                    hint="Make one as .env.example shows: 32 random bytes in base64.",
                    id="loyalty_sms.E001",
                )
            )
    return found


@register(Tags.compatibility)
def check_paces(**_kwargs: Any) -> list[CheckMessage]:
    """A pace below one call a second would stop the work without a word."""
    wrong = sorted(name for name, pace in settings.RATE_LIMITS.items() if pace < 1)
    if not wrong:
        return []
    return [
        Error(
            f"These rate limits are below one call a second: {', '.join(wrong)}.",
            hint="Set RATE_LIMIT_… and ANNEX_CLOUD_RATE_LIMIT to 1 or more.",
            id="loyalty_sms.E002",
        )
    ]


@register(Tags.security, deploy=True)
def check_secret_key(**_kwargs: Any) -> list[CheckMessage]:
    key = settings.SECRET_KEY
    if len(key) >= _SECRET_KEY_LENGTH and len(set(key)) >= _SECRET_KEY_VARIETY:
        return []
    return [
        Warning(
            "SECRET_KEY is short or monotonous: sessions could be forged.",
            hint=f"Make a random one of {_SECRET_KEY_LENGTH} or more characters, as .env.example shows.",
            id="loyalty_sms.W001",
        )
    ]


@register(Tags.security, deploy=True)
def check_public_url(**_kwargs: Any) -> list[CheckMessage]:
    """Attentive calls webhooks over https only, at a host that this installation must answer to."""
    found: list[CheckMessage] = []
    address = urlsplit(settings.PUBLIC_URL)
    if address.scheme != "https" and not _is_for_trying():
        found.append(
            Warning(
                "PUBLIC_URL is not https: log-ins travel in the open, and Attentive takes no such webhook address.",
                hint="Put a proxy with a certificate in front and set PUBLIC_URL=https://…",
                id="loyalty_sms.W002",
            )
        )
    if not validate_host(address.netloc.rpartition("@")[2].partition(":")[0], settings.ALLOWED_HOSTS):
        found.append(
            Warning(
                "The host of PUBLIC_URL is not in ALLOWED_HOSTS: pages and webhooks would answer 400.",
                hint="Add it to ALLOWED_HOSTS.",
                id="loyalty_sms.W003",
            )
        )
    return found


@register(Tags.database, deploy=True)
def check_broker(**_kwargs: Any) -> list[CheckMessage]:
    if settings.DATABASE_IS_SQLITE or settings.REDIS_URL:
        return []
    return [
        Warning(
            "There is a database server and no broker: nothing is sent but by run_campaigns from cron.",
            hint="Set REDIS_URL and start a worker and beat, or silence this if cron runs run_campaigns each minute.",
            id="loyalty_sms.W004",
        )
    ]


@register(Tags.security, deploy=True)
def check_vendor_addresses(**_kwargs: Any) -> list[CheckMessage]:
    """Tokens may travel in the open to this machine alone, where the sandbox runs."""
    found: list[CheckMessage] = []
    for name in ("ATTENTIVE_API_URL", "ANNEX_CLOUD_API_URL"):
        address = urlsplit(getattr(settings, name))
        if address.scheme != "https" and address.hostname not in _LOOPBACK:
            found.append(
                Warning(
                    f"{name} is not https: tokens would travel in the open.",
                    hint="Use the vendor's https address.",
                    id="loyalty_sms.W005",
                )
            )
    return found
