"""Secrets at rest: sealed with keys apart from SECRET_KEY and bound to what they belong to.

`seal` encrypts with the first of FIELD_ENCRYPTION_KEYS and writes the context (for instance "site:<uuid>:LOYALTY") into
the sealed text; `unseal` refuses a text that was sealed for another context, so a value copied from one row to another
opens nothing. Cipher and key rotation: https://cryptography.io/en/latest/fernet/
"""

import hashlib
import json

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.utils.translation import gettext as _


class SecretUnreadable(Exception):
    """A stored secret cannot be opened; `str()` is a sentence for staff."""


def _keys() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.FIELD_ENCRYPTION_KEYS])


def seal(secret: str, *, context: str) -> str:
    """Return the secret encrypted and bound to its context."""
    return _keys().encrypt(json.dumps([context, secret]).encode()).decode()


def unseal(sealed: str, *, context: str) -> str:
    """Return the secret, or raise `SecretUnreadable` when the key is gone or the context is another one."""
    try:
        sealed_context, secret = json.loads(_keys().decrypt(sealed.encode()))
    except InvalidToken:
        raise SecretUnreadable(
            _("A stored token cannot be decrypted. Put the key it was stored with back into FIELD_ENCRYPTION_KEYS.")
        ) from None
    if sealed_context != context:
        raise SecretUnreadable(_("A stored token belongs to another site or purpose. Enter the token again."))
    return secret


def reseal(sealed: str) -> str:
    """Return the same secret under the first key; raises `SecretUnreadable` when no key opens it."""
    try:
        return _keys().rotate(sealed.encode()).decode()
    except InvalidToken:
        raise SecretUnreadable(
            _("A stored token cannot be decrypted. Put the key it was stored with back into FIELD_ENCRYPTION_KEYS.")
        ) from None


def key_names() -> list[str]:
    """Return a name for each key in order, the first being the one that encrypts; a name tells nothing of its key."""
    return [hashlib.sha256(key.encode()).hexdigest()[:8] for key in settings.FIELD_ENCRYPTION_KEYS]


def key_of(sealed: str) -> str | None:
    """Return the name of the key that this text was sealed with; None when it is none of ours."""
    for name, key in zip(key_names(), settings.FIELD_ENCRYPTION_KEYS, strict=True):
        try:
            Fernet(key).decrypt(sealed.encode())
        except InvalidToken:
            continue
        return name
    return None
