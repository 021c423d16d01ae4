"""Segments: the list, and the builder with live counts, freezing and pushing to both vendors."""

from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from attentive_integration.markup import ago, number, pill, pill_for_state
from attentive_integration.wake import wake
from loyalty import audit, segments
from loyalty.admin.base import ActionRefused, ObjectAction, SiteScopedAdmin
from loyalty.admin.segment_forms import Builder
from loyalty.models import ExportJob, Segment, Site
from loyalty.permissions import Right, can, chosen_site, sites_where

# A larger segment is handed to Attentive by a worker: ten thousand members go in one call.
_MOST_AT_ONCE = 50_000


@admin.register(Segment)
class SegmentAdmin(SiteScopedAdmin):
    list_display = ("name", "kind", "site_shown", "size", "reachable", "exported", "annex", "pill")
    list_filter = ("is_frozen", "status")
    search_fields = ("name__istartswith", "external_id__exact")
    search_help_text = gettext_lazy("Beginning of a name, or external ID")
    list_select_related = ("site",)
    sortable_by = ("name",)
    ordering = ("name", "pk")
    actions = None
    add_label = gettext_lazy("New segment")
    add_right = Right.SEGMENT
    change_right = Right.SEGMENT
    delete_right = Right.SEGMENT
    lead = gettext_lazy("Segments choose members, for campaigns and for lists that are uploaded to Attentive.")
    empty_icon = "segment"
    empty_title = gettext_lazy("No segment yet")
    empty_text = gettext_lazy("A segment selects members, for a campaign or for a list to upload in Attentive.")
    object_actions: ClassVar[Sequence[ObjectAction]] = (
        ObjectAction(
            "freeze",
            gettext_lazy("Freeze"),
            Right.SEGMENT,
            run="freeze",
            icon="snow",
            when=lambda segment: not segment.is_frozen,
            confirm=gettext_lazy(
                "The members of this moment are kept as a fixed list, whatever they do later. A frozen segment cannot "
                "be made to follow its rules again."
            ),
        ),
        ObjectAction(
            "annex",
            gettext_lazy("Push to Annex Cloud"),
            Right.SEGMENT,
            run="push_to_annex_cloud",
            icon="send",
            confirm=gettext_lazy(
                "Annex Cloud gets the segment with the e-mail addresses of its members, made new or updated. Members "
                "without an e-mail address are left out."
            ),
        ),
        ObjectAction(
            "attentive",
            gettext_lazy("Push to Attentive"),
            Right.SEGMENT,
            run="push_to_attentive",
            icon="send",
            confirm=gettext_lazy(
                "The reachable members join Attentive's segment of the same external ID. Nobody is texted by this. "
                "Members who left the segment stay in it at Attentive; the file upload replaces the whole list."
            ),
        ),
    )

    # --- The list -------------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Segment]:
        latest = ExportJob.objects.filter(segment=OuterRef("pk"), state=ExportJob.State.COMPLETE).order_by("-pk")
        return (
            super()
            .get_queryset(request)
            .annotate(
                exported_at=Subquery(latest.values("ended_at")[:1]), manifest=Subquery(latest.values("manifest")[:1])
            )
        )

    @admin.display(description=gettext_lazy("type"))
    def kind(self, segment: Segment) -> SafeString:
        return pill(_("Frozen"), "info", "snow") if segment.is_frozen else pill(_("Rules"), "calm", "filter")

    @admin.display(description=gettext_lazy("members"))
    def size(self, segment: Any) -> str:
        return _figure(segment, "total")

    @admin.display(description=gettext_lazy("reachable"))
    def reachable(self, segment: Any) -> str:
        return _figure(segment, "reachable")

    @admin.display(description=gettext_lazy("last export"))
    def exported(self, segment: Any) -> SafeString:
        return ago(segment.exported_at)

    @admin.display(description=gettext_lazy("at Annex Cloud"))
    def annex(self, segment: Segment) -> str | SafeString:
        if not segment.annex_segment_id:
            return "–"
        return format_html("#{} · {}", segment.annex_segment_id, ago(segment.pushed_at))

    @admin.display(description=gettext_lazy("status"))
    def pill(self, segment: Segment) -> SafeString:
        return pill_for_state(segment, "status")

    # --- The builder ----------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        count = path("count/", self.admin_site.admin_view(self.count_view), name="loyalty_segment_count")
        return [count, *super().get_urls()]

    def _site_to_build_for(self, request: HttpRequest) -> Site | None:
        site = chosen_site(request)
        if site is None:
            sites = list(sites_where(request.user, Right.SEGMENT)[:2])
            return sites[0] if len(sites) == 1 else None
        if not can(request.user, site, Right.SEGMENT):
            raise PermissionDenied
        return site

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        site = self._site_to_build_for(request)
        if site is None:
            sites = sites_where(request.user, Right.SEGMENT)[:200]
            context = self.frame(request, _("New segment"), sites=sites)
            return TemplateResponse(request, "admin/loyalty/choose_site.html", context)
        return self._builder_page(request, Segment(site=site))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return self._builder_page(request, self.get_row(request, object_id))

    def _builder_page(self, request: HttpRequest, segment: Segment) -> HttpResponse:
        may_change = can(request.user, segment.site, Right.SEGMENT)
        name = segment.name
        if request.method == "POST":
            if not may_change:
                raise PermissionDenied
            builder = Builder(segment, request.POST)
            changes_groups = {"add", "remove", "update", "exact"} & request.POST.keys()
            if not changes_groups and builder.is_valid():
                return self._saved(request, builder)
        else:
            builder = Builder(segment)
        is_new = segment.pk is None
        context = self.frame(
            request,
            _("New segment") if is_new else name,
            segment=segment,
            builder=builder,
            form=builder.form,
            may_change=may_change,
            is_new=is_new,
            object_actions=[] if is_new else self.buttons(request, segment),
            pill="" if is_new else self.kind(segment),
            count_url=f"{self.page_of('count')}?{urlencode({'site': segment.site.site_id})}",
            export_url=self._export_url(request, segment),
            rules_in_words=words_of(segment) if segment.is_frozen or not may_change else [],
        )
        if {"update", "exact"} & request.POST.keys() and builder.rules_are_valid():
            wanted = segment if segment.is_frozen else Segment(site=segment.site, rules=builder.rules())
            context |= self._counted(request, wanted, exactly="exact" in request.POST)
        return TemplateResponse(request, "admin/loyalty/segment/builder.html", context)

    def _export_url(self, request: HttpRequest, segment: Segment) -> str:
        if segment.pk is None or not can(request.user, segment.site, Right.EXPORT):
            return ""
        query = urlencode({"site": segment.site.site_id, "segment": segment.pk})
        return f"{reverse('admin:loyalty_exportjob_add')}?{query}"

    def _saved(self, request: HttpRequest, builder: Builder) -> HttpResponse:
        segment: Segment = builder.form.save(commit=False)
        is_new = segment.pk is None
        if not segment.is_frozen:
            segment.rules = builder.rules()
        if is_new:
            segment.created_by = request.user  # type: ignore[assignment]
        segment.save()
        audit.record(
            "segment.created" if is_new else "segment.changed",
            site=segment.site, request=request, target=segment.name, new={"rules": segment.rules},
        )  # fmt: skip
        messages.success(request, _("The segment “%(name)s” is saved.") % {"name": segment.name})
        site = chosen_site(request)
        query = f"?{urlencode({'site': site.site_id})}" if site else ""
        return HttpResponseRedirect(self.object_url(segment) + query)

    # --- Counts ---------------------------------------------------------------------------------------------------

    def count_view(self, request: HttpRequest) -> HttpResponse:
        """The counts of the rules in the form, for the script that asks after each change."""
        site = chosen_site(request)
        if request.method != "POST" or site is None:
            raise Http404
        frozen = request.POST.get("frozen", "")
        if frozen.isdecimal():
            segment: Segment = self.get_row(request, frozen)
            return TemplateResponse(request, "admin/loyalty/segment/counts.html", self._counted(request, segment))
        if not can(request.user, site, Right.VIEW):
            raise PermissionDenied
        builder = Builder(Segment(site=site), request.POST)
        context: dict[str, Any] = {"builder": builder, "sees_pii": can(request.user, site, Right.PII)}
        if builder.rules_are_valid():
            context |= self._counted(request, Segment(site=site, rules=builder.rules()))
        return TemplateResponse(request, "admin/loyalty/segment/counts.html", context)

    def _counted(self, request: HttpRequest, segment: Segment, *, exactly: bool = False) -> dict[str, Any]:
        counted = segments.counts(segment) if exactly else segments.estimate(segment)
        return {
            "counted": counted,
            "left_out": counted.total - counted.reachable if counted.is_exact else 0,
            "may_change": can(request.user, segment.site, Right.SEGMENT),
            "explanation": segments.explain_counts(segment) if not counted.total else None,
            "sees_pii": can(request.user, segment.site, Right.PII),
        }

    # --- Actions --------------------------------------------------------------------------------------------------

    def freeze(self, request: HttpRequest, segment: Segment) -> str:
        kept = segments.freeze(segment, request.user)
        return _("The segment is frozen with %(n)s members.") % {"n": number(kept)}

    def push_to_annex_cloud(self, request: HttpRequest, segment: Segment) -> str:
        return self._said(segments.push_to_annex_cloud(segment, request.user))

    def push_to_attentive(self, request: HttpRequest, segment: Segment) -> str:
        if settings.REDIS_URL and segments.members_of(segment)[: _MOST_AT_ONCE + 1].count() > _MOST_AT_ONCE:
            wake("loyalty.tasks.push_segment", segment.pk, int(request.user.pk or 0))
            return _("The segment is large, so a worker hands it over. The result will stand on this page.")
        return self._said(segments.push_to_attentive(segment, request.user))

    def _said(self, result: segments.PushResult) -> str:
        if not result.ok:
            raise ActionRefused(result.sentence)
        return result.sentence

    def delete_model(self, request: HttpRequest, obj: Segment) -> None:
        audit.record("segment.deleted", site=obj.site, request=request, target=obj.name, old={"rules": obj.rules})
        super().delete_model(request, obj)


def _figure(segment: Any, key: str) -> str:
    """Return a count as the last export found it."""
    manifest = segment.manifest or {}
    return number(manifest.get(key)) if key in manifest else "–"


def words_of(segment: Segment) -> list[list[tuple[str, str]]]:
    """Return the rules for reading: groups of (rule, value)."""
    builder = Builder(segment)
    shown = []
    for form in builder.groups:
        rows = []
        for name, value in form.initial.items():
            field = form.fields[name]
            choices = dict(getattr(field, "choices", []))
            values = value if isinstance(value, list) else [value]
            rows.append((str(field.label), ", ".join(str(choices.get(one, one)) for one in values)))
        shown.append(rows)
    return shown
