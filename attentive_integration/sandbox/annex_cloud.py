"""Annex Cloud's rules: the proof in each request's JWT, segments, and the site's actions."""

import base64
import binascii
import hashlib
import hmac
import re
import time
from datetime import date
from json import dumps, loads
from typing import Any

from attentive_integration.sandbox.http_server import Reply, Request
from attentive_integration.sandbox.routes import Call, Refused, find, route
from attentive_integration.sandbox.state import Company, State, TokenKind

PREFIX = "/api/3.0"
STATUSES = ("all", "active", "inactive")
SITE_HEADER = "x-annexcloud-site"
_FIELDS = ("name", "type", "fromDate", "toDate", "member", "status", "externalId", "externalName")
# What the segment API calls its parameters, and what it answers them as.
_ANSWERED = {
    "name": "segmentName",
    "type": "segmentType",
    "fromDate": "segmentFromDate",
    "toDate": "segmentToDate",
    "member": "member",
    "status": "status",
    "externalId": "externalId",
    "externalName": "externalName",
}
_ACTIONS = {
    "100": "Manual adjustment",
    "101": "Create account",
    "102": "Newsletter sign-up",
    "106": "Points expired",
    "107": "Redeem reward",
    "109": "Purchase",
    "148": "Order return",
    "192": "Points debited",
}


def failure(status: int, code: str, words: str) -> Refused:
    """Return a refusal in Annex Cloud's own shape."""
    return Refused(status, {"errorCode": code, "errorMessage": words})


# --- The proof --------------------------------------------------------------------------------------------------------


def company_of(state: State, request: Request) -> Company:
    """Return the company whose loyalty token signed the request; raises Refused with AC1002 when none did.

    A site id that the control API set is bound to its company; any other is tried against every company's token.
    """
    site_id = request.headers.get(SITE_HEADER, "")
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    bound = [company for company in state.companies.values() if company.site_id == site_id != ""]
    for company in bound or state.companies.values():
        if _proves(request, token, site_id, company.tokens[TokenKind.LOYALTY]):
            if TokenKind.LOYALTY in company.refused:
                break
            return company
    raise failure(401, "AC1002", "Not authorised")


def _proves(request: Request, token: str, site_id: str, secret: str) -> bool:
    """Say whether the JWT is signed with the secret, not expired, for this site, and over this payload."""
    head, _, signature = token.rpartition(".")
    key = secret.encode()
    if not hmac.compare_digest(_unpadded(signature), hmac.new(key, head.encode(), hashlib.sha256).digest()):
        return False
    try:
        header, claims = (loads(_unpadded(part)) for part in head.split("."))
    except ValueError:
        return False
    if not isinstance(header, dict) or not isinstance(claims, dict) or header.get("alg") != "HS256":
        return False
    expires = claims.get("exp")
    if not isinstance(expires, int | float) or expires <= time.time() or claims.get("site_id") != site_id:
        return False
    payload = request.body if request.method != "GET" else dumps(request.path.rpartition("/")[2]).encode()
    expected = base64.b64encode(hmac.new(key, base64.b64encode(payload), hashlib.sha256).digest()).decode()
    return hmac.compare_digest(str(claims.get("hmac")).encode(), expected.encode())


def _unpadded(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        return b""


# --- Segments ---------------------------------------------------------------------------------------------------------


def create_segment(call: Call) -> Reply:
    fields = _fields(call)
    if missing := [name for name in ("name", "fromDate", "toDate") if not fields.get(name)]:
        raise failure(400, "AC1004", f"Missing parameters: {', '.join(missing)}")
    if any(segment["name"] == fields["name"] for segment in call.company.annex_segments.values()):
        raise failure(409, "AC1006", "A segment with this name exists already")
    number = call.state.number()
    segment = {"type": "Current Data", "member": "", "status": "ACTIVE", "externalId": "", "externalName": "", **fields}
    call.company.annex_segments[number] = segment
    return Reply(200, _answered(number, segment), record=call.record("SEGMENT", phone="", body=fields))


def update_segment(call: Call) -> Reply:
    number, segment = _segment(call)
    fields = _fields(call)
    segment.update(fields)
    # Annex Cloud echoes memberUpdate, whose meaning it does not document.
    echo = {"memberUpdate": fields.pop("memberUpdate")} if "memberUpdate" in fields else {}
    segment.pop("memberUpdate", None)
    return Reply(200, {**_answered(number, segment), **echo}, record=call.record("SEGMENT", phone="", body=fields))


def get_segment(call: Call) -> Reply:
    _, segment = _segment(call)
    detail = {
        "segmentName": segment["name"],
        "segmentType": segment["type"],
        "segmentDateFrom": segment["fromDate"],
        "segmentDateTo": segment["toDate"],
        "memberDetails": {"userId": [email for email in segment["member"].split(",") if email]},
        "actionDetails": {"actions": [], "actionSeries": []},
    }
    return Reply(200, {"segmentDetail": detail})


def list_segments(call: Call) -> Reply:
    status = _listed(call.part)
    segments = [
        _answered(number, segment)
        for number, segment in call.company.annex_segments.items()
        if status in ("all", segment["status"].lower())
    ]
    return Reply(200, {"siteId": call.request.headers[SITE_HEADER], "segmentList": segments})


def list_actions(call: Call) -> Reply:
    status = _listed(call.part)
    actions = [{"actionId": code, "actionName": name, "status": "ACTIVE"} for code, name in _ACTIONS.items()]
    shown = [] if status == "inactive" else actions
    return Reply(
        200,
        {"siteId": call.request.headers[SITE_HEADER], "allActionDetails": shown, "pages": "1", "currentPage": "1"},
    )


def _listed(status: str) -> str:
    if status.lower() not in STATUSES:
        raise failure(404, "AC1005", "No data")
    return status.lower()


def _segment(call: Call) -> tuple[int, dict[str, Any]]:
    number = int(call.part) if call.part.isascii() and call.part.isdigit() else 0
    if (segment := call.company.annex_segments.get(number)) is None:
        raise failure(404, "AC1005", "No such segment")
    return number, segment


def _fields(call: Call) -> dict[str, str]:
    """Return the known parameters of a write. All of them are strings."""
    data = call.object()
    fields = {name: data[name] for name in (*_FIELDS, "memberUpdate") if name in data}
    if any(not isinstance(value, str) for value in fields.values()):
        raise failure(400, "AC1004", "All parameters are strings")
    if fields.get("type", "Current Data") not in ("Current Data", "Past Data"):
        raise failure(400, "AC1004", "type is Current Data or Past Data")
    if fields.get("status", "ACTIVE") not in ("ACTIVE", "INACTIVE"):
        raise failure(400, "AC1004", "status is ACTIVE or INACTIVE")
    for name in ("fromDate", "toDate"):
        if name in fields and not _is_date(fields[name]):
            raise failure(400, "AC1004", f"{name} is yyyy-mm-dd")
    return fields


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", text))


def _answered(number: int, segment: dict[str, str]) -> dict[str, Any]:
    answer: dict[str, Any] = {"segmentId": number}
    answer |= {theirs: segment[ours] for ours, theirs in _ANSWERED.items()}
    answer["segmentFromDate"] += "T00:00:00+0000"
    answer["segmentToDate"] += "T23:59:00+0000"
    return answer


ROUTES = (
    route("POST", f"{PREFIX}/segment", TokenKind.LOYALTY, create_segment),
    route("PATCH", f"{PREFIX}/segment/{{}}", TokenKind.LOYALTY, update_segment),
    route("GET", f"{PREFIX}/segment/{{}}", TokenKind.LOYALTY, get_segment),
    route("GET", f"{PREFIX}/segmentlist/{{}}", TokenKind.LOYALTY, list_segments),
    route("GET", f"{PREFIX}/actions/{{}}", TokenKind.LOYALTY, list_actions),
)


def answer(state: State, request: Request) -> Reply:
    """Answer a request to Annex Cloud. Raises Refused."""
    company = company_of(state, request)
    found = find(ROUTES, request.method, request.path)
    if found is None:
        raise failure(404, "AC1001", "Request failed")
    matched, part = found
    return matched.rule(Call(state, company, request, part))
