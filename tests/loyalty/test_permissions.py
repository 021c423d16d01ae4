"""Who may do what: the roles on one's own site, nothing on another's."""

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.http import Http404
from django.test import RequestFactory

from loyalty.models import SiteMembership
from loyalty.permissions import Right, can, chosen_site, sites_where
from tests.factories import make_site, make_user

pytestmark = pytest.mark.django_db

Role = SiteMembership.Role
SUPPORT = {Right.VIEW, Right.RESEND, Right.UNSUBSCRIBE}
MANAGER = SUPPORT | {
    Right.ACTIVATE, Right.IMPORT, Right.SUBSCRIBE, Right.CAMPAIGN, Right.SEGMENT, Right.EXPORT, Right.EDIT,
}  # fmt: skip
DEVELOPER = MANAGER | {Right.RAW, Right.SYSTEM, Right.ROTATE}


@pytest.mark.parametrize(
    ("role", "rights"),
    [(Role.SUPPORT, SUPPORT), (Role.MANAGER, MANAGER), (Role.DEVELOPER, DEVELOPER), (Role.ADMIN, set(Right))],
)
def test_each_role_has_its_rights_on_its_own_site_alone(role: str, rights: set[Right]) -> None:
    ours, theirs = make_site(), make_site()
    user = make_user(ours, role=role)
    assert {right for right in Right if can(user, ours, right)} == rights
    assert {right for right in Right if can(user, None, right)} == rights
    assert not any(can(user, theirs, right) for right in Right)
    assert not any(can(user, theirs.pk, right) for right in Right)


def test_roles_on_two_sites_do_not_add_up() -> None:
    ours, theirs = make_site(), make_site()
    user = make_user(ours, role=Role.SUPPORT)
    SiteMembership.objects.create(user=user, site=theirs, role=Role.ADMIN)
    assert not can(user, ours, Right.USERS)
    assert can(user, theirs, Right.USERS)
    assert list(sites_where(user, Right.USERS)) == [theirs]
    assert list(sites_where(user, Right.USERS)) == [theirs]
    assert set(sites_where(user, Right.VIEW)) == {ours, theirs}


def test_nobody_and_the_switched_off_have_no_rights_and_a_superuser_has_all() -> None:
    site = make_site()
    user = make_user(site, role=Role.ADMIN)
    user.is_active = False
    outsider = make_user(site, role=Role.ADMIN)
    outsider.is_staff = False
    for someone in (AnonymousUser(), user, outsider, make_user()):
        assert not can(someone, site, Right.VIEW)
        assert not can(someone, None, Right.VIEW)
    superuser = User.objects.create_superuser("root")
    assert all(can(superuser, site, right) for right in Right)


def test_two_rights_come_by_permission_and_only_with_a_role() -> None:
    site = make_site()
    support = make_user(site, role=Role.SUPPORT)
    for codename in ("view_pii", "import_subscribers"):
        support.user_permissions.add(Permission.objects.get(codename=codename))
    support = User.objects.get(pk=support.pk)
    assert can(support, site, Right.PII)
    assert not can(support, site, Right.IMPORT_SUBSCRIBERS)
    assert not can(support, make_site(), Right.PII)
    with pytest.raises(ValueError):
        can(support, site, "no such right")


def test_the_chosen_site_is_one_of_ours_or_a_404() -> None:
    ours, theirs = make_site(), make_site()
    user = make_user(ours)

    def choose(site_id: str) -> object:
        request = RequestFactory().get("/", {"site": site_id})
        request.user = user
        return chosen_site(request)

    assert choose(ours.site_id) == ours
    assert choose("") is None
    for unknown in (theirs.site_id, "nobody"):
        with pytest.raises(Http404):
            choose(unknown)
