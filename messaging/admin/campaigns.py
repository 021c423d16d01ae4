"""Campaigns: the list, a new one from a text, the editor, going live, versions, shadow report and test texts."""

from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from attentive_integration import markup, phones
from attentive_integration.wake import wake
from loyalty.admin.base import ActionRefused, ObjectAction, SiteScopedAdmin
from loyalty.capped_counts import CountOf, at_least
from loyalty.models import Site
from loyalty.permissions import Right, can, chosen_site, people_with, sites_where
from messaging import campaigns, guest_texts, previews, starters, text
from messaging.admin.campaign_pages import (
    editor_parts,
    look_at_picture,
    preview_parts,
    readiness,
    shadow_report,
    version_rows,
)
from messaging.admin.lists import with_line
from messaging.campaigns import CampaignRefused
from messaging.forms import CampaignForm, GoLiveForm, GuestTextForm, NewCampaignForm
from messaging.models import Campaign, Message

State = Campaign.State

# A text leaves within days of its making, so the week's texts are no older than this.
_RECENT = timedelta(days=10)
# The text that a campaign without a starter begins with. Members read it, so it is not translated for staff.
_FIRST_BODY = "Thank you, {{ first_name|friend }}!"
# Texts that the list counts for each campaign.
_COUNTED = 1_000
_SENT = (Message.State.SENDING, Message.State.ACCEPTED, Message.State.REFUSED, Message.State.UNKNOWN)


@admin.register(Campaign)
class CampaignAdmin(SiteScopedAdmin):
    list_display = ("name", "text_shown", "state_shown", "route_shown", "sent_week", "last_sent", "site_shown")
    list_filter = ("state", "route", "is_shadow")
    list_select_related = ("site", "action_type", "version")
    object_related = ("site", "action_type", "segment__site", "version__created_by", "created_by")
    search_fields = ("name", "action_type__code", "action_type__name")
    search_help_text = gettext_lazy("Name or action")
    ordering = ("name", "pk")
    sortable_by = ("name",)
    lead = gettext_lazy("Which loyalty action becomes which text.")
    empty_icon = "campaign"
    empty_title = gettext_lazy("No campaign yet")
    empty_text = gettext_lazy("Start from one of a dozen texts for the usual moments of a loyalty program.")
    add_label = gettext_lazy("New campaign")
    add_right = Right.CAMPAIGN
    change_right = Right.CAMPAIGN
    object_actions = (
        ObjectAction(
            "submit", gettext_lazy("Hand in for review"), Right.CAMPAIGN, run="submit", icon="check", tone="primary",
            when=lambda campaign: campaign.state == State.DRAFT,
        ),
        ObjectAction(
            "send-back", gettext_lazy("Back to draft"), Right.CAMPAIGN, run="send_back", icon="back",
            when=lambda campaign: campaign.state == State.REVIEW,
        ),
        ObjectAction(
            "pause", gettext_lazy("Pause"), Right.CAMPAIGN, run="pause", icon="pause",
            confirm=gettext_lazy(
                "What the campaign would send is held, at once, until you resume or it expires. Pause it?"
            ),
            when=lambda campaign: campaign.state == State.LIVE,
        ),
        ObjectAction(
            "resume", gettext_lazy("Resume"), Right.CAMPAIGN, run="resume", icon="play", tone="primary",
            confirm=gettext_lazy("What was held and has not expired is sent now. Resume the campaign?"),
            when=lambda campaign: campaign.state == State.PAUSED,
        ),
        ObjectAction(
            "end-canary", gettext_lazy("End the trial"), Right.CAMPAIGN, run="end_canary", icon="play",
            confirm=gettext_lazy("The campaign goes on at once, whatever its first recipients thought of it. Go on?"),
            when=lambda campaign: campaign.state == State.LIVE
            and campaign.canary_size > 0
            and campaign.canary_passed_at is None,
        ),
        ObjectAction("duplicate", gettext_lazy("Duplicate"), Right.CAMPAIGN, run="duplicate", icon="copy"),
    )  # fmt: skip

    # --- The list -------------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        match = request.resolver_match
        if match is None or match.url_name != "messaging_campaign_changelist":
            return rows
        now = timezone.now()
        texts = Message.objects.filter(site=OuterRef("site"), campaign=OuterRef("pk"))
        made, sent = {"created_at__gte": now - _RECENT}, {"sent_at__gte": now - timedelta(days=7)}
        accepted = texts.filter(state=Message.State.ACCEPTED).order_by("-created_at")
        return rows.annotate(
            week=CountOf(texts.filter(state__in=_SENT, **made, **sent), _COUNTED),
            latest=Subquery(accepted.values("sent_at")[:1]),
        )

    @admin.display(description=gettext_lazy("action and text"))
    def text_shown(self, campaign: Campaign) -> SafeString:
        version = campaign.version
        says = version.body if version else ""
        if campaign.route == Campaign.Route.EVENT:
            says = (version.event_type if version else "") or campaign.name
        return with_line(str(campaign.action_type), Truncator(says).chars(70) or "–")

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, campaign: Campaign) -> SafeString:
        return state_pills(campaign)

    @admin.display(description=gettext_lazy("route"))
    def route_shown(self, campaign: Campaign) -> str:
        return _("Event") if campaign.route == Campaign.Route.EVENT else _("Text")

    @admin.display(description=gettext_lazy("sent in 7 days"))
    def sent_week(self, campaign: Any) -> str:
        return markup.number(at_least(campaign.week, _COUNTED))

    @admin.display(description=gettext_lazy("last sent"))
    def last_sent(self, campaign: Any) -> SafeString:
        return markup.ago(campaign.latest)

    # --- A new campaign -------------------------------------------------------------------------------------------

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Choose a text (and the site, when none is chosen), then name and action; a POST makes the draft."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        site = chosen_site(request)
        starter = starters.starter(request.GET.get("start", ""))
        blank = request.GET.get("start") == "blank"
        if site is None or not (starter or blank):
            context = self.frame(
                request, _("New campaign"), starters=starters.STARTERS, site=site,
                sites=None if site else sites_where(request.user, Right.CAMPAIGN).order_by("client_name", "pk")[:200],
                start=request.GET.get("start", ""),
            )  # fmt: skip
            return TemplateResponse(request, "admin/messaging/campaign_new.html", context)
        form = NewCampaignForm(request.POST or None, site=site, initial=_suggestion(site, starter))
        if request.method == "POST" and form.is_valid():
            body = starter.body if starter else _FIRST_BODY
            try:
                campaign = campaigns.create(
                    site,
                    name=form.cleaned_data["name"],
                    action_type=form.kind(),
                    content={"body": body},
                    by=request.user,
                )
            except CampaignRefused as refusal:
                form.add_error(None, str(refusal))
            else:
                messages.success(request, _("The draft is made. Nobody is texted before it goes live."))
                return HttpResponseRedirect(f"{self.object_url(campaign)}?site={site.site_id}")
        context = self.frame(request, _("New campaign"), form=form, starter=starter, site=site)
        return TemplateResponse(request, "admin/messaging/campaign_name.html", context)

    # --- The editor -----------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        campaign = self.get_row(request, object_id)
        may_edit = self.has_change_permission(request, campaign)
        form = CampaignForm(request.POST if request.method == "POST" else None, instance=campaign)
        picture: dict[str, str] = {}
        if request.method == "POST":
            if not may_edit:
                raise PermissionDenied
            if "_picture" in request.POST:
                picture = look_at_picture(form)
            elif form.is_valid() and "_preview" not in request.POST and self._save(request, campaign, form):
                return HttpResponseRedirect(request.get_full_path())
        # A form that was not saved has written what it could into the instance; the database tells what runs.
        stored = self.get_row(request, object_id) if request.method == "POST" else campaign
        whole = can(request.user, campaign.site_id, Right.PII)
        context = self.frame(
            request, stored.name, stored, form=form, campaign=stored, may_edit=may_edit, picture=picture,
            who_may="" if may_edit else people_with(stored.site, Right.CAMPAIGN), sees_pii=whole,
            object_actions=self.buttons(request, stored), pill=state_pills(stored), tabs=self._tabs(stored, "editor"),
            tabs_label=_("Pages of the campaign"), readiness=readiness(stored),
            **editor_parts(form.instance, form),
        )  # fmt: skip
        return TemplateResponse(request, "admin/messaging/campaign_editor.html", context)

    def _save(self, request: HttpRequest, campaign: Campaign, form: CampaignForm) -> bool:
        if form.is_outdated():
            form.add_error(
                None,
                _("Somebody saved a newer text meanwhile. Look at the versions; save once more to replace it."),
            )
            # The next try names the version that the person has been told of.
            form.data = {**form.data, "seen_version": str(campaign.version.number if campaign.version else 0)}
            return False
        try:
            before = campaign.version_id
            changed = campaigns.save_settings(campaign, by=request.user)
            campaigns.save_content(campaign, form.content, by=request.user)
        except CampaignRefused as refusal:
            form.add_error(None, str(refusal))
            return False
        if campaign.version_id == before and not changed:
            messages.info(request, _("Nothing was changed."))
        elif campaign.state == State.LIVE:
            messages.success(request, _("Saved. It holds from the next action on."))
        else:
            messages.success(request, _("Saved."))
        return True

    def preview_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Answer the editor's script with the preview of what is being written, as HTML; saves nothing."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        campaign = self.get_row(request, object_id)
        if not self.has_change_permission(request, campaign):
            raise PermissionDenied
        form = CampaignForm(request.POST, instance=campaign)
        form.is_valid()
        context = {
            "sees_pii": can(request.user, campaign.site_id, Right.PII), "campaign": campaign,
            **preview_parts(form.instance, form, previews.Audience(form.instance)),
        }  # fmt: skip
        return HttpResponse(render_to_string("admin/messaging/campaign_preview.html", context, request))

    def _tabs(self, campaign: Campaign, current: str) -> list[dict[str, Any]]:
        pages = [
            ("editor", _("Editor"), "edit", self.object_url(campaign)),
            ("versions", _("Versions"), "history", self.page_of("versions", campaign.pk)),
            ("shadow", _("Shadow report"), "chart", self.page_of("shadow", campaign.pk)),
            ("test", _("Test text"), "phone", self.page_of("test", campaign.pk)),
        ]
        return [
            {"label": label, "icon": icon, "url": url, "current": name == current} for name, label, icon, url in pages
        ]

    # --- Its other pages ------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        pages = {
            "preview": self.preview_view, "go-live": self.go_live_view, "versions": self.versions_view,
            "shadow": self.shadow_view, "test": self.test_view,
        }  # fmt: skip
        own = [
            path(
                f"<path:object_id>/{name}/",
                self.admin_site.admin_view(view),
                name=f"messaging_campaign_{name.replace('-', '_')}",
            )
            for name, view in pages.items()
        ]
        return [*own, *super().get_urls()]

    def buttons(self, request: HttpRequest, row: Any) -> list[dict[str, Any]]:
        found = super().buttons(request, row)
        if row.state == State.REVIEW and self.allows(request, Right.CAMPAIGN, row):
            # A page with a form of its own rather than a yes or no.
            found.insert(
                0,
                {
                    "label": _("Go live"), "icon": "play", "tone": "primary", "confirm": True, "name": "go-live",
                    "url": self.page_of("go_live", row.pk),
                },
            )  # fmt: skip
        return found

    def go_live_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show what was checked, offer the trial with the first recipients, and go live."""
        campaign = self._changeable(request, object_id)
        form = GoLiveForm(request.POST or None)
        checks = readiness(campaign)
        if request.method == "POST" and form.is_valid():
            try:
                campaigns.go_live(campaign, canary_size=form.cleaned_data["canary_size"], by=request.user)
            except CampaignRefused as refusal:
                messages.error(request, str(refusal))
            else:
                messages.success(request, _("The campaign is live. It speaks of actions from now on."))
            return HttpResponseRedirect(self.object_url(campaign))
        context = self.frame(
            request, _("Go live"), campaign, campaign=campaign, form=form, readiness=checks,
            reach=previews.Audience(campaign).reach,
        )  # fmt: skip
        return TemplateResponse(request, "admin/messaging/campaign_go_live.html", context)

    def versions_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show each version beside the one before it; a POST restores one as the newest."""
        campaign = self.get_row(request, object_id)
        may_edit = self.has_change_permission(request, campaign)
        if request.method == "POST":
            if not may_edit:
                raise PermissionDenied
            number = request.POST.get("number", "")
            try:
                version = campaigns.restore_version(
                    campaign, int(number) if number.isdecimal() and len(number) < 10 else 0, by=request.user
                )
            except CampaignRefused as refusal:
                messages.error(request, str(refusal))
            else:
                messages.success(request, _("Restored as version %(number)d.") % {"number": version.number})
            return HttpResponseRedirect(request.get_full_path())
        context = self.frame(
            request, _("Versions"), campaign, campaign=campaign, may_edit=may_edit, pill=state_pills(campaign),
            rows=version_rows(campaign), tabs=self._tabs(campaign, "versions"), tabs_label=_("Pages of the campaign"),
        )  # fmt: skip
        return TemplateResponse(request, "admin/messaging/campaign_versions.html", context)

    def shadow_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show per day what the campaign would have sent in shadow mode, and why some of it would not have gone."""
        campaign = self.get_row(request, object_id)
        context = self.frame(
            request, _("Shadow report"), campaign, campaign=campaign, pill=state_pills(campaign),
            tabs=self._tabs(campaign, "shadow"), tabs_label=_("Pages of the campaign"),
            sees_pii=can(request.user, campaign.site_id, Right.PII), **shadow_report(campaign),
        )  # fmt: skip
        return TemplateResponse(request, "admin/messaging/campaign_shadow.html", context)

    def test_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Choose a guest phone, see the text, and send it there: a real text."""
        campaign = self._changeable(request, object_id)
        site = campaign.site
        whole = can(request.user, site, Right.PII)
        # Phones travel as positions: a page never holds more of a phone than its reader may see.
        choices = [(str(place), markup.phone_text(phone, whole=whole)) for place, phone in enumerate(site.guest_phones)]
        form = GuestTextForm(request.POST or None, phones=choices, initial={"preview_for": request.GET.get("for", "")})
        preview: dict[str, Any] = {}
        if request.method == "POST" and form.is_valid():
            preview = self._guest_text(campaign, form.cleaned_data["preview_for"])
            if preview["problem"]:
                form.add_error("preview_for", preview["problem"])
            elif "_send" in request.POST:
                return self._send_guest_text(request, campaign, preview["body"], int(form.cleaned_data["phone"]))
        elif request.method != "POST":
            preview = self._guest_text(campaign, request.GET.get("for", ""))
        context = self.frame(
            request, _("Test text"), campaign, campaign=campaign, form=form, has_phones=bool(choices),
            pill=state_pills(campaign), tabs=self._tabs(campaign, "test"), tabs_label=_("Pages of the campaign"),
            is_event=campaign.route == Campaign.Route.EVENT, **preview,
        )  # fmt: skip
        return TemplateResponse(request, "admin/messaging/campaign_test.html", context)

    def _guest_text(self, campaign: Campaign, words: str) -> dict[str, Any]:
        """Return the text with a member's values, or with the longest ones, and what forbids it."""
        body = campaign.version.body if campaign.version else ""
        problem = ""
        if words:
            member = previews.find_member(campaign.site, words)
            if member is None:
                problem = _("No member of %(site)s has this phone, e-mail address or loyalty ID.") % {
                    "site": campaign.site.client_name
                }
                rendered = ""
            else:
                preview = previews.previews(campaign, body, chosen=member)[0]
                rendered = preview.text
                problem = "" if rendered else _("The text has no value for this member. Choose another one.")
        else:
            rendered = text.worst_case(body)
        prefix, shown = previews.prefixed(campaign.site, rendered)
        parts = text.parts(rendered, campaign.site.sms_prefix)
        return {"prefix": prefix, "body": shown, "parts": parts, "problem": problem}

    def _send_guest_text(self, request: HttpRequest, campaign: Campaign, body: str, place: int) -> HttpResponse:
        phone = campaign.site.guest_phones[place]
        try:
            guest_texts.send_guest_text(campaign, body, phone, by=request.user)
        except CampaignRefused as refusal:
            messages.error(request, str(refusal))
        else:
            messages.success(
                request, _("Attentive accepted the test text to %(phone)s.") % {"phone": phones.masked(phone)}
            )
        return HttpResponseRedirect(request.get_full_path())

    def _changeable(self, request: HttpRequest, object_id: str) -> Campaign:
        campaign: Campaign = self.get_row(request, object_id)
        if not self.has_change_permission(request, campaign):
            raise PermissionDenied
        return campaign

    # --- States ---------------------------------------------------------------------------------------------------

    def submit(self, request: HttpRequest, campaign: Campaign) -> str:
        self._try(lambda: campaigns.submit(campaign, by=request.user))
        return _("Handed in for review. A colleague can take it live now.")

    def send_back(self, request: HttpRequest, campaign: Campaign) -> str:
        self._try(lambda: campaigns.send_back(campaign, by=request.user))
        return _("The campaign is a draft again.")

    def pause(self, request: HttpRequest, campaign: Campaign) -> str:
        self._try(lambda: campaigns.pause(campaign, by=request.user))
        return _("The campaign is paused. What it would send is held.")

    def resume(self, request: HttpRequest, campaign: Campaign) -> str:
        self._try(lambda: campaigns.resume(campaign, by=request.user))
        wake("messaging.tasks.send_due")
        return _("The campaign goes on.")

    def end_canary(self, request: HttpRequest, campaign: Campaign) -> str:
        self._try(lambda: campaigns.end_canary(campaign, by=request.user))
        wake("messaging.tasks.send_due")
        return _("The trial has ended; the campaign texts everybody.")

    def duplicate(self, request: HttpRequest, campaign: Campaign) -> HttpResponse:
        copy = self._try(lambda: campaigns.duplicate(campaign, by=request.user))
        messages.success(request, _("This is the copy, a draft."))
        return HttpResponseRedirect(self.object_url(copy))

    def _try(self, verb: Any) -> Any:
        try:
            return verb()
        except CampaignRefused as refusal:
            raise ActionRefused(str(refusal)) from None


def state_pills(campaign: Campaign) -> SafeString:
    """Return the campaign's state, and whether it runs in shadow or as a trial."""
    pills = [markup.pill_for_state(campaign)]
    if campaign.is_shadow:
        pills.append(markup.pill(_("Shadow"), "info", "half"))
    if campaign.state == State.LIVE and campaign.canary_size and campaign.canary_passed_at is None:
        pills.append(markup.pill(_("Trial"), "warn", "flag"))
    return format_html_join(" ", "{}", ((pill,) for pill in pills))


def _suggestion(site: Site, starter: starters.Starter | None) -> dict[str, Any]:
    """Return the starter's name, and the site's action that it likely speaks of."""
    if starter is None:
        return {}
    kinds = {kind.code.upper(): kind for kind in site.action_types.all()[:500]}
    kind = next((kinds[code] for code in starter.action_codes if code in kinds), None)
    return {"name": starter.name, "action_type": kind.pk if kind else None}
