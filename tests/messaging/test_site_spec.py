import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from loyalty.models import AccessToken, AuditEntry, Site
from loyalty.tokens import token_secret
from messaging.models import Campaign
from messaging.site_spec import SpecError, create_site, describe_site

pytestmark = pytest.mark.django_db


def spec(**changes: Any) -> dict[str, Any]:
    whole = {
        "site_id": "1000001", "client_name": "Harbor Goods", "default_country": "US", "time_zone": "America/New_York",
        "state": "LIVE", "quiet_hours": None, "message_path": "/1/messages", "webhook_signing_key": "signing-harbor",
        "tokens": {"LOYALTY": "loyalty-harbor", "ATTENTIVE_APP": "app-harbor", "ATTENTIVE_LEGACY": "legacy-harbor"},
        "sign_up_sources": [
            {"sign_up_source_id": "132109", "name": "API", "type": "MARKETING", "is_default": True}
        ],
        "action_types": [{"code": "109", "name": "Purchase"}],
        "campaigns": [
            {"name": "Thanks", "action_type": "109", "route": "MESSAGE", "state": "LIVE",
             "body": "Thanks {{ first_name }}, you now have {{ points }} points."}
        ],
        "segments": [{"name": "Gold", "rules": {"tier": ["Gold"]}, "external_id": "gold-1"}],
    }  # fmt: skip
    return {**whole, **changes}


def test_the_documented_file_becomes_a_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "site.json"
    file.write_text(json.dumps(spec()))
    call_command("create_site", "--from", str(file), "--json")
    made = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    site = Site.objects.get()
    campaign = Campaign.objects.get()
    assert made == {
        "site_id": "1000001",
        "access_token": "eyJzaXRlX2lkIjoiMTAwMDAwMSIsImxveWFsdHlUb2tlbiI6ImxveWFsdHktaGFyYm9yIn0=",
        "webhook_url": f"http://127.0.0.1:8000/webhooks/attentive/{site.uuid}/",
        "campaigns": [{"id": campaign.pk, "name": "Thanks"}],
        "segments": [{"id": site.segments.get().pk, "name": "Gold"}],
    }
    assert (site.state, site.quiet_hours, len(site.caps)) == ("LIVE", None, 2)
    assert site.activated_at is not None and site.activated_at.microsecond == 0
    assert campaign.went_live_at is not None and campaign.went_live_at.microsecond == 0
    assert token_secret(site, AccessToken.Kind.WEBHOOK_SIGNING) == "signing-harbor"
    assert AuditEntry.objects.filter(event="site.created").count() == 1


def test_what_is_left_out_has_its_default_and_null_means_none() -> None:
    create_site({"site_id": 7, "client_name": "Least"})
    least = Site.objects.get(site_id="7")
    assert (least.state, least.quiet_hours, least.activated_at) == ("DRAFT", {"start": "20:00", "end": "09:00"}, None)
    create_site(spec(site_id="8", caps=None))
    assert Site.objects.get(site_id="8").caps == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": "red"}, "colour"),
        ({"site_id": ""}, "site_id"),
        ({"state": "OPEN"}, "state"),
        ({"time_zone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"message_path": "/2/messages"}, "message_path"),
        ({"tokens": {"SECRET": "x"}}, "SECRET"),
        ({"tokens": {"LOYALTY": 5}}, "LOYALTY"),
        ({"tokens": ["x"]}, "tokens"),
        ({"quiet_hours": {"start": "25:00", "end": "09:00"}}, "quiet_hours"),
        ({"caps": [{"hours": 0, "messages": 1}]}, "caps"),
        ({"guest_phones": ["12"]}, "guest_phones"),
        ({"allowed_countries": "US"}, "allowed_countries"),
        ({"allowed_countries": ["XX"]}, "allowed_countries"),
        ({"default_country": "ZZ"}, "default_country"),
        ({"default_country": 1}, "default_country"),
        ({"sms_prefix": 4}, "sms_prefix"),
        ({"client_name": "a\0b"}, "stored"),
        ({"client_name": "a\ud800b"}, "stored"),
        ({"tokens": []}, "tokens"),
        ({"tokens": {"ATTENTIVE_APP": "two\nlines"}}, "line break"),
        ({"campaigns": [{"name": "A", "action_type": "109", "body": 5}]}, "body"),
        ({"campaigns": [{"name": "A", "action_type": ["109"], "body": "Hi"}]}, "action_type"),
        ({"campaigns": [{"name": "A", "action_type": "1" * 99, "body": "Hi"}]}, "action_type"),
        ({"campaigns": [{"name": "A", "action_type": "1", "route": "EVENT", "event_type": 5}]}, "event_type"),
        ({"segments": [{"name": ["S"]}]}, "name"),
        ({"action_types": [{"code": {}}]}, "code"),
        ({"campaigns": [{"name": "A", "action_type": "109", "body": "Hi {{ frist_name }}"}]}, "first_name"),
        ({"campaigns": [{"name": "A", "action_type": "109", "body": "Hi {x}"}]}, "A"),
        ({"campaigns": [{"name": "A", "action_type": "109", "body": "Hi", "state": "ON"}]}, "state"),
        ({"campaigns": [{"name": "A", "action_type": "109", "body": "Hi", "segment": "Nobody"}]}, "Nobody"),
        ({"campaigns": [{"name": "A", "body": "Hi"}]}, "action_type"),
        ({"campaigns": [{"name": "A", "action_type": "1", "body": "Hi"}] * 2}, "campaigns"),
        ({"segments": [{"name": "S", "rules": {"colour": "red"}}]}, "colour"),
        ({"segments": {"name": "S"}}, "segments"),
        ({"sign_up_sources": [{"sign_up_source_id": "abc"}]}, "sign_up_sources"),
        ({"campaigns": [{"name": "A", "action_type": "1", "route": "EVENT", "event_type": "a|b"}]}, "event type"),
        (
            {
                "campaigns": [
                    {
                        "name": "A",
                        "action_type": "1",
                        "body": "Hi",
                        "starts_at": "2026-03-02T00:00:00Z",
                        "ends_at": "2026-03-01T00:00:00Z",
                    }
                ]
            },
            "ends_at",
        ),
        ({"site_id": True}, "site_id"),
        ({"message_path": "/2/messages"}, "Known are: /1/messages, /v1/subscriptions/messages. Leave it out"),
        ({"subscribe_email": "yes"}, "true or false"),
        ({"sign_up_sources": [{"sign_up_source_id": str(n), "is_default": True} for n in (1, 2)]}, "one can be the"),
        ({"campaigns": [{"name": "A", "action_type": "1", "body": "Hi", "expiry_hours": 0}]}, "at least one hour"),
        ({"campaigns": [{"name": "A", "action_type": "1", "body": "Hi", "expiry_hours": True}]}, "whole number"),
        ({"campaigns": [{"name": "A", "action_type": "1", "body": "Hi", "priority": 1.5}]}, "whole number"),
        (
            {"campaigns": [{"name": "A", "action_type": "1", "body": "x", "starts_at": "0001-01-01T00:00:00+23:59"}]},
            "too far away",
        ),
        (
            {"campaigns": [{"name": "A", "action_type": "1", "body": "x", "ends_at": "9999-12-31T23:59:59-23:59"}]},
            "too far away",
        ),
        ({"segments": [{"name": "S", "from_date": "2026-03-02", "to_date": "2026-03-01"}]}, "to_date"),
    ],
)
def test_a_wrong_part_refuses_the_whole_and_names_itself(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words.replace("{", "").replace("/", ".")):
        create_site(spec(**changes))
    assert not Site.objects.exists()
    assert not AccessToken.objects.exists()


def test_null_is_as_left_out_where_it_means_nothing_else() -> None:
    nothing = dict.fromkeys(
        ["default_country", "time_zone", "state", "message_path", "tokens", "campaigns", "segments"]
    )
    create_site({"site_id": "78", "client_name": "Least", **nothing})
    site = Site.objects.get()
    assert (site.default_country, site.state, site.message_path) == ("US", "DRAFT", "/1/messages")


def test_null_in_a_part_is_as_left_out_and_an_id_may_be_a_number() -> None:
    create_site(
        spec(
            sign_up_sources=[{"sign_up_source_id": 132109, "name": None}],
            action_types=[{"code": 109, "name": None}],
            campaigns=[{"name": "A", "action_type": 109, "body": "Hi", "state": None, "link": None, "segment": None}],
        )
    )
    site = Site.objects.get()
    assert site.sign_up_sources.get().sign_up_source_id == "132109"
    assert (site.action_types.get().code, site.campaigns.get().state) == ("109", "DRAFT")


def test_a_refused_secret_is_not_told() -> None:
    with pytest.raises(SpecError) as refused:
        create_site(spec(tokens={"LOYALTY": "loyalty-\0-harbor"}))
    assert str(refused.value) == "“LOYALTY” holds a character that cannot be stored. Remove it."


def test_a_site_is_made_once() -> None:
    create_site(spec())
    with pytest.raises(SpecError, match="1000001"):
        create_site(spec(client_name="Another"))
    assert Site.objects.get().client_name == "Harbor Goods"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_site_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "site.json"
    file.write_bytes(content)
    with pytest.raises(CommandError, match=r"\.$"):
        call_command("create_site", "--from", str(file))
    with pytest.raises(CommandError, match=r"cannot be read"):
        call_command("create_site", "--from", str(tmp_path / "absent.json"))


def test_a_site_described_can_be_made_again_and_tells_no_secret() -> None:
    create_site(spec(guest_phones=["+17705550101"]))
    described = describe_site(Site.objects.get())
    text = json.dumps(described)
    assert not any(secret in text for secret in ("loyalty-harbor", "app-harbor", "legacy-harbor", "signing-harbor"))
    create_site({**described, "site_id": "1000002"})
    clone = Site.objects.get(site_id="1000002")
    assert (clone.state, clone.guest_phones) == ("DRAFT", ["+17705550101"])
    assert clone.campaigns.get().version is not None
    assert describe_site(clone) == {**described, "site_id": "1000002"}
