"""Rows for people, and files that appear all at once."""

import csv
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalty.exports.files import ExportFailed, csv_cell, publication, spreadsheet_header, spreadsheet_rows
from loyalty.spreadsheets import defuse_strictly


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=3, max_size=3)))
def test_rows_come_back_as_they_were(rows: list[list[str]]) -> None:
    header = spreadsheet_header(["a", "b", "c"])
    content = header + b"".join(line for lines in spreadsheet_rows(rows) for line in lines)
    read = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert read == [["a", "b", "c"], *([defuse_strictly(cell) for cell in row] for row in rows)]


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


def test_while_files_are_replaced_no_manifest_lists_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(row: bytes) -> None:
        with publication(tmp_path, lambda part: f"part{part}.csv") as target:
            target.parts.add([row])
            target.show({}, lambda path: False)

    export(b"1\n")
    manifest, replace, listed = tmp_path / "manifest.json", os.replace, []
    assert manifest.exists()
    monkeypatch.setattr(os, "replace", lambda *paths: (listed.append(manifest.exists()), replace(*paths)))
    export(b"2\n")
    assert listed == [False, False]
    assert manifest.exists()


def test_whatever_goes_wrong_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), publication(tmp_path / "new", str) as target:
        target.parts.add([b"1\n"])
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()


def test_what_a_killed_export_left_goes_and_a_living_one_stays(tmp_path: Path) -> None:
    left = tmp_path / ".export-left"
    left.mkdir()
    (left / "1").write_text("+17705550101\n")
    with publication(tmp_path, "a_{}.csv".format) as living:
        assert not left.exists()
        living.parts.add([b"x\n"])
        with publication(tmp_path, "b_{}.csv".format) as other:
            assert living.hidden.exists()
            other.show({}, lambda path: False)
        living.show({}, lambda path: False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_1.csv", "b_1.csv", "manifest.json"]


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
