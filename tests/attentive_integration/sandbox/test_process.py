"""The sandbox as a command and as a child process."""

import subprocess
import sys
import urllib.request

import pytest

from attentive_integration.sandbox.process import ROOT, SandboxProcess


def test_it_ends_with_its_context_and_says_why_it_cannot_start():
    with SandboxProcess() as sandbox:
        process, port = sandbox.process, int(sandbox.url.rpartition(":")[2])
        assert sandbox.url != sandbox.control_url
        with pytest.raises(RuntimeError, match="Choose another --port"), SandboxProcess(port):
            pass
    assert process.returncode == 0


def test_a_ledger_that_is_named_stays_and_is_appended_to(tmp_path):
    path = tmp_path / "ledger.jsonl"
    for number in range(2):
        with SandboxProcess(ledger_path=path) as sandbox:
            sandbox.add_subscribers("harbor", ["+17705550101"])
            sandbox.reply("harbor", "+17705550101", f"hello {number}")
    with SandboxProcess(ledger_path=path) as sandbox:
        assert [line["body"] for line in sandbox.ledger("REPLY_OTHER")] == ["hello 0", "hello 1"]


def test_the_command_without_json_speaks_to_people():
    with subprocess.Popen(
        [sys.executable, "manage.py", "sandbox", "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        assert process.wait(10) == 0
    assert line.startswith("Attentive, Annex Cloud and the phones are at http://127.0.0.1:")


def test_it_listens_on_this_machine_alone():
    with SandboxProcess() as sandbox:
        assert sandbox.url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{sandbox.url}/sandbox/state") as answer:
            assert answer.status == 200
