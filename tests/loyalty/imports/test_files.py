"""Files that clients really send, each named for its trouble, through the door that staff use.

Every file in tests/files has its row in TABLE: what becomes of its rows, or the sentence that refuses it.
"""

import csv
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage

from loyalty import imports
from loyalty.imports import ImportRefused, run
from loyalty.imports.rows import MAX_CELL, MAX_COLUMNS, Dialect
from loyalty.imports.steps import ask_check, ask_import, change_dialect
from loyalty.models import ImportIssue, ImportJob, Member, Site
from tests.factories import make_member, make_site

pytestmark = pytest.mark.django_db

FILES = Path(__file__).resolve().parents[2] / "files"
COUNTERS = ("created", "updated", "unchanged", "duplicate", "rejected")
State = ImportJob.State


@dataclass(frozen=True)
class Rows:
    """What becomes of a file's rows: counts, the lines of repeats, and rejected lines with a part of their reason."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    repeats: tuple[int, ...] = ()
    rejected: dict[int, str] = field(default_factory=dict)
    # A part of what the person is told about the file.
    remark: str = ""

    @property
    def counts(self) -> tuple[int, ...]:
        return self.created, self.updated, self.unchanged, len(self.repeats), len(self.rejected)


def each(reason: str, *lines: int) -> dict[int, str]:
    return dict.fromkeys(lines, reason)


NO_HEADER = "no header row"
SUMMARY = "last row is a summary"
NO_PHONE = "no column for the phone"
ONE_COLUMN = "read as one column"
CUT = "cut in the middle"
EMPTY = "The file is empty. Export the list again."
NO_ROWS = "a header and no rows below it"

TABLE: dict[str, Rows | str] = {
    # Encodings
    "utf8.csv": Rows(created=4),
    "utf8_mark.csv": Rows(created=4),
    "utf8_mark_twice.csv": Rows(created=4),
    "utf8_with_one_windows1252_letter.csv": "Line 6 holds a byte that is not UTF-8",
    "utf16_le_mark.csv": Rows(created=4),
    "utf16_be_mark.csv": Rows(created=4),
    "utf16_le_no_mark.csv": Rows(created=4),
    "utf16_be_no_mark.csv": Rows(created=4),
    "utf16_tabs_from_excel.txt": Rows(created=4),
    "utf16_half_a_pair.csv": "Line 5 holds bytes that are no text in UTF-16-LE",
    "utf32.csv": "The file is in UTF-32",
    "windows1252.csv": Rows(created=4),
    "latin1.csv": Rows(created=4),
    # Delimiters
    "commas.csv": Rows(created=3),
    "semicolons.csv": Rows(created=3),
    "semicolons_with_commas_inside.csv": Rows(created=2),
    "tabs.txt": Rows(created=3),
    "bars.csv": Rows(created=3),
    "sep_line_semicolons.csv": Rows(created=3),
    "sep_line_tab.csv": Rows(created=3),
    "sep_line_caret.csv": ONE_COLUMN,
    "carets.csv": ONE_COLUMN,
    "colons.csv": ONE_COLUMN,
    "spaces.csv": ONE_COLUMN,
    # Line ends and quotes
    "line_ends_crlf.csv": Rows(created=3),
    "line_ends_cr.csv": Rows(created=3),
    "line_ends_mixed.csv": Rows(created=3),
    "line_end_missing_at_the_end.csv": Rows(created=3),
    "quoted_line_breaks.csv": Rows(created=2, rejected={4: "no e-mail address"}),
    "quotes_doubled.csv": Rows(created=1),
    "quotes_in_the_middle.csv": Rows(created=2),
    "quotes_everywhere.csv": Rows(created=3),
    # Headers
    "header_missing.csv": Rows(created=3, remark=NO_HEADER),
    "header_missing_state_of_idaho.csv": Rows(created=2, remark=NO_HEADER),
    "header_missing_bad_phone.csv": Rows(created=3, rejected={4: "cut the digits"}, remark=NO_HEADER),
    "header_repeated_in_the_rows.csv": Rows(created=4, rejected={5: "letters or no digits"}),
    "header_with_one_name_twice.csv": Rows(created=1, remark="Two columns are called “email”"),
    "header_annex_cloud_api.csv": Rows(created=2),
    "header_annex_cloud_member_report.csv": Rows(created=2),
    "header_annex_cloud_connector.csv": Rows(created=2),
    "header_translated.csv": "It has: Téléphone, Courriel, Prénom, Nom.",
    "header_with_blank_names.csv": Rows(created=2),
    "header_without_phone.csv": NO_PHONE,
    "header_only.csv": NO_ROWS,
    "header_and_blank_lines.csv": NO_ROWS,
    "title_above_the_header.csv": Rows(created=3, remark="above the header (line 3)"),
    "title_above_semicolons.csv": Rows(created=3, remark="above the header (line 3)"),
    "title_above_one_column.csv": Rows(created=3, remark="above the header (line 3)"),
    "one_column.csv": Rows(created=3),
    "one_column_without_header.csv": Rows(created=3, remark=NO_HEADER),
    "one_column_of_names.csv": NO_PHONE,
    "one_row_without_header.csv": Rows(created=1, remark=NO_HEADER),
    "line_and_reason_columns.csv": Rows(created=1, rejected={3: "too short: it has 4 digits"}),
    "reason_and_line_columns_of_their_own.csv": Rows(created=1, rejected={3: "no e-mail address"}),
    # Rows
    "summary_row.csv": Rows(created=3, remark=SUMMARY),
    "summary_row_after_a_blank_line.csv": Rows(created=3, remark=SUMMARY),
    "summary_of_two_rows.csv": Rows(created=2, remark="last row is a summary and is left out (line 5)"),
    "last_person_is_called_sum.csv": Rows(created=2),
    "last_person_is_called_total_phone_cut.csv": Rows(created=1, rejected={3: "A spreadsheet has cut the digits"}),
    "last_id_begins_with_rows.csv": Rows(created=2),
    "summary_row_alone.csv": Rows(rejected={2: "letters or no digits"}),
    "blank_lines.csv": Rows(created=3),
    "rows_too_short.csv": Rows(created=3, rejected={4: "letters or no digits"}),
    "rows_too_long.csv": Rows(created=1, rejected={2: "has 7 cells", 4: "has 6 cells"}),
    "columns_shifted.csv": Rows(created=1, rejected={3: "phone is empty"}),
    # Damage
    "empty.csv": EMPTY,
    "blank_lines_only.csv": EMPTY,
    "mark_only.csv": EMPTY,
    "nul.csv": "Line 3 holds a NUL character",
    "nul_at_the_end.csv": "Line 5 holds a NUL character",
    "noise.csv": "holds a NUL character",
    "cut_in_a_row.csv": "begins in line 5. Export or upload it again; if the file is whole, put a line end behind",
    "cut_in_a_quote.csv": "begins in line 3. Export or upload it again; if the file is whole, a quote is not closed",
    "cut_before_the_last_cells.csv": "if the file is whole, put a line end behind its last row.",
    "cut_in_a_letter.csv": CUT,
    "cut_in_the_only_letter.csv": CUT,
    "cut_in_a_utf16_unit.csv": CUT,
    "quote_never_closed.csv": "a quote is not closed there",
    # Other kinds of files
    "picture.png": "looks like a PNG image",
    "workbook.xlsx": "looks like an Excel workbook). In Excel: File → Save as → CSV UTF-8.",
    "workbook_renamed.csv": "looks like an Excel workbook",
    "old_workbook.xls": "looks like an old Excel workbook",
    "packed.zip": "looks like a ZIP file). Unpack it",
    "packed.csv.gz": "looks like a compressed (gzip) file). Unpack it",
    "html_page.csv": "looks like a web page or XML",
    "html_table.xls": "looks like a web page or XML",
    "list.json": "looks like JSON",
    "lines_of_json.txt": "looks like JSON",
    "document.pdf": "looks like a PDF document",
    "address_cards.vcf": ONE_COLUMN,
    # Phones
    "phones_in_many_spellings.csv": Rows(created=12),
    "phones_full_width.csv": Rows(created=3),
    "phones_with_apostrophe.csv": Rows(created=4),
    "phones_british.csv": Rows(created=5, rejected={7: "too long: it has 11 digits"}),
    "phones_of_other_countries.csv": Rows(
        created=1, rejected={2: "a number of France", 3: "a number of Germany", 4: "a number of Australia"}
    ),
    "phones_cut_by_a_spreadsheet.csv": Rows(
        rejected={**each("A spreadsheet has cut the digits", 2, 3, 4), 5: "into a decimal number"}
    ),
    "phones_of_nine_digits.csv": Rows(
        created=1, rejected={2: "too short: it has 9 digits", 3: "too short: it has 8 digits"}
    ),
    "phones_too_long.csv": Rows(created=1, rejected=each("too long", 2, 3)),
    "phones_with_letters.csv": Rows(created=1, rejected=each("letters or no digits", 2, 3, 4, 5)),
    "phones_with_extension.csv": Rows(created=1, rejected=each("has an extension", 2, 3, 4, 5)),
    "phones_that_cannot_be.csv": Rows(
        created=1,
        rejected={
            **each("No country has such a phone number", 2, 4, 7),
            **each("a country code that does not exist", 3, 5),
            6: "too short: it has 3 digits",
        },
    ),
    "phones_missing.csv": Rows(
        created=1,
        rejected={**each("phone is empty", 2, 3), **each("letters or no digits", 4, 5), 6: "no phone number"},
    ),
    "two_phones_in_a_cell.csv": Rows(
        created=1, rejected={2: "too long: it has 20 digits", 3: "has an extension", 4: "letters or no digits"}
    ),
    "formulas.csv": Rows(created=3, rejected={5: "letters or no digits"}),
    "text_kept_as_a_formula.csv": Rows(created=2, rejected={4: "too short: it has 3 digits"}),
    # Who is who
    "known_members.csv": Rows(created=1, updated=1, unchanged=1),
    "phone_repeated.csv": Rows(created=2, repeats=(4, 5)),
    "row_repeated.csv": Rows(created=3, repeats=(5,)),
    "phone_with_another_id.csv": Rows(updated=1, unchanged=1),
    "phone_repeated_with_another_id.csv": Rows(created=1, repeats=(3,)),
    "id_with_another_phone.csv": Rows(created=2),
    "id_repeated_with_another_phone.csv": Rows(created=2),
    # Cells
    "blank_cells_and_dashes.csv": Rows(created=1, updated=2, rejected={5: "no e-mail address"}),
    "names_of_all_kinds.csv": Rows(created=7),
    "cells_too_long_for_their_field.csv": Rows(
        created=1, rejected={2: "first name is longer than 100", 3: "loyalty ID is longer than 128"}
    ),
    "emails.csv": Rows(created=2, rejected={**each("no e-mail address", *range(4, 14)), 14: "longer than 254"}),
    "points.csv": Rows(
        created=7, rejected={**each("must be a whole number", 9, 10, 11, 12, 13, 15, 16), 14: "Too many digits"}
    ),
    "dates.csv": Rows(
        created=7, rejected={**each("is no date", 9, 10, 11, 12, 13, 16), **each("future or before 1900", 14, 15)}
    ),
    "joining_times.csv": Rows(created=4, rejected=each("is no time", 6, 7, 8)),
    "joining_times_to_come.csv": Rows(created=1, rejected=each("lies in the future. Check the year.", 3, 4)),
    "opt_in_words.csv": Rows(created=7, rejected=each("must be YES or NO", 9, 10)),
    "two_troubles_in_a_row.csv": Rows(created=1, rejected={2: "cut the digits", 3: "no e-mail address"}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rows of one file meet across slices, as those of a large file do."""
    monkeypatch.setattr(run, "slices", partial(run.slices, size=3))


@pytest.fixture
def site() -> Site:
    """A site with two members, beside another one that has the same."""
    sites = [make_site(), make_site()]
    for place in sites:
        for number, points in enumerate((5, 6)):
            make_member(
                place, phone=f"+1770555019{number}", external_id=f"M9{number}", email=f"old{number}@example.com",
                first_name="Old", tier="Silver", points=points,
            )  # fmt: skip
    return sites[0]


def go_through(site: Site, content: bytes, name: str, mapping: dict[str, str] | None = None) -> ImportJob:
    """Upload, match, check and run, as staff do; raises `ImportRefused` wherever that happens."""
    job = imports.start_import(site, io.BytesIO(content), name)
    imports.set_mapping(job, imports.propose_mapping(job) if mapping is None else mapping)
    before = everything(site)
    ask_check(job)
    job = imports.check_import(job)
    if job.state == State.FAILED:
        raise ImportRefused(job.error)
    checked = counts(job)
    assert everything(site) == before, "the check wrote something"
    ask_import(job, {})
    job = imports.run_import(job)
    assert job.state == State.COMPLETE, job.error
    assert counts(job) == checked, "the check promised something else"
    assert job.read == sum(counts(job))
    return job


def counts(job: ImportJob) -> tuple[int, ...]:
    return tuple(getattr(job, name) for name in COUNTERS)


def everything(site: Site) -> list[tuple[Any, ...]]:
    return list(Member.objects.filter(site=site).order_by("pk").values_list())


def assert_is_helpful(sentence: str) -> None:
    """A whole sentence, and what to do."""
    assert sentence.endswith(".") and sentence[0].isupper(), sentence
    assert re.search(r"[.;] [A-Zi“]|must be", sentence), f"no remedy: {sentence}"


def test_every_file_has_its_row() -> None:
    assert {path.name for path in FILES.iterdir()} == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_a_file(site: Site, name: str) -> None:
    expected, content = TABLE[name], (FILES / name).read_bytes()
    before = Member.objects.count()
    if isinstance(expected, str):
        with pytest.raises(ImportRefused) as refusal:
            go_through(site, content, name)
        assert expected in str(refusal.value)
        assert_is_helpful(str(refusal.value))
        assert_nothing_half_done()
        assert Member.objects.count() == before
        return
    job = go_through(site, content, name)
    issues = list(job.issues.order_by("line"))
    rejected = {issue.line: issue.reason for issue in issues if issue.kind == ImportIssue.Kind.REJECTED}
    assert counts(job) == expected.counts, rejected
    assert [issue.line for issue in issues if issue.kind == ImportIssue.Kind.DUPLICATE] == list(expected.repeats)
    assert rejected.keys() == expected.rejected.keys()
    for line, part in expected.rejected.items():
        assert part in rejected[line]
        assert_is_helpful(rejected[line])
    assert expected.remark in " ".join(job.dialect["remarks"])
    assert Member.objects.count() == before + expected.created
    if rejected:
        assert_come_back(job, content, rejected)


def assert_nothing_half_done() -> None:
    """A job waits for its columns to be matched, or there is none, and then no file either."""
    assert set(ImportJob.objects.values_list("phase", "state")) <= {("MAPPING", "PENDING")}
    assert not ImportIssue.objects.exists()
    if not ImportJob.objects.exists() and default_storage.exists("imports"):
        folder = Path(default_storage.path("imports"))
        assert not [path for path in folder.rglob("*") if path.is_file()]


# --- Rejected rows come back ------------------------------------------------------------------------------------------


def assert_come_back(job: ImportJob, content: bytes, rejected: dict[int, str]) -> None:
    """The rejects file has each row as it was, is rejected again as it is, and taken once it is mended."""
    raw = rejects_of(job)
    header, *rows = table_of(raw)
    dialect = Dialect.from_json(job.dialect)
    assert header[-2:] == (
        ["reject_line", "reject_reason"] if "line" in dialect.columns_of_theirs else ["line", "reason"]
    )
    originals = lines_of(content, dialect)
    ours = [at for at, name in enumerate(dialect.columns) if name in dialect.ours]
    width = len(header) - 2
    for (line, reason), row in zip(rejected.items(), rows, strict=True):
        assert row[width : width + 2] == [str(line), reason]
        cells = [cell for at, cell in enumerate(originals[line]) if at not in ours]
        cells += [""] * (width - len(cells))
        for cell, original in zip(row[:width] + row[width + 2 :], cells, strict=True):
            assert cell in (original, f"'{original}")
    again = go_through(job.site, raw, "rejects.csv")
    assert again.dialect["ours"] == header[-2:]
    assert (again.read, again.rejected) == (len(rows), len(rows))
    reasons = [issue.reason for issue in again.issues.order_by("line")]
    # But for the numbers: there are two columns more.
    assert [re.sub(r"\d+", "", reason) for reason in reasons] == [re.sub(r"\d+", "", it) for it in rejected.values()]
    # A row may have several troubles, of which the first is told.
    taken = 0
    for _round in range(4):
        again = go_through(job.site, mended(again), "mended.csv")
        taken += again.created + again.updated + again.unchanged
        if not again.rejected:
            break
    assert taken == len(rows)


_GOOD = {
    "email": "mended@example.com", "points": "7", "birth_date": "1990-12-31", "joined_at": "2026-03-01",
    "opt_in_status": "YES", "first_name": "Mended",
}  # fmt: skip
_numbers = itertools.count()


def mended(job: ImportJob) -> bytes:
    """Return the rejects file with the cell mended that each reason is about, and cells beyond the header gone."""
    header, *rows = table_of(rejects_of(job))
    columns = {target: header.index(name) for name, target in job.mapping.items()}
    for issue, row in zip(job.issues.order_by("line"), rows, strict=True):
        del row[len(header) :]
        if issue.field:
            number = next(_numbers)
            unique = {"phone": f"+1404555{100 + number % 100:04d}", "external_id": f"mended-{number}"}
            row[columns[issue.field]] = {**_GOOD, **unique}[issue.field]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    return text.getvalue().encode()


def rejects_of(job: ImportJob) -> bytes:
    with job.rejects_file.open("rb") as file:
        return file.read()


def table_of(raw: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")))


def lines_of(content: bytes, dialect: Dialect) -> dict[int, list[str]]:
    """Return line → cells, by nothing but Python's own reader."""
    reader = csv.reader(io.StringIO(content.decode(dialect.encoding), newline=""), delimiter=dialect.delimiter)

    def rows() -> Iterator[tuple[int, list[str]]]:
        line = 1
        for cells in reader:
            yield line, cells
            line = reader.line_num + 1

    return dict(rows())


# --- What stands in the members afterwards ----------------------------------------------------------------------------


def member(site: Site, phone: str) -> Member:
    return Member.objects.get(site=site, phone=phone)


@pytest.mark.parametrize(
    "name",
    ["utf8.csv", "utf8_mark_twice.csv", "utf16_le_mark.csv", "utf16_be_no_mark.csv", "windows1252.csv", "latin1.csv"],
)
def test_letters_are_read_in_every_encoding(site: Site, name: str) -> None:
    go_through(site, (FILES / name).read_bytes(), name)
    assert [member(site, f"+1770555010{n}").first_name for n in (1, 2, 3)] == ["René", "Zoë", "Inês"]
    assert member(site, "+17705550103").last_name == "Núñez"


@pytest.mark.parametrize("family", ["api", "member_report", "connector"])
def test_the_headers_of_annex_cloud_are_known(site: Site, family: str) -> None:
    go_through(site, (FILES / f"header_annex_cloud_{family}.csv").read_bytes(), "members.csv")
    ada = member(site, "+17705550101")
    assert (ada.external_id, str(ada.birth_date), ada.opt_in_status) == ("M1", "1990-12-10", "YES")
    assert str(ada.joined_at.date()) == "2026-03-01"
    if family != "api":
        assert (ada.tier, ada.points) == ("Gold", 1320)
    if family != "member_report":
        assert (ada.email, ada.first_name, ada.last_name) == ("ada@example.com", "Ada", "Byron")


def test_what_was_matched_by_hand_in_a_file_without_header_is_remembered(site: Site) -> None:
    content = (FILES / "header_missing_state_of_idaho.csv").read_bytes()
    by_hand = {"Column 1": "phone", "Column 2": "first_name", "Column 3": "state"}
    go_through(site, content, "members.csv", by_hand)
    assert go_through(site, content, "members.csv").unchanged == 2
    assert ImportJob.objects.latest("pk").mapping == by_hand
    # Three other columns are not these.
    job = imports.start_import(site, io.BytesIO(b"Ada,Gold,+17705550101\nBob,Gold,+17705550102\n"), "members.csv")
    assert imports.propose_mapping(job) == {"Column 3": "phone"}


def test_emojis_stay_whole(site: Site) -> None:
    family = "👩‍👩‍👧"
    go_through(site, f"phone,first_name\n+17705550101,{family}\n+17705550102,A\u202ed\u200da\u200d\n".encode(), "m.csv")
    assert member(site, "+17705550101").first_name == family
    assert member(site, "+17705550102").first_name == "Ad\u200da"


def test_columns_that_are_called_like_ours_come_back_untouched(site: Site) -> None:
    content = (FILES / "reason_and_line_columns_of_their_own.csv").read_bytes()
    own = {"reason": "extended_attributes.reason", "line": "extended_attributes.line"}
    job = go_through(site, content, "members.csv", {"phone": "phone", "email": "email", **own})
    assert table_of(rejects_of(job)) == [
        ["phone", "email", "reason", "line", "reject_line", "reject_reason"],
        ["+17705550102", "nonsense", "Returned", "North", "3", job.issues.get().reason],
    ]
    mended_file = rejects_of(job).replace(b"nonsense", b"grace@example.com")
    assert go_through(site, mended_file, "mended.csv").created == 1
    assert member(site, "+17705550102").extended_attributes == {"reason": "Returned", "line": "North"}


@pytest.mark.parametrize(
    ("rows", "is_ours"),
    [
        (b"12,x@example.com,7,It is too short.\n+17705550103,,,\n", True),
        (b"12,x@example.com,7,Bought\n", False),
        (b"12,x@example.com,North,It is too short.\n", False),
        (b"12,x@example.com,,\n", False),
    ],
)
def test_columns_that_have_our_names_are_ours_only_with_what_we_write(site: Site, rows: bytes, is_ours: bool) -> None:
    job = go_through(site, b"phone,email,Line,Reason\n" + rows, "members.csv")
    assert job.dialect["ours"] == (["Line", "Reason"] if is_ours else [])
    header, first = table_of(rejects_of(job))
    assert header[2:] == (["line", "reason"] if is_ours else ["Line", "Reason", "reject_line", "reject_reason"])
    assert is_ours or first[2:4] == table_of(rows)[0][2:]


def test_foreign_headers_are_matched_by_hand_and_remembered(site: Site) -> None:
    content = (FILES / "header_translated.csv").read_bytes()
    by_hand = {"Téléphone": "phone", "Courriel": "email", "Prénom": "first_name", "Nom": "last_name"}
    job = go_through(site, content, "membres.csv", by_hand)
    assert (job.created, job.rejected) == (2, 1)
    assert (member(site, "+17705550101").first_name, member(site, "+17705550101").last_name) == ("Ada", "Byron")
    # Neither the same file nor its rejects, with two columns more, have to be matched again.
    assert go_through(site, content, "membres.csv").unchanged == 2
    assert go_through(site, rejects_of(job), "rejects.csv").rejected == 1
    with pytest.raises(ImportRefused, match=NO_PHONE):
        go_through(make_site(), content, "membres.csv")


def test_formulas_are_text_and_what_they_keep_as_text_is_taken_out(site: Site) -> None:
    go_through(site, (FILES / "formulas.csv").read_bytes(), "members.csv")
    ada = member(site, "+17705550101")
    assert (ada.external_id, ada.first_name, ada.last_name) == ("M1", "=1+1", "@SUM(A1)")
    assert member(site, "+17705550102").first_name == '=HYPERLINK("https://example.com")'
    job = go_through(site, (FILES / "text_kept_as_a_formula.csv").read_bytes(), "members.csv")
    assert member(site, "+17705550102").external_id == "002" and member(site, "+17705550102").first_name == "Grace"
    # A rejected cell of that form keeps its meaning on its way through the rejects file.
    go_through(site, rejects_of(job).replace(b"123", b"7705550103"), "mended.csv")
    assert (member(site, "+17705550103").external_id, member(site, "+17705550103").first_name) == ("003", "Edsger")


def test_the_later_row_wins_and_ids_move_to_their_new_phone(site: Site) -> None:
    go_through(site, (FILES / "phone_repeated.csv").read_bytes(), "members.csv")
    ada = member(site, "+17705550101")
    assert (ada.external_id, ada.first_name, ada.tier) == ("M1", "Augusta", "Silver")
    go_through(site, (FILES / "phone_with_another_id.csv").read_bytes(), "members.csv")
    assert member(site, "+17705550190").external_id == "M999"
    go_through(site, (FILES / "id_with_another_phone.csv").read_bytes(), "members.csv")
    assert member(site, "+17705550191").replaced_by == member(site, "+17705550102")
    other = Member.objects.exclude(site=site)
    assert set(other.values_list("phone", "external_id", "replaced_by")) == {
        ("+17705550190", "M90", None), ("+17705550191", "M91", None),
    }  # fmt: skip


def test_blank_cells_leave_and_dashes_clear(site: Site) -> None:
    go_through(site, (FILES / "blank_cells_and_dashes.csv").read_bytes(), "members.csv")
    first = member(site, "+17705550190")
    assert (first.email, first.tier, first.points, first.first_name) == ("old0@example.com", "", None, "Old")
    assert (member(site, "+17705550191").email, member(site, "+17705550191").points) == ("", 6)


# --- What is too large to be kept as a file ---------------------------------------------------------------------------

_ROW = b"+17705550101,Ada\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"phone,first_name\n" + _ROW + b"+17705550102," + b"x" * (MAX_CELL + 1), "Line 3 has a cell longer than"),
        (b"phone," + b",".join(b"c%d" % n for n in range(2_000)) + b"\n" + _ROW, "Line 1 has 2001 columns"),
        (b'phone,first_name\n+17705550101,"' + _ROW * 700_000, "Line 2 has a cell longer than 10,240"),
        (b'"phone,first_name\n' + _ROW * 100_000, "Line 1 has a cell longer than 10,240"),
        (b"phone,first_name\n" + b"x" * 4_000_000, "Line 2 is longer than any row may be"),
    ],
    ids=["giant cell", "2,000 columns", "quote over a giant body", "quote before a giant body", "giant line"],
)
def test_giants_are_refused_with_their_line(site: Site, content: bytes, said: str) -> None:
    with pytest.raises(ImportRefused) as refusal:
        go_through(site, content, "giant.csv")
    assert said in str(refusal.value)
    assert_is_helpful(str(refusal.value))
    assert_nothing_half_done()


def test_a_row_of_2000_cells_is_rejected_alone(site: Site) -> None:
    content = b"phone,first_name\n" + _ROW + b"+17705550102," + b",".join([b"x"] * 1_999) + b"\n"
    job = go_through(site, content, "wide.csv")
    assert (job.created, job.rejected) == (1, 1)
    assert_come_back(job, content, {3: "The row has 2000 cells and the header 2. Put quotes around a value that holds "
                                    "the delimiter."})  # fmt: skip


def test_as_many_columns_as_may_be(site: Site) -> None:
    names = ["phone", *(f"c{n}" for n in range(MAX_COLUMNS - 1))]
    content = (",".join(names) + "\n" + ",".join(["+17705550101", *["x" * 200] * (MAX_COLUMNS - 1)]) + "\n").encode()
    assert go_through(site, content, "wide.csv").created == 1


def test_a_letter_across_two_blocks_that_windows_1252_does_not_have(site: Site) -> None:
    block = 1_048_576
    head = b"phone,first_name\n"
    rows = _ROW * ((block - len(head)) // len(_ROW))
    filling = b"+17705550102," + b"x" * (block - len(head) - len(rows) - 15)
    content = head + rows + filling + b"\xe2\x81" + b"\n" + _ROW
    assert content[block - 2 : block] == b"\xe2\x81"
    assert imports.start_import(site, io.BytesIO(content), "members.csv").dialect["encoding"] == "latin-1"


@pytest.mark.parametrize(
    "phone", ["７７０５５５０１０２", "tel:+17705550102", "770/555/0102", "'+1 770 555 0102", "770555010"]
)
@pytest.mark.parametrize("name", ["Sum", "Count", "Total", "End of"])
def test_a_last_row_with_a_phone_is_a_person(site: Site, name: str, phone: str) -> None:
    job = imports.start_import(site, io.BytesIO(f"Name,Telefon\nAda,+17705550101\n{name},{phone}\n".encode()), "m.csv")
    assert job.dialect["summary_line"] is None


# --- A way of reading that was chosen by hand -------------------------------------------------------------------------


def test_a_wrong_choice_is_refused_and_changes_nothing(site: Site) -> None:
    job = imports.start_import(site, io.BytesIO((FILES / "utf16_le_no_mark.csv").read_bytes()), "members.csv")
    before = job.dialect
    for encoding in ("utf-8", "cp1252", "latin-1"):
        with pytest.raises(ImportRefused, match=f"cannot be read as {encoding.upper()}. Choose another encoding"):
            change_dialect(job, encoding=encoding, delimiter=",", has_header=True, has_summary=False)
    job.refresh_from_db()
    assert job.dialect == before


@pytest.mark.parametrize("rows", [1, 150])
def test_a_quote_that_is_never_closed_is_named_where_its_row_begins(site: Site, rows: int) -> None:
    good = b"+17705550101,Ada\n"
    content = b"phone,first_name\n" + good * rows + b'+17705550102,"Grace\n' + good * 3
    with pytest.raises(ImportRefused, match=rf"begins in line {rows + 2}\. .* a quote is not closed there"):
        go_through(site, content, "members.csv")


def test_blank_cells_may_be_missing_in_a_last_row_with_a_line_end(site: Site) -> None:
    content = (FILES / "cut_before_the_last_cells.csv").read_bytes()
    assert go_through(site, content + b"\n", "members.csv").created == 2


def test_a_last_row_is_taken_for_a_summary_or_not_as_chosen(site: Site) -> None:
    def summary_of(content: bytes, *, chosen: bool) -> tuple[int | None, bool]:
        job = imports.start_import(site, io.BytesIO(content), "members.csv")
        change_dialect(job, encoding="utf-8", delimiter=",", has_header=True, has_summary=chosen)
        return job.dialect["summary_line"], SUMMARY in " ".join(job.dialect["remarks"])

    person, total = b"phone\n+17705550101\n+17705550102\n", b"phone\n+17705550101\nTotal: 1\n"
    assert summary_of(person, chosen=True) == (3, True)
    assert summary_of(person, chosen=False) == (None, False)
    assert summary_of(total, chosen=True) == (3, True)
    assert summary_of(total, chosen=False) == (None, False)
    assert summary_of(b"phone\n+17705550101\n", chosen=True) == (None, False)
