"""The sidebar: which pages there are, in which order, and who sees them."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from loyalty.models import Site
from loyalty.permissions import Right, can


@dataclass(frozen=True)
class Entry:
    """A line of the sidebar. `prefix` is how the names of its pages begin, so that it is lit on all of them."""

    label: str | Promise
    icon: str
    url_name: str
    prefix: str
    right: Right = Right.VIEW
    is_child: bool = False
    superuser_only: bool = False


@dataclass(frozen=True)
class Group:
    label: str | Promise
    entries: tuple[Entry, ...] = field(default=())


GROUPS = (
    Group(
        "",
        (
            Entry(_("Home"), "home", "index", "index"),
            Entry(_("Sites"), "site", "loyalty_site_changelist", "loyalty_site_"),
        ),
    ),
    Group(
        _("Program"),
        (
            Entry(_("Members"), "members", "loyalty_member_changelist", "loyalty_member_"),
            Entry(_("Imports"), "import", "loyalty_importjob_changelist", "loyalty_importjob_"),
        ),
    ),
    Group(
        _("Texts"),
        (
            Entry(_("Campaigns"), "campaign", "messaging_campaign_changelist", "messaging_campaign"),
            Entry(_("Messages"), "message", "messaging_message_changelist", "messaging_message"),
            Entry(_("Actions"), "star", "loyalty_loyaltyaction_changelist", "loyalty_loyaltyaction_"),
            Entry(_("Webhooks"), "webhook", "messaging_webhookevent_changelist", "messaging_webhookevent_"),
        ),
    ),
    Group(
        _("Audiences"),
        (
            Entry(_("Segments"), "segment", "loyalty_segment_changelist", "loyalty_segment_"),
            Entry(_("Exports"), "export", "loyalty_exportjob_changelist", "loyalty_exportjob_"),
            Entry(_("Consent"), "consent", "loyalty_consent_changelist", "loyalty_consent_"),
        ),
    ),
    Group(
        _("Operations"),
        (
            Entry(
                _("Stop everything"), "stop", "loyalty_sendingstop_changelist", "loyalty_sendingstop_", Right.ACTIVATE
            ),
            Entry(_("System"), "system", "system", "system", Right.SYSTEM),
            Entry(_("Users"), "user", "auth_user_changelist", "auth_user_", is_child=True, superuser_only=True),
            Entry(
                _("Roles"), "user", "loyalty_sitemembership_changelist", "loyalty_sitemembership_", Right.USERS, True
            ),
            Entry(_("Audit"), "audit", "loyalty_auditentry_changelist", "loyalty_auditentry_"),
        ),
    ),
)


def navigation(
    request: HttpRequest, site: Site | None, badges: dict[str, tuple[int, str, Any]]
) -> list[dict[str, Any]]:
    """Return the sidebar's groups for this user and page; `badges` has (count, tone, words) by URL name."""
    match = request.resolver_match
    current = match.url_name or "" if match else ""
    query = f"?{urlencode({'site': site.site_id})}" if site else ""
    groups = []
    for group in GROUPS:
        entries = []
        for entry in group.entries:
            if not can(request.user, site, entry.right) or (entry.superuser_only and not request.user.is_superuser):
                continue
            address = reverse(f"admin:{entry.url_name}")
            badge, tone, badge_text = badges.get(entry.url_name, (0, "", ""))
            entries.append(
                {
                    "label": entry.label, "icon": entry.icon, "url": address + query, "is_child": entry.is_child,
                    "is_current": current.startswith(entry.prefix), "badge": badge, "badge_tone": tone,
                    "badge_text": badge_text,
                }
            )  # fmt: skip
        if entries:
            groups.append({"label": group.label, "entries": entries})
    return groups
