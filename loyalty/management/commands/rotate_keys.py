"""`manage.py rotate_keys`: moves stored secrets to the first encryption key."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from loyalty.key_rotation import Rotation, rotate


class Command(BaseCommand):
    help = (
        "Re-encrypt every stored token with the first of FIELD_ENCRYPTION_KEYS, and say how many still need an older "
        "key. Put a new key in front, run this, and drop the old key when nothing needs it any more."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    def handle(self, *_args: Any, **options: Any) -> None:
        done = rotate(actor="rotate_keys")
        if options["json"]:
            result = {"resealed": done.resealed, "left": dict(done.left), "unreadable": done.unreadable}
            self.stdout.write(json.dumps(result))
        else:
            self._say(done)
        if done.unreadable:
            raise CommandError(
                _(
                    "%(count)d values open with none of the keys. Put the key they were stored with back, or enter "
                    "those tokens again."
                )
                % {"count": done.unreadable}
            )

    def _say(self, done: Rotation) -> None:
        self.stdout.write(_("%(count)d values were re-encrypted.") % {"count": done.resealed})
        for name, count in done.left.items():
            self.stdout.write(_("Key %(name)s: %(count)d values") % {"name": name, "count": count})
        if done.older_keys_are_unused:
            self.stdout.write(_("Only the first key is needed. Older ones can be dropped."))
