"""Keys are rotated in place, and a rotation that was broken off goes on."""

import json
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command

from attentive_integration.secrets import key_names, key_of
from loyalty import consent, key_rotation
from loyalty.models import AccessToken, AuditEntry, Site
from tests.factories import make_site, make_token

pytestmark = pytest.mark.django_db

PHONE = "+17705550101"


@pytest.fixture
def keys(settings: Any) -> list[str]:
    """The old key alone; a test puts the new one in front."""
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.FIELD_ENCRYPTION_KEYS = [old]
    return [new, old]


def sealed_site() -> Site:
    site = make_site()
    make_token(site, AccessToken.Kind.LOYALTY, "placeholder-loyalty")
    AccessToken.objects.create(site=site, kind="INGEST", secret_hash="0" * 64, set_at=site.created_at)
    consent.erase(site, PHONE)
    return site


def test_every_sealed_value_moves_to_the_first_key(settings: Any, keys: list[str], capsys: Any) -> None:
    sites = [sealed_site(), sealed_site()]
    settings.FIELD_ENCRYPTION_KEYS = keys
    call_command("rotate_keys", "--json")
    first, second = key_names()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result == {"resealed": 4, "left": {first: 4, second: 0}, "unreadable": 0}
    settings.FIELD_ENCRYPTION_KEYS = keys[:1]
    assert AccessToken.objects.filter(kind="LOYALTY").first().reveal() == "placeholder-loyalty"  # type: ignore[union-attr]
    for site in sites:
        assert consent.hidden_addresses(Site.objects.get(pk=site.pk), [PHONE]) == {PHONE: "ERASED"}
    call_command("rotate_keys")
    assert "Only the first key is needed." in capsys.readouterr().out
    assert AuditEntry.objects.filter(event="keys.rotated", actor="rotate_keys").count() == 2
    assert not any(key in str(AuditEntry.objects.values()) for key in keys)


def test_a_rotation_goes_on_where_it_was_broken_off(settings: Any, keys: list[str]) -> None:
    tokens = [make_token(make_site(), AccessToken.Kind.LOYALTY, f"placeholder-{number}") for number in range(5)]
    settings.FIELD_ENCRYPTION_KEYS = keys
    for token in tokens[:2]:
        token.store(token.reveal())
        token.save()
    done = [AccessToken.objects.get(pk=token.pk).sealed_secret for token in tokens[:2]]
    assert key_rotation.rotate().resealed == 3
    assert [AccessToken.objects.get(pk=token.pk).sealed_secret for token in tokens[:2]] == done
    assert key_rotation.rotate().resealed == 0


def test_what_no_key_opens_is_said_and_left_alone(settings: Any, keys: list[str], capsys: Any) -> None:
    lost = make_token(make_site(), AccessToken.Kind.LOYALTY, "placeholder-lost")
    settings.FIELD_ENCRYPTION_KEYS = [keys[0]]
    found = make_token(make_site(), AccessToken.Kind.LOYALTY, "placeholder-found")
    with pytest.raises(CommandError, match="Put the key they were stored with back"):
        call_command("rotate_keys", "--json")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["unreadable"] == 1
    assert not key_rotation.rotate().older_keys_are_unused
    lost.refresh_from_db()
    settings.FIELD_ENCRYPTION_KEYS = keys
    assert lost.reveal() == "placeholder-lost"
    assert (key_of(lost.sealed_secret), key_of(found.sealed_secret)) == (key_names()[1], key_names()[0])


def test_a_token_entered_meanwhile_is_not_overwritten(settings: Any, keys: list[str], monkeypatch: Any) -> None:
    token = make_token(make_site(), AccessToken.Kind.LOYALTY, "placeholder-before")
    settings.FIELD_ENCRYPTION_KEYS = keys
    reseal = key_rotation.reseal

    def slow_reseal(sealed: str) -> str:
        fresh = AccessToken.objects.get(pk=token.pk)
        fresh.store("placeholder-after")
        fresh.save()
        return reseal(sealed)

    monkeypatch.setattr(key_rotation, "reseal", slow_reseal)
    assert key_rotation.rotate().resealed == 0
    token.refresh_from_db()
    assert token.reveal() == "placeholder-after"


def test_a_thousand_sites_take_seconds(settings: Any, keys: list[str], django_assert_max_num_queries: Any) -> None:
    site = make_site()
    tokens = []
    for number in range(1000):
        token = AccessToken(site=site, kind="LOYALTY", set_at=site.created_at, revoked_at=site.created_at)
        token.store(f"placeholder-{number}")
        tokens.append(token)
    AccessToken.objects.bulk_create(tokens)
    settings.FIELD_ENCRYPTION_KEYS = keys
    with django_assert_max_num_queries(1020):
        assert key_rotation.rotate().resealed == 1000
