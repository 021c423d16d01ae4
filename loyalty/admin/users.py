"""Who may log in, and with which role on which site."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, AdminUserCreationForm, UserChangeForm
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from attentive_integration.markup import ago, pill
from loyalty import audit
from loyalty.admin.base import LIST_SCRIPTS, SiteScopedAdmin
from loyalty.capped_counts import CappedPaginator
from loyalty.models import SiteMembership
from loyalty.permissions import Right, can

# Rights that are not in a role; each is a checkbox of the user's page.
_EXTRA_RIGHTS = ("view_pii", "import_subscribers")
_TONES = {"SUPPORT": "calm", "MANAGER": "info", "DEVELOPER": "brand", "ADMIN": "warn"}


class _WithoutColons:
    """Labels as on every other page."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"label_suffix": "", **kwargs})


class MembershipForm(_WithoutColons, forms.ModelForm):
    """A person is named by user name: a list of all users would show one client's people to another's."""

    username = forms.CharField(max_length=150, label=gettext_lazy("User name"))

    class Meta:
        model = SiteMembership
        fields = ("site", "role")
        labels: ClassVar = {"site": gettext_lazy("Site")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["username"] = self.instance.user.get_username()

    def clean_username(self) -> str:
        name: str = self.cleaned_data["username"].strip()
        user = User.objects.filter(username=name, is_active=True).first()
        if user is None:
            raise ValidationError(_("There is no active user of this name. A superuser adds people under Users."))
        self.instance.user = user
        return name

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("site") and data.get("username"):
            others = SiteMembership.objects.filter(site=data["site"], user=self.instance.user)
            others = others.exclude(pk=self.instance.pk)
            if others.exists():
                raise ValidationError(_("This person has a role on this site already. Change that one."))
        return data


@admin.register(SiteMembership)
class SiteMembershipAdmin(SiteScopedAdmin):
    form = MembershipForm
    list_title = gettext_lazy("Roles")
    add_label = gettext_lazy("Give a role")
    fields = ("username", "site", "role")
    list_display = ("person", "site_named", "role_shown")
    list_filter = ("role",)
    list_select_related = ("user", "site")
    search_fields = ("user__username", "user__email")
    search_help_text = gettext_lazy("User name or e-mail")
    ordering = ("site__client_name", "user__username")
    view_right = Right.USERS
    add_right = Right.USERS
    change_right = Right.USERS
    delete_right = Right.USERS
    lead = gettext_lazy(
        "Support searches, views, resends and unsubscribes. Integration managers also activate, import, and keep "
        "campaigns and segments. Developers also see raw payloads and the system, and rotate tokens. Admins also give "
        "roles and erase people."
    )
    empty_icon = "user"
    empty_title = gettext_lazy("Nobody has a role yet")
    empty_text = gettext_lazy("Without a role on a site, the site does not exist for a person.")

    @admin.display(description=gettext_lazy("user"), ordering="user__username")
    def person(self, membership: SiteMembership) -> str:
        return membership.user.get_username()

    @admin.display(description=gettext_lazy("site"), ordering="site__client_name")
    def site_named(self, membership: SiteMembership) -> str:
        return str(membership.site)

    @admin.display(description=gettext_lazy("role"), ordering="role")
    def role_shown(self, membership: SiteMembership) -> SafeString:
        return pill(membership.get_role_display(), _TONES.get(membership.role, "calm"), "user")

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_foreignkey(db_field, request, **kwargs)
        if db_field.name == "site" and not getattr(request.user, "is_superuser", False):
            # Roles may be given on those sites alone on which the giver is an admin.
            mine = [site.pk for site in field.queryset if can(request.user, site, Right.USERS)]
            field.queryset = field.queryset.filter(pk__in=mine)
        return field

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        audit.record("role.given", site=obj.site, request=request, target=obj.user.get_username(), new=obj.role)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        audit.record("role.taken", site=obj.site, request=request, target=obj.user.get_username(), old=obj.role)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for membership in queryset.select_related("user", "site"):
            self.delete_model(request, membership)


class NewPersonForm(_WithoutColons, AdminUserCreationForm):
    pass


class NewPasswordForm(_WithoutColons, AdminPasswordChangeForm):
    pass


class PersonForm(_WithoutColons, UserChangeForm):
    """A user, with the two rights that no role has as checkboxes."""

    extra_rights = forms.ModelMultipleChoiceField(
        queryset=Permission.objects.filter(content_type__app_label="loyalty", codename__in=_EXTRA_RIGHTS),
        widget=forms.CheckboxSelectMultiple,
        required=False,
        label=gettext_lazy("Further rights"),
        help_text=gettext_lazy("On the sites on which the person has a role. Admins of a site have them anyway."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "extra_rights" in self.fields:
            self.fields["extra_rights"].label_from_instance = (  # type: ignore[attr-defined]
                lambda permission: _(permission.name)
            )
            self.initial["extra_rights"] = list(
                self.instance.user_permissions.filter(codename__in=_EXTRA_RIGHTS).values_list("pk", flat=True)
            )


admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class PersonAdmin(UserAdmin):
    """The people who may log in. For superusers; roles on sites are given under Roles."""

    form = PersonForm
    add_form = NewPersonForm
    change_password_form = NewPasswordForm
    list_display = ("username", "full_name", "email", "standing", "seen")
    list_filter = ("is_active", "is_superuser")
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = CappedPaginator
    search_help_text = gettext_lazy("User name, name or e-mail")
    filter_horizontal = ()
    media = LIST_SCRIPTS
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (gettext_lazy("Person"), {"fields": ("first_name", "last_name", "email")}),
        (gettext_lazy("Rights"), {"fields": ("is_active", "is_superuser", "extra_rights")}),
    )
    readonly_fields: ClassVar = ()

    @admin.display(description=gettext_lazy("name"))
    def full_name(self, user: User) -> str:
        return user.get_full_name() or "–"

    @admin.display(description=gettext_lazy("standing"), ordering="is_active")
    def standing(self, user: User) -> SafeString:
        if not user.is_active:
            return pill(_("Switched off"), "calm", "lock")
        return pill(_("Superuser"), "warn", "star") if user.is_superuser else pill(_("Active"), "good", "check")

    @admin.display(description=gettext_lazy("last log-in"), ordering="last_login")
    def seen(self, user: User) -> SafeString:
        return ago(user.last_login, _("never"))

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        crumbs = [(_("Users"), reverse(f"{self.admin_site.name}:auth_user_changelist"))]
        context = {"breadcrumbs": crumbs, "show_save_and_add_another": False, **(extra_context or {})}
        if object_id and (user := self.get_object(request, object_id)) is not None:
            context["title"] = str(user)
        return super().changeform_view(request, object_id, form_url, context)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().changelist_view(request, {"title": _("Users"), **(extra_context or {})})

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(getattr(request.user, "is_superuser", False))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        # Everybody here works in the dashboard; what they see depends on their roles.
        obj.is_staff = True
        super().save_model(request, obj, form, change)
        audit.record("user.changed" if change else "user.added", request=request, target=obj.get_username())

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if "extra_rights" in form.cleaned_data:
            others = form.instance.user_permissions.exclude(codename__in=_EXTRA_RIGHTS)
            form.instance.user_permissions.set([*others, *form.cleaned_data["extra_rights"]])
