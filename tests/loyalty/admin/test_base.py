"""What every list, form and page of the dashboard owes to `SiteScopedAdmin`."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from django.test import RequestFactory

from loyalty.models import ImportJob, Member, SiteMembership
from tests.factories import make_site, make_user

pytestmark = pytest.mark.django_db


def request_of(user: User) -> HttpRequest:
    request = RequestFactory().get("/")
    request.user = user
    return request


def admin_of(model: Any) -> Any:
    return admin.site.get_model_admin(model)


def test_choices_are_rows_of_the_users_sites_alone() -> None:
    ours, theirs = make_site(), make_site()
    mine, _ = ImportJob.objects.create(site=ours), ImportJob.objects.create(site=theirs)
    column = Member._meta.get_field("created_by_import")
    field = admin_of(Member).formfield_for_foreignkey(column, request_of(make_user(ours)))
    assert list(field.queryset) == [mine]


def test_a_row_of_others_does_not_exist_and_one_without_the_right_is_refused() -> None:
    site, role = make_site(), SiteMembership.Role
    user = make_user(site, role=role.SUPPORT)
    stranger = make_user(make_site(), role=role.ADMIN)
    membership = SiteMembership.objects.get(user=user)
    with pytest.raises(PermissionDenied):
        admin_of(SiteMembership).get_row(request_of(user), membership.pk)
    with pytest.raises(Http404):
        admin_of(SiteMembership).get_row(request_of(stranger), membership.pk)
    assert admin_of(SiteMembership).get_row(request_of(make_user(site, role=role.ADMIN)), membership.pk) == membership
