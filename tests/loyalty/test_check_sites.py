"""`check_sites` asks both vendors about every site and changes nothing there."""

import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from attentive_integration.sandbox.process import SandboxProcess
from loyalty.models import AccessToken
from tests.factories import make_site, make_token
from tests.messaging.world import World

pytestmark = pytest.mark.django_db


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
