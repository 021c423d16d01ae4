from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps

from attentive_integration import checks  # noqa: F401 - importing it registers the checks


class AttentiveIntegrationConfig(AppConfig):
    default = True
    name = "attentive_integration"
    verbose_name = "Attentive integration"


class DashboardAdminConfig(admin_apps.AdminConfig):
    """Django's admin with our dashboard as its site, so that `admin.site` is ours everywhere."""

    default = False
    default_site = "attentive_integration.dashboard.DashboardSite"
