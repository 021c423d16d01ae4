"""Writes a segment or a member list into files.

ATTENTIVE: a header and one phone in E.164 a row; SFTP: no header, phone and segment name; both UTF-8 with LF, reachable
members only, so that no cell can be a formula and every phone is byte for byte as Attentive knows it. SPREADSHEET: all
members with why each may or may not be texted, formula-safe, CRLF. At most 500,000 rows a file; `manifest.json` lists
the files with rows and SHA-256, and says who was left out and why.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection
from django.db.models import Case, F, QuerySet, Value, When
from django.db.models.functions import TruncDate
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from loyalty.exports.files import (
    ROWS_PER_FILE,
    ExportFailed,
    Publication,
    csv_cell,
    publication,
    spreadsheet_header,
    spreadsheet_rows,
)
from loyalty.exports.query_streams import stream_lines, stream_rows
from loyalty.models import Consent, ExportJob, Member, Segment, Site
from loyalty.reach import in_allowed_country
from loyalty.segment_rules import condition
from loyalty.segments import everybody_of
from loyalty.spreadsheets import defuse_strictly

Format = ExportJob.Format
# Told how many rows are written; may raise to stop.
Progress = Callable[[int], None]

DEFAULT_HEADER = "phone"
_MAX_HEADER = 60
MEMBER_COLUMNS = (
    "phone", "email", "external_id", "first_name", "last_name", "tier", "points", "birth_date", "opt_in_status",
)  # fmt: skip
_REACHABLE = Consent.State.SUBSCRIBED.value
_COUNTRY = "COUNTRY"
_REPLACED = "REPLACED"
_INVALID = "INVALID_PHONE"
# Consent state (or country) → the reason's code in a manifest, and in words beside a member.
_REASONS = {
    _REPLACED: (_REPLACED, gettext_noop("A newer phone of the same loyalty ID has taken its place.")),
    _COUNTRY: (_COUNTRY, gettext_noop("The phone is of a country that this site does not text.")),
    Consent.State.UNKNOWN: ("NOT_SUBSCRIBED", gettext_noop("Not subscribed to texts, and not asked yet.")),
    Consent.State.TO_ASK: ("NOT_SUBSCRIBED", gettext_noop("Not subscribed to texts; waits to be asked.")),
    Consent.State.REQUESTED: ("NOT_ANSWERED", gettext_noop("Asked to subscribe, and has not answered yet.")),
    Consent.State.SUBSCRIBED: ("", gettext_noop("Subscribed to texts.")),
    Consent.State.UNSUBSCRIBED: ("UNSUBSCRIBED", gettext_noop("Opted out of texts.")),
    Consent.State.BLOCKED: ("BLOCKED", gettext_noop("Blocked by staff.")),
}
_E164_LINE = re.compile(rb"\+[1-9][0-9]{6,14}\n")


def write_segment(
    segment: Segment,
    folder: Path,
    format: str,
    *,
    header: str = DEFAULT_HEADER,
    progress: Progress | None = None,
    rows_per_file: int = ROWS_PER_FILE,
) -> dict[str, Any]:
    """Write the segment's files and manifest.json into the folder, made if missing, and return the manifest.

    `format` is attentive, sftp or spreadsheet, in any case; `header` is the column's name in the attentive form. An
    earlier export of the same segment on the same day is replaced, once the new one is whole. Raises `ExportFailed`
    (nothing is left behind) and `RulesError`.
    """
    chosen = Format(format.upper())
    today = timezone.now().astimezone(ZoneInfo(segment.site.time_zone))
    facts = {
        "format": chosen.value,
        "segment": segment.name,
        "segment_id": segment.pk,
        "site_id": segment.site.site_id,
        "made_at": today.isoformat(timespec="seconds"),
    }
    if chosen == Format.SFTP:
        stem = f"{_domain(segment.site)}_subscriber_segment_{today:%Y%m%d}"
    else:
        kind = "_spreadsheet" if chosen == Format.SPREADSHEET else ""
        slug = slugify(segment.name)[:40].strip("-") or "segment"
        stem = f"{segment.site.site_id}_{slug}-{segment.pk}{kind}_{today:%Y%m%d}"
    report = progress or _nobody
    if chosen == Format.SPREADSHEET:
        return _write_sheet(
            everybody_of(segment), segment.site, folder, stem, facts, report, rows_per_file, tells_replaced=True
        )
    return _write_phones(segment, folder, stem, facts, check_header(header), report, rows_per_file)


def write_members(
    site: Site,
    folder: Path,
    *,
    rules: dict[str, Any] | None = None,
    progress: Progress | None = None,
    rows_per_file: int = ROWS_PER_FILE,
) -> dict[str, Any]:
    """Write the site's member list, or the part of it that segment rules choose, as a spreadsheet with its manifest.

    Members whom a newer phone replaced are in it too. Raises as `write_segment` does.
    """
    today = timezone.now().astimezone(ZoneInfo(site.time_zone))
    facts = {
        "format": Format.SPREADSHEET.value,
        "rules": rules or {},
        "site_id": site.site_id,
        "made_at": today.isoformat(timespec="seconds"),
    }
    members = Member.objects.people().filter(site=site).filter(condition(rules or {}, site))
    stem = f"{site.site_id}_members_{today:%Y%m%d}"
    return _write_sheet(members, site, folder, stem, facts, progress or _nobody, rows_per_file, tells_replaced=False)


def _nobody(rows: int) -> None:
    """Nobody watches."""


def _domain(site: Site) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", site.company_domain).strip("-.")[:100] or site.site_id


def check_header(header: Any) -> str:
    """Return the column's header without spaces around it; raises `ExportFailed` when it cannot be one."""
    if not isinstance(header, str) or not header.strip() or len(header) > _MAX_HEADER or not header.isprintable():
        raise ExportFailed(
            _("The column's header must have 1 to %(limit)d printable characters, for instance phone.")
            % {"limit": _MAX_HEADER}
        )
    if defuse_strictly(header.strip()) != header.strip():
        raise ExportFailed(
            _("The column's header would run as a formula in a spreadsheet. Begin it with a letter, such as phone.")
        )
    return header.strip()


def _one_line(name: str) -> str:
    """Return a segment's name as a cell that stays on its line and runs nowhere as a formula."""
    return defuse_strictly(" ".join(name.split()))


def _with_consent(
    members: QuerySet[Member], site: Site, *columns: str, tells_replaced: bool
) -> tuple[str, tuple[Any, ...]]:
    """Return the SQL of the members' columns and, last, the state of their TEXT consent.

    COUNTRY stands for it where the phone's is not allowed, and REPLACED, before all, where a newer phone took over.
    Joined by the address, for which the models have no relation, so that a million members are one hash join.
    """
    quote = connection.ops.quote_name
    allowed = members.annotate(
        allowed=Case(When(in_allowed_country(site), then=Value(True)), default=Value(False)), address=F("phone")
    )
    inner, parameters = allowed.values_list("address", "allowed", "replaced_by_id", *columns).query.sql_with_params()
    chosen = "".join(f"member.{quote(column)}, " for column in columns)
    state = "CASE " + f"WHEN member.replaced_by_id IS NOT NULL THEN '{_REPLACED}' " * tells_replaced
    state += f"WHEN NOT member.allowed THEN '{_COUNTRY}' ELSE COALESCE(consent.state, 'UNKNOWN') END"
    sql = (
        f"SELECT {chosen}{state} AS state FROM ({inner}) AS member "
        f"LEFT JOIN {quote(Consent._meta.db_table)} AS consent "
        "ON consent.site_id = %s AND consent.channel = 'TEXT' AND consent.address = member.address"
    )
    return sql, (*parameters, site.pk)


# --- For Attentive ----------------------------------------------------------------------------------------------------


def _write_phones(
    segment: Segment,
    folder: Path,
    stem: str,
    facts: dict[str, Any],
    header: str,
    report: Progress,
    rows_per_file: int,
) -> dict[str, Any]:
    is_sftp = facts["format"] == Format.SFTP
    ending = f",{csv_cell(_one_line(segment.name))}\n".encode() if is_sftp else b"\n"
    first_line = b"" if is_sftp else f"{csv_cell(header)}\n".encode()

    def is_ours(path: Path) -> bool:
        # SFTP names do not tell segments apart, the second column does.
        if not is_sftp:
            return True
        with path.open("rb") as file:
            line = file.readline(4096)
        return not line or line.endswith(ending)

    sql, parameters = _with_consent(everybody_of(segment).order_by(), segment.site, "phone", tells_replaced=True)
    # One column: the phone of whoever may be texted, of the others the reason.
    sql = f"SELECT CASE WHEN state = '{_REACHABLE}' THEN phone ELSE state END FROM ({sql}) AS member"
    left_out: Counter[str] = Counter()
    with publication(
        folder, _numbered(folder, stem, is_ours), header=first_line, rows_per_file=rows_per_file
    ) as target:
        for lines in stream_lines(sql, parameters):
            phones = _phones_among(lines, left_out)
            if is_sftp:
                phones = [phone[:-1] + ending for phone in phones]
            target.parts.add(phones)
            report(target.parts.rows)
        facts |= {
            "header": None if is_sftp else header,
            "total": target.parts.rows + left_out.total(),
            "reachable": target.parts.rows,
            "left_out": dict(sorted(left_out.items())),
        }
        return _shown(target, stem, facts, is_ours)


def _phones_among(lines: list[bytes], left_out: Counter[str]) -> list[bytes]:
    """Return the lines that are phones in E.164, and count the reasons that stand in the others."""
    phones = [line for line in lines if line[:1] == b"+"]
    if len(phones) < len(lines):
        left_out.update(_REASONS[line[:-1].decode()][0] for line in lines if line[:1] != b"+")
    # Stored phones are checked where they come in. Still nothing else than digits may leave, as it could be a formula.
    if b"".join(phones).translate(None, b"+0123456789\n"):
        valid = [phone for phone in phones if _E164_LINE.fullmatch(phone)]
        left_out[_INVALID] += len(phones) - len(valid)
        return valid
    return phones


# --- For people -------------------------------------------------------------------------------------------------------


def _write_sheet(
    members: QuerySet[Member],
    site: Site,
    folder: Path,
    stem: str,
    facts: dict[str, Any],
    report: Progress,
    rows_per_file: int,
    *,
    tells_replaced: bool,
) -> dict[str, Any]:
    """Write members; with `tells_replaced` those whom a newer phone replaced are left out and counted."""
    columns = (*MEMBER_COLUMNS, "joined_on")
    members = members.order_by().annotate(joined_on=TruncDate("joined_at", tzinfo=ZoneInfo(site.time_zone)))
    sql, parameters = _with_consent(members, site, *columns, tells_replaced=tells_replaced)
    why = {state: _(words) for state, (_code, words) in _REASONS.items()}
    reachable = replaced = 0

    def rows() -> Iterator[tuple[object, ...]]:
        nonlocal reachable, replaced
        for *cells, state in stream_rows(sql, parameters):
            if state == _REPLACED:
                replaced += 1
                continue
            can_be_texted = state == _REACHABLE
            reachable += can_be_texted
            yield (*cells, "yes" if can_be_texted else "no", why[state])

    header = spreadsheet_header([*columns, "reachable", "why"])
    with publication(folder, _numbered(folder, stem, _always), header=header, rows_per_file=rows_per_file) as target:
        for lines in spreadsheet_rows(rows()):
            target.parts.add(lines)
            report(target.parts.rows)
        left_out = {_REPLACED: replaced} if replaced else {}
        facts |= {"total": target.parts.rows + replaced, "reachable": reachable, "left_out": left_out}
        return _shown(target, stem, facts, _always)


# --- Names ------------------------------------------------------------------------------------------------------------


def _always(path: Path) -> bool:
    return True


def _numbered(folder: Path, stem: str, is_ours: Callable[[Path], bool]) -> Callable[[int], str]:
    """Return the names of the parts: numbered from 1, passing over the files of others."""

    def name_of(part: int) -> str:
        names = (f"{stem}_{number}.csv" for number in count(1))
        free = (name for name in names if not (folder / name).is_file() or is_ours(folder / name))
        return next(islice(free, part - 1, None))

    return name_of


def _shown(target: Publication, stem: str, facts: dict[str, Any], is_ours: Callable[[Path], bool]) -> dict[str, Any]:
    part_name = re.compile(rf"{re.escape(stem)}_[0-9]+\.csv")
    return target.show(
        facts, lambda path: part_name.fullmatch(path.name) is not None and path.is_file() and is_ours(path)
    )
