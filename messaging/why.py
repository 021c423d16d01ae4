"""Why did this person get no text? For one action: each campaign of the site, its message, or what kept it from one."""

from dataclasses import dataclass

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from attentive_integration.phones import country_name, country_of
from loyalty.models import LoyaltyAction, Site
from loyalty.segments import RulesError, matching_ids
from messaging import text
from messaging.models import Campaign, Message
from messaging.reasons import Code, Reason, explain
from messaging.support_bundle import without_phone
from messaging.triggers import near_miss

Outcome = LoyaltyAction.Outcome


@dataclass(frozen=True)
class Finding:
    """One campaign and what it made of the action: its message, or the reason why there is none."""

    campaign: Campaign
    message: Message | None
    code: str
    reason: Reason


def findings(action: LoyaltyAction, *, phone: str) -> list[Finding]:
    """Return a finding for each campaign of the action's kind, those with a message first.

    `phone` is the member's phone as the reader may see it. Segments are read as they are today.
    """
    made = {
        message.campaign_id: message
        for message in Message.objects.filter(action=action).select_related(
            "campaign__action_type", "site", "member", "version", "action"
        )
    }
    campaigns = Campaign.objects.filter(site=action.site_id, action_type=action.action_type_id)
    found = []
    for campaign in campaigns.select_related("action_type", "segment__site", "version").order_by("name", "pk"):
        message = made.pop(campaign.pk, None)
        found.append(_of_message(message, phone) if message else _of_no_message(campaign, action))
    # A campaign that speaks of another action by now has kept its messages.
    found += [_of_message(message, phone) for message in made.values()]
    return sorted(found, key=lambda one: one.message is None)


def other_campaigns(action: LoyaltyAction) -> int:
    """Return how many campaigns of the site are for other actions."""
    return Campaign.objects.filter(site=action.site_id).exclude(action_type=action.action_type_id).count()


def reason_of(message: Message, *, phone: str) -> Reason:
    """Explain a message's reason code with what is known of it; a message without one gets its state in words."""
    if not message.reason:
        return _without_code(message)
    last = message.attempts.order_by("-number").first()
    site: Site = message.site
    return explain(
        message.reason,
        client=site.client_name,
        phone=phone,
        country=country_name(country_of(message.to)) if message.reason == Code.COUNTRY else "",
        countries=", ".join(site.allowed_countries),
        placeholder=_missing_placeholder(message),
        hours=message.campaign.expiry_hours,
        status=last.http_status or last.cause if last else "",
        answer=_one_line(without_phone(last.answer, message.to)) if last else "",
        until=_("on %(day)s") % {"day": date_format(timezone.localtime(message.due_at), "DATETIME_FORMAT")}
        if message.reason == Code.QUIET_HOURS and message.state == Message.State.QUEUED
        else "",
    )


def _of_message(message: Message, phone: str) -> Finding:
    return Finding(message.campaign, message, message.reason, reason_of(message, phone=phone))


def _of_no_message(campaign: Campaign, action: LoyaltyAction) -> Finding:
    code, reason = _miss(campaign, action)
    return Finding(campaign, None, code, reason)


def _miss(campaign: Campaign, action: LoyaltyAction) -> tuple[str, Reason]:
    facts = {"client": action.site.client_name, "hours": campaign.expiry_hours}
    if action.processed_at is None:
        return "WAITING", Reason(
            _("Not matched yet."),
            _("The action waits for the next run of the campaigns, which is due within a minute."),
            _("If it waits for longer, look at the System page: the worker or the CRON job may be down."),
        )
    if action.outcome in (Outcome.HISTORY, Outcome.SITE_DRAFT):
        return action.outcome, explain(action.outcome, **facts)
    if campaign.state not in (Campaign.State.LIVE, Campaign.State.PAUSED) or campaign.version is None:
        return Code.CAMPAIGN_NOT_LIVE, explain(Code.CAMPAIGN_NOT_LIVE, **facts)
    miss = near_miss(campaign, action, action.processed_at)
    if miss is not None:
        return miss, explain(miss, **facts)
    if campaign.segment is not None and not _is_inside(campaign, action):
        return Outcome.NOT_IN_SEGMENT, explain(Outcome.NOT_IN_SEGMENT, **facts)
    return "CHANGED", Reason(
        _("It would match today."),
        _("When the action came in, this campaign or its segment was not what it is now."),
        _("See the campaign's history and the audit trail. Actions from before are never texted."),
    )


def _is_inside(campaign: Campaign, action: LoyaltyAction) -> bool:
    try:
        return bool(campaign.segment and matching_ids(campaign.segment, [action.member_id]))
    except RulesError:
        return False


def _missing_placeholder(message: Message) -> str:
    """Return the placeholder that was at fault, as it reads from today's values."""
    if message.reason not in (Code.MISSING_VALUE, Code.BRACE, Code.TOO_LONG):
        return ""
    detail = text.render(message.version.body, message.member, message.action).detail
    return "{{ " + detail + " }}" if detail else ""


def _one_line(answer: str) -> str:
    return " ".join(answer.split())[:200]


def _without_code(message: Message) -> Reason:
    state = message.State(message.state)
    if state == Message.State.ACCEPTED:
        if message.confirmed_at:
            return explain(Code.CONFIRMED)
        return Reason(
            _("Accepted by Attentive."),
            _("Attentive took the text. It promises no receipt, so this is not proof that a phone has shown it."),
            "",
        )
    if state == Message.State.QUEUED:
        return Reason(_("Waits for its turn."), _("It leaves as soon as the site's pace allows."), _("Nothing to do."))
    if state in (Message.State.CLAIMED, Message.State.SENDING):
        return Reason(_("Being sent."), _("A worker is at it; the answer is due within seconds."), "")
    return Reason(str(state.label), _("No reason was noted."), "")
