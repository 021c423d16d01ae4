"""`manage.py check_sites`: asks both vendors whether every site's keys still work."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from loyalty.activation import check_site
from loyalty.connection import TaskState
from loyalty.models import Site


class Command(BaseCommand):
    help = "Ask Attentive and Annex Cloud, without side effects, whether the keys of every site still work."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--site", metavar="SITE_ID", action="append", help="only this site; may be repeated")
        parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    def handle(self, *_args: Any, **options: Any) -> None:
        results = [(site, check_site(site)) for site in self._sites(options["site"])]
        failed = sum(any(check.state == TaskState.FAILED for check in checks) for _site, checks in results)
        if options["json"]:
            sites = [
                {
                    "site_id": site.site_id,
                    "client_name": site.client_name,
                    "state": site.state,
                    "checks": [
                        {"kind": check.kind, "state": check.state, "sentence": check.sentence, "account": check.account}
                        for check in checks
                    ],
                }
                for site, checks in results
            ]
            self.stdout.write(json.dumps({"checked": len(results), "failed": failed, "sites": sites}))
            return
        for site, checks in results:
            self.stdout.write(f"{site.client_name} ({site.site_id})")
            for check in checks:
                self.stdout.write(f"  {check.kind:<18}{check.state:<9}{check.sentence}".rstrip())
        self.stdout.write(
            _("%(checked)d sites were checked, %(failed)d have a failure.")
            % {"checked": len(results), "failed": failed}
        )

    def _sites(self, wanted: list[str] | None) -> list[Site]:
        if not wanted:
            return list(Site.objects.all())
        found = {site.site_id: site for site in Site.objects.filter(site_id__in=wanted)}
        for site_id in wanted:
            if site_id not in found:
                raise CommandError(
                    _("There is no site %(site)s. The IDs stand in the list of sites.") % {"site": site_id}
                )
        return list(found.values())
