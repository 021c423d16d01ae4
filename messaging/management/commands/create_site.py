"""`manage.py create_site`: sets a site up from a JSON file, for scripts."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from messaging.site_spec import SpecError, create_site


class Command(BaseCommand):
    help = "Set a site up from a JSON file: tokens, sign-up sources, action types, campaigns, segments. Audited."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--from", dest="file", required=True, type=Path, metavar="FILE.json")
        parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    def handle(self, *_args: Any, **options: Any) -> None:
        path: Path = options["file"]
        try:
            spec = json.loads(path.read_bytes())
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error.strerror}.") from None
        except (ValueError, RecursionError) as error:
            raise CommandError(f"{path} is not JSON: {error}.") from None
        try:
            made = create_site(spec)
        except SpecError as error:
            raise CommandError(str(error)) from None
        if options["json"]:
            self.stdout.write(json.dumps(made))
        else:
            self.stdout.write(f"Site {made['site_id']} is set up. Its webhook address is {made['webhook_url']}")
