"""`check_sites` asks both vendors about every site and changes nothing there."""

import json
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command

from attentive_integration.sandbox.process import SandboxProcess
from loyalty.models import AccessToken, SignUpSource
from tests.factories import make_site, make_token
from tests.messaging.world import World

pytestmark = pytest.mark.django_db


def test_a_token_whose_key_is_gone_is_a_failure_with_its_remedy(settings: Any, capsys: Any) -> None:
    site = make_site()
    for kind in (AccessToken.Kind.LOYALTY, AccessToken.Kind.ATTENTIVE_APP, AccessToken.Kind.ATTENTIVE_LEGACY):
        make_token(site, kind, f"placeholder-{kind}")
    SignUpSource.objects.create(site=site, sign_up_source_id="132109", is_default=True)
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    call_command("check_sites", "--json")
    checks = json.loads(capsys.readouterr().out.splitlines()[-1])["sites"][0]["checks"]
    assert [check["state"] for check in checks] == ["FAILED"] * 4 + ["TO_DO"]
    assert all("FIELD_ENCRYPTION_KEYS" in check["sentence"] for check in checks[:4])
    with pytest.raises(CommandError, match="FIELD_ENCRYPTION_KEYS"):
        call_command("subscribe_members", "--site", site.site_id)


def test_every_site_is_checked_and_failures_are_counted(sandbox: SandboxProcess, capsys: Any) -> None:
    world, broken = World(sandbox, client_name="Harbor Goods"), make_site()
    make_token(broken, AccessToken.Kind.ATTENTIVE_APP, "app-of-nobody")
    sandbox.configure_company(world.company, name="Harbor Goods")
    before = len(sandbox.ledger())
    call_command("check_sites", "--json")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["checked"] == 2
    kinds = {site["site_id"]: {check["kind"]: check["state"] for check in site["checks"]} for site in result["sites"]}
    assert kinds[world.site.site_id]["ATTENTIVE_APP"] == "PASSED"
    assert len(sandbox.ledger()) == before
    call_command("check_sites", "--site", broken.site_id)
    out = capsys.readouterr().out
    assert "1 sites were checked" in out and "ATTENTIVE_APP" in out
    assert world.site.site_id not in out
    assert "app-of-nobody" not in out
    with pytest.raises(CommandError, match="There is no site none"):
        call_command("check_sites", "--site", "none")
