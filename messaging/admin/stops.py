"""Stop everything: the emergency brake of one site or of all, and its release with “send or expire?”."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from attentive_integration.markup import number
from attentive_integration.wake import wake
from loyalty import audit, stops
from loyalty.admin.base import SiteScopedAdmin
from loyalty.capped_counts import at_least, capped_count
from loyalty.models import SendingStop, Site
from loyalty.permissions import Right, can, chosen_site, sites_where
from messaging import queue
from messaging.models import Message
from messaging.reasons import Code

# What the address calls the stop of all sites.
_ALL = "all"
_SITES_LISTED = 100
_PAST_LISTED = 20


@admin.register(SendingStop)
class SendingStopAdmin(SiteScopedAdmin):
    """The list is a page of its own: which sites are stopped, and the buttons. A stop of all sites is a superuser's."""

    right = Right.ACTIVATE

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("", view(self.overview), name="loyalty_sendingstop_changelist"),
            path("<str:site_id>/stop/", view(self.stop_view), name="loyalty_sendingstop_stop"),
            path("<str:site_id>/resume/", view(self.resume_view), name="loyalty_sendingstop_resume"),
        ]

    def overview(self, request: HttpRequest) -> HttpResponse:
        """Show every stop that stands, and the sites that may be stopped."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        site = chosen_site(request)
        sites = Site.objects.visible_to(request.user)
        if site is not None:
            sites = sites.filter(pk=site.pk)
        mine = Q(site=None) | Q(site__in=sites.values("pk"))
        standing = list(
            SendingStop.objects.filter(mine, ended_at=None).select_related("site", "stopped_by").order_by("-pk")
        )
        past = SendingStop.objects.filter(mine, ended_at__isnull=False).select_related("site", "stopped_by", "ended_by")
        stopped = {stop.site_id for stop in standing}
        allowed = set(sites_where(request.user, self.right).values_list("pk", flat=True))
        running = sites.exclude(state=Site.State.DRAFT).exclude(pk__in=[pk for pk in stopped if pk])
        context = self.frame(
            request, _("Stop everything"),
            standing=[
                {"stop": stop, "may_end": _may(request, stop.site), "target": stop.site.site_id if stop.site else _ALL}
                for stop in standing
            ],
            past=past.order_by("-ended_at")[:_PAST_LISTED],
            running=[(row, row.pk in allowed) for row in running.order_by("client_name", "pk")[:_SITES_LISTED]],
            may_stop_all=_may(request, None) and None not in stopped,
        )  # fmt: skip
        context["breadcrumbs"] = []
        return TemplateResponse(request, "admin/messaging/stops.html", context)

    def stop_view(self, request: HttpRequest, site_id: str) -> HttpResponse:
        """Ask, and stop."""
        site = self._site(request, site_id)
        if request.method == "POST":
            stops.stop(site, by=request.user, note=request.POST.get("note", "").strip())
            wake("messaging.tasks.send_due")
            messages.warning(
                request,
                _("Sending is stopped for %(what)s. Calls under way end; no other begins.") % {"what": _words(site)},
            )
            return HttpResponseRedirect(self.page_of("changelist"))
        context = self.frame(
            request, _("Stop sending for %(what)s") % {"what": _words(site)}, what=_words(site), is_all=site is None
        )
        return TemplateResponse(request, "admin/messaging/stop.html", context)

    def resume_view(self, request: HttpRequest, site_id: str) -> HttpResponse:
        """Ask what becomes of the texts that were held, and resume."""
        site = self._site(request, site_id)
        held = Message.objects.filter(state=Message.State.HELD, reason=Code.STOPPED)
        if site is not None:
            held = held.filter(site=site)
        count = at_least(capped_count(held))
        if request.method == "POST":
            what = request.POST.get("held")
            if what not in ("send", "expire") and count:
                messages.error(request, _("Choose whether the held texts are sent or expire."))
                return HttpResponseRedirect(request.get_full_path())
            if what == "expire":
                expired = queue.expire_stopped(site)
                audit.record(
                    "sending.held_expired",
                    site=site,
                    user=request.user,
                    target=str(site or "*"),
                    new={"texts": expired},
                )
            stops.end(site, by=request.user)
            wake("messaging.tasks.send_due")
            messages.success(request, _("Sending goes on for %(what)s.") % {"what": _words(site)})
            return HttpResponseRedirect(self.page_of("changelist"))
        context = self.frame(
            request,
            _("Resume sending for %(what)s") % {"what": _words(site)},
            what=_words(site), count=count, is_all=site is None,
            question=ngettext("%(n)s text was held.", "%(n)s texts were held.", count) % {"n": number(count)},
        )  # fmt: skip
        return TemplateResponse(request, "admin/messaging/resume.html", context)

    def frame(self, request: HttpRequest, title: str, row: Any = None, **more: Any) -> dict[str, Any]:
        context = super().frame(request, title, row, **more)
        context["breadcrumbs"] = [(_("Stop everything"), self.page_of("changelist"))]
        return context

    def _site(self, request: HttpRequest, site_id: str) -> Site | None:
        """Return the site that the address names, None for all; 404 for another tenant's, 403 without the right."""
        if site_id == _ALL:
            site = None
        else:
            site = Site.objects.visible_to(request.user).filter(site_id=site_id).first()
            if site is None:
                raise Http404
        if not _may(request, site):
            raise PermissionDenied
        return site


def _may(request: HttpRequest, site: Site | None) -> bool:
    if site is None:
        return bool(getattr(request.user, "is_superuser", False))
    return can(request.user, site, SendingStopAdmin.right)


def _words(site: Site | None) -> str:
    return site.client_name if site is not None else _("all sites")
