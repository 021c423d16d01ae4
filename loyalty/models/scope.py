"""The one rule that keeps tenants apart: every queryset of site-owned rows answers `visible_to(user)`."""

from dataclasses import dataclass
from typing import Any, Self

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db import models


@dataclass(frozen=True)
class Outsider:
    """A person without an account who does something here; `name` says in words who, for the audit trail."""

    name: str


# Whoever did something: a person who is logged in, one without an account, or nobody (a command, a webhook).
Someone = AbstractBaseUser | AnonymousUser | Outsider | None


def known_user(someone: Someone) -> User | None:
    """Return the user to note beside what was done, None when nobody was logged in."""
    return someone if isinstance(someone, User) else None


class SiteScopedQuerySet(models.QuerySet[Any]):
    """Rows that belong to a site. `site_path` of the model names the way to it, "site" unless said otherwise."""

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> Self:
        """Keep the rows of the sites that the user is a member of; a superuser sees all of them."""
        if not user.is_authenticated or not user.is_active:
            return self.none()
        if getattr(user, "is_superuser", False):
            return self
        path = getattr(self.model, "site_path", "site")
        prefix = f"{path}__" if path else ""
        # A subquery rather than a join: a person with several roles must not see rows twice.
        sites = self.model._meta.apps.get_model("loyalty", "SiteMembership").objects.filter(user=user).values("site")
        return self.filter(**{f"{prefix}pk__in" if prefix else "pk__in": sites})
