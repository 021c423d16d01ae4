"""Parts: the alphabets, the limits, what is never split, and the characters that make a text dearer."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from messaging.parts import parts, suggestion
from tests.examples import examples

GSM = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
DOUBLE = "\f^{}\\[~]|€"
FAMILY, RAINBOW, ITALY, ACCENT = "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇮🇹", "e\u0301"


def oracle(text):
    """Cut the encoded text at the limit and step back from a cut in the middle of a character."""
    if set(text) <= set(GSM + DOUBLE):
        units = list("".join(f"\x1b{char}" if char in DOUBLE else char for char in text))
        encoding, single, joined, half = "GSM-7", 160, 153, lambda unit: unit == "\x1b"
    else:
        octets = text.encode("utf-16-le", "surrogatepass")
        units = [octets[at : at + 2] for at in range(0, len(octets), 2)]
        encoding, single, joined, half = "UCS-2", 70, 67, lambda unit: 0xD8 <= unit[1] < 0xDC
    size = len(units)
    if size <= single:
        return 1, encoding, size, single - size
    count = 0
    while units:
        cut = joined - 1 if len(units) > joined and half(units[joined - 1]) else joined
        last, units, count = units[:cut], units[cut:], count + 1
    return count, encoding, size, joined - len(last)


def counted(text, prefix=""):
    found = parts(text, prefix)
    return found.count, found.encoding, found.units, found.left


# A few characters each time, so that long texts of one alphabet come up; none of them combines with its neighbours.
plain_texts = st.sampled_from([GSM, DOUBLE, GSM + DOUBLE, "ab€", "a€😀", "äőж😀", "’a", "漢字"]).flatmap(
    lambda alphabet: st.tuples(st.text(alphabet, min_size=1, max_size=9), st.integers(1, 120)).map(
        lambda chosen: chosen[0] * chosen[1]
    )
)


@given(plain_texts | st.text(GSM + DOUBLE))
@settings(max_examples=examples(1_500), deadline=None)
@example("a" * 152 + "€" * 10)
@example("é" * 160)
@example("é" * 161)
@example("a" * 66 + "😀" * 10)
@example("")
def test_parts_are_what_cutting_the_encoded_text_gives(text):
    assert counted(text) == oracle(text)


# What Twilio's segment calculator (TwilioDevEd/message-segment-calculator) answers.
@pytest.mark.parametrize(
    ("text", "count", "encoding"),
    [
        ("1" * 160, 1, "GSM-7"),
        ("1" * 161, 2, "GSM-7"),
        ("1" * 307, 3, "GSM-7"),
        ("|" + "1" * 158, 1, "GSM-7"),
        ("€" * 80, 1, "GSM-7"),
        ("€" * 81, 2, "GSM-7"),
        ("€" * 153, 3, "GSM-7"),
        ("\r\n" * 80, 1, "GSM-7"),
        ("\r\n" * 81, 2, "GSM-7"),
        ("ç", 1, "UCS-2"),
        ("`", 1, "UCS-2"),
        ("\t", 1, "UCS-2"),
        ("😜" + "2" * 68, 1, "UCS-2"),
        ("😜" + "2" * 69, 2, "UCS-2"),
        ("😜" + "2" * 133, 3, "UCS-2"),
        ("’" + "a" * 69, 1, "UCS-2"),
        ("’" + "a" * 70, 2, "UCS-2"),
        ("’" + "a" * 133, 2, "UCS-2"),
        ("’" + "a" * 134, 3, "UCS-2"),
        (ITALY + "2" * 66, 1, "UCS-2"),
        (ITALY + "2" * 67, 2, "UCS-2"),
        (RAINBOW + "2" * 64, 1, "UCS-2"),
        (RAINBOW + "2" * 65, 2, "UCS-2"),
        (ITALY * 32, 2, "UCS-2"),
        (ITALY * 33, 3, "UCS-2"),
        (FAMILY * 12, 2, "UCS-2"),
        (FAMILY * 13, 3, "UCS-2"),
        (FAMILY * 60, 10, "UCS-2"),
        (ACCENT * 66, 2, "UCS-2"),
        (ACCENT * 67, 3, "UCS-2"),
        ("❤️" * 67, 3, "UCS-2"),
        ("👍🏽" * 33, 3, "UCS-2"),
        ("1️⃣" * 45, 3, "UCS-2"),
        ("한" * 134, 2, "UCS-2"),
        ("नि" * 67, 3, "UCS-2"),
    ],
)
def test_parts_agree_with_twilios_calculator(text, count, encoding):
    found = parts(text)
    assert (found.count, found.encoding) == (count, encoding)


def test_what_is_left_belongs_to_the_last_part():
    assert parts("").left == 160
    assert parts("a" * 159 + "b").left == 0
    assert parts("a" * 161).left == 2 * 153 - 161
    # 152 units and a double one: the double one begins the second part, and 151 units are left there.
    assert parts("a" * 152 + "€" * 5).left == 153 - 10
    assert parts("’" * 68 + "😀").left == 0
    assert parts("’" * 66 + "😀😀😀").left == 67 - 6


def test_the_prefix_counts_with_a_space_after_it():
    assert counted("a" * 150, "Harbor:") == counted("Harbor: " + "a" * 150)
    assert counted("a" * 150, "Harbor: ") == counted("Harbor: " + "a" * 150)
    assert parts("a" * 160, "").count == 1
    assert parts("a" * 160, "H").count == 2
    assert parts("a", "Café’s").encoding == "UCS-2"


def test_culprits_are_named_once_in_order_with_a_plain_suggestion():
    found = parts("It’s “fine” – it’s ç😀 ", prefix="ő")
    assert [(culprit.character, culprit.suggestion) for culprit in found.culprits] == [
        ("ő", "o"), ("’", "'"), ("“", '"'), ("”", '"'), ("–", "-"), ("ç", "c"), ("😀", ""),
    ]  # fmt: skip
    assert found.culprits[1].name == "RIGHT SINGLE QUOTATION MARK"
    assert parts("It's fine" + DOUBLE).culprits == ()


@given(st.characters())
@settings(max_examples=examples(2_000))
def test_a_suggestion_never_costs_more_and_never_brings_a_brace(character):
    plain = suggestion(character)
    assert plain == "" or parts(plain).encoding == "GSM-7"
    assert character in "{}" or not set(plain) & set("{}")


@given(st.text(st.characters(), max_size=300), st.text(st.characters(), max_size=5))
@settings(max_examples=examples(500), deadline=None)
@example("\ud800\udc00\udfff\ud800", "\u200d")
@example("e" + "\u0301" * 200, "")
def test_any_text_is_counted(text, prefix):
    found = parts(text, prefix)
    assert found.count >= 1
    assert 0 <= found.left <= 160
    assert (found.encoding == "GSM-7") == (found.culprits == ())
