"""`manage.py erase_member`: forgets a person who asked for it."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from attentive_integration.phones import PhoneError
from loyalty.management.site_option import add_site_option, site_of
from messaging.erasure import erase


class Command(BaseCommand):
    help = (
        "Forget whoever has this phone (in any spelling) or e-mail address at a site, and keep it so through every "
        "later import. Asks Attentive to do the same, and names the files that may still hold the person."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_site_option(parser)
        parser.add_argument("address", metavar="PHONE_OR_EMAIL")
        parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    def handle(self, *_args: Any, **options: Any) -> None:
        site = site_of(options)
        try:
            done = erase(site, options["address"], actor="erase_member")
        except PhoneError as error:
            raise CommandError(error.sentence) from None
        if options["json"]:
            self.stdout.write(json.dumps(asdict(done)))
            return
        self.stdout.write(
            _(
                "Forgotten: %(addresses)d addresses, %(members)d members, %(messages)d messages, %(actions)d actions, "
                "%(webhooks)d webhooks."
            )
            % asdict(done)
        )
        if done.attentive == "done":
            self.stdout.write(_("Attentive was asked to delete the person, which takes up to 30 days."))
        else:
            self.stdout.write(done.sentence)
        if done.files:
            self.stdout.write(_("These stored files may still hold the person. Delete those that do:"))
            for name in done.files:
                self.stdout.write(f"  {name}")
