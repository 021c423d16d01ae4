"""Attentive's segments (v2, open beta): lists by name, members in bulk, and jobs with their result file."""

import re
from datetime import UTC, datetime
from typing import Any

from attentive_integration.phones import E164
from attentive_integration.sandbox.http_server import Reply
from attentive_integration.sandbox.routes import Call, Refused, route, text_of
from attentive_integration.sandbox.state import Job, TokenKind

MEMBERS_AT_ONCE = 10_000
PAGE, LONGEST_PAGE = 20, 1_000
KEPT_JOBS = 100


def create(call: Call) -> Reply:
    data = call.object()
    name, description, external_id = _texts(data)
    if not 1 <= len(name) <= 240:
        raise Refused(400, "name is required and has at most 240 characters")
    external_id = external_id or f"SEG_{call.state.number()}"
    if external_id in call.company.segments:
        raise Refused(400, "A segment with this externalId exists already")
    now = _now()
    segment = {"externalId": external_id, "name": name, "description": description or "Manual Segment Upload"}
    call.company.segments[external_id] = {**segment, "created": now, "updated": now}
    call.company.segment_members[external_id] = set()
    return Reply(201, segment, record=call.record("SEGMENT", phone="", body=data))


def list_all(call: Call) -> Reply:
    query = call.request.query
    limit, start = query.get("limit", str(PAGE)), query.get("cursor", "0")
    if not re.fullmatch(r"\d{1,9} \d{1,9}", f"{limit} {start}", re.ASCII) or not 1 <= int(limit) <= LONGEST_PAGE:
        raise Refused(400, "limit is 1 to 1000, cursor comes from the page before")
    found = [
        segment
        for segment in call.company.segments.values()
        if query.get("name", segment["name"]) == segment["name"]
        and query.get("externalId", segment["externalId"]) == segment["externalId"]
        and query.get("updatedSince", "") <= segment["updated"]
    ]
    end = int(start) + int(limit)
    more = end < len(found)
    return Reply(200, {"segments": found[int(start) : end], "cursor": str(end) if more else None, "hasMore": more})


def get(call: Call) -> Reply:
    return Reply(200, _segment(call, call.part))


def change(call: Call) -> Reply:
    segment, data = _segment(call, call.part), call.object()
    name, description, _ = _texts(data)
    if not (name or description) or len(name) > 240:
        raise Refused(400, "Give a name of at most 240 characters or a description")
    segment.update({key: value for key, value in (("name", name), ("description", description)) if value})
    segment["updated"] = _now()
    return Reply(200, segment, record=call.record("SEGMENT", phone="", body=data))


def archive(call: Call) -> Reply:
    _segment(call, call.part)
    del call.company.segments[call.part], call.company.segment_members[call.part]
    return Reply(204, record=call.record("SEGMENT", phone="", body=None))


def change_members(call: Call) -> Reply:
    """POST adds and DELETE removes; each member's own result stands in the job's file, bad phones included."""
    data = call.object()
    external_id, members = text_of(data, "externalId"), data.get("members")
    if not isinstance(members, list) or not 1 <= len(members) <= MEMBERS_AT_ONCE:
        raise Refused(400, "members has 1 to 10000 entries")
    _segment(call, external_id)
    kept = call.company.segment_members[external_id]
    lines = []
    for member in members:
        identifier = _identifier(member)
        if identifier:
            (kept.add if call.request.method == "POST" else kept.discard)(identifier)
        result = {"status": "ACCEPTED"} if identifier else {"status": "FAILED", "message": "Invalid identifier"}
        lines.append({"request": member, "response": result})
    job = Job(f"job-{call.state.number()}", lines)
    call.state.jobs[job.id] = job
    if len(call.state.jobs) > KEPT_JOBS:
        call.state.jobs.popitem(last=False)
    answer = {"message": "The job was accepted", "batchJobId": job.id}
    return Reply(202, answer, record=call.record("SEGMENT_MEMBERS", phone="", body=data))


def bulk_job(call: Call) -> Reply:
    """The first question finds a job in progress, later ones find it complete, with the address of its results."""
    if (job := call.state.jobs.get(call.part)) is None:
        raise Refused(404, "No such job")
    job.asked += 1
    if job.asked == 1:
        return Reply(200, {"bulkJobId": job.id, "status": "IN_PROGRESS", "totalRecords": len(job.lines)})
    url = f"http://{call.request.headers.get('host', '')}/sandbox/jobs/{job.id}.jsonl"
    return Reply(200, {"bulkJobId": job.id, "status": "COMPLETED", "totalRecords": len(job.lines), "url": url})


def _segment(call: Call, external_id: str) -> dict[str, Any]:
    if (segment := call.company.segments.get(external_id)) is None:
        raise Refused(404, "No such segment")
    return segment


def _texts(data: dict[str, Any]) -> tuple[str, str, str]:
    name, description, external_id = (text_of(data, key).strip() for key in ("name", "description", "externalId"))
    if len(external_id) > 255 or ("externalId" in data and not external_id):
        raise Refused(400, "externalId has 1 to 255 characters")
    if ("description" in data and len(description) < 2) or len(description) > 500:
        raise Refused(400, "description has 2 to 500 characters")
    return name, description, external_id


def _identifier(member: Any) -> str:
    """Return what names a member, empty when nothing usable does."""
    if not isinstance(member, dict):
        return ""
    phone = member.get("phone")
    if phone is not None and not (isinstance(phone, str) and E164.fullmatch(phone)):
        return ""
    return str(phone or member.get("email") or member.get("clientUserId") or "")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


ROUTES = (
    route("POST", "/v2/segments", TokenKind.APP, create),
    route("GET", "/v2/segments", TokenKind.APP, list_all),
    route("GET", "/v2/segments/external/{}", TokenKind.APP, get),
    route("PATCH", "/v2/segments/external/{}", TokenKind.APP, change),
    route("DELETE", "/v2/segments/external/{}", TokenKind.APP, archive),
    route("POST", "/v2/bulk/segments/members", TokenKind.APP, change_members),
    route("DELETE", "/v2/bulk/segments/members", TokenKind.APP, change_members),
    route("GET", "/v2/bulk/job/{}", TokenKind.APP, bulk_job),
)
