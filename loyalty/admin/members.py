"""The members: a list that finds a person by any of their names, and one person's page with their story."""

import csv
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from attentive_integration.markup import ago, number, phone_text, pill, state_pill
from loyalty import audit, consent, eligibility, member_search, unsubscribing
from loyalty.admin.base import ActionRefused, ObjectAction, SiteChangeList, SiteScopedAdmin
from loyalty.admin.member_story import story_of
from loyalty.models import Consent, ImportJob, Member, Site
from loyalty.permissions import Right, can, chosen_site
from loyalty.resources import MemberResource
from loyalty.spreadsheets import defuse_strictly

State = Consent.State
# Members that one request takes out: Attentive hears of five a second.
_MOST_UNSUBSCRIBED = 50
_MOST_QUEUED = 10_000
_COUNTED_BY_STATE = 1_000
_MOST_DOWNLOADED = 1_000
_SLICE = 1_000


class SmsStateFilter(admin.SimpleListFilter):
    """By the state of the phone's TEXT consent."""

    title = gettext_lazy("SMS")
    parameter_name = "sms"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state.value, str(state.label)) for state in State if state != State.ERASED]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Member]) -> QuerySet[Member]:
        if self.value() not in State.values:
            return queryset
        heard = Consent.objects.filter(site=OuterRef("site"), channel=Consent.Channel.TEXT, address=OuterRef("phone"))
        if self.value() == State.UNKNOWN:
            return queryset.filter(~Exists(heard.exclude(state=State.UNKNOWN)))
        return queryset.filter(Exists(heard.filter(state=self.value())))


class TierFilter(admin.SimpleListFilter):
    """By tier, where a site is chosen: each site has tiers of its own."""

    title = gettext_lazy("tier")
    parameter_name = "tier"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        site = chosen_site(request)
        tiers = member_search.tiers_of(site) if site else []
        asked = request.GET.get("tier")
        return [(tier, tier) for tier in tiers + ([asked] if asked and asked not in tiers else [])]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Member]) -> QuerySet[Member]:
        return queryset.filter(tier=self.value()) if self.value() else queryset


class ImportFilter(admin.SimpleListFilter):
    """By the import that brought the member, one of the site's latest."""

    title = gettext_lazy("import")
    parameter_name = "import"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        jobs = ImportJob.objects.visible_to(request.user).filter(kind=ImportJob.Kind.MEMBERS).order_by("-pk")
        asked = request.GET.get("import", "")
        if site := chosen_site(request):
            latest = list(jobs.filter(site=site).values_list("pk", "file_name")[:10])
        else:
            latest = []
        if asked.isdecimal() and int(asked) not in [pk for pk, _name in latest]:
            latest += list(jobs.filter(pk=int(asked)).values_list("pk", "file_name"))
        return [(str(pk), f"{name} (#{pk})") for pk, name in latest]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Member]) -> QuerySet[Member]:
        value = self.value() or ""
        return queryset.filter(created_by_import=int(value)) if value.isdecimal() else queryset


class MemberChangeList(SiteChangeList):
    """Lists people, and not the empty rows of erased ones; reads the consent of the page's members in one query."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Member]:
        rows: Any = super().get_queryset(request, exclude_parameters)
        return rows.people()

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        members: list[Any] = self.result_list
        rows = Consent.objects.filter(
            site__in={member.site_id for member in members},
            channel=Consent.Channel.TEXT,
            address__in=[member.phone for member in members],
        )
        states = {(site, address): state for site, address, state in rows.values_list("site", "address", "state")}
        for member in members:
            member.sms_state = states.get((member.site_id, member.phone), State.UNKNOWN.value)


def sms_state_of(member: Any) -> str:
    """Return the state of the member's TEXT consent, read once per object."""
    if not hasattr(member, "sms_state"):
        member.sms_state = consent.state_of(member.site, member.phone)
    return str(member.sms_state)


def _may_be_asked(member: Member) -> bool:
    return sms_state_of(member) == State.UNKNOWN and member.replaced_by_id is None


def _may_leave(member: Member) -> bool:
    return sms_state_of(member) not in (State.UNSUBSCRIBED, State.ERASED)


def _take_out(request: HttpRequest, member: Member, evidence: str, *, is_out: bool = False) -> str:
    """Unsubscribe a member, here whatever happens; return why Attentive was not told, empty when it was."""
    done = unsubscribing.unsubscribe(member.site, member.phone, by=request.user, evidence=evidence, is_out=is_out)
    audit.record("member.unsubscribed", site=member.site, request=request, target=f"member #{member.pk}")
    return done.sentence


@admin.register(Member)
class MemberAdmin(SiteScopedAdmin):
    list_display = ("phone_shown", "name", "tier_shown", "points_shown", "sms", "site_shown", "updated")
    list_filter = (SmsStateFilter, TierFilter, ImportFilter)
    # Names no column: `get_search_results` chooses the index.
    search_fields = ("phone",)
    search_help_text = gettext_lazy("Phone, e-mail, loyalty ID or name")
    list_select_related = ("site",)
    sortable_by = ()
    ordering = ("-pk",)
    lead = gettext_lazy(
        "Find a person by phone in any spelling, e-mail address, loyalty ID, or the beginning of a name."
    )
    empty_icon = "members"
    empty_title = gettext_lazy("No members yet")
    empty_text = gettext_lazy(
        "Import a CSV file, or let the loyalty program send its members. A sample file helps to start."
    )
    actions = ("check_selected", "queue_selected", "unsubscribe_selected", "download_selected")
    object_actions: ClassVar[Sequence[ObjectAction]] = (
        ObjectAction(
            "check",
            gettext_lazy("Check subscription"),
            Right.VIEW,
            run="check_one",
            icon="refresh",
            when=lambda member: not member.is_erased,
        ),
        ObjectAction(
            "subscribe",
            gettext_lazy("Ask to subscribe"),
            Right.SUBSCRIBE,
            run="queue_one",
            icon="send",
            when=_may_be_asked,
            confirm=gettext_lazy(
                "The member joins the subscribe queue of the site. Attentive then texts them the client's invitation, "
                "unless they are subscribed already. Do so only with their consent."
            ),
        ),
        ObjectAction(
            "unsubscribe",
            gettext_lazy("Unsubscribe"),
            Right.UNSUBSCRIBE,
            run="unsubscribe_one",
            icon="cross",
            tone="danger",
            when=_may_leave,
            confirm=gettext_lazy(
                "From now on this member gets no text of this site. Attentive is told once and may text them a "
                "confirmation. Only the member can undo this, by subscribing again."
            ),
        ),
        ObjectAction(
            "block",
            gettext_lazy("Block"),
            Right.UNSUBSCRIBE,
            run="block_one",
            icon="lock",
            when=lambda member: sms_state_of(member) not in (State.BLOCKED, State.ERASED),
            confirm=gettext_lazy(
                "A blocked phone gets no text of this site, whatever is heard of it later, until somebody lifts the "
                "block. Attentive is not told."
            ),
        ),
        ObjectAction(
            "unblock",
            gettext_lazy("Lift the block"),
            Right.SUBSCRIBE,
            run="unblock_one",
            icon="check",
            when=lambda member: sms_state_of(member) == State.BLOCKED,
            confirm=gettext_lazy(
                "The phone gets back the state that it has without the block: an opt-out that was heard stays one."
            ),
        ),
    )

    # --- The list -------------------------------------------------------------------------------------------------

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[SiteChangeList]:
        return MemberChangeList

    def get_paginator(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        paginator: Any = super().get_paginator(request, *args, **kwargs)
        if request.GET.get(SmsStateFilter.parameter_name):
            # Each member's consent must be looked up.
            paginator.most = _COUNTED_BY_STATE
        return paginator

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Member], search_term: str
    ) -> tuple[QuerySet[Member], bool]:
        site = chosen_site(request)
        return member_search.search(queryset, search_term, site.default_country if site else "US"), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        site = chosen_site(request)
        query = f"?{urlencode({'site': site.site_id})}" if site else ""
        links = []
        if self.allows(request, Right.IMPORT):
            links.append({"url": _page("importjob_add") + query, "label": _("Import"), "icon": "import"})
        if site and self.allows(request, Right.EXPORT):
            wanted = {"site": site.site_id, "kind": "MEMBERS", "tier": request.GET.get("tier", "")}
            address = f"{_page('exportjob_add')}?{urlencode({key: v for key, v in wanted.items() if v})}"
            links.append({"url": address, "label": _("Export"), "icon": "export"})
        context: dict[str, Any] = {"list_links": links}
        if links and links[0]["icon"] == "import":
            context |= {"empty_url": links[0]["url"], "empty_button": _("Import members")}
        return super().changelist_view(request, {**context, **(extra_context or {})})

    @admin.display(description=gettext_lazy("phone"))
    def phone_shown(self, member: Any) -> str:
        return phone_text(member.phone, whole=member.sees_pii)

    @admin.display(description=gettext_lazy("name"))
    def name(self, member: Member) -> str:
        return f"{member.first_name} {member.last_name}".strip() or "–"

    @admin.display(description=gettext_lazy("tier"))
    def tier_shown(self, member: Member) -> SafeString | str:
        return pill(member.tier, "brand", "star") if member.tier else "–"

    @admin.display(description=gettext_lazy("points"))
    def points_shown(self, member: Member) -> str:
        return number(member.points)

    @admin.display(description=gettext_lazy("SMS"))
    def sms(self, member: Member) -> SafeString:
        if member.replaced_by_id:
            return pill(_("Replaced"), "calm", "skip")
        return sms_pill(sms_state_of(member))

    @admin.display(description=gettext_lazy("updated"))
    def updated(self, member: Member) -> SafeString:
        return ago(member.updated_at)

    # --- What is done to selected members -------------------------------------------------------------------------

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        needed = {
            "check_selected": Right.VIEW,
            "queue_selected": Right.SUBSCRIBE,
            "unsubscribe_selected": Right.UNSUBSCRIBE,
            "download_selected": Right.EXPORT,
        }
        actions = super().get_actions(request)
        return {name: one for name, one in actions.items() if name in needed and self.allows(request, needed[name])}

    def _chosen(self, request: HttpRequest, members: QuerySet[Member], right: Right, most: int) -> list[Member]:
        """Return the selected members; raises `ActionRefused` for too many, and 403 without the right on each site."""
        rows = list(members.select_related("site").order_by("pk")[: most + 1])
        if len(rows) > most:
            raise ActionRefused(
                _("At most %(most)s members can be taken at a time this way. Select fewer.") % {"most": number(most)}
            )
        if not all(can(request.user, member.site_id, right) for member in rows):
            raise PermissionDenied
        return rows

    def _confirmed(self, request: HttpRequest, name: str, label: str, question: str, count: int) -> HttpResponse | None:
        """Return the page that asks before a bulk action, None once it was answered."""
        if request.POST.get("confirmed"):
            return None
        context = self.frame(
            request,
            label,
            question=question,
            action_name=name,
            action_label=label,
            is_danger=name == "unsubscribe_selected",
            selected=request.POST.getlist("_selected_action"),
            select_across=request.POST.get("select_across", "0"),
            count=count,
        )
        return TemplateResponse(request, "admin/loyalty/member/confirm_selected.html", context)

    @admin.action(description=gettext_lazy("Check subscription at Attentive"))
    def check_selected(self, request: HttpRequest, members: QuerySet[Member]) -> HttpResponse | None:
        try:
            rows = self._chosen(request, members, Right.VIEW, eligibility.MOST_AT_ONCE)
        except ActionRefused as refusal:
            messages.error(request, str(refusal))
            return None
        by_site: dict[Site, list[Member]] = {}
        for member in rows:
            by_site.setdefault(member.site, []).append(member)
        lines = []
        for site, of_site in by_site.items():
            whole = can(request.user, site, Right.PII)
            answers = eligibility.ask(site, [member.phone for member in of_site])
            for member, answer in zip(of_site, answers, strict=True):
                lines.append((phone_text(member.phone, whole=whole), str(member), answer_pill(answer), answer.sentence))
        context = self.frame(
            request, _("Subscription at Attentive"), lines=lines,
            headers=(_("Phone"), _("Name"), _("May be texted"), _("Answer")),
        )  # fmt: skip
        return TemplateResponse(request, "admin/loyalty/member/checked.html", context)

    @admin.action(description=gettext_lazy("Ask to subscribe…"))
    def queue_selected(self, request: HttpRequest, members: QuerySet[Member]) -> HttpResponse | None:
        try:
            rows = self._chosen(request, members, Right.SUBSCRIBE, _MOST_QUEUED)
        except ActionRefused as refusal:
            messages.error(request, str(refusal))
            return None
        label = _("Ask to subscribe")
        question = _(
            "The selected members join the subscribe queue. Attentive then texts each of them the client's invitation, "
            "unless they are subscribed already. Whoever opted out, or was asked before, is left out. Do so only with "
            "their consent."
        )
        subscribed = 0 if request.POST.get("confirmed") else consent.count_subscribed(rows)
        if subscribed:
            words = ngettext(
                "%(n)s of %(all)s is subscribed already and left out, because Attentive would text them again.",
                "%(n)s of %(all)s are subscribed already and left out, because Attentive would text them again.",
                subscribed,
            )
            question += " " + words % {"n": number(subscribed), "all": number(len(rows))}
        if page := self._confirmed(request, "queue_selected", label, question, len(rows)):
            return page
        queued = 0
        by_site: dict[Site, list[str]] = {}
        for member in rows:
            if member.replaced_by_id is None:
                by_site.setdefault(member.site, []).append(member.phone)
        for site, phones in by_site.items():
            for start in range(0, len(phones), _SLICE):
                queued += consent.mark_to_ask(
                    site, phones[start : start + _SLICE], source=consent.Source.STAFF, by=request.user
                )
            audit.record("members.queued", site=site, request=request, new={"selected": len(phones)})
        left_out = len(rows) - queued
        text = ngettext("%(n)s member joined the subscribe queue.", "%(n)s members joined the subscribe queue.", queued)
        sentence = text % {"n": number(queued)}
        if left_out:
            sentence += " " + ngettext(
                "%(n)s was left out: asked already, subscribed, opted out, blocked or replaced.",
                "%(n)s were left out: asked already, subscribed, opted out, blocked or replaced.",
                left_out,
            ) % {"n": number(left_out)}
        messages.success(request, sentence)
        return None

    @admin.action(description=gettext_lazy("Unsubscribe…"))
    def unsubscribe_selected(self, request: HttpRequest, members: QuerySet[Member]) -> HttpResponse | None:
        try:
            rows = self._chosen(request, members, Right.UNSUBSCRIBE, _MOST_UNSUBSCRIBED)
        except ActionRefused as refusal:
            messages.error(request, str(refusal))
            return None
        label = _("Unsubscribe")
        question = _(
            "From now on the selected members get no text. Attentive is told once for each, at five a second, and may "
            "text them a confirmation. Only the members can undo this, by subscribing again."
        )
        if page := self._confirmed(request, "unsubscribe_selected", label, question, len(rows)):
            return page
        # Everybody is out here at once; Attentive is told afterwards, at its pace, and may be slow.
        evidence = _("Staff, from the list")
        for member in rows:
            consent.opt_out(member.site, member.phone, by=request.user, evidence=evidence)
        failed = ""
        for member in rows:
            failed = _take_out(request, member, evidence, is_out=True) or failed
        text = ngettext("%(n)s member gets no more texts.", "%(n)s members get no more texts.", len(rows))
        messages.success(request, text % {"n": number(len(rows))})
        if failed:
            messages.warning(request, _("Attentive was not told of all of them: %(why)s") % {"why": failed})
        return None

    @admin.action(description=gettext_lazy("Download as a spreadsheet"))
    def download_selected(self, request: HttpRequest, members: QuerySet[Member]) -> HttpResponse | None:
        """Write a small selection at once, by the same columns that imports take; larger lists are exports."""
        try:
            rows = self._chosen(request, members, Right.EXPORT, _MOST_DOWNLOADED)
        except ActionRefused as refusal:
            messages.error(request, _("%(why)s The whole list is an export.") % {"why": refusal})
            return None
        answer = HttpResponse("\ufeff", content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = 'attachment; filename="members.csv"'
        answer["Cache-Control"] = "no-store"
        writer = csv.writer(answer)
        by_site: dict[Site, list[Member]] = {}
        for member in rows:
            by_site.setdefault(member.site, []).append(member)
        for number_of_site, (site, of_site) in enumerate(by_site.items()):
            table = MemberResource(site).export(of_site)
            if not number_of_site:
                writer.writerow(table.headers)
            writer.writerows([defuse_strictly(str(cell)) for cell in row] for row in table)
            audit.record("members.downloaded", site=site, request=request, new={"members": len(of_site)})
        return answer

    # --- One person -----------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        member = self.get_row(request, object_id)
        whole = self.allows(request, Right.PII, member)
        story = story_of(member, whole=whole)
        member.sms_state = story.text_state
        context = self.frame(
            request,
            str(member),
            sees_pii=whole,
            member=member,
            story=story,
            pill=sms_pill(story.text_state),
            object_actions=self.buttons(request, member),
            may_erase=self.allows(request, Right.ERASE, member) and not member.is_erased,
            sees_raw=self.allows(request, Right.RAW, member),
            consent_url=_page("consent_changelist"),
        )
        return TemplateResponse(request, "admin/loyalty/member/change_form.html", context)

    def check_one(self, request: HttpRequest, member: Member) -> None:
        (answer,) = eligibility.ask(member.site, [member.phone])
        level = messages.WARNING if answer.may_be_texted is None else messages.INFO
        messages.add_message(request, level, answer.sentence)

    def queue_one(self, request: HttpRequest, member: Member) -> str:
        if not consent.mark_to_ask(member.site, [member.phone], source=consent.Source.STAFF, by=request.user):
            raise ActionRefused(_("This phone was asked already, opted out, or is blocked. Nothing was changed."))
        audit.record("member.queued", site=member.site, request=request, target=f"member #{member.pk}")
        return _("The member waits in the subscribe queue.")

    def unsubscribe_one(self, request: HttpRequest, member: Member) -> str:
        if why := _take_out(request, member, _("Staff, on the page")):
            messages.warning(request, _("Attentive was not told: %(why)s") % {"why": why})
        return _("The member gets no more texts of %(site)s.") % {"site": member.site.client_name}

    def block_one(self, request: HttpRequest, member: Member) -> str:
        consent.block(member.site, member.phone, by=request.user)
        audit.record("member.blocked", site=member.site, request=request, target=f"member #{member.pk}")
        return _("The phone is blocked.")

    def unblock_one(self, request: HttpRequest, member: Member) -> str:
        row = consent.lift_block(member.site, member.phone, by=request.user)
        audit.record("member.unblocked", site=member.site, request=request, target=f"member #{member.pk}")
        return _("The block is lifted; the phone is now: %(state)s.") % {"state": row.get_state_display()}


def sms_pill(state: str) -> SafeString:
    """Return the pill of a consent state as it stands beside a member."""
    if state == State.UNKNOWN:
        return pill(_("Not asked"), "calm", "circle")
    return state_pill(state, State(state).label)


def answer_pill(answer: eligibility.Answer) -> SafeString:
    """Return Attentive's word on a phone as a pill."""
    if answer.may_be_texted is None:
        return pill(_("No answer"), "warn", "question")
    return pill(_("Yes"), "good", "check") if answer.may_be_texted else pill(_("No"), "calm", "cross")


def _page(name: str) -> str:
    return reverse(f"admin:loyalty_{name}")
