"""What staff do with a campaign: write it, have it reviewed, take it live, pause it, go back to an earlier text.

DRAFT → REVIEW → LIVE ⇄ PAUSED. Everything is audited. An edit of the content makes a new version; messages that exist
keep the version they were made from.
"""

from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlsplit

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _

from attentive_integration.attentive import EVENT_TYPE_REFUSES, LEGACY_MESSAGE_PATH
from loyalty import audit
from loyalty.models import ActionType, Site
from loyalty.models.scope import Someone, known_user
from messaging import text
from messaging.models import Campaign, CampaignVersion

State = Campaign.State

CONTENT_FIELDS = ("body", "link", "media_url", "event_type")
# What a person may change without making a new version.
SETTING_FIELDS = (
    "name", "action_type", "segment", "route", "starts_at", "ends_at", "expiry_hours", "quiet_policy", "priority",
    "is_shadow", "canary_size",
)  # fmt: skip
# What a campaign that runs keeps: its waiting messages were made for it.
FIXED_WHEN_RUNNING = ("action_type", "route")
RUNNING = (State.LIVE, State.PAUSED)
# The first recipients that going live offers.
CANARY_SIZE = 50
LONGEST_EXPIRY = timedelta(days=30)
_PICTURES = (".gif", ".png", ".jpg", ".jpeg")


class CampaignRefused(Exception):
    """Something cannot be done with a campaign; `str()` is a sentence with the remedy."""


# --- Content ----------------------------------------------------------------------------------------------------------


def content_of(version: CampaignVersion | None) -> dict[str, str]:
    """Return what a version says, field by field; empty texts for none."""
    return {name: getattr(version, name) if version else "" for name in CONTENT_FIELDS}


def content_problems(campaign: Campaign, content: Mapping[str, str]) -> dict[str, str]:
    """Return a sentence for each field of the content with which the campaign could not send; empty = all is well."""
    problems = word_problems(campaign, content)
    for name in ("link", "media_url") if campaign.route == Campaign.Route.MESSAGE else ():
        if content.get(name) and (problem := _address_problem(campaign.site, name, content[name])):
            problems[name] = problem
    return problems


def word_problems(campaign: Campaign, content: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the words of the content alone: the text, or the event's type."""
    if campaign.route == Campaign.Route.EVENT:
        event_type = content.get("event_type") or campaign.name
        if refused := EVENT_TYPE_REFUSES & set(event_type):
            sentence = _(
                "Attentive refuses an event type with %(characters)s in it. Use letters, digits, spaces and dashes."
            ) % {"characters": " ".join(sorted(refused))}
            return {"event_type": sentence}
        return {}
    try:
        text.check_body(content.get("body", ""))
    except text.BodyError as error:
        return {"body": str(error)}
    return {}


def _address_problem(site: Site, name: str, address: str) -> str:
    if site.message_path != LEGACY_MESSAGE_PATH:
        return _(
            "This site sends by %(path)s, which takes no link and no picture. Put a link into the text, or change the "
            "message path in the site's settings."
        ) % {"path": site.message_path}
    if urlsplit(address).scheme != "https":
        return _("The address must begin with https://.")
    if name == "media_url" and not urlsplit(address).path.lower().endswith(_PICTURES):
        return _("Attentive takes a gif, png or jpg picture of less than 500 KB. The address must end in one of these.")
    return ""


def _require_content(campaign: Campaign, content: Mapping[str, str]) -> None:
    if problems := content_problems(campaign, content):
        raise CampaignRefused(" ".join(problems.values()))


# --- Writing ----------------------------------------------------------------------------------------------------------


@transaction.atomic
def create(
    site: Site,
    *,
    name: str,
    action_type: ActionType,
    content: Mapping[str, str],
    by: Someone = None,
    **settings: object,
) -> Campaign:
    """Make a draft; a name that the site has already gets a number. Raises `CampaignRefused`."""
    campaign = Campaign(
        site=site, name=_free_name(site, name), action_type=action_type, created_by=known_user(by), **settings
    )
    _require_content(campaign, content)
    campaign.save()
    audit.record("campaign.created", site=site, user=by, target=campaign.name)
    _add_version(campaign, content, by)
    return campaign


def _free_name(site: Site, name: str) -> str:
    taken = set(Campaign.objects.filter(site=site, name__startswith=name[:180]).values_list("name", flat=True))
    number, free = 1, name[:180]
    while free in taken:
        number += 1
        free = f"{name[:180]} {number}"
    return free


@transaction.atomic
def save_settings(campaign: Campaign, *, by: Someone = None) -> list[str]:
    """Save the settings that `campaign` carries and return which changed. Raises `CampaignRefused`."""
    stored = Campaign.objects.select_for_update().get(pk=campaign.pk)
    changed = [name for name in SETTING_FIELDS if getattr(stored, _column(name)) != getattr(campaign, _column(name))]
    if stored.state in RUNNING and set(changed) & set(FIXED_WHEN_RUNNING):
        raise CampaignRefused(_("A campaign that runs keeps its action and its route. Duplicate it to change them."))
    if not changed:
        return []
    try:
        with transaction.atomic():
            campaign.save(update_fields=[*changed, "updated_at"])
    except IntegrityError:
        raise CampaignRefused(_("The site has another campaign of this name. Choose a different name.")) from None
    audit.record(
        "campaign.settings_changed",
        site=campaign.site, user=by, target=campaign.name,
        old={name: _plain(getattr(stored, _column(name))) for name in changed},
        new={name: _plain(getattr(campaign, _column(name))) for name in changed},
    )  # fmt: skip
    return changed


def _column(name: str) -> str:
    """Return the attribute that holds a setting's own value: of a foreign key the number."""
    return f"{name}_id" if name in ("action_type", "segment") else name


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | bool | None) else str(value)


@transaction.atomic
def save_content(campaign: Campaign, content: Mapping[str, str], *, by: Someone = None) -> CampaignVersion:
    """Make a new version of the content, from the next action on; the same content makes none.

    Raises `CampaignRefused` when a placeholder is unknown, a brace is left, or an address cannot be sent.
    """
    _require_content(campaign, content)
    stored = Campaign.objects.select_for_update(of=("self",)).select_related("version").get(pk=campaign.pk)
    wanted = {name: content.get(name, "") for name in CONTENT_FIELDS}
    if stored.version is not None and content_of(stored.version) == wanted:
        return stored.version
    version = _add_version(campaign, wanted, by)
    audit.record(
        "campaign.content_changed", site=campaign.site, user=by, target=campaign.name,
        old=str(stored.version or ""), new=str(version),
    )  # fmt: skip
    return version


def _add_version(campaign: Campaign, content: Mapping[str, str], by: Someone) -> CampaignVersion:
    last = CampaignVersion.objects.filter(campaign=campaign).aggregate(last=Max("number"))["last"] or 0
    version = CampaignVersion.objects.create(
        campaign=campaign, number=last + 1, created_by=known_user(by),
        **{name: content.get(name, "") for name in CONTENT_FIELDS},
    )  # fmt: skip
    campaign.version = version
    campaign.save(update_fields=["version", "updated_at"])
    return version


def restore_version(campaign: Campaign, number: int, *, by: Someone = None) -> CampaignVersion:
    """Make an earlier version's content the newest version. Raises `CampaignRefused`."""
    version = CampaignVersion.objects.filter(campaign=campaign, number=number).first()
    if version is None:
        raise CampaignRefused(_("This campaign has no version %(number)d.") % {"number": number})
    return save_content(campaign, content_of(version), by=by)


@transaction.atomic
def duplicate(campaign: Campaign, *, by: Someone = None) -> Campaign:
    """Make a draft with the same settings and content."""
    settings = {name: getattr(campaign, name) for name in SETTING_FIELDS if name not in ("name", "action_type")}
    return create(
        campaign.site,
        name=_("Copy of %(name)s") % {"name": campaign.name},
        action_type=campaign.action_type,
        content=content_of(campaign.version),
        by=by,
        **settings,
    )


# --- States -----------------------------------------------------------------------------------------------------------


def submit(campaign: Campaign, *, by: Someone = None) -> None:
    """Hand a draft in for review."""
    _require_content(campaign, content_of(campaign.version))
    _move(campaign, (State.DRAFT,), State.REVIEW, "campaign.submitted", by)


def send_back(campaign: Campaign, *, by: Someone = None) -> None:
    """Make a reviewed campaign a draft again."""
    _move(campaign, (State.REVIEW,), State.DRAFT, "campaign.sent_back", by)


def go_live(campaign: Campaign, *, canary_size: int = 0, by: Someone = None) -> None:
    """Let a reviewed campaign speak of the actions from this second on; a canary texts so many people first."""
    _require_content(campaign, content_of(campaign.version))
    if campaign.version is None:
        raise CampaignRefused(_("The campaign has no text yet. Write one and save it."))
    # Without its fraction: an action of this very second happened after going live.
    now = timezone.now().replace(microsecond=0)
    _move(
        campaign, (State.REVIEW,), State.LIVE, "campaign.live", by,
        went_live_at=now, canary_size=canary_size, canary_passed_at=None,
    )  # fmt: skip


def pause(campaign: Campaign, *, by: Someone = None) -> None:
    """Hold what the campaign would send, at once; what has been held too long expires."""
    _move(campaign, (State.LIVE,), State.PAUSED, "campaign.paused", by)


def resume(campaign: Campaign, *, by: Someone = None) -> None:
    """Send what was held and has not expired, and go on."""
    _move(campaign, (State.PAUSED,), State.LIVE, "campaign.resumed", by)


def end_canary(campaign: Campaign, *, by: Someone = None) -> None:
    """Go on at once, without waiting for the reaction of the first recipients."""
    if campaign.canary_size and campaign.canary_passed_at is None:
        _move(campaign, RUNNING, campaign.state, "campaign.canary_ended", by, canary_passed_at=timezone.now())


@transaction.atomic
def _move(
    campaign: Campaign, from_states: tuple[str, ...], to_state: str, event: str, by: Someone, **fields: object
) -> None:
    moved = Campaign.objects.filter(pk=campaign.pk, state__in=from_states).update(
        state=to_state, updated_at=timezone.now(), **fields
    )
    if not moved:
        raise CampaignRefused(_("The campaign has changed meanwhile. Look at its state and choose again."))
    old = campaign.state
    campaign.refresh_from_db()
    audit.record(event, site=campaign.site, user=by, target=campaign.name, old=old, new=str(to_state))
