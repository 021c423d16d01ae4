"""Who may do what on which site: one function, `can`, asked by every page, action and download."""

from dataclasses import dataclass
from enum import StrEnum

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import QuerySet
from django.http import Http404, HttpRequest

from loyalty.models import Site, SiteMembership

Role = SiteMembership.Role


class Right(StrEnum):
    """What a page or an action asks for. Each role has the rights of the roles before it."""

    # Support
    VIEW = "view"
    RESEND = "resend"
    UNSUBSCRIBE = "unsubscribe"
    # Integration manager
    ACTIVATE = "activate"
    IMPORT = "import"
    SUBSCRIBE = "subscribe"
    CAMPAIGN = "campaign"
    SEGMENT = "segment"
    EXPORT = "export"
    EDIT = "edit"
    # Developer
    RAW = "raw"
    SYSTEM = "system"
    ROTATE = "rotate"
    # Admin
    ERASE = "erase"
    USERS = "users"
    # By Django permission on top of a membership; an admin of the site has them anyway.
    PII = "pii"
    IMPORT_SUBSCRIBERS = "import_subscribers"


_RIGHTS_OF: dict[str, frozenset[Right]] = {}
_RIGHTS_OF[Role.SUPPORT] = frozenset({Right.VIEW, Right.RESEND, Right.UNSUBSCRIBE})
_RIGHTS_OF[Role.MANAGER] = _RIGHTS_OF[Role.SUPPORT] | {
    Right.ACTIVATE, Right.IMPORT, Right.SUBSCRIBE, Right.CAMPAIGN, Right.SEGMENT, Right.EXPORT, Right.EDIT,
}  # fmt: skip
_RIGHTS_OF[Role.DEVELOPER] = _RIGHTS_OF[Role.MANAGER] | {Right.RAW, Right.SYSTEM, Right.ROTATE}
_RIGHTS_OF[Role.ADMIN] = frozenset(Right)

_PERMISSIONS = {Right.PII: "loyalty.view_pii", Right.IMPORT_SUBSCRIBERS: "loyalty.import_subscribers"}
# A subscriber list raises consent, so its permission helps only those who may import at all.
_PERMISSION_NEEDS = {Right.PII: Right.VIEW, Right.IMPORT_SUBSCRIBERS: Right.IMPORT}


@dataclass(frozen=True)
class Membership:
    """A site of a user, with their role on it; enough for a menu."""

    pk: int
    site_id: str
    client_name: str
    role: str


def memberships_of(user: AbstractBaseUser | AnonymousUser) -> list[Membership]:
    """Return the user's sites by client name; read once per request, as the user object is."""
    known: list[Membership] | None = getattr(user, "_memberships", None)
    if known is None:
        known = []
        if user.is_authenticated and user.is_active:
            rows = SiteMembership.objects.filter(user_id=user.pk).order_by("site__client_name", "site_id")
            columns = ("site_id", "site__site_id", "site__client_name", "role")
            known = [Membership(*row) for row in rows.values_list(*columns)]
        user._memberships = known  # type: ignore[union-attr]
    return known


def roles_of(user: AbstractBaseUser | AnonymousUser) -> dict[int, str]:
    """Return the user's role per site (primary key of the site)."""
    return {membership.pk: membership.role for membership in memberships_of(user)}


def can(user: AbstractBaseUser | AnonymousUser, site: Site | int | None, what: str) -> bool:
    """Tell whether the user has this right on this site (or its primary key); None asks for any of their sites."""
    if not (user.is_authenticated and user.is_active and getattr(user, "is_staff", False)):
        return False
    if getattr(user, "is_superuser", False):
        return True
    right = Right(what)
    roles = roles_of(user)
    if site is None:
        return any(_has(user, role, right) for role in set(roles.values()))
    role = roles.get(site.pk if isinstance(site, Site) else site)
    return role is not None and _has(user, role, right)


def _has(user: AbstractBaseUser | AnonymousUser, role: str, right: Right) -> bool:
    if right in _RIGHTS_OF[role]:
        return True
    permission = _PERMISSIONS.get(right)
    return bool(
        permission and _PERMISSION_NEEDS[right] in _RIGHTS_OF[role] and user.has_perm(permission)  # type: ignore[union-attr]
    )


def people_with(site: Site, what: str, most: int = 3) -> str:
    """Return the names of some people whose role on the site gives this right, for “ask one of them”; may be empty."""
    roles = [role for role, rights in _RIGHTS_OF.items() if Right(what) in rights]
    rows = SiteMembership.objects.filter(site=site, role__in=roles, user__is_active=True).select_related("user")
    people = [row.user for row in rows.order_by("user__username")[:most]]
    return ", ".join(person.get_full_name() or person.get_username() for person in people)


def sites_where(user: AbstractBaseUser | AnonymousUser, what: str) -> QuerySet[Site]:
    """Return the sites on which the user has this right."""
    sites = Site.objects.visible_to(user)
    if getattr(user, "is_superuser", False):
        return sites
    return sites.filter(pk__in=[pk for pk, role in roles_of(user).items() if _has(user, role, Right(what))])


def chosen_site(request: HttpRequest) -> Site | None:
    """Return the site that `?site=` names, None without one; a site that the user may not see is a 404."""
    if not hasattr(request, "_chosen_site"):
        name = request.GET.get("site", "").strip()
        site = None
        if name and request.user.is_authenticated:
            site = Site.objects.visible_to(request.user).filter(site_id=name).first()
            if site is None:
                raise Http404(f"No site {name[:64]}.")
        request._chosen_site = site  # type: ignore[attr-defined]
    return request._chosen_site  # type: ignore[attr-defined]
