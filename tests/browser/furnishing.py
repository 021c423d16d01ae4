"""Rows that the demo's data lacks, so that each page of the dashboard has something to show.

python -m tests.browser.furnishing      prints the rows' numbers by name as one JSON object

Runs in a process of its own with an installation's environment, after `manage.py demo --seed`.
"""

import json
import os
import sys
from datetime import timedelta
from urllib.parse import urlsplit

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "attentive_integration.settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.files.base import ContentFile  # noqa: E402
from django.utils import timezone  # noqa: E402

from loyalty import client_links, exports, imports, segments, stops  # noqa: E402
from loyalty.imports.steps import ask_check, ask_import  # noqa: E402
from loyalty.models import AuditEntry, Consent, ExportJob, ImportJob, Segment, Site, SiteMembership  # noqa: E402
from messaging.models import Campaign, Message, WebhookEvent  # noqa: E402
from messaging.webhooks import receive  # noqa: E402
from tests.browser.steps import LIST, PASSWORD, SUPPORT  # noqa: E402


def furnish() -> dict[str, int | str]:
    """Add the rows and return the number of one row for each name that `pages.PAGES` uses."""
    root = User.objects.filter(username="root").first() or User.objects.create_superuser(
        "root", "root@example.com", PASSWORD, first_name="Robin", last_name="Root"
    )
    harbor, maple, northwind = (Site.objects.get(site_id=number) for number in ("1000001", "1000002", "1000003"))
    support = User.objects.create_user(SUPPORT, "sam@example.com", PASSWORD, first_name="Sam", is_staff=True)
    role = SiteMembership.objects.create(user=support, site=harbor, role=SiteMembership.Role.SUPPORT)
    receive(
        harbor, b'{"type": "sms.unknown_to_us", "timestamp": 1795602520472, "subscriber": {"phone": "+17705550103"}}'
    )
    receive(harbor, b"[]")
    asked = ("LOYALTY", "ATTENTIVE_APP", "WEBHOOK_SIGNING", "ATTENTIVE_LEGACY")
    link, address = client_links.make(maple, asked, by=root)
    client_links.enter(link, "WEBHOOK_SIGNING", "signing-maple")
    stops.stop(northwind, by=root, note="Northwind asked us to wait for the new key.")
    gold = Segment.objects.get(site=harbor, name="Gold and above")
    frozen = Segment.objects.create(site=harbor, name="Spring guests", rules={"tier": ["Gold"]}, created_by=root)
    segments.freeze(frozen, by=root)
    written = exports.start_export(harbor, segment=gold, by=root)
    exports.run_export(written)
    waiting = exports.start_export(harbor, kind=ExportJob.Kind.MEMBERS, by=root)
    latest = {
        state: Message.objects.filter(site=harbor, state=state).latest("pk").pk
        for state in ("ACCEPTED", "REFUSED", "SKIPPED", "UNKNOWN")
    }
    told = Message.objects.filter(site=harbor, state="SKIPPED", reason="NOT_SUBSCRIBED").latest("created_at")
    campaign_of = {campaign.name: campaign.pk for campaign in Campaign.objects.filter(site=harbor)}
    return {
        "live_site": harbor.pk, "waiting_site": maple.pk, "held_site": northwind.pk,
        "client_link": urlsplit(address).path,
        "member": told.member_id, "phone": told.member.phone, "action": told.action_id,
        "opted_out": Consent.objects.filter(site=harbor, state=Consent.State.UNSUBSCRIBED).latest("pk").pk,
        "live_campaign": campaign_of["Thanks for your purchase"], "draft": campaign_of["Birthday treat"],
        "accepted": latest["ACCEPTED"], "refused": latest["REFUSED"], "skipped": told.pk, "unknown": latest["UNKNOWN"],
        "held": Message.objects.filter(site=northwind, state="HELD").latest("pk").pk,
        "webhook": WebhookEvent.objects.filter(site=harbor).latest("pk").pk,
        "segment": gold.pk, "frozen": frozen.pk,
        "exported": written.pk, "exporting": waiting.pk,
        "imported": ImportJob.objects.filter(site=harbor).earliest("pk").pk,
        **_imports(harbor, root),
        "user": support.pk, "role": role.pk, "entry": AuditEntry.objects.filter(site=harbor).latest("pk").pk,
    }  # fmt: skip


def _imports(site: Site, user: User) -> dict[str, int]:
    """One import on each step of its way."""

    def upload(name: str, *, matched: bool = True) -> ImportJob:
        job = imports.start_import(site, ContentFile(LIST), f"{name}.csv", by=user)
        if matched:
            imports.set_mapping(job, imports.propose_mapping(job))
        else:
            ImportJob.objects.filter(pk=job.pk).update(mapping=imports.propose_mapping(job))
        return job

    to_match, checking, checked, importing, failed = (
        upload(name, matched=name != "To match")
        for name in ("To match", "Being checked", "Checked", "Being imported", "Broken off")
    )
    ask_check(checking)
    for job in (checked, importing):
        ask_check(job)
        imports.check_import(job)
    ask_import(importing, {})
    now = timezone.now()
    ImportJob.objects.filter(pk=importing.pk).update(
        state=ImportJob.State.RUNNING, started_at=now - timedelta(seconds=40), size=4_000_000, bytes_done=1_500_000,
        read=52_000, created=51_200, updated=800, lease_until=now + timedelta(hours=2),
    )  # fmt: skip
    ImportJob.objects.filter(pk=failed.pk).update(
        phase=ImportJob.Phase.IMPORT, state=ImportJob.State.FAILED, started_at=now, ended_at=now,
        error="The uploaded file is no longer there. Upload it again.",
    )  # fmt: skip
    return {
        "to_match": to_match.pk, "checking": checking.pk, "checked": checked.pk, "importing": importing.pk,
        "failed": failed.pk,
    }  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(json.dumps(furnish()) + "\n")
