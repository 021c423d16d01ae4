"""The option `--site SITE_ID` of the commands that work on one client site."""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from loyalty.models import Site


def add_site_option(parser: ArgumentParser) -> None:
    parser.add_argument("--site", required=True, metavar="SITE_ID", help="Annex Cloud's number of the client site")


def site_of(options: Mapping[str, Any]) -> Site:
    """Return the site that was named; raises `CommandError` with a sentence when there is none."""
    site = Site.objects.filter(site_id=options["site"]).first()
    if site is None:
        raise CommandError(
            _("There is no site “%(site)s”. The IDs stand in the list of sites.") % {"site": options["site"]}
        )
    return site
