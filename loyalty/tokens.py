"""The tokens of a site: set, rotate and revoke them, and make the vendors' clients from them."""

import hashlib
import hmac
import re
import secrets as random_secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from attentive_integration.annex_cloud import AnnexCloudClient, encode_access_token
from attentive_integration.attentive import AttentiveClient
from attentive_integration.secrets import SecretUnreadable
from loyalty import audit, breakers
from loyalty.models import AccessToken, Site
from loyalty.models.scope import Someone, known_user

Kind = AccessToken.Kind
Slot = AccessToken.Slot


class TokenUnusable(Exception):
    """A token that is needed is not there, or cannot be opened; `str()` is a sentence for staff."""


def _missing(site: Site, kind: str) -> TokenUnusable:
    return TokenUnusable(
        _("%(site)s has no %(kind)s yet. Enter it on the site's Activate page.")
        % {"site": site.client_name, "kind": Kind(kind).label}
    )


def active(site: Site, kind: str, slot: str = Slot.CURRENT) -> AccessToken | None:
    """Return the token row in this slot that is not revoked."""
    return AccessToken.objects.select_related("site").filter(site=site, kind=kind, slot=slot, revoked_at=None).first()


def reveal(token: AccessToken) -> str:
    """Return the secret of a row (with its site); raises `TokenUnusable` when the key that sealed it is gone."""
    try:
        return token.reveal()
    except SecretUnreadable as unreadable:
        raise TokenUnusable(str(unreadable)) from None


def token_secret(site: Site, kind: str) -> str | None:
    """Return the current secret of this kind, or None; raises `TokenUnusable` when it cannot be opened."""
    token = active(site, kind)
    return reveal(token) if token else None


def attentive_secrets(site: Site) -> dict[str, str]:
    """Return the site's current app key and legacy token, by kind, as far as it has them; raises `TokenUnusable`."""
    rows = AccessToken.objects.select_related("site").filter(site=site, slot=Slot.CURRENT, revoked_at=None)
    return {row.kind: reveal(row) for row in rows.filter(kind__in=(Kind.ATTENTIVE_APP, Kind.ATTENTIVE_LEGACY))}


def inbound(site_id: str, *kinds: str) -> list[AccessToken]:
    """Return the rows, in both slots, that a request may prove to the site with this number of Annex Cloud's.

    Each has its site: one question tells who is meant and what opens it.
    """
    rows = AccessToken.objects.select_related("site").filter(site__site_id=site_id, kind__in=kinds, revoked_at=None)
    return list(rows.order_by("slot"))


def inbound_secrets(site: Site, kind: str) -> list[str]:
    """Return the secrets that an inbound request may prove, in both slots; raises `TokenUnusable`."""
    return [reveal(row) for row in inbound(site.site_id, kind)]


def hash_of(secret: str) -> str:
    """Return the form in which an ingest key is stored; keys are random, so a plain hash keeps them secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def pace(secret: str, endpoint: str = "DEFAULT") -> tuple[str, int]:
    """Return the limiter's key for calls with a secret and the vendor's limit in calls a second.

    The vendors' limits count per token and endpoint class (a key of RATE_LIMITS), whichever sites share the token.
    """
    return f"{_pace_name(secret)}:{endpoint}", settings.RATE_LIMITS[endpoint]


def _pace_name(secret: str) -> str:
    return hash_of(secret)[:16]


def by_pace_name(rows: Iterable[AccessToken]) -> dict[str, AccessToken]:
    """Return token rows (with their sites) by the name that stands before the colon in the limiter's keys."""
    found = {}
    for row in rows:
        with suppress(TokenUnusable):
            found[_pace_name(reveal(row))] = row
    return found


def is_ingest_key(key: str, known: Iterable[AccessToken]) -> bool:
    """Tell whether this is one of these tokens of a site, as far as they are ingest keys."""
    digest = hash_of(key)
    # No early end: the time taken must not tell which key came close.
    return sum(hmac.compare_digest(digest, row.secret_hash) for row in known if row.kind == Kind.INGEST) > 0


@transaction.atomic
def set_token(site: Site, kind: str, secret: str, *, by: Someone = None, slot: str = Slot.CURRENT) -> AccessToken:
    """Store a secret in a slot; the one that stood there is revoked. Audited without its value."""
    secret = secret.strip()
    if not secret:
        raise ValueError(_("The %(kind)s is empty.") % {"kind": Kind(kind).label})
    # These travel in a header: what cannot stand there would fail at the first call.
    if kind in (Kind.ATTENTIVE_APP, Kind.ATTENTIVE_LEGACY) and not re.fullmatch(r"[!-~]+", secret):
        raise ValueError(
            _("The %(kind)s holds a space, a line break or a special character. Copy it again.")
            % {"kind": Kind(kind).label}
        )
    now = timezone.now()
    replaced = AccessToken.objects.filter(site=site, kind=kind, slot=slot, revoked_at=None).update(revoked_at=now)
    token = AccessToken(site=site, kind=kind, slot=slot, set_at=now)
    token.set_by = known_user(by)
    if kind == Kind.INGEST:
        token.secret_hash, token.last_four = hash_of(secret), secret[-4:]
    else:
        token.store(secret)
    token.save()
    breakers.reset(site, kind)
    audit.record(
        "token.replaced" if replaced else "token.set",
        site=site, user=by, target=f"{Kind(kind).label} ({Slot(slot).label})", new=_("changed"),
    )  # fmt: skip
    return token


def new_ingest_key(site: Site, *, by: Someone = None, slot: str = Slot.CURRENT) -> str:
    """Make an ingest key of our own and return it; it is shown this once and stored only as a hash."""
    key = f"ingest_{random_secrets.token_urlsafe(32)}"
    set_token(site, Kind.INGEST, key, by=by, slot=slot)
    return key


@transaction.atomic
def promote(site: Site, kind: str, *, by: Someone = None) -> AccessToken:
    """Make the NEXT token the current one; the old one is revoked and can be brought back by `roll_back`."""
    token = active(site, kind, Slot.NEXT)
    if token is None:
        raise _missing(site, kind)
    AccessToken.objects.filter(site=site, kind=kind, slot=Slot.CURRENT, revoked_at=None).update(
        revoked_at=timezone.now()
    )
    token.slot = Slot.CURRENT
    token.save(update_fields=["slot"])
    breakers.reset(site, kind)
    audit.record("token.promoted", site=site, user=by, target=str(Kind(kind).label))
    return token


@transaction.atomic
def roll_back(site: Site, kind: str, *, by: Someone = None) -> AccessToken:
    """Bring the last revoked token of this kind back, within 24 hours of its end."""
    since = timezone.now() - timedelta(hours=24)
    previous = (
        AccessToken.objects.filter(site=site, kind=kind, revoked_at__gte=since)
        .exclude(sealed_secret="")
        .order_by("-revoked_at")
        .first()
    )
    if previous is None:
        raise TokenUnusable(_("There is no earlier token of the last 24 hours to go back to. Enter the token again."))
    AccessToken.objects.filter(site=site, kind=kind, slot=Slot.CURRENT, revoked_at=None).update(
        revoked_at=timezone.now()
    )
    previous.revoked_at, previous.slot = None, Slot.CURRENT
    previous.save(update_fields=["revoked_at", "slot"])
    breakers.reset(site, kind)
    audit.record("token.rolled_back", site=site, user=by, target=str(Kind(kind).label))
    return previous


@transaction.atomic
def revoke(site: Site, kind: str, *, by: Someone = None, slot: str = Slot.CURRENT) -> None:
    """End a token's use."""
    AccessToken.objects.filter(site=site, kind=kind, slot=slot, revoked_at=None).update(revoked_at=timezone.now())
    audit.record("token.revoked", site=site, user=by, target=f"{Kind(kind).label} ({Slot(slot).label})")


def access_token(site: Site) -> str | None:
    """Return the site's Annex Cloud access token: base64 of the loyalty token and the site ID, computed."""
    secret = token_secret(site, Kind.LOYALTY)
    return encode_access_token(site.site_id, secret) if secret else None


def attentive_client(site: Site) -> AttentiveClient:
    """Return a client with whichever Attentive tokens the site has; raises `TokenUnusable` when it has none."""
    return client_with(site, attentive_secrets(site))


def client_with(site: Site, secrets: Mapping[str, str]) -> AttentiveClient:
    """Return a client with these secrets, by kind; raises `TokenUnusable` when none is Attentive's."""
    app_key, legacy_token = secrets.get(Kind.ATTENTIVE_APP, ""), secrets.get(Kind.ATTENTIVE_LEGACY, "")
    if not app_key and not legacy_token:
        raise _missing(site, Kind.ATTENTIVE_APP)
    return AttentiveClient(app_key=app_key, legacy_token=legacy_token, message_path=site.message_path)


def annex_cloud_client(site: Site) -> AnnexCloudClient:
    """Return a client for the site's loyalty program; raises `TokenUnusable` without a loyalty token."""
    secret = token_secret(site, Kind.LOYALTY)
    if not secret:
        raise _missing(site, Kind.LOYALTY)
    return AnnexCloudClient(site.site_id, secret)
