"""Consent: every address with its state and ledger, and the queue of those who are to be asked."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from attentive_integration.markup import STATE_LOOKS, ago, email_text, number, phone_text, pill_for_state
from attentive_integration.phones import spellings
from loyalty import subscriptions
from loyalty.admin.logs import LogAdmin, site_pks
from loyalty.admin.waiting import duration as words_of
from loyalty.capped_counts import estimated_counts
from loyalty.models import AccessToken, Breaker, Consent, ConsentEvent, Member, Site
from loyalty.permissions import Right, chosen_site

State, Channel = Consent.State, Consent.Channel
_MOST_SITES = 200
_LEDGER = 200


class StateFilter(admin.SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state.value, str(state.label)) for state in State]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Consent]) -> QuerySet[Consent]:
        return queryset.filter(state=self.value()) if self.value() in State.values else queryset


def address_text(row: Consent, *, whole: bool) -> str:
    """Return the address as staff may read it; of an erased one only a keyed hash is left."""
    if row.state == State.ERASED:
        return _("Erased person #%(pk)s") % {"pk": row.pk}
    return phone_text(row.address, whole=whole) if row.channel == Channel.TEXT else email_text(row.address, whole=whole)


@admin.register(Consent)
class ConsentAdmin(LogAdmin):
    list_display = ("address_shown", "channel", "state_shown", "site_shown", "decided", "updated", "remark")
    list_title = gettext_lazy("Consent")
    list_filter = (StateFilter, "channel")
    search_fields = ("address",)
    search_help_text = gettext_lazy("Phone in any spelling, or e-mail")
    list_select_related = ("site",)
    lead = gettext_lazy(
        "Who may be texted, and how we know. An opt-out wins over everything older; every fact is kept in the ledger."
    )
    empty_icon = "consent"
    empty_title = gettext_lazy("Nobody was asked yet")
    empty_text = gettext_lazy(
        "An address appears here when it is to be asked, when Attentive reports a subscription or an opt-out, or when "
        "a list exported from Attentive is imported."
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Consent], search_term: str
    ) -> tuple[QuerySet[Consent], bool]:
        text = search_term.strip()
        if not text:
            return queryset, False
        site = chosen_site(request)
        phone = spellings(text, site.default_country if site else "US")
        return queryset.filter(address__in={text.lower() if "@" in text else phone or text}), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        site = chosen_site(request)
        query = f"?{urlencode({'site': site.site_id})}" if site else ""
        links = [{"url": self.page_of("queue") + query, "label": _("Subscribe queue"), "icon": "send"}]
        return super().changelist_view(request, {"list_links": links, **(extra_context or {})})

    @admin.display(description=gettext_lazy("address"))
    def address_shown(self, row: Any) -> str:
        return address_text(row, whole=row.sees_pii)

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, row: Consent) -> SafeString:
        return pill_for_state(row)

    @admin.display(description=gettext_lazy("decided"))
    def decided(self, row: Consent) -> SafeString:
        return ago(row.event_at)

    @admin.display(description=gettext_lazy("updated"))
    def updated(self, row: Consent) -> SafeString:
        return ago(row.updated_at)

    @admin.display(description=gettext_lazy("remark"))
    def remark(self, row: Consent) -> str:
        return row.detail

    # --- The ledger of one address --------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_row(request, object_id)
        whole = self.allows(request, Right.PII, row)
        events = list(row.events.select_related("by").order_by("-recorded_at", "-pk")[:_LEDGER])
        member = None
        if row.state != State.ERASED:
            field = "phone" if row.channel == Channel.TEXT else "email"
            member = Member.objects.filter(site=row.site_id, **{field: row.address}).order_by("-pk").first()
        context = self.frame(
            request,
            address_text(row, whole=whole),
            consent_row=row,
            pill=pill_for_state(row),
            sees_pii=whole,
            member=member,
            entries=[ledger_entry(event) for event in events],
        )
        return TemplateResponse(request, "admin/loyalty/consent/change_form.html", context)

    # --- The subscribe queue --------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        queue = path("queue/", self.admin_site.admin_view(self.queue_view), name="loyalty_consent_queue")
        return [queue, *super().get_urls()]

    def queue_view(self, request: HttpRequest) -> HttpResponse:
        site = chosen_site(request)
        scope = Site.objects.filter(pk__in=site_pks(request))
        texts = Consent.objects.filter(channel=Channel.TEXT)
        waiting = estimated_counts(texts.filter(state=State.TO_ASK), scope)
        asked = estimated_counts(texts.filter(state=State.REQUESTED), scope)
        pace = settings.RATE_LIMITS["SUBSCRIBE"]
        queues = {pk: Queue(pace, waiting.get(pk, 0), asked.get(pk, 0)) for pk in {**waiting, **asked}}
        context = self.frame(request, _("Subscribe queue"), pace=pace)
        if site is None:
            sites = Site.objects.filter(pk__in=queues)[:_MOST_SITES]
            context["rows"] = [
                (
                    format_html('<a href="?{}">{}</a>', urlencode({"site": one.site_id}), one.client_name),
                    pill_for_state(one), number(queues[one.pk].waiting), number(queues[one.pk].asked),
                    _("paused") if one.asking_paused_at else queues[one.pk].duration,
                )
                for one in sites
            ]  # fmt: skip
            context["headers"] = (
                _("Site"), _("State"), (_("Waiting"), "number"), (_("Asked, no answer yet"), "number"),
                _("Takes about"),
            )  # fmt: skip
        else:
            buttons = self.admin_site.get_model_admin(Site).buttons(request, site)  # type: ignore[attr-defined]
            context |= {
                "queue": queues.get(site.pk, Queue(pace)), "hindrance": hindrance(site),
                "object_actions": [one for one in buttons if one["name"] in ("pause-asking", "resume-asking")],
            }  # fmt: skip
        return TemplateResponse(request, "admin/loyalty/consent/queue.html", context)


@dataclass
class Queue:
    """The people of a site who wait to be asked, at `pace` a second; `asked` have not answered yet."""

    pace: int
    waiting: int = 0
    asked: int = 0

    @property
    def done_at(self) -> datetime | None:
        """When the last of them is asked, if nothing holds the queue up."""
        return timezone.now() + timedelta(seconds=self.waiting / self.pace) if self.waiting else None

    @property
    def duration(self) -> str:
        return words_of(self.waiting / self.pace) if self.waiting else "–"


def hindrance(site: Site) -> str:
    """Return why nobody of the site can be asked now, as a sentence with the remedy; empty when all is well."""
    try:
        subscriptions.require_ready(site)
    except subscriptions.CannotSubscribe as reason:
        return str(reason)
    breaker = Breaker.objects.filter(
        site=site, token_kind=AccessToken.Kind.ATTENTIVE_APP, opened_at__isnull=False
    ).first()
    return breaker.sentence if breaker else ""


def ledger_entry(event: ConsentEvent) -> dict[str, Any]:
    """Return a fact of the ledger as an entry of `partials/timeline.html`: what changed, who said so, and on what."""
    tone, icon_name = STATE_LOOKS.get(event.heard or event.to_state, ("calm", "dot"))
    if event.source == ConsentEvent.Source.STAFF and (event.heard or event.to_state) == State.UNKNOWN:
        title = _("Block lifted: %(state)s") % {"state": event.get_to_state_display()}
    elif event.heard:
        title = _("Heard “%(heard)s”, which changed nothing") % {"heard": event.get_heard_display()}
        tone = "calm"
    elif event.from_state == event.to_state:
        title = _("%(state)s, confirmed") % {"state": event.get_to_state_display()}
    else:
        title = f"{event.get_from_state_display()} → {event.get_to_state_display()}"
    words = [str(event.get_source_display())]
    if event.by:
        words.append(event.by.get_username())
    if event.event_at and abs((event.recorded_at - event.event_at).total_seconds()) > 60:
        when = date_format(timezone.localtime(event.event_at), "SHORT_DATETIME_FORMAT")
        words.append(_("happened %(when)s") % {"when": when})
    if event.evidence:
        words.append(event.evidence)
    return {
        "tone": tone, "icon": icon_name, "title": title, "text": " · ".join(words), "at": event.recorded_at,
        "pill": "", "url": "",
    }  # fmt: skip
