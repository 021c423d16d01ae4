"""Requests from outside that are no page: Attentive's webhooks."""

import logging
import uuid

from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from attentive_integration.crash import crash_point
from attentive_integration.wake import wake
from attentive_integration.webhooks import BODY_BYTES, SIGNATURE_HEADER, verify
from loyalty import tokens
from loyalty.models import AccessToken, Site
from messaging import webhooks
from messaging.models import WebhookEvent

logger = logging.getLogger(__name__)


@csrf_exempt  # The signature is the proof of origin; there is no session to forge.
@require_POST
def attentive_webhook(request: HttpRequest, site_uuid: uuid.UUID) -> HttpResponse:
    """Take in one event of a site's Attentive account.

    200: stored, and its consent is in effect (also for a repeat, an unknown type, and a signed body that is no event).
    403: no signing key, or no signature by it over the raw bytes; nothing is stored. 404: no such site. 413: longer
    than 256 KB. 503: it could not be stored or checked now; Attentive tries again for three days.
    """
    try:
        body = request.read(BODY_BYTES + 1)
    except (UnreadablePostError, OSError):
        return HttpResponse(status=400)
    if len(body) > BODY_BYTES:
        return HttpResponse(status=413)
    try:
        site = Site.objects.filter(uuid=site_uuid).first()
        if site is None:
            return HttpResponse(status=404)
        keys = tokens.inbound_secrets(site, AccessToken.Kind.WEBHOOK_SIGNING)
        if not verify(keys, body, request.headers.get(SIGNATURE_HEADER)):
            logger.warning("A webhook of site %s had no valid signature and was refused.", site.site_id)
            return HttpResponse(status=403)
        event = webhooks.receive(site, body)
    except (DatabaseError, InterfaceError, tokens.TokenUnusable) as error:
        logger.error("A webhook could not be taken in and will come again: %s", type(error).__name__)
        return HttpResponse(status=503, headers={"Retry-After": "5"})
    crash_point("after_webhook_commit")
    if event.state == WebhookEvent.State.RECEIVED:
        wake("messaging.tasks.webhook_process")
    return HttpResponse()
