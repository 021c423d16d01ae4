"""Writes a segment's files into a folder, ready to be uploaded to Attentive."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from loyalty.exports import ExportFailed, write_segment
from loyalty.models import ExportJob, Segment
from loyalty.segments import RulesError

FORMATS = [choice.lower() for choice in ExportJob.Format.values]


class Command(BaseCommand):
    help = "Write a segment into files for Attentive (or a spreadsheet), with manifest.json beside them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("segment", metavar="SEGMENT_ID", help="the number of the segment, as create_site prints it")
        parser.add_argument("--out", required=True, metavar="DIR", help="the folder for the files; made if missing")
        parser.add_argument("--format", default="attentive", choices=FORMATS, help="default: attentive")
        parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        key = options["segment"]
        segment = Segment.objects.select_related("site").filter(pk=int(key)).first() if key.isdecimal() else None
        if segment is None:
            raise CommandError(_("There is no segment %(key)s. Give the number of a segment.") % {"key": key})
        try:
            manifest = write_segment(segment, Path(options["out"]), options["format"])
        except (ExportFailed, RulesError) as error:
            raise CommandError(str(error)) from None
        if options["json"]:
            self.stdout.write(json.dumps(manifest, ensure_ascii=False))
            return
        for file in manifest["files"]:
            self.stdout.write(f"{file['name']}  {file['rows']} rows  SHA-256 {file['sha256']}")
        for reason, members in manifest["left_out"].items():
            self.stdout.write(f"left out  {members}  {reason}")
