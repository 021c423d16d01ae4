"""`import_members --site SITE_ID FILE`: creates and updates members from a CSV file."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from loyalty.management.importing import add_arguments, import_file, report
from loyalty.models import ImportJob


class Command(BaseCommand):
    help = "Import members from a CSV file. Nobody is subscribed unless --subscribe is given."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_arguments(parser)
        parser.add_argument("--dry-run", action="store_true", help="count what would happen, and write nothing")
        parser.add_argument("--subscribe", action="store_true", help="put new members into the subscribe queue")

    def handle(self, *args: Any, **options: Any) -> None:
        job = import_file(
            self, ImportJob.Kind.MEMBERS, options, {"subscribe": options["subscribe"]}, dry_run=options["dry_run"]
        )
        report(
            self, options, job,
            {name: getattr(job, name) for name in ("read", "created", "updated", "unchanged", "duplicate", "rejected")},
        )  # fmt: skip
