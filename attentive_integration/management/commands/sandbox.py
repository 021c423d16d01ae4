"""`manage.py sandbox`: both vendors on this machine, with a screen for each phone."""

import asyncio
import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from attentive_integration.sandbox.application import Sandbox


class Command(BaseCommand):
    help = "Stand in for Attentive and Annex Cloud over real HTTP on this machine, until Ctrl-C."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--port", type=int, default=8900, help="the port of both vendors and the page (0: a free one)"
        )
        parser.add_argument(
            "--control-port", type=int, default=0, help="a further port that answers while --port is down"
        )
        parser.add_argument("--ledger", type=Path, help="append each accepted request to this file before answering it")
        parser.add_argument("--json", action="store_true", help="print the addresses as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            sandbox = Sandbox(port=options["port"], control_port=options["control_port"], ledger_path=options["ledger"])
            asyncio.run(sandbox.run(lambda: self._say_where(sandbox, as_json=options["json"])))
        except OSError as error:
            raise CommandError(
                _("The sandbox cannot start: %(cause)s. Choose another --port or --ledger.") % {"cause": error}
            ) from error

    def _say_where(self, sandbox: Sandbox, *, as_json: bool) -> None:
        addresses = {"url": sandbox.server.url, "control_url": sandbox.control_server.url}
        self.stdout.write(
            json.dumps(addresses)
            if as_json
            else _("Attentive, Annex Cloud and the phones are at %(url)s; Ctrl-C ends them.") % addresses
        )
        self.stdout.flush()
