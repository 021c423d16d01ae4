"""The inbound API: Annex Cloud (or a script with an ingest key) tells us about members and their actions.

OpenAPI: GET /api/v1/openapi.json. Answers: 202 with a result per item; 400 for a body that is not JSON, 401 for a
wrong token (whatever the reason), 413 for a body over 1 MB or over 1,000 items.
"""

import hmac
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from ninja import NinjaAPI, Schema, Status
from ninja.errors import AuthenticationError, HttpError
from ninja.security import HttpBearer

from attentive_integration.annex_cloud import AccessTokenError, decode_access_token
from attentive_integration.storable import is_storable
from attentive_integration.wake import wake
from loyalty import actions, imports, tokens
from loyalty.models import AccessToken, ConsentEvent, Site

Kind = AccessToken.Kind
MAX_ITEMS = 1_000
MAX_BYTES = 1_048_576


class SiteToken(HttpBearer):
    """The site's Annex Cloud access token, or an ingest key of ours; the site is the one in the address."""

    def authenticate(self, request: HttpRequest, token: str) -> Site | None:
        match = request.resolver_match
        site_id = match.kwargs.get("site_id", "") if match else ""
        known = tokens.inbound(site_id, Kind.LOYALTY, Kind.INGEST) if token and is_storable(site_id) else []
        if _is_access_token(site_id, token, known) or tokens.is_ingest_key(token, known):
            return known[0].site
        return None


def _is_access_token(site_id: str, token: str, known: Sequence[AccessToken]) -> bool:
    try:
        bundle = decode_access_token(token)
        expected = [tokens.reveal(row) for row in known if row.kind == Kind.LOYALTY]
    except (AccessTokenError, tokens.TokenUnusable):
        return False
    # No early end: the time taken must not tell which part was wrong.
    proven = [hmac.compare_digest(bundle.loyalty_token.encode(), secret.encode()) for secret in expected]
    return bundle.site_id == site_id and any(proven)


class ActionResult(Schema):
    """What became of one action."""

    activity_id: str | None
    status: str
    error: str | None = None


class ActionResults(Schema):
    """One result for each action, in order."""

    results: list[ActionResult]


class MemberResult(Schema):
    """What became of one member."""

    phone: str | None
    external_id: str | None
    status: str
    error: str | None = None


class MemberResults(Schema):
    """One result for each member, in order."""

    results: list[MemberResult]


class Problem(Schema):
    """Why a request was refused, in a sentence."""

    detail: str


api = NinjaAPI(
    title="Loyalty SMS",
    version="1",
    description="Members and loyalty actions of a site. Authorize with the site's Annex Cloud access token.",
    auth=SiteToken(),
    docs_url=None,
    urls_namespace="api-1",
)
_PROBLEMS: dict[int, type[Schema]] = {400: Problem, 401: Problem, 413: Problem}
_FIELD_TYPES = {
    "points": {"type": "integer"},
    "points_delta": {"type": "integer"},
    "occurred_at": {"type": "string", "format": "date-time"},
    "data": {"type": "object"},
}


def _body_of(fields: Sequence[str], required: Sequence[str]) -> dict[str, Any]:
    """Describe "one object or an array of up to 1,000" for the OpenAPI document."""
    properties = {name: _FIELD_TYPES.get(name, {"type": "string"}) for name in fields}
    item = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
    body = {"oneOf": [item, {"type": "array", "items": item, "maxItems": MAX_ITEMS}]}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}}


def _refuse_constant(word: str) -> Any:
    raise ValueError(word)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _value in pairs}) != len(pairs):
        raise ValueError("duplicate key")
    return dict(pairs)


def _items(request: HttpRequest) -> list[Any]:
    """Parse one object or an array; raises `HttpError` with a sentence."""
    too_big = HttpError(413, _("The body is larger than 1 MB. Send fewer items at a time."))
    try:
        raw = request.body
    except RequestDataTooBig:
        raise too_big from None
    if len(raw) > MAX_BYTES:
        raise too_big
    try:
        parsed = json.loads(raw, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError):
        raise HttpError(
            400, _("The body is not valid JSON. Send one object or an array of objects, in UTF-8.")
        ) from None
    items = parsed if isinstance(parsed, list) else [parsed]
    if not isinstance(parsed, dict | list):
        raise HttpError(400, _("Send one JSON object or an array of objects."))
    if len(items) > MAX_ITEMS:
        raise HttpError(413, _("The array has %(n)d items; at most 1,000 are taken at a time.") % {"n": len(items)})
    return items


def _wake_tick() -> Callable[[], None]:
    return partial(wake, "messaging.tasks.send_due")


@api.post(
    "/sites/{site_id}/actions",
    url_name="actions",
    response={202: ActionResults, **_PROBLEMS},
    openapi_extra=_body_of(actions.FIELDS, ("activity_id", "action")),
)
def post_actions(request: HttpRequest, site_id: str) -> Status[Any]:
    """Record one action or up to 1,000; each is answered accepted, duplicate, conflict or rejected."""
    site: Site = request.auth  # type: ignore[attr-defined]
    results = actions.record_actions(site, _items(request))
    if any(result.status == "accepted" for result in results):
        transaction.on_commit(_wake_tick())
    return Status(
        202,
        {"results": [{"activity_id": one.activity_id, "status": one.status, "error": one.error} for one in results]},
    )


@api.post(
    "/sites/{site_id}/members",
    url_name="members",
    response={202: MemberResults, **_PROBLEMS},
    openapi_extra=_body_of(imports.MEMBER_FIELDS, ("phone",)),
)
def post_members(request: HttpRequest, site_id: str) -> Status[Any]:
    """Create or update one member or up to 1,000, by phone; nobody is subscribed by it."""
    site: Site = request.auth  # type: ignore[attr-defined]
    items = _items(request)
    outcomes = imports.upsert_members(site, items, source=ConsentEvent.Source.API)
    results = [
        {
            "phone": _echo(item, "phone"),
            "external_id": _echo(item, "external_id"),
            "status": outcome.status,
            "error": outcome.error,
        }
        for item, outcome in zip(items, outcomes, strict=True)
    ]
    return Status(202, {"results": results})


def _echo(item: Any, name: str) -> str | None:
    value = item.get(name) if isinstance(item, dict) else None
    return None if value is None else str(value)[:200]


@api.exception_handler(HttpError)
def _problem(request: HttpRequest, error: HttpError) -> HttpResponse:
    return api.create_response(request, {"detail": str(error)}, status=error.status_code)


@api.exception_handler(AuthenticationError)
def _not_let_in(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    # One sentence for every cause: an answer must not tell a stranger which part was wrong.
    sentence = _("This token does not open this site. Send the site's Annex Cloud access token or an ingest key of it.")
    return api.create_response(request, {"detail": sentence}, status=401)
