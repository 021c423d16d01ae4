"""Every code has words; facts fill them; whatever else stands in the column is answered too."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalty.models import LoyaltyAction
from messaging.models import Message
from messaging.reasons import Code, explain

FACTS = {
    "client": "Harbor Goods",
    "phone": "+1 770-555-0101",
    "country": "Germany",
    "countries": "United States",
    "placeholder": "first_name",
    "hours": 72,
    "status": "HTTP 403",
    "answer": "100 % wrong",
    "until": "at 9:00",
    "by": "Grace",
}


@pytest.mark.parametrize("facts", [{}, FACTS, dict.fromkeys(FACTS, ""), dict.fromkeys(FACTS, None)])
@pytest.mark.parametrize("code", list(Code))
def test_every_code_is_explained_in_whole_sentences(code, facts):
    reason = explain(code, **facts)
    assert re.fullmatch(r"[A-Z].{3,}\.", reason.title)
    for sentence in (reason.cause, reason.remedy):
        assert "%(" not in sentence and ".." not in sentence
        assert sentence == "" or re.fullmatch(r"\S.{3,}[.]", sentence)
    assert reason.cause
    assert reason.remedy or code in (Code.CONFIRMED, Code.RESOLVED_AS_SENT)


def test_no_two_codes_read_the_same():
    causes = [explain(code).cause for code in Code]
    assert len(set(causes)) == len(causes)


def test_facts_stand_in_the_sentences():
    assert "“first_name”" not in explain(Code.MISSING_VALUE).cause
    assert "for first_name." in explain(Code.MISSING_VALUE, placeholder="first_name").cause
    assert explain(Code.COUNTRY, **FACTS).cause.startswith("The country of +1 770-555-0101 is Germany.")
    assert explain(Code.TOKEN_REFUSED, **FACTS).title == "Held: Attentive refused the token (HTTP 403)."
    assert "legacyapi@attentivemobile.com" in explain(Code.TOKEN_REFUSED, **FACTS).remedy
    assert "100 % wrong" in explain(Code.REFUSED, **FACTS).cause


def test_what_an_action_may_end_as_is_explained():
    assert set(LoyaltyAction.Outcome.values) <= set(Code)


def test_a_code_fits_its_column():
    assert max(map(len, Code)) <= Message._meta.get_field("reason").max_length


@given(st.text())
def test_any_other_code_gets_a_general_answer(code):
    if code not in set(Code):
        reason = explain(code, client="Harbor Goods")
        assert reason.title and reason.cause and reason.remedy
