"""Who may log in, and with which role on which site."""

from django.contrib import admin

from loyalty.models import SiteMembership

from .base import SiteScopedAdmin


@admin.register(SiteMembership)
class SiteMembershipAdmin(SiteScopedAdmin):
    pass
