"""`manage.py subscribe_members`: asks the members who wait for it to subscribe."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from loyalty.management.site_option import add_site_option, site_of
from loyalty.models import Site
from loyalty.subscriptions import CannotSubscribe, require_ready, subscribe_due


class Command(BaseCommand):
    help = (
        "Ask every member of a site who waits for it (TO_ASK) to subscribe, at Attentive's pace. Whoever may be texted "
        "already is noted as subscribed and not asked."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_site_option(parser)
        parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    def handle(self, *_args: Any, **options: Any) -> None:
        site = site_of(options)
        try:
            counts = subscribe_due(site)
        except CannotSubscribe as refusal:
            raise CommandError(str(refusal)) from None
        if counts["left"]:
            self._say_why(site)
        if options["json"]:
            self.stdout.write(json.dumps(counts))
        else:
            self.stdout.write(", ".join(f"{name}: {number}" for name, number in sorted(counts.items())))

    def _say_why(self, site: Site) -> None:
        """Say what keeps those who are left from being asked, where it is not their own time to wait."""
        try:
            require_ready(site)
        except CannotSubscribe as reason:
            self.stderr.write(str(reason))
