"""A campaign's text to a guest phone of the site: a real text, to staff only, to see it before members do."""

from datetime import timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from attentive_integration import rate_limit
from attentive_integration.http import ErrorKind, VendorError
from attentive_integration.phones import masked
from loyalty import audit, consent, stops, tokens
from loyalty.guest_tests import CAMPAIGN_TEST_TEXT as TEST_TEXT
from loyalty.models import AccessToken, AuditEntry, Consent, Site
from loyalty.models.scope import Someone
from messaging.campaigns import CampaignRefused
from messaging.models import Campaign

# The same test to the same phone is not sent twice within this time: it is a double click.
_DOUBLE_CLICK = timedelta(seconds=20)
_OPTED_OUT = (Consent.State.UNSUBSCRIBED, Consent.State.BLOCKED, Consent.State.ERASED)


def send_guest_text(campaign: Campaign, body: str, phone: str, *, by: Someone) -> None:
    """Text the rendered `body` to a guest phone (E.164) with the site's legacy token. Audited before the call.

    Raises `CampaignRefused` with the reason when it was not, or not surely, sent.
    """
    site = campaign.site
    _require_allowed(campaign, phone)
    try:
        secret = tokens.token_secret(site, AccessToken.Kind.ATTENTIVE_LEGACY)
        client = tokens.attentive_client(site)
    except tokens.TokenUnusable as error:
        raise CampaignRefused(str(error)) from None
    if not secret:
        raise CampaignRefused(
            _(
                "%(site)s has no legacy token, and messages need one. Enter it on the site's Activate page, or ask for "
                "one at legacyapi@attentivemobile.com."
            )
            % {"site": site.client_name}
        )
    _record_once(campaign, body, phone, by)
    version = campaign.version
    try:
        rate_limit.acquire(*tokens.pace(secret))
        client.messages(
            to=phone,
            body=body,
            link=(version.link if version else "") or None,
            media_url=(version.media_url if version else "") or None,
        )
    except VendorError as error:
        if error.kind == ErrorKind.UNKNOWN:
            raise CampaignRefused(
                _("Attentive took the test text but did not answer, so it may still arrive. Look at the phone.")
            ) from None
        raise CampaignRefused(error.sentence) from None
    except ValueError as error:
        raise CampaignRefused(str(error)) from None


def _require_allowed(campaign: Campaign, phone: str) -> None:
    site = campaign.site
    if campaign.route != Campaign.Route.MESSAGE:
        raise CampaignRefused(_("An event starts a journey in Attentive; test the journey there."))
    if phone not in site.guest_phones:
        raise CampaignRefused(_("Test texts go only to the site's guest phones. Add the phone to them first."))
    if site.state == Site.State.DRAFT:
        raise CampaignRefused(_("The site is a draft and texts nobody. Enter test mode on its Activate page first."))
    if stops.is_stopped(site.pk):
        raise CampaignRefused(_("Sending is stopped, test texts too. Resume sending first."))
    if consent.state_of(site, phone) in _OPTED_OUT:
        raise CampaignRefused(_("This phone has opted out of texts. Only its owner can subscribe again."))


@transaction.atomic
def _record_once(campaign: Campaign, body: str, phone: str, by: Someone) -> None:
    Site.objects.select_for_update().get(pk=campaign.site_id)
    since = timezone.now() - _DOUBLE_CLICK
    earlier = AuditEntry.objects.filter(event=TEST_TEXT, site=campaign.site, target=masked(phone), at__gte=since)
    if earlier.filter(new__campaign=campaign.name).exists():
        raise CampaignRefused(_("This test text was sent a moment ago. Wait 20 seconds to send it once more."))
    said = {"campaign": campaign.name, "version": str(campaign.version or ""), "body": body}
    audit.record(TEST_TEXT, site=campaign.site, user=by, target=masked(phone), new=said)
