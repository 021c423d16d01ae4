"""The audit trail: who did what, read only."""

from typing import Any

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from attentive_integration.markup import ago, event_words
from loyalty.admin.base import SiteScopedAdmin
from loyalty.models import AuditEntry


@admin.register(AuditEntry)
class AuditEntryAdmin(SiteScopedAdmin):
    list_display = ("when", "who", "site", "event_shown", "target", "change")
    list_display_links = None
    list_title = _("Audit")
    list_filter = ("event",)
    list_select_related = ("site",)
    search_fields = ("actor", "event", "target")
    search_help_text = _("Person, event or target")
    ordering = ("-at", "-pk")
    lead = _("Who did what, on which site. Entries are never edited, and secrets are never in them.")
    empty_icon = "audit"
    empty_text = _("What people and commands change on a site is written down here.")

    @admin.display(description=_("when"), ordering="at")
    def when(self, entry: AuditEntry) -> SafeString:
        return ago(entry.at)

    @admin.display(description=_("who"), ordering="actor")
    def who(self, entry: AuditEntry) -> str:
        return entry.actor or "–"

    @admin.display(description=_("event"), ordering="event")
    def event_shown(self, entry: AuditEntry) -> str:
        return event_words(entry.event)

    @admin.display(description=_("change"))
    def change(self, entry: AuditEntry) -> Any:
        if entry.old is None:
            return _in_words(entry.new)[:300]
        return format_html("{} → {}", _in_words(entry.old)[:300], _in_words(entry.new)[:300])


def _in_words(value: Any) -> str:
    """Return what an entry noted for reading: pairs as "name: value", lists as their items."""
    if isinstance(value, dict):
        return " · ".join(f"{name}: {_in_words(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(_in_words(one) for one in value)
    return "–" if value is None else str(value)
