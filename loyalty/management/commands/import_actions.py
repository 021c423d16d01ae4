"""`import_actions --site SITE_ID FILE`: loyalty actions from a CSV file, as history unless --trigger is given."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from loyalty.management.importing import add_arguments, import_file, report
from loyalty.models import ImportJob


class Command(BaseCommand):
    help = "Import loyalty actions from a CSV file. They are history and text nobody, unless --trigger is given."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_arguments(parser)
        parser.add_argument("--trigger", action="store_true", help="let campaigns text people for these actions")

    def handle(self, *args: Any, **options: Any) -> None:
        job = import_file(self, ImportJob.Kind.ACTIONS, options, {"trigger": options["trigger"]})
        groups = job.findings.get("groups", {}).values()
        conflict = sum(group["count"] for group in groups if group["code"] == "CONFLICT")
        report(
            self, options, job,
            {"read": job.read, "accepted": job.created, "duplicate": job.duplicate, "conflict": conflict,
             "rejected": job.rejected - conflict},
        )  # fmt: skip
