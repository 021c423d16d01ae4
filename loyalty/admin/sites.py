"""The client sites: list, overview, activation, credentials, settings."""

from django.contrib import admin

from attentive_integration.markup import pill_for_state
from loyalty.models import Site

from .base import SiteScopedAdmin


@admin.register(Site)
class SiteAdmin(SiteScopedAdmin):
    list_display = ("client_name", "site_id", "pill")

    @admin.display(description="state")
    def pill(self, site: Site) -> str:
        return pill_for_state(site)
