"""Quiet hours and caps: what may be entered, and the sentence for what may not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalty.models.sites import default_caps, default_quiet_hours
from loyalty.sending_limits import check_caps, check_quiet_hours, is_quiet, minutes_of_day

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    "value",
    [None, default_quiet_hours(), {"start": "21:00", "end": "08:00"}, {"start": "12:00", "end": "14:30"},
     {"start": "00:00", "end": "08:00"}, {"start": "21:00", "end": "20:59"}],
)  # fmt: skip
def test_good_quiet_hours_pass(value):
    check_quiet_hours(value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "a start and an end"),
        ([], "a start and an end"),
        ("20:00-09:00", "a start and an end"),
        ({"start": "20:00"}, "a start and an end"),
        ({"start": "20:00", "end": "09:00", "zone": "UTC"}, "a start and an end"),
        ({"start": "8 pm", "end": "09:00"}, "“8 pm” is not a time of day"),
        ({"start": "20:00", "end": "24:00"}, "“24:00” is not a time of day"),
        ({"start": "20:00", "end": "9:00"}, "“9:00” is not a time of day"),
        ({"start": 20, "end": 9}, "“20” is not a time of day"),
        ({"start": "20:00", "end": "09:0０"}, "is not a time of day"),
        ({"start": "09:00", "end": "09:00"}, "cannot end when they begin"),
        ({"start": "08:00", "end": "21:00"}, "leave no time between 8:00 and 21:00"),
        ({"start": "07:00", "end": "22:00"}, "leave no time"),
    ],
)
def test_bad_quiet_hours_are_refused_in_a_sentence(value, words):
    with pytest.raises(ValueError) as caught:
        check_quiet_hours(value)
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("value", [None, [], default_caps(), [{"hours": 720, "messages": 10}]])
def test_good_caps_pass(value):
    check_caps(value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "Caps are a list"),
        ("3 per day", "Caps are a list"),
        ([3], "Caps are a list"),
        ([{"hours": 8}], "Caps are a list"),
        ([{"hours": 8, "messages": 1, "days": 1}], "Caps are a list"),
        ([{"hours": 0, "messages": 1}], "whole numbers"),
        ([{"hours": 8, "messages": 0}], "whole numbers"),
        ([{"hours": 8, "messages": -1}], "whole numbers"),
        ([{"hours": 8.5, "messages": 1}], "whole numbers"),
        ([{"hours": "8", "messages": 1}], "whole numbers"),
        ([{"hours": True, "messages": 1}], "whole numbers"),
        ([{"hours": 10_000_000, "messages": 1}], "whole numbers"),
        ([{"hours": 8, "messages": 1}, {"hours": 8, "messages": 2}], "same number of hours"),
        ([{"hours": hours, "messages": 1} for hours in range(1, 12)], "more than 10 caps"),
    ],
)
def test_bad_caps_are_refused_in_a_sentence(value, words):
    with pytest.raises(ValueError) as caught:
        check_caps(value)
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")


@given(anything)
def test_anything_else_is_refused_with_a_sentence(value):
    for check in (check_quiet_hours, check_caps):
        try:
            check(value)
        except ValueError as error:
            assert str(error).endswith(".")


def test_quiet_hours_include_their_start_and_not_their_end():
    night = minutes_of_day("20:00"), minutes_of_day("09:00")
    quiet = [is_quiet(minutes_of_day(at), *night) for at in ("19:59", "20:00", "23:59", "00:00", "08:59", "09:00")]
    assert quiet == [False, True, True, True, True, False]
    noon = minutes_of_day("12:00"), minutes_of_day("14:00")
    quiet = [is_quiet(minutes_of_day(at), *noon) for at in ("11:59", "12:00", "13:59", "14:00")]
    assert quiet == [False, True, True, False]
