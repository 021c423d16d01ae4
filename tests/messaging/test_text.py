"""Texts: placeholders are filled once and from a closed list, and what must not be sent says why."""

import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loyalty.models import LoyaltyAction, Member
from messaging.reasons import Code
from messaging.text import (
    KNOWN,
    MAX_PARTS,
    MAX_VALUE,
    BodyError,
    check_body,
    parts,
    placeholders,
    render,
    worst_case,
)
from tests.examples import examples

any_text = st.text(st.characters())
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=5,
)


def member(**fields):
    return Member(**{"phone": "+17705550101", "first_name": "Ada", "last_name": "Example", "tier": "Gold", **fields})


def action(data=None, **fields):
    return LoyaltyAction(data={} if data is None else data, **fields)


def text_of(body, **fields):
    who = {key: fields.pop(key) for key in list(fields) if key in ("first_name", "last_name", "tier")}
    if "member_points" in fields:
        who["points"] = fields.pop("member_points")
    rendered = render(body, member(**who), action(**fields))
    assert (rendered.reason, rendered.detail) == ("", "")
    return rendered.text


def refusal_of(body, **fields):
    who = {key: fields.pop(key) for key in list(fields) if key in ("first_name", "last_name", "tier")}
    rendered = render(body, member(**who), action(**fields))
    assert rendered.text == ""
    return rendered.reason, rendered.detail


# --- Filled -----------------------------------------------------------------------------------------------------------


def test_every_placeholder_is_filled():
    body = (
        "{{ first_name }} {{last_name}}, {{  tier  }}: {{ points_delta }} makes {{ points }} for {{ data.order_id }} "
        "at {{data.Shop-2}}."
    )
    data = {"order_id": "o-9", "Shop-2": 7}
    assert text_of(body, points=120, points_delta=-5, data=data) == "Ada Example, Gold: -5 makes 120 for o-9 at 7."


def test_points_are_the_actions_balance_and_else_the_members():
    assert text_of("{{ points }}", points=0, member_points=9) == "0"
    assert text_of("{{ points }}", member_points=1234567) == "1234567"
    assert refusal_of("{{ points }}") == (Code.MISSING_VALUE, "points")
    assert refusal_of("{{ points_delta }}") == (Code.MISSING_VALUE, "points_delta")


def test_a_name_is_the_members_and_else_a_text_in_the_actions_data():
    data = {"first_name": "Grace", "tier": "Silver"}
    assert text_of("{{ first_name }} {{ tier }}", data=data) == "Ada Gold"
    assert text_of("{{ first_name }} {{ tier }}", data=data, first_name="", tier="") == "Grace Silver"
    assert text_of("{{ first_name }}", data=data, first_name=" \u200b\n") == "Grace"
    for other in (7, True, ["Grace"], {"a": "b"}, None, " "):
        assert refusal_of("{{ first_name }}", data={"first_name": other}, first_name="") == (
            Code.MISSING_VALUE,
            "first_name",
        )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("o-9", "o-9"),
        (0, "0"),
        (1234567, "1234567"),
        (-3, "-3"),
        (12.5, "12.5"),
        (100.0, "100"),
        (1e21, "1000000000000000000000"),
        (1e-7, "0.0000001"),
        (True, "true"),
        (False, "false"),
    ],
)
def test_scalars_of_the_actions_data_are_written_plainly(value, text):
    assert text_of("{{ data.key }}", data={"key": value}) == text


@pytest.mark.parametrize("value", [None, "", "  ", "\n\t", [], [1], {"a": 1}, float("nan"), float("inf"), "\u202e"])
def test_what_is_no_scalar_is_missing(value):
    assert refusal_of("{{ data.key }}", data={"key": value}) == (Code.MISSING_VALUE, "data.key")
    assert text_of("{{ data.key|none }}", data={"key": value}) == "none"


def test_data_is_read_by_key_only():
    assert refusal_of("Hi {{ data.a.b }}", data={"a": {"b": "x"}, "a.b": "y"}) == (Code.BRACE, "")
    assert refusal_of("{{ data.__class__ }}") == (Code.MISSING_VALUE, "data.__class__")
    assert refusal_of("{{ data.key }}", data=["key"]) == (Code.MISSING_VALUE, "data.key")


def test_a_fallback_stands_in_for_a_missing_value_only():
    assert text_of("Hi {{ first_name|there }}!") == "Hi Ada!"
    assert text_of("Hi {{ first_name|there }}!", first_name="") == "Hi there!"
    assert text_of("Hi {{first_name |  dear member, hello: a|b  }}!", first_name="") == "Hi dear member, hello: a|b!"
    assert text_of("Hi{{ first_name| }}!", first_name="") == "Hi!"
    assert text_of("{{ points|0 }}", points=0) == "0"


def test_a_preview_needs_no_action():
    assert render("{{ first_name }} {{ points }}", member(points=5), None).text == "Ada 5"
    assert render("{{ points_delta }} {{ data.x }}", member(), None)[1:] == (Code.MISSING_VALUE, "points_delta")


def test_values_are_never_filled_again():
    assert refusal_of("{{ first_name }}", first_name="{{ last_name }}") == (Code.BRACE, "first_name")
    assert refusal_of("{{ first_name }}{{ data.rest }}", first_name="{", data={"rest": "{ tier }}"})[0] == Code.BRACE
    assert text_of("{{ data.a }}", data={"a": "first_name"}) == "first_name"


@pytest.mark.parametrize(
    "payload",
    [
        "{{7*7}}", "{% debug %}", "{{ settings.SECRET_KEY }}", "{0.__class__.__mro__}", "{member.__init__.__globals__}",
        "${7*7}", "#{7*7}", "<%= 7*7 %>", "%(first_name)s", "%s%n", "{{''.__class__}}", "@(7*7)", "$(id)", "\\1\\g<0>",
        "{{ first_name|safe }}", "{% include 'a' %}", "{first_name!r}",
    ],
)  # fmt: skip
def test_payloads_stay_as_they_are_or_are_refused(payload):
    rendered = render("Hi {{ first_name }}", member(first_name=payload), action())
    if set(payload) & set("{}"):
        assert rendered == ("", Code.BRACE, "first_name")
        if payload != "{{ first_name|safe }}":
            with pytest.raises(BodyError):
                check_body(f"Hi {payload}")
    else:
        assert rendered.text == f"Hi {payload}"


# --- Cleaned ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("  Ada  ", "Ada"),
        ("Ada\nEve", "Ada Eve"),
        ("Ada\r\n\tEve\u2028Bob", "Ada Eve Bob"),
        ("A\x00d\x1ba\x7f\x9b", "Ada"),
        ("\u202eAda\u202c \u2066x\u2069\u200f\u061c", "Ada x"),
        ("A\ud800da\udfff", "Ada"),
        ("\ufeffA\u200bd\u00ada", "Ada"),
        ("👨‍👩‍👧", "👨‍👩‍👧"),
        ("José Łukasz 李", "José Łukasz 李"),
    ],
)
def test_values_lose_what_cannot_be_seen(value, text):
    assert text_of("{{ first_name }}.", first_name=value) == f"{text}."
    assert text_of("{{ data.x }}.", data={"x": value}) == f"{text}."


def test_the_campaigns_own_lines_stay():
    assert text_of("  Hi {{ first_name }},\r\n\r\nyou\thave\x00 won\u202e.\r ") == "Hi Ada,\n\nyou have won."


# --- Refused ----------------------------------------------------------------------------------------------------------


def test_a_missing_value_is_named():
    assert refusal_of("{{ tier }} {{ first_name }} {{ data.x }}", first_name="") == (Code.MISSING_VALUE, "first_name")


def test_a_brace_from_any_side_is_refused():
    assert refusal_of("Hi {{ first_name }}", first_name="{a}") == (Code.BRACE, "first_name")
    assert refusal_of("Hi {{ data.x }}", data={"x": "}"}) == (Code.BRACE, "data.x")
    assert refusal_of("Hi {{ frist_name }}") == (Code.BRACE, "")
    assert refusal_of("Hi {{{ first_name }}}") == (Code.BRACE, "")
    assert refusal_of("Hi {first_name}") == (Code.BRACE, "")


def test_an_empty_text_is_refused():
    for body in ("", " \n", "{{ data.x| }}", "\u200b", "\u202e{{ data.x|\u2066 }}"):
        assert refusal_of(body) == (Code.EMPTY, "")


def test_an_over_long_text_is_refused():
    longest = "x" * MAX_VALUE
    assert text_of("{{ data.x }}", data={"x": longest}) == longest
    assert refusal_of("{{ data.x }}", data={"x": longest + "x"}) == (Code.TOO_LONG, "data.x")
    assert refusal_of("{{ data.x }}", data={"x": "x" * 1_000_000}) == (Code.TOO_LONG, "data.x")
    assert refusal_of("{{ data.x }}", data={"x": 10**5000}) == (Code.TOO_LONG, "data.x")
    assert text_of("x" * 153 * MAX_PARTS)
    assert refusal_of("x" * (153 * MAX_PARTS + 1)) == (Code.TOO_LONG, "")
    assert refusal_of("{{ data.x }}" * 4, data={"x": longest}) == (Code.TOO_LONG, "")
    assert refusal_of("😀" * 331) == (Code.TOO_LONG, "")


# --- Checked when saved -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "Thanks {{ first_name }}, you now have {{ points }} points.",
        "Hi {{first_name|there}}, {{ tier }} {{ last_name }} {{ points_delta }} {{ data.order_id }} {{ data.A-1|x }}",
        "No placeholder at all. 100 % ok | $5 [a]",
        "{{ first_name| }}",
    ],
)
def test_a_good_text_passes(body):
    check_body(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "The text is empty."),
        (" \n\u200b", "The text is empty."),
        ("Hi {{frist_name}}", "Unknown placeholder {{ frist_name }}. Did you mean {{ first_name }}?"),
        ("Hi {{ First_Name }}", "Did you mean {{ first_name }}?"),
        ("Hi {{ point }}", "Did you mean {{ points }}?"),
        ("Hi {{ xyzzy }}", "There are first_name, last_name, tier, points, points_delta, and data.KEY"),
        ("Hi {{ }}", "Unknown placeholder"),
        ("Hi {{ |there }}", "Unknown placeholder"),
        ("Hi {{ data. }}", "data.KEY"),
        ("Hi {{ data.a b }}", "Unknown placeholder {{ data.a b }}"),
        ("Hi {{ data.a.b }}", "Unknown placeholder"),
        ("Hi {{ first_name.upper }}", "Unknown placeholder"),
        ("Hi {first_name}", "A brace is left over in “Hi {first_name}”"),
        ("Hi {{ first_name }", "A brace is left over"),
        ("Hi {{{ first_name }}}", "A brace is left over"),
        ("Hi {{ first_name|{there} }}", "A brace is left over"),
        ("Hi {{ first_name }} }", "A brace is left over"),
        ("{% if x %}", "A brace is left over"),
        ("x" * 1531, "The text takes 11 SMS parts; at most 10 are sent."),
        ("😀" * 400, "SMS parts; at most 10 are sent."),
    ],
)
def test_a_bad_text_is_refused_in_a_sentence(body, words):
    with pytest.raises(BodyError) as caught:
        check_body(body)
    assert words in str(caught.value)
    assert str(caught.value)[-1] in ".?"


def test_placeholders_are_listed_once_in_order():
    assert placeholders("{{ tier }} {{first_name|x}} {{ tier|y }} {{ oops }} {x}") == ["tier", "first_name", "oops"]


def test_the_worst_case_is_longer_than_the_text_with_usual_values():
    body = "Hi {{ first_name|a very dear member of ours }}, {{ points }} {{ data.x }}"
    assert len(worst_case(body)) > len(text_of(body, points=1_000_000, data={"x": "order 1234567"}))
    assert "a very dear member of ours" in worst_case(body)
    assert worst_case("{{ tier }}!", {"tier": "Platinum Elite Plus"}) == "Platinum Elite Plus!"
    assert parts(worst_case("x" * 150 + "{{ first_name }}")).count == 2


# --- Anything ---------------------------------------------------------------------------------------------------------

templates = st.lists(
    any_text
    | st.sampled_from(
        [*(f"{{{{ {name} }}}}" for name in KNOWN), "{{ data.k }}", "{{ data.k|f }}", "{{", "}}", "|", "{"]
    )
).map("".join)


@given(
    templates,
    st.fixed_dictionaries({"first_name": any_text, "last_name": any_text, "tier": any_text}),
    st.dictionaries(st.sampled_from(["k", "first_name", "tier"]), json_values) | json_values,
    st.none() | st.integers(),
)
@settings(max_examples=examples(1_500), deadline=None)
@example("{{ first_name }}", {"first_name": "\ud800", "last_name": "", "tier": ""}, {}, None)
def test_whatever_comes_in_is_a_sendable_text_or_a_reason(body, names, data, points):
    rendered = render(body, member(points=points, **names), action(data=data, points_delta=points))
    if rendered.reason:
        assert rendered.text == ""
        assert rendered.reason in {Code.MISSING_VALUE, Code.BRACE, Code.EMPTY, Code.TOO_LONG}
    else:
        assert rendered.text == rendered.text.strip() != ""
        assert not re.search(r"[{}]", rendered.text)
        assert rendered.text.encode()
        assert all(unicodedata.category(char) not in ("Cc", "Cs") or char == "\n" for char in rendered.text)
        assert not set(rendered.text) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
        assert parts(rendered.text).count <= MAX_PARTS


@given(templates)
@settings(max_examples=examples(1_000), deadline=None)
def test_a_text_that_was_saved_never_meets_a_brace_of_its_own(body):
    try:
        check_body(body)
    except BodyError as error:
        assert str(error)
    else:
        data = {name.removeprefix("data."): "x" for name in placeholders(body)}
        rendered = render(body, member(points=1), action(data=data, points_delta=1))
        assert rendered.reason in ("", Code.TOO_LONG)
        assert worst_case(body)
