"""Lists that grow without end: read, newest first, by an index of each of the sites that the reader may see."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from loyalty.admin.base import SiteScopedAdmin
from loyalty.models import Site
from loyalty.permissions import chosen_site


def site_pks(request: HttpRequest) -> list[int]:
    """Return the sites whose rows this request may show; read once per request.

    Named one by one, they let the database walk an index of each site instead of a whole log.
    """
    if not hasattr(request, "_site_pks"):
        site = chosen_site(request)
        sites = Site.objects.visible_to(request.user).values_list("pk", flat=True)
        request._site_pks = [site.pk] if site else list(sites)  # type: ignore[attr-defined]
    return request._site_pks  # type: ignore[attr-defined]


class LogAdmin(SiteScopedAdmin):
    """A long list, newest first, read by an index of each of the sites that the reader may see."""

    ordering = ("-pk",)
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return self.model._default_manager.filter(site__in=site_pks(request)).order_by("-pk")
