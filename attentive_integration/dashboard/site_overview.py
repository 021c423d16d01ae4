"""The overview of one site: how it stands, what became of its messages, who did what."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from attentive_integration.dashboard.attention import address
from attentive_integration.dashboard.home import outcome_chart, queue_rows, top_reasons
from attentive_integration.markup import ago, number, pill_for_state
from loyalty import activation
from loyalty.capped_counts import CountOf, at_least, values_of
from loyalty.connection import Task, TaskState
from loyalty.models import AccessToken, AuditEntry, Breaker, Consent, Member, Site
from messaging import reasons
from messaging.models import Message
from messaging.overview import outcomes, queues


def overview(dashboard: Any, request: HttpRequest, object_id: int) -> HttpResponse:
    admin = dashboard.get_model_admin(Site)
    site: Site = admin.get_row(request, object_id)
    query = {"site": site.site_id}
    now = timezone.now()
    scope = Site.objects.filter(pk=site.pk).order_by()
    found = outcomes(scope, now)
    current = list(AccessToken.objects.filter(site=site, slot="CURRENT", revoked_at=None).order_by("kind"))
    checks = activation.tasks(site, {token.kind for token in current})
    subscribed = Consent.objects.filter(site=site, channel=Consent.Channel.TEXT, state=Consent.State.SUBSCRIBED)
    members = Member.objects.people().filter(site=site)
    counts = values_of({"members": CountOf(members), "subscribed": CountOf(subscribed)})
    messages = Message.objects.filter(site=site).select_related("campaign", "member").order_by("-created_at")[:10]
    context = {
        **admin.site_frame(request, site, "overview", site.client_name),
        "breadcrumbs": [(_("Sites"), admin.page_of("changelist"))],
        "tasks": [
            {
                "label": Task(check.kind).label, "state": check.state, "word": TaskState(check.state).label,
                "sentence": check.account or check.sentence,
                "url": f"{admin.page_of('activate', site.pk)}#{check.kind.lower().replace('_', '-')}",
            }
            for check in checks
        ],
        "passed": sum(check.passed for check in checks),
        "breakers": list(Breaker.objects.filter(site=site, opened_at__isnull=False)),
        "stats": [
            {"label": _("Members"), "value": at_least(counts["members"]), "icon": "members",
             "url": address("loyalty_member_changelist", **query)},
            {"label": _("Subscribed"), "value": at_least(counts["subscribed"]), "icon": "consent", "tone": "good",
             "url": address("loyalty_consent_changelist", state="SUBSCRIBED", **query)},
            {"label": _("Accepted in 24 hours"), "value": number(found.last_day["accepted"]), "icon": "check",
             "tone": "good", "url": address("messaging_message_changelist", state="ACCEPTED", **query)},
            {"label": _("Refused in 24 hours"), "value": number(found.last_day["refused"]), "icon": "cross",
             "tone": "bad", "url": address("messaging_message_changelist", state="REFUSED", **query)},
        ],
        "chart": outcome_chart(found),
        "reasons": top_reasons(found, query),
        "queues": queue_rows(queues(scope, now), query, asking_paused=site.asking_paused_at is not None),
        "messages_url": address("messaging_message_changelist", **query),
        "headers": [_("Member"), _("Campaign"), _("State"), _("Why"), _("When")],
        "rows": [
            [
                str(message.member), message.campaign.name, pill_for_state(message),
                reasons.explain(message.reason).title if message.reason else "–", ago(message.created_at),
            ]
            for message in messages
        ],
        "tokens": current,
        "entries": list(AuditEntry.objects.filter(site=site)[:8]),
        "audit_url": address("loyalty_auditentry_changelist", **query),
        "export_url": address("loyalty_site_export", site.pk),
        "clone_url": address("loyalty_site_setup", source=site.site_id),
    }  # fmt: skip
    return TemplateResponse(request, "admin/loyalty/site/overview.html", context)
