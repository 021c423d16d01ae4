"""`manage.py unsubscribe_member`: takes one person out, here and at Attentive."""

import json
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from attentive_integration.phones import PhoneError
from loyalty import consent
from loyalty.management.site_option import add_site_option, site_of
from loyalty.models import Site
from loyalty.unsubscribing import Unsubscribed, phones_of, unsubscribe

# How long Attentive may put the call off (seconds).
_PATIENCE = 20.0
_EVIDENCE = "unsubscribe_member"


class Command(BaseCommand):
    help = (
        "Opt a phone (in any spelling) or an e-mail address out at once, and tell Attentive. It need be no member's; "
        "the phones of members with the e-mail address are opted out too."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_site_option(parser)
        parser.add_argument("address", metavar="PHONE_OR_EMAIL")
        parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    def handle(self, *_args: Any, **options: Any) -> None:
        site = site_of(options)
        numbers = phones_of(site, options["address"]) if "@" in options["address"] else []
        # Out here at once; Attentive is told afterwards, and may be slow.
        for number in numbers:
            consent.opt_out(site, number, evidence=_EVIDENCE)
        try:
            done = _patiently(site, options["address"])
        except PhoneError as error:
            raise CommandError(error.sentence) from None
        phones = [_patiently(site, number, is_out=True) for number in numbers]
        if options["json"]:
            self.stdout.write(
                json.dumps(_described(done) | ({"phones": list(map(_described, phones))} if phones else {}))
            )
        else:
            for one in (done, *phones):
                self.stdout.write(f"{one.channel}: {_sentence(one)}" if phones else _sentence(one))


def _described(done: Unsubscribed) -> dict[str, Any]:
    return {"state": done.state, "channel": done.channel, "attentive": done.attentive, "sentence": done.sentence}


def _patiently(site: Site, address: str, *, is_out: bool = False) -> Unsubscribed:
    """Try again, for a while, what Attentive puts off."""
    give_up_at = time.monotonic() + _PATIENCE
    while True:
        done = unsubscribe(site, address, evidence=_EVIDENCE, is_out=is_out)
        is_out = True
        if done.pause is None or time.monotonic() + done.pause > give_up_at:
            return done
        time.sleep(done.pause)


def _sentence(done: Unsubscribed) -> str:
    sentences = {
        "done": _("The person is opted out, here and at Attentive."),
        "already": _("The person is opted out. Attentive knew it already and was not asked again."),
        "not told": _("The person is opted out here. Attentive was not told."),
        "unclear": _("The person is opted out here. Whether Attentive took it is not known."),
        "failed": _("The person is opted out here. Attentive did not take it: run the command again later."),
    }
    return f"{sentences[done.attentive]} {done.sentence}".strip()
