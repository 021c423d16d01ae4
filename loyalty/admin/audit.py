"""The audit trail: who did what, read only."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from attentive_integration.event_words import event_words
from attentive_integration.markup import ago
from loyalty import audit
from loyalty.admin.base import SiteScopedAdmin
from loyalty.connection import Task, TaskState
from loyalty.models import AccessToken, AuditEntry, Site
from loyalty.permissions import chosen_site
from loyalty.spreadsheets import defuse

# A download has the newest ones of more.
_MOST_ROWS = 50_000
# Codes that entries note, in words.
_WORDS = {code: label for choices in (AccessToken.Kind, Task, TaskState, Site.State) for code, label in choices.choices}


class EventFilter(admin.SimpleListFilter):
    title = _("event")
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(event, event_words(event)) for event in audit.events()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(event=self.value()) if self.value() else queryset


@admin.register(AuditEntry)
class AuditEntryAdmin(SiteScopedAdmin):
    list_display = ("event_shown", "who", "site_named", "target_shown", "change", "when")
    list_title = _("Audit")
    list_filter = (EventFilter,)
    list_select_related = ("site",)
    # Names no column: `get_search_results` chooses the index.
    search_fields = ("target",)
    search_help_text = _("Person or event in full, or the beginning of a target")
    ordering = ("-at", "-pk")
    sortable_by = ("when",)
    lead = _("Who did what, on which site. Entries are never edited, and secrets are never in them.")
    empty_icon = "audit"
    empty_text = _("What people and commands change on a site is written down here.")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEntry], search_term: str
    ) -> tuple[QuerySet[AuditEntry], bool]:
        text = search_term.strip()
        if not text:
            return queryset, False
        return queryset.filter(Q(actor=text) | Q(event=text) | Q(target__startswith=text)), False

    @admin.display(description=_("when"), ordering="at")
    def when(self, entry: AuditEntry) -> SafeString:
        return ago(entry.at)

    @admin.display(description=_("who"))
    def who(self, entry: AuditEntry) -> str:
        return entry.actor or "–"

    @admin.display(description=_("site"))
    def site_named(self, entry: AuditEntry) -> str:
        return entry.site.client_name if entry.site else "–"

    @admin.display(description=_("target"))
    def target_shown(self, entry: AuditEntry) -> str:
        return str(_WORDS.get(entry.target, entry.target))

    @admin.display(description=_("event"), ordering="event")
    def event_shown(self, entry: AuditEntry) -> str:
        return event_words(entry.event)

    @admin.display(description=_("change"))
    def change(self, entry: AuditEntry) -> Any:
        if entry.old is None:
            return _in_words(entry.new)[:300]
        return format_html("{} → {}", _in_words(entry.old)[:300], _in_words(entry.new)[:300])

    def get_urls(self) -> list[URLPattern]:
        download = self.admin_site.admin_view(self.download_view)
        return [path("download/", download, name="loyalty_auditentry_download"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        query = f"?{request.GET.urlencode()}" if request.GET else ""
        links = [{"url": self.page_of("download") + query, "label": _("Download"), "icon": "export"}]
        return super().changelist_view(request, {"list_links": links, **(extra_context or {})})

    def download_view(self, request: HttpRequest) -> StreamingHttpResponse:
        """Write the entries that the list shows with these filters, newest first, as a spreadsheet."""
        found = self.get_changelist_instance(request).get_queryset(request)
        entries = found.select_related("site")[:_MOST_ROWS].iterator(chunk_size=1_000)
        audit.record("audit.downloaded", site=chosen_site(request), request=request, new=request.GET.dict() or None)
        answer = StreamingHttpResponse(_as_csv(self._cells(entry) for entry in entries), content_type="text/csv")
        answer["Content-Disposition"] = f'attachment; filename="audit_{timezone.localdate():%Y%m%d}.csv"'
        answer["Cache-Control"] = "no-store"
        return answer

    def _cells(self, entry: AuditEntry) -> list[str]:
        site = str(entry.site or "")
        old, new = (_in_words(value) if value is not None else "" for value in (entry.old, entry.new))
        return [entry.at.isoformat(timespec="seconds"), entry.actor, site, entry.event, entry.target, old, new]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one entry in full: the list cuts long ones."""
        entry = self.get_row(request, object_id)
        context = self.frame(
            request, event_words(entry.event), entry=entry, target=self.target_shown(entry),
            before=_pairs(entry.old), after=_pairs(entry.new),
        )  # fmt: skip
        return TemplateResponse(request, "admin/loyalty/audit_entry.html", context)


def _as_csv(rows: Iterable[list[str]]) -> Iterator[str]:
    """Yield the lines of the file, with a mark at its beginning by which spreadsheets know the encoding."""
    yield "\ufeff"
    line = io.StringIO()
    writer = csv.writer(line)
    writer.writerow(["at", "who", "site", "event", "target", "before", "after"])
    for row in rows:
        writer.writerow([defuse(cell) for cell in row])
        yield line.getvalue()
        line.seek(0)
        line.truncate()
    yield line.getvalue()


def _pairs(value: Any) -> list[tuple[str, str]]:
    """Return what an entry noted as pairs of a name and a text; a lone value has no name."""
    if value is None:
        return []
    pairs = value.items() if isinstance(value, dict) else [("", value)]
    return [(name, _in_words(one)) for name, one in pairs]


def _in_words(value: Any) -> str:
    """Return what an entry noted for reading: pairs as "name: value", lists as their items."""
    if isinstance(value, dict):
        return " · ".join(f"{name}: {_in_words(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(_in_words(one) for one in value)
    return "–" if value is None else str(_WORDS.get(value, value))
