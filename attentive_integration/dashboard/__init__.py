"""The dashboard: the admin site that every page belongs to, and the pages that look at all rooms at once."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.translation import gettext_lazy as _

from attentive_integration.dashboard.erasing import erase_member
from attentive_integration.dashboard.home import home
from attentive_integration.dashboard.navigation import navigation
from attentive_integration.dashboard.search import search
from attentive_integration.dashboard.site_overview import overview
from attentive_integration.dashboard.site_setup import export, setup
from attentive_integration.dashboard.system import run_now, system
from loyalty.models import Site
from loyalty.permissions import Membership, Right, can, chosen_site, memberships_of
from messaging.overview import badges

# The switcher lists this many sites; the Sites page finds the others.
SWITCHER_SITES = 30


class DashboardSite(AdminSite):
    """Django's admin with our frame around it: sidebar, site switcher, search, environment label."""

    site_title = _("Loyalty SMS")
    site_header = _("Loyalty SMS")
    index_title = _("Home")
    site_url = None
    empty_value_display = "–"

    def get_urls(self) -> list[URLPattern | URLResolver]:
        return [
            path("loyalty/site/setup/", self.admin_view(self.page(setup)), name="loyalty_site_setup"),
            path(
                "loyalty/site/<int:object_id>/export/", self.admin_view(self.page(export)), name="loyalty_site_export"
            ),
            path(
                "loyalty/site/<int:object_id>/overview/",
                self.admin_view(self.page(overview)),
                name="loyalty_site_overview",
            ),
            path(
                "loyalty/member/<int:object_id>/erase/", self.admin_view(self.page(erase_member)), name="erase_member"
            ),
            path("search/", self.admin_view(self.page(search)), name="search"),
            path("system/", self.admin_view(self.page(system)), name="system"),
            path("system/run/", self.admin_view(self.page(run_now)), name="system_run"),
            *super().get_urls(),
        ]

    def page(self, view: Any) -> Any:
        """Give a view of the composition room this site as its first argument."""

        def shown(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            return view(self, request, *args, **kwargs)

        return shown

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        return home(self, request)

    def app_index(
        self, request: HttpRequest, app_label: str, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        return home(self, request)

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Nothing: the sidebar takes the place of the admin's list of models, which asks for every permission."""
        return []

    def has_permission(self, request: HttpRequest) -> bool:
        return can(request.user, None, Right.VIEW) or bool(request.user.is_active and request.user.is_superuser)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        context = super().each_context(request)
        context["environment_label"] = settings.ENVIRONMENT_LABEL
        if not context["has_permission"]:
            return context
        site = chosen_site(request)
        sites: Sequence[Site | Membership]
        if getattr(request.user, "is_superuser", False):
            sites = list(Site.objects.only("pk", "client_name", "site_id")[: SWITCHER_SITES + 1])
        else:
            sites = memberships_of(request.user)
        return {
            **context,
            "chosen_site": site,
            "switcher_sites": sites[:SWITCHER_SITES],
            "switcher_has_more": len(sites) > SWITCHER_SITES,
            "switch_url": _switch_url(request),
            "sites_url": reverse("admin:loyalty_site_changelist"),
            "search_url": reverse("admin:search"),
            "navigation": navigation(request, site, _badges(request, site)),
            "sees_pii": can(request.user, site, Right.PII),
        }


def _badges(request: HttpRequest, site: Site | None) -> dict[str, tuple[int, str, Any]]:
    """Return what the sidebar counts beside its entries, by URL name: number, tone, and of what it is the number."""
    scope = Site.objects.visible_to(request.user).order_by()
    counts = badges(scope.filter(pk=site.pk) if site else scope)
    return {
        "loyalty_site_changelist": (counts.get("sites", 0), "bad", _("held")),
        "loyalty_importjob_changelist": (counts.get("imports", 0), "info", _("under way")),
        "messaging_message_changelist": (counts.get("unknown", 0), "warn", _("not known")),
    }


def _switch_url(request: HttpRequest) -> str:
    """Where choosing another site leads: the same list for that site; from a single row, Home."""
    match = request.resolver_match
    stays = match is not None and not match.args and not match.kwargs and (match.url_name or "").endswith("changelist")
    return request.path if stays or (match and match.url_name == "system") else reverse("admin:index")
