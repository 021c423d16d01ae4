"""Forgets a person: their rows lose what points to them, their addresses are remembered as keyed hashes alone.

What stays is what the site's books need: that an action happened, that a text went, when, and how it ended. The hash
keeps imports and the API from bringing the person back.
"""

import json
import re
from dataclasses import dataclass, field

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from attentive_integration import rate_limit
from attentive_integration.http import VendorError
from loyalty import audit, consent, tokens
from loyalty.imports.files import rejects_of
from loyalty.models import (
    AccessToken,
    Consent,
    ExportJob,
    ImportIssue,
    ImportJob,
    Member,
    MemberChange,
    SegmentMember,
    Site,
)
from loyalty.models.members import ERASED_MARK
from loyalty.models.scope import Someone
from messaging.models import Message, SendAttempt, WebhookEvent
from messaging.reasons import Code

_STILL_OPEN = (Message.State.QUEUED, Message.State.HELD, Message.State.CLAIMED)
_GONE = "[erased]"


@dataclass
class Erasure:
    """What was forgotten. `files` may still hold the person; `attentive` is done, failed or not told."""

    addresses: int = 0
    members: int = 0
    messages: int = 0
    actions: int = 0
    webhooks: int = 0
    files: list[str] = field(default_factory=list)
    attentive: str = "not told"
    sentence: str = ""


def erase(site: Site, phone_or_email: str, *, by: Someone = None, actor: str = "") -> Erasure:
    """Forget whoever has this phone (any spelling) or e-mail at the site, and ask Attentive to do the same.

    An address that is no member's is forgotten as an address. Raises `PhoneError` for what is neither a phone nor an
    e-mail. Safe to repeat: what a first call could not do, such as telling Attentive, the next one does.
    """
    channel, address = consent.address_of(site, phone_or_email)
    with transaction.atomic():
        people = _people(site, channel, address)
        phones = {person.phone for person in people} | ({address} if channel == Consent.Channel.TEXT else set())
        emails = {person.email.lower() for person in people if person.email}
        emails |= {address} if channel == Consent.Channel.EMAIL else set()
        done = Erasure(addresses=len(phones) + len(emails), files=sorted(_stored_files(site)))
        for phone in sorted(phones):
            consent.erase(site, phone, by=by)
        for email in sorted(emails):
            consent.erase(site, email, channel=Consent.Channel.EMAIL, by=by)
        _forget_messages(site, people, phones, done)
        _forget_members(people, done)
        traces = [_trace(address) for address in phones | emails]
        _forget_webhooks(site, traces, done)
        _forget_imported_rows(site, traces)
        audit.record("member.erased", site=site, user=by, actor=actor, new={"members": done.members})
    _tell_attentive(site, phones, emails, done)
    return done


def _people(site: Site, channel: str, address: str) -> list[Member]:
    """Return the members with this address, and the rows that they had under an earlier or a later phone."""
    named = Q(phone=address) if channel == Consent.Channel.TEXT else Q(email__iexact=address)
    found = {member.pk: member for member in Member.objects.select_for_update().filter(named, site=site)}
    fresh = list(found)
    while fresh:
        linked = Q(replaced_by__in=fresh) | Q(replaces__in=fresh)
        more = Member.objects.filter(linked, site=site).exclude(pk__in=found).distinct()
        fresh = [member.pk for member in more]
        found.update((member.pk, member) for member in more)
    return [found[pk] for pk in sorted(found)]


def _forget_messages(site: Site, people: list[Member], phones: set[str], done: Erasure) -> None:
    theirs = Message.objects.filter(Q(member__in=people) | Q(to__in=phones), site=site)
    SendAttempt.objects.filter(message__in=theirs).exclude(answer="").update(answer="")
    theirs.filter(state__in=_STILL_OPEN).update(
        state=Message.State.CANCELLED, reason=Code.ERASED, lease_until=None, updated_at=timezone.now()
    )
    done.messages = theirs.update(to="", body="")


def _forget_members(people: list[Member], done: Erasure) -> None:
    """Remove members without messages; of the others an empty row stays, because the message log points to it."""
    done.members = len(people)
    log = LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(Member))
    log.filter(object_id__in=[str(person.pk) for person in people]).update(object_repr=_GONE, change_message="")
    for person in people:
        done.actions += person.actions.count()
        if not person.messages.exists():
            person.delete()
            continue
        person.actions.update(data={}, points=None, points_delta=None)
        SegmentMember.objects.filter(member=person).delete()
        MemberChange.objects.filter(member=person).update(changes={})
        mark = f"{ERASED_MARK}{person.pk}"
        empty = Member(pk=person.pk, site_id=person.site_id, phone=mark, joined_at=person.joined_at)
        empty.created_at, empty.created_by_import_id = person.created_at, person.created_by_import_id
        empty.save()


def _trace(address: str) -> str:
    """Return a regular expression that finds the address in free text; a phone in any spelling."""
    if "@" in address:
        return re.escape(address)
    digits = address.removeprefix("+1").removeprefix("+")
    return r"[ ()./-]{0,3}".join(digits)


def _forget_webhooks(site: Site, traces: list[str], done: Erasure) -> None:
    for trace in traces:
        bodies = WebhookEvent.objects.filter(site=site, body__iregex=trace)
        # What waits to be processed speaks of a text to this person, which nobody can match any more.
        bodies.filter(state=WebhookEvent.State.RECEIVED).update(state=WebhookEvent.State.IGNORED)
        done.webhooks += bodies.update(body="")


def _forget_imported_rows(site: Site, traces: list[str]) -> None:
    """Take the person out of the rows that imports keep to show them, and out of their examples."""
    rows = ImportIssue.objects.filter(job__site=site, cells__iregex="|".join(traces))
    rows.update(cells=[])
    pattern = re.compile("|".join(traces), re.IGNORECASE)
    for job in ImportJob.objects.filter(site=site).exclude(findings={}).iterator(chunk_size=100):
        before = json.dumps(job.findings, ensure_ascii=False)
        after = pattern.sub(_GONE, before)
        if after != before:
            ImportJob.objects.filter(pk=job.pk).update(findings=json.loads(after))


def _stored_files(site: Site) -> set[str]:
    """Name the files of the site that are still kept and may hold the person."""
    imports = ImportJob.objects.filter(site=site).values_list("file", "rejects_file")
    exports = ExportJob.objects.filter(site=site).values_list("file", flat=True)
    names = {name for pair in imports for name in pair if name} | {name for name in exports if name}
    return names | set(rejects_of(site.pk))


def _tell_attentive(site: Site, phones: set[str], emails: set[str], done: Erasure) -> None:
    """Send Attentive a privacy request for each address; it deletes within thirty days."""
    reason = _("The person asked to be forgotten.")
    requests = [{"phone": phone} for phone in sorted(phones)] + [{"email": email} for email in sorted(emails)]
    try:
        app_key = tokens.token_secret(site, AccessToken.Kind.ATTENTIVE_APP)
        if not app_key:
            done.sentence = _("The site has no Attentive app key. Ask Attentive to delete the person there.")
            return
        client = tokens.attentive_client(site)
        for request in requests:
            rate_limit.acquire(*tokens.pace(app_key))
            client.delete_request(**request, reason=reason)
    except (VendorError, tokens.TokenUnusable) as error:
        done.attentive = "failed"
        done.sentence = _("%(cause)s Everything is erased here; run the command again to ask Attentive again.") % {
            "cause": error
        }
    else:
        done.attentive = "done"
