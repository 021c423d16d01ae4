"""Canaries: no token, phone or e-mail address comes out in a log, a wake-up or an error, whatever goes wrong."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from attentive_integration.embedded_broker import EmbeddedBroker
from attentive_integration.webhooks import sign
from tests.installation import Installation

PHONE, EMAIL, NAME = "+17705550166", "canary.mail@example.com", "Canarina"
TOKENS = {
    "LOYALTY": "canary-loyalty-token",
    "ATTENTIVE_APP": "app-canarycompany",
    "ATTENTIVE_LEGACY": "legacy-canarycompany",
}
SIGNING_KEY = "canary-signing-key"
CANARIES = [PHONE[2:], "canary.mail", NAME, SIGNING_KEY, *TOKENS.values(), "canary-stray-token"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def installation(broker: EmbeddedBroker) -> Iterator[Installation]:
    with Installation(REDIS_URL=broker.url, LOG_LEVEL="DEBUG", VENDOR_DEADLINE_SECONDS="2") as running:
        running.start(
            "-m", "celery", "-A", "attentive_integration", "worker", "-l", "DEBUG", "-P", "solo",
            "-Q", "celery,send,import,export,webhook",
        )  # fmt: skip
        yield running


def webhook(installation: Installation, url: str, kind: str, key: str = SIGNING_KEY, **fields: Any) -> int:
    data = {
        "type": kind,
        "timestamp": int(time.time() * 1000),
        "subscriber": {"phone": PHONE, "email": EMAIL},
        **fields,
    }
    body = json.dumps(data).encode()
    return installation.post(url, body, headers={"x-attentive-hmac-sha256": sign(key, body)})[0]


def test_no_canary_comes_out(installation: Installation, broker: EmbeddedBroker) -> None:
    made = installation.create_site(client_name="Canarycompany", tokens=TOKENS, webhook_signing_key=SIGNING_KEY)
    installation.sandbox.configure_company("canarycompany", name="Canarycompany")
    installation.sandbox.add_subscribers("canarycompany", [PHONE])
    written = []

    def run(*arguments: str) -> None:
        done = installation.run(*arguments)
        written.append(done.stdout + done.stderr)

    def act(number: int, **fields: Any) -> int:
        now = datetime.now(UTC).isoformat()
        item: dict[str, Any] = {
            "activity_id": f"a-{number}",
            "action": "109",
            "phone": PHONE,
            "email": EMAIL,
            "occurred_at": now,
        }
        item |= {"points": 5, "data": {"first_name": NAME, "note": EMAIL}}
        token = fields.pop("token", made["access_token"])
        return installation.post("/api/v1/sites/1000001/actions", {**item, **fields}, token=token)[0]

    url = made["webhook_url"]
    assert webhook(installation, url, "sms.subscribed") == 200
    assert webhook(installation, url, "sms.unsubscribed", key="canary-stray-token") == 403
    assert webhook(installation, url, "sms.sent", message={"text": f"for {PHONE}"}) == 200
    installation.post(url, f"no json {PHONE}".encode(), headers={"x-attentive-hmac-sha256": "00"})
    assert act(0, token="canary-stray-token") == 401
    act(0, activity_id=None, phone=f"{PHONE} ext 5")
    installation.get(f"/nothing/{PHONE.replace('+', '%2B')}/?email={EMAIL}")
    for number, fault in enumerate(
        [
            {"kind": "status", "status": 500},
            {"kind": "status", "status": 400},
            {"kind": "reset_after"},
            {"kind": "status", "status": 401},
        ],
        start=1,
    ):
        installation.sandbox.add_fault("/1/messages", times=1, **fault)
        assert act(number) == 202
        run("run_campaigns", "--json")
    assert act(9) == 202
    run("run_campaigns", "--json")
    assert installation.sandbox.ledger("MESSAGE")
    installation.sandbox.add_fault("/v1", "status", status=500, times=None)
    run("unsubscribe_member", "--site", "1000001", PHONE, "--json")
    run("check_sites", "--json")
    run("erase_member", "--site", "1000001", PHONE)
    run("rotate_keys")
    run("verify_invariants", "--ledger", str(installation.sandbox.ledger_path))
    time.sleep(2)
    logs = [path.read_text(errors="replace") for path in installation.folder.glob("process-*.log")]
    assert any("webhook_process" in log for log in logs), "The worker was not woken."
    dump = "".join(path.read_text(encoding="latin-1") for path in broker.directory.rglob("*") if path.is_file())
    assert "webhook_process" in dump
    for place, text in [("logs", "\n".join(logs)), ("output", "\n".join(written)), ("broker", dump)]:
        for canary in CANARIES:
            position = text.find(canary)
            assert position < 0, f"{canary} in the {place}: {text[max(0, position - 300) : position + 100]}"
