"""Annex Cloud's Loyalty V3 API: the access token that staff hand over, the JWT of each request, and segments."""

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from json import dumps, loads
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from attentive_integration.http import ANSWER_BYTES, Answer, ErrorKind, VendorError, call, vendor_message
from attentive_integration.storable import is_storable

JWT_SECONDS = 180
# An access token holds two short words; a longer text is something else.
ACCESS_TOKEN_CHARACTERS = 8_192
# Lists of segments and actions grow with the site; other answers keep the general cap.
LIST_BYTES = 4 * 1024 * 1024
CURRENT_DATA, PAST_DATA = "Current Data", "Past Data"
STATUSES = ("all", "active", "inactive")


# --- The access token -------------------------------------------------------------------------------------------------


class AccessTokenError(ValueError):
    """A text that is no access token. `str()` gives the sentence."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


@dataclass(frozen=True)
class AccessTokenBundle:
    """What an access token holds: the site's id and its loyalty token, which is the key of every signature."""

    site_id: str
    loyalty_token: str = field(repr=False)


@sensitive_variables()
def encode_access_token(site_id: str, loyalty_token: str) -> str:
    """Return the access token of a site: base64 of a compact JSON object of both."""
    bundle = {"site_id": site_id, "loyaltyToken": loyalty_token}
    return base64.b64encode(dumps(bundle, separators=(",", ":")).encode()).decode()


@sensitive_variables()
def decode_access_token(text: str) -> AccessTokenBundle:
    """Read an access token; white space and missing padding are forgiven. Raises AccessTokenError with the remedy."""
    if len(text) > ACCESS_TOKEN_CHARACTERS:
        raise AccessTokenError(_("This is too long for an access token. Copy only the token from Annex Cloud."))
    compact = "".join(text.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    if not compact:
        raise AccessTokenError(_("The access token is empty. Copy it from Annex Cloud."))
    # `from None`: the frames of a failed decoding would show the token in a report.
    try:
        decoded = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise AccessTokenError(
            _("This is not an access token: it is not base64. Copy the whole token from Annex Cloud, and nothing else.")
        ) from None
    try:
        data = loads(decoded)
    except (ValueError, RecursionError):
        raise AccessTokenError(
            _("The access token holds no JSON. Mostly its end is missing: copy the whole token from Annex Cloud.")
        ) from None
    if not isinstance(data, dict):
        raise AccessTokenError(_("The access token holds no site. Copy the whole token from Annex Cloud."))
    found = {}
    for key in ("site_id", "loyaltyToken"):
        value = data.get(key)
        if isinstance(value, bool) or not isinstance(value, str | int) or not _is_word(str(value)):
            raise AccessTokenError(
                _("The access token has no “%(key)s” in it. Ask Annex Cloud for a new token of this site.")
                % {"key": key}
            )
        found[key] = str(value).strip()
    return AccessTokenBundle(found["site_id"], found["loyaltyToken"])


def _is_word(value: str) -> bool:
    return bool(value.strip()) and is_storable(value)


@sensitive_variables()
def request_jwt(*, site_id: str, loyalty_token: str, subject: str, payload: bytes, expires_at: int) -> str:
    """Return the JWT (HS256) of one request.

    `payload` is the exact body of a POST or PATCH; for a GET it is the identifier in the path with double quotes around
    it. `expires_at` is in Unix seconds.
    """
    key = loyalty_token.encode()
    body_mac = hmac.new(key, base64.b64encode(payload), hashlib.sha256).digest()
    claims = {"sub": subject, "exp": expires_at, "site_id": site_id, "hmac": base64.b64encode(body_mac).decode()}
    signed = f"{_url_base64(_compact({'alg': 'HS256', 'typ': 'JWT'}))}.{_url_base64(_compact(claims))}"
    return f"{signed}.{_url_base64(hmac.new(key, signed.encode(), hashlib.sha256).digest())}"


def _compact(value: dict[str, Any]) -> bytes:
    return dumps(value, separators=(",", ":")).encode()


def _url_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


# --- The API ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SegmentResult:
    """A segment as Annex Cloud answers it. Dates are its own spelling (the end at 23:59:00); members are e-mails."""

    segment_id: str
    name: str
    type: str
    from_date: str
    to_date: str
    members: tuple[str, ...] = field(repr=False)
    status: str
    external_id: str
    external_name: str


class AnnexCloudClient:
    """Annex Cloud, seen with one site's loyalty token.

    `base_url` ends in /api/3.0 (default: ANNEX_CLOUD_API_URL); `subject` is the consumer name in the JWT (default: site
    id).
    """

    def __init__(
        self, site_id: str, loyalty_token: str, *, base_url: str | None = None, subject: str | None = None
    ) -> None:
        self._site_id = site_id
        self._loyalty_token = loyalty_token
        self._base_url = (base_url or settings.ANNEX_CLOUD_API_URL).rstrip("/")
        self._subject = subject or site_id

    def __repr__(self) -> str:
        return f"AnnexCloudClient({self._site_id}, {self._base_url})"

    def segment_subscribe(
        self,
        *,
        name: str,
        type: str,
        from_date: date,
        to_date: date,
        members: Iterable[str],
        status: str,
        external_id: str,
        external_name: str,
    ) -> SegmentResult:
        """Create a segment (segmentSubscibe in the integration document) with the members' e-mail addresses.

        `type` is "Current Data" or "Past Data", `status` ACTIVE or INACTIVE; else ValueError.
        https://annexcloud.redocly.app/loyalty/loyalty/segment
        """
        body = _segment_body(
            name=name, type=type, from_date=from_date, to_date=to_date, members=members, status=status,
            external_id=external_id, external_name=external_name,
        )  # fmt: skip
        return _segment(self._write("POST", "/segment", body, side_effect=True))

    def update_segment(
        self,
        segment_id: str | int,
        *,
        name: str | None = None,
        type: str | None = None,
        from_date: date | None = None,
        to_date: date | None = None,
        members: Iterable[str] | None = None,
        status: str | None = None,
        external_id: str | None = None,
        external_name: str | None = None,
    ) -> SegmentResult:
        """Change what is given of a segment and leave the rest. https://annexcloud.redocly.app/loyalty/loyalty/segment"""
        body = _segment_body(
            name=name, type=type, from_date=from_date, to_date=to_date, members=members, status=status,
            external_id=external_id, external_name=external_name,
        )  # fmt: skip
        # The same change twice is one change, so an open outcome may be repeated.
        return _segment(self._write("PATCH", f"/segment/{quote(str(segment_id), safe='')}", body, side_effect=False))

    def get_segment(self, segment_id: str | int) -> dict[str, Any]:
        """Return a segment's details as Annex Cloud words them (`segmentName`, `memberDetails`, …)."""
        data = self._read("/segment", str(segment_id)).data
        detail = data.get("segmentDetail", data) if isinstance(data, dict) else {}
        return detail if isinstance(detail, dict) else {}

    def list_segments(self, status: str = "all") -> list[dict[str, Any]]:
        """Return the site's segments; `status` is all, active or inactive. The cheapest proof of a loyalty token."""
        return _rows(self._read("/segmentlist", _status(status)).data)

    def list_actions(self, status: str = "all") -> list[dict[str, Any]]:
        """Return the loyalty actions configured for the site; `status` is all, active or inactive."""
        return _rows(self._read("/actions", _status(status)).data)

    def _read(self, path: str, identifier: str) -> Answer:
        url = f"{self._base_url}{path}/{quote(identifier, safe='')}"
        return self._call("GET", url, dumps(identifier).encode(), body=None, side_effect=False, answer_bytes=LIST_BYTES)

    def _write(self, method: str, path: str, body: dict[str, str], *, side_effect: bool) -> Answer:
        raw = dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        # The answer repeats what was written, the members included.
        size = len(raw) + ANSWER_BYTES
        return self._call(method, self._base_url + path, raw, body=raw, side_effect=side_effect, answer_bytes=size)

    @sensitive_variables()
    def _call(
        self,
        method: str,
        url: str,
        signed: bytes,
        *,
        body: bytes | None,
        side_effect: bool,
        answer_bytes: int = ANSWER_BYTES,
    ) -> Answer:
        token = ""
        if self._loyalty_token:
            token = request_jwt(
                site_id=self._site_id,
                loyalty_token=self._loyalty_token,
                subject=self._subject,
                payload=signed,
                expires_at=int(time.time()) + JWT_SECONDS,
            )
        try:
            answer = call(
                method,
                url,
                token=token,
                # Annex Cloud wants the content type on every call, those without a body too.
                headers={"X-AnnexCloud-Site": self._site_id, "Content-Type": "application/json"},
                raw_body=body,
                side_effect=side_effect,
                vendor="Annex Cloud",
                answer_bytes=answer_bytes,
            )
        except VendorError as error:
            _explain(error)
            raise
        if code := _error_code(answer.data):
            raise _failure_in_success(answer, code)
        return answer


# --- Errors -----------------------------------------------------------------------------------------------------------


def _error_code(data: Any) -> str:
    code = data.get("errorCode") if isinstance(data, dict) else None
    return str(code) if isinstance(code, str | int) and str(code) not in ("", "0") else ""


def _kind(code: str) -> ErrorKind:
    return ErrorKind.CREDENTIALS if code == "AC1002" else ErrorKind.REFUSED


def _sentence(code: str, words: str) -> str:
    cause = f"{code}: {words}" if words else code
    if code == "AC1002":
        remedy = _("The access token was not accepted: check the loyalty token and the site ID, then test the access.")
    elif code == "AC1004":
        remedy = _("A required field is missing: fill it in and try again.")
    elif code == "AC1005":
        remedy = _("Annex Cloud has no such data: check the ID.")
    elif code == "AC1006":
        remedy = _("It exists already: change the existing one or choose another name.")
    else:
        remedy = _("Mostly it is the access token: check the loyalty token and the site ID, then test the access.")
    return _("Annex Cloud answered %(cause)s. %(remedy)s") % {"cause": cause.rstrip("."), "remedy": remedy}


def _explain(error: VendorError) -> None:
    """Give an error the meaning of its errorCode, which is finer than the status: a plain refusal comes as 404."""
    code = _error_code(error.data)
    if code and error.status and 400 <= error.status < 500 and error.status not in (401, 403, 408, 429):
        error.kind = _kind(code)
        error.sentence = _sentence(code, vendor_message(error.data))
    elif error.status in (401, 403):
        error.sentence = _sentence("AC1002", vendor_message(error.data))
    elif error.cause == "NO_TOKEN":
        error.sentence = _("The loyalty token is missing. Paste the site's access token from Annex Cloud.")


def _failure_in_success(answer: Answer, code: str) -> VendorError:
    return VendorError(
        _sentence(code, vendor_message(answer.data)),
        _kind(code),
        status=answer.status,
        answer=answer.text,
        data=answer.data,
        duration_ms=answer.duration_ms,
        cause=re.sub(r"\W", "", code)[:20],
    )


# --- Reading and writing JSON -----------------------------------------------------------------------------------------


def _status(status: str) -> str:
    if status not in STATUSES:
        raise ValueError(f"The status must be one of {', '.join(STATUSES)}.")
    return status


def _segment_body(
    *,
    name: str | None,
    type: str | None,
    from_date: date | None,
    to_date: date | None,
    members: Iterable[str] | None,
    status: str | None,
    external_id: str | None,
    external_name: str | None,
) -> dict[str, str]:
    """Return the body of a write; Annex Cloud takes every parameter as a string."""
    if type not in (None, CURRENT_DATA, PAST_DATA):
        raise ValueError(f"The type must be {CURRENT_DATA!r} or {PAST_DATA!r}.")
    if status not in (None, "ACTIVE", "INACTIVE"):
        raise ValueError("The status must be ACTIVE or INACTIVE.")
    emails = None if members is None else list(members)
    if any("," in email for email in emails or ()):
        raise ValueError("An e-mail address with a comma cannot stand in a list that is separated by commas.")
    fields = {
        "name": name,
        "type": type,
        "fromDate": from_date.isoformat() if from_date else None,
        "toDate": to_date.isoformat() if to_date else None,
        "member": None if emails is None else ",".join(emails),
        "status": status,
        "externalId": external_id,
        "externalName": external_name,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _segment(answer: Answer) -> SegmentResult:
    data = answer.data if isinstance(answer.data, dict) else {}
    members = _text(data.get("member"))
    return SegmentResult(
        segment_id=_text(data.get("segmentId")),
        name=_text(data.get("segmentName")),
        type=_text(data.get("segmentType")),
        from_date=_text(data.get("segmentFromDate")),
        to_date=_text(data.get("segmentToDate")),
        members=tuple(email.strip() for email in members.split(",") if email.strip()),
        status=_text(data.get("status")),
        external_id=_text(data.get("externalId")),
        external_name=_text(data.get("externalName")),
    )


def _rows(data: Any) -> list[dict[str, Any]]:
    """Return the objects of a list answer, whether the list stands alone or under some name."""
    if isinstance(data, dict):
        data = next((value for value in data.values() if isinstance(value, list)), [])
    return [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
