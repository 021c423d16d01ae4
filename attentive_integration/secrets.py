"""Secrets at rest: sealed with keys apart from SECRET_KEY and bound to what they belong to.

`seal` encrypts with the first of FIELD_ENCRYPTION_KEYS and writes the context (for instance "site:<uuid>:LOYALTY") into
the sealed text; `unseal` refuses a text that was sealed for another context, so a value copied from one row to another
opens nothing. Cipher and key rotation: https://cryptography.io/en/latest/fernet/
"""

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


def is_current(sealed: str) -> bool:
    """Tell whether the first key opens this text, so that older keys are not needed for it."""
    try:
        Fernet(settings.FIELD_ENCRYPTION_KEYS[0]).decrypt(sealed.encode())
    except InvalidToken:
        return False
    return True
