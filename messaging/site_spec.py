"""A site's whole set-up as one JSON object: `create_site` makes a site from it, for scripts and for clones.

Fields may be left out; unknown ones are refused. `quiet_hours: null` means none, the state windows included; left out
means the default; the same for `caps`. The state is set as given, without checks.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext as _

from attentive_integration.phones import PhoneError, is_country, to_e164
from attentive_integration.storable import is_storable
from loyalty import activation, audit, segments, tokens
from loyalty.models import AccessToken, ActionType, Segment, SignUpSource, Site
from loyalty.models.scope import Someone, known_user
from messaging import quiet_hours
from messaging.campaigns import word_problems
from messaging.models import Campaign, CampaignVersion

_SITE_FIELDS = (
    "client_name", "default_country", "allowed_countries", "time_zone", "state", "message_path", "company_name",
    "company_domain", "sms_prefix", "subscribe_email", "notes",
)  # fmt: skip
# Every value that is not named here is text.
_BOOLEANS = {"subscribe_email", "is_default", "is_shadow"}
_WHOLE_NUMBERS = {"expiry_hours", "priority", "canary_size"}
_NO_TEXT_FIELDS = {"allowed_countries", "rules"} | _BOOLEANS | _WHOLE_NUMBERS
_ID_FIELDS = {"site_id", "sign_up_source_id", "code", "action_type", "external_id"}
_OTHER_FIELDS = (
    "site_id", "quiet_hours", "caps", "guest_phones", "webhook_signing_key", "tokens", "sign_up_sources",
    "action_types", "campaigns", "segments",
)  # fmt: skip
# Beyond these years a moment may be none in another zone.
_FIRST_YEAR, _LAST_YEAR = 1970, 9990
_SOURCE_FIELDS = ("sign_up_source_id", "name", "type", "is_default")
_ACTION_TYPE_FIELDS = ("code", "name")
_CAMPAIGN_FIELDS = (
    "name", "action_type", "segment", "route", "state", "body", "link", "media_url", "event_type", "starts_at",
    "ends_at", "expiry_hours", "quiet_policy", "priority", "is_shadow", "canary_size",
)  # fmt: skip
_SEGMENT_FIELDS = (
    "name", "rules", "data_type", "from_date", "to_date", "status", "external_id", "external_name",
)  # fmt: skip


class SpecError(Exception):
    """The object cannot become a site; `str()` is a sentence that names the field."""


@transaction.atomic
def create_site(spec: Any, *, by: Someone = None, actor: str = "create_site") -> dict[str, Any]:
    """Make a site and return what scripts need: `site_id`, `access_token`, `webhook_url`, `campaigns`, `segments`.

    Raises `SpecError` and makes nothing when any part is wrong.
    """
    _refuse_unstorable(spec, _("The file"))
    fields = _object(spec, _("The file"), (*_SITE_FIELDS, *_OTHER_FIELDS), required=("site_id", "client_name"))
    site = _site(fields)
    for kind, secret in _secrets(fields):
        try:
            tokens.set_token(site, kind, secret, by=by)
        except ValueError as error:
            raise SpecError(str(error)) from None
    _sign_up_sources(site, _list(fields, "sign_up_sources"))
    for item in _list(fields, "action_types"):
        values = _part(item, "action_types", _ACTION_TYPE_FIELDS, required=("code",))
        _save(ActionType(site=site, **values), "action_types")
    made_segments = [_segment(site, item, by) for item in _list(fields, "segments")]
    made_campaigns = [_campaign(site, item, by) for item in _list(fields, "campaigns")]
    audit.record("site.created", site=site, user=by, actor=actor, target=str(site), new={"state": site.state})
    return {
        "site_id": site.site_id,
        "access_token": tokens.access_token(site),
        "webhook_url": activation.webhook_url(site),
        "campaigns": [{"id": campaign.pk, "name": campaign.name} for campaign in made_campaigns],
        "segments": [{"id": segment.pk, "name": segment.name} for segment in made_segments],
    }


def describe_site(site: Site) -> dict[str, Any]:
    """Return a site's set-up in the form that `create_site` takes, without any secret and as a draft."""
    versions = Campaign.objects.filter(site=site).select_related("version", "action_type", "segment")
    return {
        "site_id": site.site_id,
        **{name: getattr(site, name) for name in _SITE_FIELDS},
        "state": Site.State.DRAFT.value,
        "quiet_hours": site.quiet_hours,
        "caps": site.caps,
        "guest_phones": site.guest_phones,
        "sign_up_sources": [
            {name: getattr(source, name) for name in _SOURCE_FIELDS} for source in site.sign_up_sources.order_by("pk")
        ],
        "action_types": [{"code": kind.code, "name": kind.name} for kind in site.action_types.order_by("pk")],
        "segments": [
            {name: _plain(getattr(segment, name)) for name in _SEGMENT_FIELDS}
            for segment in site.segments.filter(is_frozen=False).order_by("pk")
        ],
        "campaigns": [_describe_campaign(campaign) for campaign in versions.order_by("pk")],
    }


def _describe_campaign(campaign: Campaign) -> dict[str, Any]:
    described = {
        "name": campaign.name,
        "action_type": campaign.action_type.code,
        "segment": campaign.segment.name if campaign.segment and not campaign.segment.is_frozen else None,
        "route": campaign.route,
        "state": Campaign.State.DRAFT.value,
        "starts_at": _plain(campaign.starts_at),
        "ends_at": _plain(campaign.ends_at),
        "expiry_hours": campaign.expiry_hours,
        "quiet_policy": campaign.quiet_policy,
        "priority": campaign.priority,
        "is_shadow": campaign.is_shadow,
        "canary_size": campaign.canary_size,
    }
    if campaign.version is not None:
        names = ("body", "link", "media_url", "event_type")
        described |= {name: getattr(campaign.version, name) for name in names}
    return {key: value for key, value in described.items() if value not in (None, "")}


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


# --- The parts --------------------------------------------------------------------------------------------------------


def _site(fields: Mapping[str, Any]) -> Site:
    site = Site(**_typed({name: fields[name] for name in ("site_id", *_SITE_FIELDS) if name in fields}))
    if Site.objects.filter(site_id=site.site_id).exists():
        raise SpecError(_("The site %(site)s exists already. Change it on its page.") % {"site": site.site_id})
    if "quiet_hours" in fields:
        site.quiet_hours = fields["quiet_hours"]
    if "caps" in fields:
        site.caps = fields["caps"] or []
    for name, check in (("quiet_hours", quiet_hours.check_quiet_hours), ("caps", quiet_hours.check_caps)):
        try:
            check(getattr(site, name))
        except ValueError as error:
            raise SpecError(f"{name}: {error}") from None
    countries = site.allowed_countries
    if not isinstance(countries, list) or not all(is_country(code) for code in countries):
        raise SpecError(_('“allowed_countries” must be a list of two-letter codes such as ["US", "CA"].'))
    if not is_country(site.default_country):
        raise SpecError(_("“default_country” must be a two-letter code such as US."))
    try:
        site.guest_phones = [
            to_e164(str(phone), site.default_country, countries) for phone in _list(fields, "guest_phones")
        ]
    except PhoneError as error:
        raise SpecError(f"guest_phones: {error.sentence}") from None
    if site.state != Site.State.DRAFT:
        site.activated_at = _this_second()
    if site.message_path not in Site.MessagePath.values:
        raise SpecError(
            _("“message_path” cannot be “%(path)s”. Known are: %(known)s. Leave it out for the first one.")
            % {"path": str(site.message_path)[:60], "known": ", ".join(Site.MessagePath.values)}
        )
    _save(site, _("The site"))
    return site


def _this_second() -> datetime:
    """Return now without its fraction: an action of this very second happened after going live."""
    return timezone.now().replace(microsecond=0)


def _secrets(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    given = fields.get("tokens")
    found = _object({} if given is None else given, "tokens", tuple(AccessToken.Kind.values))
    if fields.get("webhook_signing_key") is not None:
        found = {**found, AccessToken.Kind.WEBHOOK_SIGNING: fields["webhook_signing_key"]}
    for kind, secret in found.items():
        if secret is not None and not isinstance(secret, str):
            raise SpecError(_("“%(field)s” must be text.") % {"field": f"tokens.{kind}"})
    return [(kind, secret) for kind, secret in found.items() if secret]


def _sign_up_sources(site: Site, items: list[Any]) -> None:
    defaults = 0
    for item in items:
        values = _part(item, "sign_up_sources", _SOURCE_FIELDS, required=("sign_up_source_id",))
        defaults += values.get("is_default", False)
        if defaults > 1:
            raise SpecError(_("sign_up_sources: only one can be the default. Set “is_default” on one of them."))
        _save(SignUpSource(site=site, **values), "sign_up_sources")


def _segment(site: Site, item: Any, by: Someone) -> Segment:
    values = _part(item, "segments", _SEGMENT_FIELDS, required=("name",))
    rules = values.get("rules", {})
    try:
        segments.validate_rules(rules)
    except segments.RulesError as error:
        raise SpecError(f"segments: {error}") from None
    for name in ("from_date", "to_date"):
        if name in values:
            values[name] = _parsed(values[name], parse_date, f"segments.{name}")
    segment = Segment(site=site, created_by=known_user(by), **values)
    _save(segment, "segments")
    return segment


def _campaign(site: Site, item: Any, by: Someone) -> Campaign:
    values = _part(item, "campaigns", _CAMPAIGN_FIELDS, required=("name", "action_type"))
    values["action_type"] = _action_type(site, values["action_type"])
    segment_name = values.pop("segment", None)
    if segment_name is not None:
        values["segment"] = site.segments.filter(name=segment_name).first()
        if values["segment"] is None:
            raise SpecError(
                _("The campaign “%(name)s” names the segment “%(segment)s”, which the file does not have.")
                % {"name": values["name"], "segment": segment_name}
            )
    for name in ("starts_at", "ends_at"):
        if name in values:
            values[name] = _parsed(values[name], parse_datetime, f"campaigns.{name}")
            if values[name].tzinfo is None:
                raise SpecError(_("“%(field)s” needs an offset, such as …Z.") % {"field": f"campaigns.{name}"})
            if not _FIRST_YEAR <= values[name].year <= _LAST_YEAR:
                raise SpecError(_("“%(field)s” lies too far away. Check the year.") % {"field": f"campaigns.{name}"})
    content: dict[str, str] = {
        name: values.pop(name) for name in ("body", "link", "media_url", "event_type") if name in values
    }
    campaign = Campaign(site=site, created_by=known_user(by), **values)
    for sentence in word_problems(campaign, content).values():
        raise SpecError(_("The campaign “%(name)s”: %(why)s") % {"name": campaign.name, "why": sentence})
    if campaign.state in (Campaign.State.LIVE, Campaign.State.PAUSED):
        campaign.went_live_at = _this_second()
    _save(campaign, "campaigns")
    version = CampaignVersion(campaign=campaign, number=1, created_by=known_user(by), **content)
    _save(version, "campaigns")
    campaign.version = version
    campaign.save(update_fields=["version"])
    return campaign


def _action_type(site: Site, code: str) -> ActionType:
    known = site.action_types.filter(code=code).first()
    if known is None:
        known = ActionType(site=site, code=code)
        _save(known, "campaigns.action_type")
    return known


# --- Reading ----------------------------------------------------------------------------------------------------------


def _refuse_unstorable(value: Any, where: str) -> None:
    """Refuse text that a database cannot hold; the sentence names its place only, since it may be a secret."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_unstorable(key, where)
            _refuse_unstorable(inner, key)
    elif isinstance(value, list):
        for inner in value:
            _refuse_unstorable(inner, where)
    elif isinstance(value, str) and not is_storable(value):
        raise SpecError(_("“%(field)s” holds a character that cannot be stored. Remove it.") % {"field": where})


def _typed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that say something (null is as if left out), ids as text; each must be of its kind."""
    values = {name: value for name, value in fields.items() if value is not None}
    for name in values.keys() & _BOOLEANS:
        if not isinstance(values[name], bool):
            raise SpecError(_("“%(field)s” must be true or false.") % {"field": name})
    for name in values.keys() & _WHOLE_NUMBERS:
        if type(values[name]) is not int:
            raise SpecError(_("“%(field)s” must be a whole number.") % {"field": name})
    for name in values.keys() - _NO_TEXT_FIELDS:
        if name in _ID_FIELDS and type(values[name]) is int:
            values[name] = str(values[name])
        if not isinstance(values[name], str):
            raise SpecError(_("“%(field)s” must be text.") % {"field": name})
    return values


def _part(item: Any, where: str, known: tuple[str, ...], required: tuple[str, ...]) -> dict[str, Any]:
    return _typed(_object(item, where, known, required))


def _object(value: Any, where: str, known: tuple[str, ...], required: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SpecError(_("“%(where)s” must hold a JSON object.") % {"where": where})
    for name in value:
        if name not in known:
            raise SpecError(
                _("%(where)s: unknown field “%(field)s”. Known are: %(known)s.")
                % {"where": where, "field": name, "known": ", ".join(known)}
            )
    for name in required:
        if value.get(name) in (None, ""):
            raise SpecError(_("%(where)s: “%(field)s” is missing.") % {"where": where, "field": name})
    return dict(value)


def _list(fields: Mapping[str, Any], name: str) -> list[Any]:
    value = fields.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise SpecError(_("“%(field)s” must be a list.") % {"field": name})
    return value


def _parsed(value: Any, parse: Callable[[str], Any], where: str) -> Any:
    try:
        parsed = parse(value) if isinstance(value, str) else None
    except ValueError:
        parsed = None
    if parsed is None:
        raise SpecError(_("“%(field)s” is not a date or time in ISO form.") % {"field": where})
    return parsed


def _save(row: Any, where: str) -> None:
    try:
        row.full_clean()
    except ValidationError as error:
        problems = [
            f"“{name}”: {' '.join(sentences)}" if name != "__all__" else " ".join(sentences)
            for name, sentences in error.message_dict.items()
        ]
        raise SpecError(f"{where}: {' '.join(problems)}") from None
    except (TypeError, ValueError) as error:
        raise SpecError(f"{where}: {error}") from None
    row.save()
