import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from attentive_integration.annex_cloud import encode_access_token
from loyalty import consent, tokens
from loyalty.actions import record_actions
from loyalty.models import AccessToken, ActionType, LoyaltyAction, Member, Site
from tests.concurrency import meanwhile
from tests.examples import examples
from tests.factories import make_member, make_phone, make_site, make_token

pytestmark = pytest.mark.django_db
MOMENT = timezone.now().isoformat()


def make_client_site(**fields: Any) -> tuple[Site, str]:
    site = make_site(**fields)
    make_token(site, AccessToken.Kind.LOYALTY, f"loyalty-{site.site_id}")
    return site, encode_access_token(site.site_id, f"loyalty-{site.site_id}")


def post(site: Site | str, token: str, body: Any, path: str = "actions") -> tuple[int, Any]:
    site_id = site if isinstance(site, str) else site.site_id
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = Client().post(
        f"/api/v1/sites/{site_id}/{path}",
        raw,
        content_type="application/json",
        headers={"authorization": f"Bearer {token}"},
    )
    return answer.status_code, answer.json()


def action(**fields: Any) -> dict[str, Any]:
    return {
        "activity_id": "a-1", "action": "109", "phone": "+17705550101", "external_id": "M1", "email": "Ada@Example.com",
        "points": 120, "occurred_at": MOMENT, "data": {"first_name": "Ada", "order_id": "o-9"},
        **fields,
    }  # fmt: skip


def result(site: Site, token: str, item: Any) -> tuple[str, str | None]:
    status, answer = post(site, token, item)
    assert status == 202
    (only,) = answer["results"]
    return only["status"], only["error"]


def test_an_action_makes_its_member_and_its_type_and_is_recorded_once() -> None:
    site, token = make_client_site()
    item = action()
    assert post(site, token, item) == (202, {"results": [{"activity_id": "a-1", "status": "accepted", "error": None}]})
    assert result(site, token, item) == ("duplicate", None)
    status, error = result(site, token, {**item, "points": 121})
    assert status == "conflict" and error
    stored = LoyaltyAction.objects.get()
    assert (stored.site, stored.points, stored.data) == (site, 120, {"first_name": "Ada", "order_id": "o-9"})
    assert stored.processed_at is None
    member = Member.objects.get()
    assert (member.phone, member.external_id, member.email, member.first_name) == (
        "+17705550101", "M1", "ada@example.com", "Ada",
    )  # fmt: skip
    assert ActionType.objects.get().code == "109"
    assert consent.state_of(site, member.phone) == "UNKNOWN"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("points", "status"), [(120, "accepted"), (121, "conflict")])
def test_two_requests_at_the_same_moment_record_one_action(points: int, status: str) -> None:
    site, _ = make_client_site()
    with transaction.atomic():
        assert record_actions(site, [action()])[0].status == "accepted"
        other = meanwhile(lambda: record_actions(site, [action(points=points)]))
    # The second may come in time to see the first, and calls the same action a duplicate then.
    assert other.result()[0].status.replace("duplicate", "accepted") == status
    assert LoyaltyAction.objects.get().points == 120


def test_the_same_activity_at_two_sites_is_two_actions() -> None:
    (ours, our_token), (theirs, their_token) = make_client_site(), make_client_site()
    assert result(ours, our_token, action())[0] == "accepted"
    assert result(theirs, their_token, action())[0] == "accepted"
    assert sorted(LoyaltyAction.objects.values_list("site", flat=True)) == [ours.pk, theirs.pk]
    assert Member.objects.count() == 2


def test_an_array_is_answered_item_by_item_and_in_order() -> None:
    site, token = make_client_site()
    items = [
        action(activity_id="a"),
        action(activity_id="b", phone="12"),
        action(activity_id="a"),
        action(activity_id="a", points=5),
        action(activity_id="c", phone=None, external_id="M1", email=None),
        action(activity_id="d", phone=None, external_id="nobody", email=None),
    ]
    status, answer = post(site, token, items)
    assert status == 202
    statuses = [r["status"] for r in answer["results"]]
    assert statuses == ["accepted", "rejected", "duplicate", "conflict", "accepted", "rejected"]
    assert [r["activity_id"] for r in answer["results"]] == ["a", "b", "a", "a", "c", "d"]


def test_a_member_is_found_by_loyalty_id_or_e_mail_when_there_is_no_phone() -> None:
    site, token = make_client_site()
    other, _ = make_client_site()
    ada = make_member(site, external_id="M1", email="ada@example.com")
    make_member(other, external_id="M2", email="bob@example.com")
    assert result(site, token, action(activity_id="1", phone=None, email=None))[0] == "accepted"
    assert result(site, token, action(activity_id="2", phone=None, external_id=None))[0] == "accepted"
    assert result(site, token, action(activity_id="3", phone=None, external_id="M2", email=None))[0] == "rejected"
    assert set(LoyaltyAction.objects.values_list("member", flat=True)) == {ada.pk}


def test_a_new_phone_for_a_known_loyalty_id_is_a_new_member() -> None:
    site, token = make_client_site()
    old = make_member(site, external_id="M1")
    consent.hear_many(site, [(old.phone, None)], source="SUBSCRIBER_LIST")
    assert result(site, token, action(phone="+17705550199"))[0] == "accepted"
    new = Member.objects.get(phone="+17705550199")
    old.refresh_from_db()
    assert old.replaced_by == new
    assert consent.state_of(site, new.phone) == "UNKNOWN"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"activity_id": None}, "activity_id"),
        ({"activity_id": "x" * 129}, "128"),
        ({"action": ""}, "action"),
        ({"phone": "1.77056E+10"}, "spreadsheet"),
        ({"phone": "770555010"}, "short"),
        ({"phone": "+4930555010"}, "Germany"),
        ({"phone": None, "external_id": None, "email": None}, "names nobody"),
        ({"points": "many"}, "points"),
        ({"points": 1.5}, "points"),
        ({"points": 2**70}, "points"),
        ({"points": True}, "points"),
        ({"occurred_at": "2026-11-01T10:00:00"}, "offset"),
        ({"occurred_at": "yesterday"}, "occurred_at"),
        ({"occurred_at": "2026-13-45T10:00:00Z"}, "occurred_at"),
        ({"occurred_at": (timezone.now() + timedelta(days=2)).isoformat()}, "future"),
        ({"data": [1]}, "data"),
        ({"data": {"x": "y" * 20_000}}, "16 KB"),
        ({"data": {"x": "\x00"}}, "cannot be stored"),
        ({"email": 5.5}, "email"),
        ({"colour": "red"}, "colour"),
        ({"first_name": "Ada\ud800"}, "first_name"),
    ],
)
def test_what_is_wrong_is_refused_in_a_sentence_and_leaves_nothing(changes: dict[str, Any], word: str) -> None:
    site, token = make_client_site()
    status, error = result(site, token, action(**changes))
    assert status == "rejected"
    assert error is not None and word in error and error.endswith((".", "…-05:00."))
    assert not LoyaltyAction.objects.exists()
    assert not Member.objects.exists()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"5", 400),
        (b'"text"', 400),
        (b"[" * 50_000, 400),
        (b'{"points": NaN}', 400),
        (b'{"a": 1, "a": 2}', 400),
        (b"[" + b"{}," * 1_000 + b"{}]", 413),
        (b'{"x": "' + b"y" * 1_100_000 + b'"}', 413),
    ],
)
def test_a_body_that_is_not_one_is_refused_in_a_sentence(body: bytes, status: int) -> None:
    site, token = make_client_site()
    got, answer = post(site, token, body)
    assert got == status
    assert answer["detail"].endswith(".")


@pytest.mark.parametrize("path", ["actions", "members"])
def test_an_item_that_is_no_object_is_refused_and_no_other(path: str) -> None:
    site, token = make_client_site()
    good = action() if path == "actions" else {"phone": "+17705550101"}
    status, answer = post(site, token, [5, good, None, [], "x"], path)
    assert status == 202
    fates = [result["status"] for result in answer["results"]]
    assert fates == ["rejected", "accepted" if path == "actions" else "created", "rejected", "rejected", "rejected"]
    assert all(result["error"].endswith(".") for result in answer["results"] if result["status"] == "rejected")


def test_only_the_sites_own_credentials_open_it() -> None:
    (ours, our_token), (theirs, their_token) = make_client_site(), make_client_site()
    key, foreign = tokens.new_ingest_key(ours), tokens.new_ingest_key(theirs)
    next_key = tokens.new_ingest_key(ours, slot=AccessToken.Slot.NEXT)
    for good in (our_token, key, next_key):
        assert post(ours, good, [])[0] == 202
    wrong = encode_access_token(ours.site_id, "loyalty-wrong")
    swapped = encode_access_token(theirs.site_id, f"loyalty-{ours.site_id}")
    for bad in ("", "nonsense", their_token, foreign, wrong, swapped, f"loyalty-{ours.site_id}"):
        assert post(ours, bad, action())[0] == 401
    status, answer = post("absent", our_token, action())
    assert status == 401 and answer["detail"].endswith(".")
    tokens.revoke(ours, AccessToken.Kind.INGEST)
    assert post(ours, key, [])[0] == 401
    assert not LoyaltyAction.objects.exists()


def test_an_erased_person_is_not_recorded_again() -> None:
    site, token = make_client_site()
    other, other_token = make_client_site()
    consent.erase(site, "+17705550101")
    assert result(site, token, action())[0] == "rejected"
    assert not Member.objects.exists()
    assert result(other, other_token, action())[0] == "accepted"


def test_history_is_never_matched() -> None:
    site, _ = make_client_site()
    assert record_actions(site, [action()], history=True)[0].status == "accepted"
    stored = LoyaltyAction.objects.get()
    assert stored.processed_at is not None
    assert stored.outcome == "HISTORY"


def test_a_full_array_takes_a_constant_number_of_queries(django_assert_max_num_queries: Any) -> None:
    site, token = make_client_site()
    items = [action(activity_id=str(n), phone=make_phone(n), external_id=str(n)) for n in range(800)]
    with django_assert_max_num_queries(45):
        status, answer = post(site, token, items)
    assert [r["status"] for r in answer["results"]] == ["accepted"] * 800


def test_the_openapi_document_names_both_calls() -> None:
    document = Client().get("/api/v1/openapi.json").json()
    assert set(document["paths"]) == {"/api/v1/sites/{site_id}/actions", "/api/v1/sites/{site_id}/members"}


# --- Members ----------------------------------------------------------------------------------------------------------


def test_members_are_made_and_changed_by_phone_and_nobody_is_subscribed() -> None:
    (site, token), (other, _) = make_client_site(), make_client_site()
    theirs = make_member(other, phone="+17705550101", tier="Theirs")
    item = {"phone": "(770) 555-0101", "external_id": "M1", "first_name": "Ada", "tier": "Gold", "points": 120}
    status, answer = post(site, token, [item, {"phone": "12", "first_name": "Bob"}, {"first_name": "Eve"}], "members")
    assert status == 202
    first, second, third = answer["results"]
    assert first == {"phone": "(770) 555-0101", "external_id": "M1", "status": "created", "error": None}
    assert (second["status"], third["status"]) == ("rejected", "rejected")
    assert second["error"].endswith(".") and third["error"].endswith(".")
    ada = Member.objects.get(site=site)
    assert (ada.phone, ada.tier, ada.points) == ("+17705550101", "Gold", 120)
    assert post(site, token, item, "members")[1]["results"][0]["status"] == "unchanged"
    assert post(site, token, {**item, "points": 130}, "members")[1]["results"][0]["status"] == "updated"
    theirs.refresh_from_db()
    assert theirs.tier == "Theirs"
    assert consent.state_of(site, ada.phone) == "UNKNOWN"


def test_an_unknown_member_field_is_refused() -> None:
    site, token = make_client_site()
    (only,) = post(site, token, {"phone": "+17705550101", "colour": "red"}, "members")[1]["results"]
    assert only["status"] == "rejected" and "colour" in only["error"]
    assert post(site, "wrong", {"phone": "+17705550101"}, "members")[0] == 401


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


class AnyJSON(TestCase):
    @settings(max_examples=examples(150), deadline=None)
    @given(st.dictionaries(st.sampled_from(["activity_id", "action", "phone", "points", "data", "x"]), _anything))
    def test_any_json_is_answered_and_never_an_error_of_ours(self, item: dict[str, Any]) -> None:
        site, token = make_client_site()
        status, answer = post(site, token, item)
        assert status == 202
        assert answer["results"][0]["status"] in ("accepted", "rejected")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("occurred_at", "0001-01-01T00:00:00+23:59", "must be a time such as"),
        ("occurred_at", "9999-12-31T23:59:59-23:59", "lies in the future"),
        ("data", {"k": "half an emoji \ud83d"}, "cannot be stored"),
        ("data", {"\ud83d": 1}, "cannot be stored"),
        ("data", {"k": ["\x00"]}, "cannot be stored"),
    ],
)
def test_one_odd_value_is_one_rejection(field: str, value: Any, words: str) -> None:
    site, token = make_client_site()
    odd = action(activity_id="odd", **{field: value})
    status, answer = post(site, token, [action(), odd])
    assert (status, [item["status"] for item in answer["results"]]) == (202, ["accepted", "rejected"])
    assert words in answer["results"][1]["error"]


def test_a_token_or_an_address_that_cannot_be_stored_opens_nothing() -> None:
    site, _token = make_client_site()
    halves = base64.b64encode(json.dumps({"site_id": "\ud83d", "loyaltyToken": "\ud83d"}).encode()).decode()
    assert post(site, halves, action())[0] == 401
    assert post("%00", halves, action())[0] == 401
    assert not LoyaltyAction.objects.exists()
