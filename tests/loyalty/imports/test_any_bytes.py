"""Whatever bytes somebody uploads: an import takes them or refuses them with a sentence, and nothing else happens."""

import io
import string
from functools import partial
from typing import Any
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from loyalty import imports
from loyalty.imports import ImportRefused, run
from loyalty.imports.sniffing import DELIMITERS, ENCODINGS, survey
from loyalty.imports.steps import change_dialect, look_ahead
from loyalty.models import ImportJob, Member, Site
from loyalty.resources import recognise, resource_for
from tests.examples import examples
from tests.factories import make_site
from tests.loyalty.imports.test_files import FILES, TABLE, counts

GOOD = [(FILES / name).read_bytes() for name, expected in TABLE.items() if not isinstance(expected, str)]
# What has a meaning somewhere on the way, whole or cut.
_TRICKS = [
    b'"', b'""', b"\r", b"\n", b"\r\n", b"\0", b",", b";", b"\t", b"|", b"=", b"'", b"--", b" ", b"\\N", b"\\.",
    b"\xff", b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\xe2\x81", b"\x81", b"\xd8\x3d", b"\xe2\x80\xa8",
    b"\x1c", b"\x85", b"\x0b", b"sep=;\n", b"phone\n", b"Total", b"+17705550101", b"{}", b"1e400", b"9" * 30,
]  # fmt: skip


@st.composite
def mutated(draw: Any) -> bytes:
    """A good file in which some pieces were put in, cut out or doubled."""
    content = draw(st.sampled_from(GOOD))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = start + draw(st.integers(0, 12))
        piece = draw(st.sampled_from(_TRICKS) | st.binary(max_size=3) | st.just(content[start:end] * 2))
        content = content[:start] + piece + content[draw(st.sampled_from([start, end])) :]
    return content[: draw(st.just(len(content)) | st.integers(0, len(content)))]


@st.composite
def tables(draw: Any) -> bytes:
    """Rows of odd cells under known headers, written in any way."""
    known = draw(st.sampled_from([["phone"], ["phone", "activity_id", "action"]]))
    names = [*known, *draw(st.lists(st.sampled_from(["email", "points", "external_id", "x", ""]), max_size=3))]
    odd = st.characters(exclude_categories=["Cs"]) | st.sampled_from("\"',;|\t\r\n=-+\ufeff\u2028" + string.digits)
    cell = st.sampled_from(["M1", "--", "", "1", "a@example.com"]) | st.text(odd, max_size=8)
    phone = st.sampled_from(["+17705550101", "7705550101", "7705550102", "770-555-0103"]) | cell
    rows = draw(st.lists(st.tuples(phone, st.lists(cell, max_size=4)), min_size=1, max_size=8))
    delimiter, end = draw(st.sampled_from(list(DELIMITERS))), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = end.join(delimiter.join(row) for row in [names, *([first, *rest] for first, rest in rows)])
    return text.encode(draw(st.sampled_from([*ENCODINGS, "utf-16", "utf-8-sig"])), errors="replace")


# What a column may be matched with: known in one kind of file, or in none.
_TARGETS = [
    "phone", "email", "external_id", "points", "birth_date", "joined_at", "extended_attributes.zip", "subscribed_at",
    "activity_id", "action", "occurred_at", "data", "data.order_id", "nonsense", "",
]  # fmt: skip
_CHOICES = st.tuples(st.sampled_from(ENCODINGS), st.sampled_from(list(DELIMITERS)), st.booleans(), st.booleans())
any_bytes = st.binary(max_size=120) | mutated() | tables() | tables()


def assert_is_a_sentence(text: str) -> None:
    assert (text[:1].isupper() or text[:1] == "“") and text.endswith("."), text


@settings(max_examples=examples(200), deadline=None)
@example(b"phone\n+17705550101\xe2\x81")
@given(any_bytes)
def test_any_bytes_are_described_or_refused(content: bytes) -> None:
    resource = resource_for(ImportJob.Kind.MEMBERS, Site())
    try:
        seen = survey(io.BytesIO(content), partial(recognise, resource))
    except ImportRefused as refusal:
        assert_is_a_sentence(str(refusal))
    else:
        assert seen.size == len(content)
        assert seen.dialect.columns and len(set(seen.dialect.columns)) == len(seen.dialect.columns)


# Small slices, so that rows of one file meet across them, as those of a large file do.
@patch.object(run, "slices", partial(run.slices, size=2))
class AnyBytes(TestCase):
    @settings(max_examples=examples(50), deadline=None)
    @given(
        content=any_bytes,
        kind=st.just(ImportJob.Kind.MEMBERS) | st.sampled_from(ImportJob.Kind.values),
        chosen=st.none() | st.none() | _CHOICES,
        targets=st.just([]) | st.just([]) | st.lists(st.sampled_from(_TARGETS), max_size=4),
        conflicts=st.sampled_from(["update", "reject"]),
    )
    def test_an_import_takes_them_or_refuses_them(
        self, content: bytes, kind: str, chosen: tuple[str, str, bool, bool] | None, targets: list[str], conflicts: str
    ) -> None:
        """Also when somebody chooses how the file is read and what its columns are, however wrongly."""
        options = {"on_conflict": conflicts, "subscribe": True, "evidence": "test"}
        try:
            job = imports.start_import(make_site(), io.BytesIO(content), "upload.csv", kind=kind, options=options)
            if chosen is not None:
                change_dialect(
                    job, encoding=chosen[0], delimiter=chosen[1], has_header=chosen[2], has_summary=chosen[3]
                )
            mapping = {**imports.propose_mapping(job), **dict(zip(job.dialect["columns"], targets, strict=False))}
            look_ahead(job, mapping)
            imports.set_mapping(job, mapping)
        except ImportRefused as refusal:
            assert_is_a_sentence(str(refusal))
            assert not Member.objects.exists()
            return
        checked = imports.check_import(job)
        if checked.state == ImportJob.State.FAILED:
            assert_is_a_sentence(checked.error)
            assert not Member.objects.exists()
            return
        promised = counts(checked)
        done = imports.run_import(job)
        assert done.state == ImportJob.State.COMPLETE
        assert counts(done) == promised and done.read == sum(promised)
        for issue in done.issues.all():
            assert_is_a_sentence(issue.reason)
