"""A log-in link that works once: the demo has no default password.

The token is Django's password-reset token, which is spent by the log-in itself because it covers `last_login`.
"""

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.urls import reverse
from django.utils.encoding import force_bytes, force_str
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode

USERNAME = "demo"


class OneTimeLogin(PasswordResetTokenGenerator):
    """Tokens that open a session instead of a password form."""

    key_salt = "messaging.demo.login"


tokens = OneTimeLogin()


def demo_user() -> User:
    """Return the demo's superuser, who has no password; made on first use."""
    user, made = User.objects.get_or_create(
        username=USERNAME,
        defaults={"is_staff": True, "is_superuser": True, "first_name": "Demo", "email": "demo@example.com"},
    )
    if made:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    return user


def one_time_link() -> str:
    """Return an address that logs in the demo's user, once."""
    user = demo_user()
    code = urlsafe_base64_encode(force_bytes(user.pk))
    return settings.PUBLIC_URL + reverse("demo_login", args=[code, tokens.make_token(user)])


def user_of(code: str, token: str) -> User | None:
    """Return the user whose link this is, or None when it is wrong, old or already used."""
    try:
        user = User.objects.get(pk=force_str(urlsafe_base64_decode(code)))
    except (ValueError, OverflowError, User.DoesNotExist):
        return None
    return user if tokens.check_token(user, token) else None
