"""`import_subscribers --site SITE_ID FILE --evidence TEXT`: a list of subscribers exported from Attentive."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from loyalty.management.importing import add_arguments, import_file, report
from loyalty.models import ImportJob


class Command(BaseCommand):
    help = "Import a list of subscribers exported from Attentive: these phones may be texted. Opt-outs stay opt-outs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_arguments(parser)
        parser.add_argument("--evidence", required=True, help="where the list comes from, kept with each consent")

    def handle(self, *args: Any, **options: Any) -> None:
        evidence = options["evidence"].strip()
        if not evidence:
            raise CommandError(_('Say where the list comes from, for instance: --evidence "Export of 1 November".'))
        job = import_file(self, ImportJob.Kind.SUBSCRIBERS, options, {"evidence": evidence})
        counts = {"read": job.read, "raised": job.updated, "unchanged": job.unchanged}
        report(self, options, job, {**counts, "duplicate": job.duplicate, "rejected": job.rejected})
