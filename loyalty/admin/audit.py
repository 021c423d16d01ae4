"""The audit trail: who did what, read only."""

import json
from typing import Any

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from attentive_integration.markup import ago
from loyalty.admin.base import SiteScopedAdmin
from loyalty.models import AuditEntry


@admin.register(AuditEntry)
class AuditEntryAdmin(SiteScopedAdmin):
    list_display = ("when", "who", "site", "event", "target", "change")
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

    @admin.display(description=_("change"))
    def change(self, entry: AuditEntry) -> Any:
        if entry.old is None and entry.new is None:
            return "–"
        if entry.old is None:
            return _shown(entry.new)
        return format_html("{} → {}", _shown(entry.old), _shown(entry.new))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)[:300]
