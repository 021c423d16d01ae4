"""Roles and people: given on one's own sites only, and never by a list of other clients' users."""

import pytest
from django.contrib.auth.models import User

from loyalty.models import AuditEntry, SiteMembership
from loyalty.permissions import Right, can
from tests.factories import make_site, make_user
from tests.loyalty.admin.pages import browser, text_of

pytestmark = pytest.mark.django_db

ROLES = "/admin/loyalty/sitemembership/"
USERS = "/admin/auth/user/"
Role = SiteMembership.Role


def test_an_admin_gives_and_takes_roles_on_their_own_site() -> None:
    ours = make_site()
    admin, colleague = make_user(ours, role=Role.ADMIN), make_user()
    client = browser(admin)
    fields = {"username": colleague.username, "site": ours.pk, "role": Role.MANAGER}
    assert client.post(f"{ROLES}add/", fields).status_code == 302
    membership = SiteMembership.objects.get(user=colleague)
    assert membership.role == Role.MANAGER
    assert "has a role on this site already" in text_of(client.post(f"{ROLES}add/", fields))
    client.post(f"{ROLES}{membership.pk}/delete/", {"post": "yes"})
    assert not SiteMembership.objects.filter(user=colleague).exists()
    events = AuditEntry.objects.filter(site=ours, target=colleague.username).order_by("pk")
    assert list(events.values_list("event", flat=True)) == ["role.given", "role.taken"]


def test_roles_on_other_sites_cannot_be_given_or_seen() -> None:
    ours, theirs = make_site(), make_site(client_name="Somebody Else")
    admin, stranger = make_user(ours, role=Role.ADMIN), make_user(theirs)
    SiteMembership.objects.create(user=admin, site=theirs, role=Role.SUPPORT)
    client = browser(admin)
    answer = client.post(f"{ROLES}add/", {"username": stranger.username, "site": theirs.pk, "role": Role.ADMIN})
    assert answer.status_code == 200
    assert not can(stranger, theirs, Right.USERS)
    assert client.get(f"{ROLES}{stranger.site_memberships.get().pk}/change/").status_code in (403, 404)
    assert "no active user" in text_of(client.post(f"{ROLES}add/", {"username": "x", "site": ours.pk, "role": "ADMIN"}))


@pytest.mark.parametrize("role", [Role.SUPPORT, Role.MANAGER, Role.DEVELOPER])
def test_only_admins_see_roles_and_only_superusers_see_people(role: str) -> None:
    site = make_site()
    client = browser(make_user(site, role=role))
    assert client.get(ROLES).status_code == 403
    assert browser(make_user(site, role=Role.ADMIN)).get(USERS).status_code == 403


def test_a_superuser_adds_a_person_and_gives_the_further_rights() -> None:
    root = browser(User.objects.create_superuser("root"))
    password = "a long pass phrase"
    fields = {"username": "grace", "usable_password": "true", "password1": password, "password2": password}
    assert root.post(f"{USERS}add/", fields).status_code == 302
    grace = User.objects.get(username="grace")
    assert grace.is_staff
    page = root.get(f"{USERS}{grace.pk}/change/")
    assert "Can see whole phones and e-mail addresses" in text_of(page)
    box = page.context["adminform"].form.fields["extra_rights"].queryset.get(codename="view_pii").pk
    root.post(f"{USERS}{grace.pk}/change/", {"username": "grace", "is_active": "on", "extra_rights": [box]})
    assert User.objects.get(pk=grace.pk).has_perm("loyalty.view_pii")
    assert root.get(f"{USERS}{grace.pk}/password/").status_code == 200
