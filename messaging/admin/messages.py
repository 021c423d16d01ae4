"""The message log, and one message: what became of it, and what a person may decide about it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from attentive_integration import markup, phones
from attentive_integration.wake import wake
from loyalty.admin.base import ObjectAction
from loyalty.admin.logs import LogAdmin, site_pks
from loyalty.capped_counts import CountOf, at_least
from loyalty.exports import ExportRefused
from loyalty.models import LoyaltyAction, Site
from loyalty.permissions import Right, can, chosen_site, sites_where
from messaging import decisions, exports, reasons, text
from messaging.admin.lists import PeriodFilter, with_line
from messaging.admin.message_page import message_page
from messaging.models import Campaign, Message

State = Message.State

# A decision about more messages than this is made in several goes, so that each stays a decision.
MOST_AT_ONCE = 500
# Choices of the campaign filter.
_CAMPAIGNS_LISTED = 60
_WAITING = (State.QUEUED, State.HELD)
_RESENDABLE = (State.UNKNOWN, State.REFUSED)
# Why a queued text that Attentive did not take waits for its next try.
_PAUSED_TRIES = (reasons.Code.RETRYING, reasons.Code.RATE_LIMITED)


def _ask_to_repeat(message: Message) -> str:
    """Return what is asked before a text is sent again: the risk or the condition, and what it costs."""
    count = text.parts(message.body, message.site.sms_prefix).count
    cost = ngettext("It costs %(n)s SMS part.", "It costs %(n)s SMS parts.", count) % {"n": count}
    if message.state == State.UNKNOWN:
        why = _("It is not known whether this text went out, so the person may get it twice.")
    else:
        why = _(
            "Attentive refused this text. Have its cause mended first. Consent, caps and quiet hours are checked again "
            "before it leaves."
        )
    return " ".join([why, cost, _("Send it again?")])


def reason_title(code: str) -> str:
    """Return the title of a reason for a list, where nothing more is known than its code."""
    unknown = "…"
    return reasons.explain(code, status=unknown).title.replace(f" ({unknown})", "")


class StateFilter(SimpleListFilter):
    """One state; chosen by the tabs above the list."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, Any]]:
        return State.choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(state=self.value()) if self.value() in State.values else queryset


class CampaignFilter(SimpleListFilter):
    title = gettext_lazy("campaign")
    parameter_name = "campaign"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        campaigns = Campaign.objects.visible_to(request.user)
        site = chosen_site(request)
        if site is not None:
            campaigns = campaigns.filter(site=site)
        names = campaigns.order_by("name", "pk").values_list("pk", "name", "site__client_name")[:_CAMPAIGNS_LISTED]
        return [(str(pk), name if site else f"{name} · {client}") for pk, name, client in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value() or ""
        return queryset.filter(campaign=int(value)) if value.isdecimal() and len(value) < 19 else queryset


class ReasonFilter(SimpleListFilter):
    title = gettext_lazy("reason")
    parameter_name = "reason"
    # Codes that never stand on a message: they say why an action became none.
    _OF_ACTIONS = frozenset(LoyaltyAction.Outcome.values) - {reasons.Code.SITE_DRAFT}

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        return self.codes()

    @classmethod
    def codes(cls) -> list[tuple[str, str]]:
        """Return the codes that may stand on a message, with words."""
        titles = [(code.value, reason_title(code)) for code in reasons.Code if code not in cls._OF_ACTIONS]
        return sorted(titles, key=lambda pair: pair[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        # SQLite uses the index of reasons only where its condition stands in the query.
        return queryset.filter(reason=self.value()).exclude(reason="") if self.value() else queryset


@admin.register(Message)
class MessageAdmin(LogAdmin):
    list_display = ("to_shown", "text_shown", "state_shown", "reason_shown", "when")
    list_filter = (StateFilter, PeriodFilter, CampaignFilter, ReasonFilter)
    list_select_related = ("site", "campaign")
    object_related = ("site", "member", "campaign", "version", "action__action_type", "resent_by")
    search_fields = ("to",)
    search_help_text = gettext_lazy("Phone, #message or activity ID")
    actions = ("send_again_selected", "treat_as_sent_selected", "cancel_selected")
    lead = gettext_lazy("What went, what did not, and why. “Accepted” means that Attentive took the text.")
    empty_icon = "message"
    change_list_template = "admin/messaging/message_list.html"
    object_actions = (
        ObjectAction(
            "treat-as-sent", gettext_lazy("Treat as sent"), Right.RESEND, run="treat_as_sent", icon="check",
            confirm=gettext_lazy("The text counts as sent then, and nobody is texted. Did it go out?"),
            when=lambda message: message.state == State.UNKNOWN,
        ),
        ObjectAction(
            "send-again", gettext_lazy("Send again"), Right.RESEND, run="send_again", icon="send", tone="danger",
            confirm=_ask_to_repeat, when=lambda message: message.state == State.UNKNOWN,
        ),
        ObjectAction(
            "resend", gettext_lazy("Send again"), Right.RESEND, run="send_again", icon="send",
            confirm=_ask_to_repeat, when=lambda message: message.state == State.REFUSED,
        ),
        ObjectAction(
            "try-now", gettext_lazy("Try now"), Right.RESEND, run="try_now", icon="refresh",
            when=lambda message: (
                message.state == State.QUEUED and message.reason in _PAUSED_TRIES and message.due_at > timezone.now()
            ),
        ),
        ObjectAction(
            "cancel", gettext_lazy("Cancel"), Right.RESEND, run="cancel", icon="stop",
            confirm=gettext_lazy("The text is not sent then, now or later. Cancel it?"),
            when=lambda message: message.state in _WAITING,
        ),
    )  # fmt: skip

    # --- The list -------------------------------------------------------------------------------------------------

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        words = search_term.strip()
        if not words:
            return queryset, False
        number = words.removeprefix("#")
        if words.startswith("#") and number.isdecimal() and len(number) < 19:
            return queryset.filter(pk=int(number)), False
        site = chosen_site(request)
        if phone := phones.spellings(words, site.default_country if site else "US"):
            return queryset.filter(to=phone), False
        if number.isdecimal() and len(number) < 19:
            return queryset.filter(pk=int(number)), False
        actions = LoyaltyAction.objects.filter(site__in=site_pks(request), activity_id=words)
        return queryset.filter(action__in=actions.values("pk")), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        response = super().changelist_view(request, extra_context)
        if isinstance(response, TemplateResponse) and response.context_data and "cl" in response.context_data:
            changelist = response.context_data["cl"]
            period = next(spec for spec in changelist.filter_specs if isinstance(spec, PeriodFilter))
            response.context_data |= {
                "state_tabs": self._state_tabs(request, changelist),
                "tabs_label": _("States"),
                "longer_url": changelist.get_query_string({"period": "30d"}),
                "is_short": period.chosen in ("1h", "24h", "7d"),
                "list_links": self._list_links(request, changelist),
            }
        return response

    def _list_links(self, request: HttpRequest, changelist: ChangeList) -> list[dict[str, Any]]:
        links = []
        if self._may_export(request):
            query = changelist.get_query_string(remove=["p"])
            links.append({"url": self.page_of("export") + query, "label": _("Export"), "icon": "export"})
        if can(request.user, chosen_site(request), Right.ACTIVATE):
            stops = reverse("admin:loyalty_sendingstop_changelist")
            links.append({"url": stops, "label": _("Stop everything"), "icon": "stop"})
        return links

    def _may_export(self, request: HttpRequest) -> bool:
        return can(request.user, chosen_site(request), Right.EXPORT)

    def _state_tabs(self, request: HttpRequest, changelist: ChangeList) -> list[dict[str, Any]]:
        """Return a tab per state with its count among the rows that the other filters leave, in one query."""
        rows: Any = self.get_queryset(request)
        for spec in changelist.filter_specs:
            if not isinstance(spec, StateFilter):
                rows = spec.queryset(request, rows)
        rows, _duplicates = self.get_search_results(request, rows, changelist.query or "")
        counted = {f"in_{state.lower()}": CountOf(rows.filter(state=state).order_by()) for state in State.values}
        counts: Any = Site.objects.filter(pk__in=site_pks(request)[:1]).values(**counted).first() or {}
        chosen = request.GET.get("state", "")
        tabs = [{"label": _("All"), "url": changelist.get_query_string(remove=["state", "p"]), "current": not chosen}]
        for state in State:
            count = counts.get(f"in_{state.value.lower()}", 0)
            if not count and state != chosen:
                continue
            tabs.append(
                {
                    "label": f"{state.label} {markup.number(at_least(count))}",
                    "url": changelist.get_query_string({"state": state.value}, remove=["p"]),
                    "icon": markup.STATE_LOOKS[state.value][1],
                    "current": state == chosen,
                }
            )
        return tabs

    @admin.display(description=gettext_lazy("to"))
    def to_shown(self, message: Message) -> str:
        return markup.phone_text(message.to, whole=getattr(message, "sees_pii", False))

    @admin.display(description=gettext_lazy("text"))
    def text_shown(self, message: Any) -> SafeString:
        text_start = Truncator(message.body).chars(80) or "–"
        names = [message.campaign.name, *([message.site.client_name] if message.names_site else [])]
        return with_line(text_start, " · ".join(names))

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, message: Message) -> SafeString:
        return markup.pill_for_state(message)

    @admin.display(description=gettext_lazy("reason"))
    def reason_shown(self, message: Message) -> str:
        return reason_title(message.reason) if message.reason else "–"

    @admin.display(description=gettext_lazy("when"))
    def when(self, message: Message) -> SafeString:
        return markup.ago(message.created_at)

    # --- Decisions about one message ------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        message = self.get_row(request, object_id)
        whole = can(request.user, message.site_id, Right.PII)
        tab = request.GET.get("tab", "latest")
        title = _("Message %(number)s") % {"number": message}
        context = self.frame(
            request, title, object_actions=self.buttons(request, message),
            **message_page(message, whole=whole, raw=can(request.user, message.site_id, Right.RAW), tab=tab),
        )  # fmt: skip
        return TemplateResponse(request, "admin/messaging/message.html", context)

    def treat_as_sent(self, request: HttpRequest, message: Message) -> str:
        decisions.treat_as_sent([message], by=request.user)
        return _("The text counts as sent.")

    def send_again(self, request: HttpRequest, message: Message) -> str:
        decisions.send_again([message], by=request.user)
        wake("messaging.tasks.send_due")
        return _("The text waits for a further attempt. Consent, caps and quiet hours are checked before it leaves.")

    def try_now(self, request: HttpRequest, message: Message) -> str:
        decisions.try_now([message], by=request.user)
        wake("messaging.tasks.send_due")
        return _("The text is tried as soon as a worker, or run_campaigns, comes to it.")

    def cancel(self, request: HttpRequest, message: Message) -> str:
        if not decisions.cancel([message], by=request.user):
            return _("The call has begun, so the text cannot be called back.")
        return _("The text was cancelled.")

    # --- Decisions about many -------------------------------------------------------------------------------------

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return self.allows(request, Right.RESEND)

    @admin.action(description=gettext_lazy("Send again …"), permissions=["resend"])
    def send_again_selected(self, request: HttpRequest, selected: QuerySet[Message]) -> HttpResponse | None:
        found = self._decidable(request, selected, _RESENDABLE)
        cost = sum(text.parts(message.body, message.site.sms_prefix).count for message in found)
        unknown = sum(message.state == State.UNKNOWN for message in found)
        facts = [
            ngettext("%(n)s text is sent again.", "%(n)s texts are sent again.", len(found))
            % {"n": markup.number(len(found))},
            ngettext("It costs %(n)s SMS part.", "They cost %(n)s SMS parts.", cost) % {"n": markup.number(cost)},
        ]
        if unknown:
            facts.append(
                ngettext(
                    "Of %(n)s it is not known whether it went out: that person may get it twice.",
                    "Of %(n)s it is not known whether they went out: those people may get them twice.",
                    unknown,
                )
                % {"n": markup.number(unknown)}
            )
        facts.append(_("Consent, caps and quiet hours are checked again before they leave."))
        answer = self._confirmed(request, "send_again_selected", _("Send again"), found, facts, tone="danger")
        if answer is None and found:
            done = decisions.send_again(found, by=request.user)
            wake("messaging.tasks.send_due")
            self._say(
                request,
                ngettext("%(n)s text waits again.", "%(n)s texts wait again.", done),
                done,
            )
        return answer

    @admin.action(description=gettext_lazy("Treat as sent …"), permissions=["resend"])
    def treat_as_sent_selected(self, request: HttpRequest, selected: QuerySet[Message]) -> HttpResponse | None:
        found = self._decidable(request, selected, (State.UNKNOWN,))
        facts = [
            ngettext(
                "%(n)s text, of which it is not known whether it went out, counts as sent then. Nobody is texted.",
                "%(n)s texts, of which it is not known whether they went out, count as sent then. Nobody is texted.",
                len(found),
            )
            % {"n": markup.number(len(found))}
        ]
        answer = self._confirmed(request, "treat_as_sent_selected", _("Treat as sent"), found, facts)
        if answer is None and found:
            done = decisions.treat_as_sent(found, by=request.user)
            self._say(request, ngettext("%(n)s text counts as sent.", "%(n)s texts count as sent.", done), done)
        return answer

    @admin.action(description=gettext_lazy("Cancel what waits …"), permissions=["resend"])
    def cancel_selected(self, request: HttpRequest, selected: QuerySet[Message]) -> HttpResponse | None:
        found = self._decidable(request, selected, _WAITING)
        facts = [
            ngettext(
                "%(n)s text that waits is not sent then, now or later.",
                "%(n)s texts that wait are not sent then, now or later.",
                len(found),
            )
            % {"n": markup.number(len(found))}
        ]
        answer = self._confirmed(request, "cancel_selected", _("Cancel the texts"), found, facts, tone="danger")
        if answer is None and found:
            done = decisions.cancel(found, by=request.user)
            self._say(request, ngettext("%(n)s text was cancelled.", "%(n)s texts were cancelled.", done), done)
        return answer

    def _say(self, request: HttpRequest, sentence: str, done: int) -> None:
        messages.success(request, sentence % {"n": markup.number(done)})

    def _decidable(self, request: HttpRequest, selected: QuerySet[Message], states: Sequence[str]) -> list[Message]:
        """Return the selected messages in these states on whose sites the user may decide, one more than the limit."""
        mine = sites_where(request.user, Right.RESEND).values("pk")
        rows = selected.filter(state__in=states, site__in=mine).select_related("site")
        return list(rows[: MOST_AT_ONCE + 1])

    def _confirmed(
        self, request: HttpRequest, name: str, label: str, found: list[Message], facts: list[str], tone: str = ""
    ) -> HttpResponse | None:
        """Return None when the decision was confirmed (or there is nothing to decide), else the page that asks."""
        if not found:
            messages.warning(request, _("None of the selected messages is in a state in which this can be done."))
            return None
        if len(found) > MOST_AT_ONCE:
            messages.error(
                request,
                _("Choose at most %(n)d messages at a time. Nothing was changed.") % {"n": MOST_AT_ONCE},
            )
            found.clear()
            return None
        if request.POST.get("confirmed") == "yes":
            return None
        context = self.frame(
            request, label, facts=facts, action_name=name, tone=tone, pks=[message.pk for message in found],
            back_url=request.get_full_path(),
        )  # fmt: skip
        return TemplateResponse(request, "admin/messaging/decide_many.html", context)

    # --- Export ---------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        export = path("export/", self.admin_site.admin_view(self.export_view), name="messaging_message_export")
        return [export, *super().get_urls()]

    def export_view(self, request: HttpRequest) -> HttpResponse:
        """Ask for one site's messages as a spreadsheet, as the list is narrowed, and start the job."""
        if not self._may_export(request):
            raise PermissionDenied
        sites = sites_where(request.user, Right.EXPORT).order_by("client_name", "pk")
        site = chosen_site(request)
        filters = _export_filters(request)
        if request.method == "POST":
            site = sites.filter(site_id=request.POST.get("site_id", "")).first()
            wanted = {name: request.POST.get(name, "").strip() for name in exports.FILTERS}
            if site is None:
                messages.error(request, _("Choose the site whose messages you want."))
                return HttpResponseRedirect(request.get_full_path())
            try:
                exports.start_message_export(site, wanted, by=request.user)
            except ExportRefused as refusal:
                messages.error(request, str(refusal))
                return HttpResponseRedirect(request.get_full_path())
            wake("messaging.tasks.export_due")
            messages.success(request, _("The export has started. The file can be downloaded when it is complete."))
            return HttpResponseRedirect(f"{reverse('admin:loyalty_exportjob_changelist')}?site={site.site_id}")
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET", "POST"])
        context = self.frame(
            request, _("Export messages"), sites=sites[:200], site=site, filters=filters, states=State.choices,
            reason_codes=ReasonFilter.codes(), back_url=self.page_of("changelist"),
        )  # fmt: skip
        return TemplateResponse(request, "admin/messaging/message_export.html", context)


def _export_filters(request: HttpRequest) -> dict[str, str]:
    """Return the list's filters in the form that the export takes; a period becomes days."""
    period = request.GET.get("period", PeriodFilter.default)
    today = timezone.localdate()
    first = {name: today - timedelta(days=span.days) for name, span in PeriodFilter.spans.items()}
    begin = first[period].isoformat() if period in first else "" if period == "all" else period[:10]
    return {
        "state": request.GET.get("state", ""),
        "reason": request.GET.get("reason", ""),
        "campaign": request.GET.get("campaign", ""),
        "phone": request.GET.get("q", ""),
        "from": begin,
        "to": "" if period in first or period == "all" else begin,
    }
