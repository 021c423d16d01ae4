"""The input side: loyalty actions as they were received, and why each became a text or none."""

import json
from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from attentive_integration import markup, phones
from loyalty.admin.logs import LogAdmin
from loyalty.models import LoyaltyAction
from loyalty.permissions import Right, can, chosen_site
from messaging import why
from messaging.admin.lists import PeriodFilter, with_line

Outcome = LoyaltyAction.Outcome
_TONES = {Outcome.MATCHED: "good", Outcome.HISTORY: "calm", Outcome.SITE_DRAFT: "warn", Outcome.TOO_OLD: "warn"}


class RecordedFilter(PeriodFilter):
    """When the action was received."""

    title = gettext_lazy("received")
    column = "recorded_at"
    default = "7d"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        return [("24h", _("last 24 hours")), ("30d", _("last 30 days")), ("all", _("any time"))]

    def standard_words(self) -> str:
        return _("any time") if self.searching else _("last 7 days")


class OutcomeFilter(SimpleListFilter):
    title = gettext_lazy("outcome")
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, Any]]:
        return [("WAITING", _("Not matched yet")), *Outcome.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "WAITING":
            return queryset.filter(processed_at=None)
        if self.value() not in Outcome.values:
            return queryset
        # SQLite uses the index of outcomes only where its condition stands in the query.
        return queryset.filter(outcome=self.value()).exclude(outcome="")


class MemberFilter(SimpleListFilter):
    """One member's actions; the link on the member's page chooses it."""

    title = gettext_lazy("member")
    parameter_name = "member"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        value = request.GET.get("member", "")
        return [(value, _("one member"))] if value.isdecimal() and len(value) < 19 else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(member=int(self.value() or 0)) if self.value() else queryset


@admin.register(LoyaltyAction)
class LoyaltyActionAdmin(LogAdmin):
    list_display = ("activity_id", "type_shown", "member_shown", "outcome_shown", "site_shown", "occurred", "received")
    list_filter = (RecordedFilter, OutcomeFilter, MemberFilter)
    list_select_related = object_related = ("site", "member", "action_type")
    search_fields = ("activity_id",)
    search_help_text = gettext_lazy("Activity ID, phone in any spelling or loyalty ID")
    lead = gettext_lazy("What members did, as Annex Cloud reported it, and what became of it.")
    empty_icon = "star"
    empty_title = gettext_lazy("No action received in this period")
    empty_text = gettext_lazy(
        "Annex Cloud sends what members do to the inbound API, or you import a file. No action, no text."
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        words = search_term.strip()
        if not words:
            return queryset, False
        site = chosen_site(request)
        if phone := phones.spellings(words, site.default_country if site else "US"):
            return queryset.filter(member__phone=phone), False
        by_id = queryset.filter(activity_id=words)
        return by_id if by_id.exists() else queryset.filter(member__external_id=words), False

    @admin.display(description=gettext_lazy("action"))
    def type_shown(self, action: LoyaltyAction) -> str:
        return str(action.action_type)

    @admin.display(description=gettext_lazy("member"))
    def member_shown(self, action: LoyaltyAction) -> SafeString:
        phone = markup.phone_text(action.member.phone, whole=getattr(action, "sees_pii", False))
        name = f"{action.member.first_name} {action.member.last_name}".strip()
        return with_line(name or "–", phone)

    @admin.display(description=gettext_lazy("outcome"))
    def outcome_shown(self, action: LoyaltyAction) -> SafeString:
        return outcome_pill(action)

    @admin.display(description=gettext_lazy("occurred"))
    def occurred(self, action: LoyaltyAction) -> SafeString:
        return markup.ago(action.occurred_at)

    @admin.display(description=gettext_lazy("received"))
    def received(self, action: LoyaltyAction) -> SafeString:
        return markup.ago(action.recorded_at)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the action, and for each campaign why this person got its text or did not."""
        action = self.get_row(request, object_id)
        whole = can(request.user, action.site_id, Right.PII)
        findings = why.findings(action, phone=markup.phone_text(action.member.phone, whole=whole))
        context = self.frame(
            request,
            action.activity_id,
            action,
            action=action, sees_pii=whole, findings=findings, others=why.other_campaigns(action),
            pill=outcome_pill(action), has_text=any(one.message is not None for one in findings),
            data=json.dumps(action.data, indent=2, ensure_ascii=False) if action.data else "",
        )  # fmt: skip
        return TemplateResponse(request, "admin/messaging/action.html", context)


def outcome_pill(action: LoyaltyAction) -> SafeString:
    """Return what became of the action, as a pill."""
    if action.processed_at is None:
        return markup.pill(_("Not matched yet"), "info", "clock")
    tone = _TONES.get(Outcome(action.outcome), "calm") if action.outcome in Outcome.values else "calm"
    return markup.pill(action.get_outcome_display(), tone, "check" if action.outcome == Outcome.MATCHED else "skip")
