"""`manage.py run_campaigns`: the CRON job."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from attentive_integration.markup import Inexact, number
from messaging import tick


class Command(BaseCommand):
    help = (
        "Turn new loyalty actions into texts and send what is due, until nothing is left or 50 seconds have passed. "
        "Meant for cron, each minute; safe to run twice at once, and beside Celery."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    def handle(self, *_args: Any, **options: Any) -> None:
        tick.run_tick()
        counts = tick.counts()
        if options["json"]:
            estimated = [state for state, count in counts.items() if isinstance(count, Inexact)]
            self.stdout.write(json.dumps({**counts, "estimated": estimated} if estimated else counts))
            return
        for state, count in counts.items():
            if count or state == "left":
                self.stdout.write(f"{state.lower():<12}{number(count):>12}")
