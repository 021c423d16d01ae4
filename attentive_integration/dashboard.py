"""The admin site that every page of the dashboard belongs to."""

from django.contrib.admin import AdminSite


class DashboardSite(AdminSite):
    site_title = "Loyalty SMS"
    site_header = "Loyalty SMS"
    index_title = "Home"
