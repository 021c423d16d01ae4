"""The ledger: a line for each accepted request, on disk before the answer, whatever happens afterwards."""

import asyncio
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from attentive_integration.sandbox.ledger import Ledger
from attentive_integration.sandbox.process import SandboxProcess

ADA = "+17705550101"


def test_a_line_says_what_was_accepted(sandbox, company, ask):
    sandbox.add_subscribers(company, [ADA])
    body = {"to": "(770) 555-0101", "body": "Hé 👋", "type": "TRANSACTIONAL"}
    ask("POST", "/1/messages", body, token=f"legacy-{company}")
    line = next(line for line in sandbox.ledger() if line["company"] == company)
    assert line.pop("at") > 1_700_000_000_000
    assert line == {
        "kind": "MESSAGE", "company": company, "method": "POST", "path": "/1/messages", "dropped": False,
        "to": ADA, "phone": ADA, "body": "Hé 👋", "why": "",
    }  # fmt: skip


def test_nothing_that_was_answered_is_missing_after_a_kill():
    with SandboxProcess() as sandbox:
        sandbox.set(limits={"DEFAULT": None})
        sandbox.add_subscribers("harbor", [ADA])
        client = _plain_client(sandbox)
        with ThreadPoolExecutor(8) as threads:
            answers = [threads.submit(client, f"Text {number}") for number in range(400)]
            for answer in answers[:200]:
                answer.result()
            os.kill(sandbox.process.pid, signal.SIGKILL)
            taken = {answer.result() for answer in answers} - {None}
        assert len(taken) >= 200
        assert taken <= {line["body"] for line in sandbox.ledger("MESSAGE")}


def _plain_client(sandbox):
    parts = urlsplit(sandbox.url)

    def send(text):
        connection = HTTPConnection(parts.hostname, parts.port, timeout=5)
        try:
            body = json.dumps({"to": ADA, "body": text, "type": "TRANSACTIONAL"})
            connection.request("POST", "/1/messages", body, {"Authorization": "Bearer legacy-harbor"})
            return text if connection.getresponse().status == 200 else None
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()

    return send


def test_writes_that_arrive_together_share_a_sync_and_keep_their_order(tmp_path, monkeypatch):
    syncs = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (syncs.append(file), fsync(file))[1])
    path = tmp_path / "ledger.jsonl"

    async def write_many():
        ledger = Ledger(path)
        on_disk = []

        async def write(number):
            await ledger.write({"kind": "MESSAGE", "number": number})
            on_disk.append(f'"number":{number}}}' in path.read_text())

        await asyncio.gather(*(write(number) for number in range(500)))
        ledger.close()
        return on_disk

    on_disk = asyncio.run(write_many())
    assert on_disk == [True] * 500
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == list(range(500))
    assert 1 <= len(syncs) < 50


def test_without_a_file_the_ledger_is_kept_in_memory():
    async def write_one():
        ledger = Ledger(None)
        await ledger.write({"kind": "MESSAGE"})
        return ledger.count, list(ledger.recent)

    assert asyncio.run(write_one()) == (1, [{"kind": "MESSAGE"}])
