"""The client sites: list, adding one, settings, and the buttons that move a site. Its other pages stand beside it."""

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters

from attentive_integration.markup import ago, check_marks, number, state_pill
from attentive_integration.wake import wake
from loyalty import activation, audit, connection, subscriptions
from loyalty.admin import activate, client_link, credentials
from loyalty.admin.base import ActionRefused, ObjectAction, SiteChangeList, SiteScopedAdmin
from loyalty.admin.site_forms import AddSiteForm, SiteSettingsForm
from loyalty.capped_counts import estimated_counts
from loyalty.connection import ActivationRefused, Check, TaskState
from loyalty.models import Member, Site, SiteMembership
from loyalty.permissions import Right, roles_of

State = Site.State
_MOST_TESTED = 10
# The tokens on their way in stay out of error reports.
_hides_secrets = sensitive_post_parameters("secret", "access_token", "app_key", "legacy_token")


class StandingFilter(admin.SimpleListFilter):
    """By how a site stands: its state, or failing."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [*State.choices, ("FAILING", gettext_lazy("Failing"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Site]) -> QuerySet[Site]:
        if self.value() == "FAILING":
            failing = Q()
            for task in connection.Task:
                failing |= Q(**{f"checks__{task}__state": TaskState.FAILED})
            return queryset.filter(failing)
        return queryset.filter(state=self.value()) if self.value() else queryset


class CountedSites(SiteChangeList):
    """Marks each site of the page with its number of members, which an index tells."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        listed: list[Any] = list(self.result_list)
        sites = Site.objects.filter(pk__in=[site.pk for site in listed])
        members = estimated_counts(Member.objects.people(), sites)
        for site in listed:
            site.member_count = members.get(site.pk, 0)
        self.result_list = listed


@admin.register(Site)
class SiteAdmin(SiteScopedAdmin):
    list_display = ("client_name", "site_id", "standing", "marks", "members", "company", "checked")
    actions = ("test_selected",)
    list_filter = (StandingFilter,)
    search_fields = ("client_name", "site_id")
    search_help_text = gettext_lazy("Client or site ID")
    ordering = ("client_name", "pk")
    object_related = ()
    form = SiteSettingsForm
    add_label = gettext_lazy("Connect a client")
    add_right = Right.ACTIVATE
    change_right = Right.ACTIVATE
    lead = gettext_lazy("One line for each client's loyalty program, and how its connection to Attentive stands.")
    empty_icon = "site"
    empty_title = gettext_lazy("No client site yet")
    empty_text = gettext_lazy(
        "Connect the first one. It takes about 5 minutes; you need the client's site ID and Attentive log-in."
    )
    fieldsets = (
        (gettext_lazy("Client"), {"fields": ("client_name", "site_id", "notes")}),
        (
            gettext_lazy("Phones and times"),
            {"fields": ("default_country", "allowed_countries", "time_zone", "quiet_from", "quiet_until", "caps_text")},
        ),
        (gettext_lazy("Attentive"), {"fields": ("message_path", "sms_prefix", "subscribe_email")}),
    )
    object_actions: ClassVar = (
        ObjectAction(
            "check", gettext_lazy("Test all"), Right.ACTIVATE, run="test_all", icon="refresh"
        ),
        ObjectAction(
            "resume", gettext_lazy("Resume"), Right.ACTIVATE, run="resume", icon="play", tone="primary",
            confirm=gettext_lazy("What waited goes out now, if it has not expired. Resume?"),
            when=lambda site: site.state == State.PAUSED,
        ),
        ObjectAction(
            "pause", gettext_lazy("Pause"), Right.ACTIVATE, run="pause", icon="pause",
            confirm=gettext_lazy("Messages wait until you resume; those that expire meanwhile are not sent. Pause?"),
            when=lambda site: site.state == State.LIVE,
        ),
        ObjectAction(
            "pause-asking", gettext_lazy("Pause asking"), Right.ACTIVATE, run="pause_asking", icon="pause",
            confirm=gettext_lazy("Texts go on, and nobody is asked to subscribe until you resume. Pause asking?"),
            when=lambda site: site.state != State.DRAFT and site.asking_paused_at is None,
        ),
        ObjectAction(
            "resume-asking", gettext_lazy("Resume asking"), Right.ACTIVATE, run="resume_asking", icon="play",
            confirm=gettext_lazy("Whoever waits in the subscribe queue is asked, at Attentive's pace. Resume asking?"),
            when=lambda site: site.asking_paused_at is not None,
        ),
        ObjectAction(
            "test-mode", gettext_lazy("Test mode"), Right.ACTIVATE, run="enter_test", icon="phone",
            confirm=gettext_lazy("In test mode only the guest phones are texted; other members' texts are skipped for "
                                 "good. Go on?"),
            when=lambda site: site.state != State.TEST,
        ),
        ObjectAction(
            "go-live", gettext_lazy("Go live"), Right.ACTIVATE, run="go_live", icon="flag", tone="primary",
            confirm=gettext_lazy("From now on subscribed members are texted for what they do. Nothing that happened "
                                 "before is texted. Go live?"),
            when=lambda site: site.state in (State.DRAFT, State.TEST) and activation.looks_green(site),
        ),
        ObjectAction(
            "deactivate", gettext_lazy("Deactivate"), Right.ACTIVATE, run="deactivate", icon="stop", tone="danger",
            confirm=gettext_lazy("The site becomes a draft again: nobody is texted, and what happens from now on never "
                                 "will be. Tokens and data stay. Deactivate?"),
            when=lambda site: site.state != State.DRAFT,
        ),
    )  # fmt: skip

    # --- The list -------------------------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def standing(self, site: Site) -> SafeString:
        return state_pill(*activation.standing(site))

    @admin.display(description=gettext_lazy("checks"))
    def marks(self, site: Site) -> SafeString:
        return check_marks(
            [(state, f"{task.label}: {TaskState(state).label}") for task, state in activation.marks(site)]
        )

    @admin.display(description=gettext_lazy("members"))
    def members(self, site: Any) -> str:
        return number(site.member_count)

    @admin.display(description=gettext_lazy("company at Attentive"), ordering="company_name")
    def company(self, site: Site) -> str:
        return site.company_name or "–"

    @admin.display(description=gettext_lazy("last check"), ordering="last_check_at")
    def checked(self, site: Site) -> SafeString:
        return ago(site.last_check_at, _("never"))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[SiteChangeList]:
        return CountedSites

    def has_activate_permission(self, request: HttpRequest) -> bool:
        return self.allows(request, Right.ACTIVATE)

    @admin.action(description=gettext_lazy("Test all values"), permissions=["activate"])
    def test_selected(self, request: HttpRequest, sites: QuerySet[Site]) -> None:
        """Test the selected sites as their own button does; each takes some seconds at the vendors."""
        chosen = list(sites.order_by("client_name", "pk")[: _MOST_TESTED + 1])
        if len(chosen) > _MOST_TESTED:
            sentence = _("At most %(most)d sites are tested at a time, because the vendors are asked. Select fewer.")
            messages.error(request, sentence % {"most": _MOST_TESTED})
            return
        if not all(self.allows(request, Right.ACTIVATE, site) for site in chosen):
            raise PermissionDenied
        for site in chosen:
            failed = [check for check in activation.check_site(site, request.user) if check.state == TaskState.FAILED]
            for check in failed:
                messages.error(request, f"{site.client_name}, {connection.Task(check.kind).label}: {check.sentence}")
            if not failed:
                messages.success(request, _("%(client)s: all that can be tested works.") % {"client": site.client_name})

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        links = []
        if self.allows(request, Right.ACTIVATE):
            links.append({"url": self.page_of("setup"), "label": _("From a set-up file"), "icon": "import"})
        return super().changelist_view(request, {"list_links": links, **(extra_context or {})})

    # --- Pages ----------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
            @_hides_secrets
            def shown(request: HttpRequest, object_id: str) -> HttpResponse:
                return view(self, request, self.get_row(request, object_id))

            return path(f"<path:object_id>/{route}/", self.admin_site.admin_view(shown), name=f"loyalty_site_{name}")

        return [
            page("activate", activate.page, "activate"),
            page("ask-client", client_link.page, "ask_client"),
            page("credentials", credentials.page, "credentials"),
            *super().get_urls(),
        ]

    def object_url(self, row: Any) -> str:
        return self.page_of("overview", row.pk)

    def tabs(self, site: Site, current: str) -> dict[str, Any]:
        """Return the context of the tabs over a site's pages; `current` is overview, activate, credentials, change."""
        pages = (
            ("overview", _("Overview"), "home"),
            ("activate", _("Activate"), "flag"),
            ("credentials", _("Credentials"), "key"),
            ("change", _("Settings"), "settings"),
        )
        return {
            "tabs_label": site.client_name,
            "tabs": [
                {"url": self.page_of(name, site.pk), "label": label, "icon": icon, "current": name == current}
                for name, label, icon in pages
            ],
        }

    def site_frame(self, request: HttpRequest, site: Site, current: str, title: str) -> dict[str, Any]:
        """Return the context that all pages of one site share."""
        return {
            **self.frame(request, title, site),
            **self.tabs(site, current),
            "site": site,
            "standing_pill": state_pill(*activation.standing(site)),
            "object_actions": self.buttons(request, site),
            "may_activate": self.allows(request, Right.ACTIVATE, site),
        }

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        context = dict(extra_context or {})
        if object_id and (site := self.get_object(request, object_id)) is not None:
            context |= self.tabs(site, "change")
            context |= {"title_pill": state_pill(*activation.standing(site)), "page_title": site.client_name}
            context["breadcrumbs"] = [
                (_("Sites"), self.page_of("changelist")), (str(site), self.object_url(site)),
            ]  # fmt: skip
            context["title"] = _("Settings")
        return super().changeform_view(request, object_id, form_url, context)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        fields = [name for name in form.changed_data if name != "notes"]
        super().save_model(request, obj, form, change)
        if fields:
            audit.record("site.settings", site=obj, request=request, new=fields)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        messages.success(request, _("The settings of %(site)s are saved.") % {"site": obj.client_name})
        return HttpResponseRedirect(self.page_of("change", obj.pk))

    @method_decorator(_hides_secrets)
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = AddSiteForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            site = self._create(request, form)
            self._enter_all(request, site, form.cleaned_data)
            return HttpResponseRedirect(self.page_of("activate", site.pk))
        context = {**self.frame(request, _("Connect a client")), "form": form}
        return TemplateResponse(request, "admin/loyalty/site/add.html", context)

    @transaction.atomic
    def _create(self, request: HttpRequest, form: AddSiteForm) -> Site:
        site: Site = form.save(commit=False)
        site.site_id = form.cleaned_data["site_id"]
        site.save()
        audit.record("site.created", site=site, request=request, target=str(site), new={"state": site.state})
        if not request.user.is_superuser:
            # Whoever adds a site works on it, with the highest of their roles.
            order = list(SiteMembership.Role.values)
            role = max(roles_of(request.user).values(), key=order.index)
            SiteMembership.objects.create(user=request.user, site=site, role=role)  # type: ignore[misc]
        return site

    def _enter_all(self, request: HttpRequest, site: Site, values: dict[str, Any]) -> None:
        """Test every value that was given; what failed is shown with its remedy on the Activate page."""
        user = request.user
        if values["guest_phones"]:
            try:
                activation.enter_guest_phones(site, values["guest_phones"], by=user)
            except ActivationRefused as refusal:
                messages.error(request, str(refusal))
        checks: list[Check] = []
        if values["access_token"]:
            checks.append(connection.enter_access(site, values["access_token"], by=user))
        if values["app_key"]:
            checks.append(connection.enter_app_key(site, values["app_key"], by=user))
        if values["sign_up_source_id"]:
            checks.append(connection.enter_sign_up_source(site, values["sign_up_source_id"], by=user))
        if values["legacy_token"]:
            checks.append(connection.enter_legacy_token(site, values["legacy_token"], by=user))
        failed = [check for check in checks if check.state == TaskState.FAILED]
        words = _("%(client)s is added as a draft.") % {"client": site.client_name}
        if failed:
            messages.warning(request, words + " " + _("Some values were refused: see below what to do."))
        else:
            messages.success(request, words)

    # --- What the buttons do --------------------------------------------------------------------------------------

    def test_all(self, request: HttpRequest, site: Site) -> HttpResponse:
        failed = [check for check in activation.check_site(site, request.user) if check.state == TaskState.FAILED]
        for check in failed:
            messages.error(request, f"{connection.Task(check.kind).label}: {check.sentence}")
        if not failed:
            messages.success(request, _("Everything that can be tested without a text works."))
        return HttpResponseRedirect(self.page_of("activate", site.pk))

    def go_live(self, request: HttpRequest, site: Site) -> str:
        self._move(activation.go_live, request, site)
        return _("%(client)s is live.") % {"client": site.client_name}

    def enter_test(self, request: HttpRequest, site: Site) -> str:
        self._move(activation.enter_test, request, site)
        return _("%(client)s is in test mode: only guest phones are texted.") % {"client": site.client_name}

    def pause(self, request: HttpRequest, site: Site) -> str:
        self._move(activation.pause, request, site)
        return _("%(client)s is paused.") % {"client": site.client_name}

    def resume(self, request: HttpRequest, site: Site) -> str:
        self._move(activation.resume, request, site)
        return _("%(client)s is live again.") % {"client": site.client_name}

    def pause_asking(self, request: HttpRequest, site: Site) -> str:
        subscriptions.pause(site, request.user)
        return _("Nobody of %(client)s is asked to subscribe until you resume it; texts go on.") % {
            "client": site.client_name
        }

    def resume_asking(self, request: HttpRequest, site: Site) -> str:
        subscriptions.resume(site, request.user)
        wake("loyalty.tasks.subscribe_site", site.pk)
        return _("Members of %(client)s are asked again.") % {"client": site.client_name}

    def deactivate(self, request: HttpRequest, site: Site) -> str:
        self._move(activation.deactivate, request, site)
        return _("%(client)s is a draft now.") % {"client": site.client_name}

    def _move(self, verb: Callable[[Site, Any], None], request: HttpRequest, site: Site) -> None:
        try:
            verb(site, request.user)
        except ActivationRefused as refusal:
            raise ActionRefused(str(refusal)) from None
