import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.messaging.sound_rows import edit, sound_message

pytestmark = pytest.mark.django_db


def run(capsys: Any, *arguments: str) -> tuple[int, str, str]:
    code = 0
    try:
        call_command("verify_invariants", *arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_prints_one_object(capsys: Any, tmp_path: Path) -> None:
    message = sound_message()
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text(json.dumps({"kind": "MESSAGE", "to": message.to, "body": message.body}) + "\n")
    code, out, err = run(capsys, "--ledger", str(ledger), "--json")
    result = json.loads(out.splitlines()[-1])
    keys = [f"I{number}" for number in range(1, 13)]
    assert (code, err) == (0, "")
    assert [result[key] for key in keys] == [0] * 12
    assert result["violations"] == dict.fromkeys(keys, 0)
    assert result["states"]["ACCEPTED"] == 1
    assert result["ledger"] == {"texts": 1, "unread": 0}


def test_the_command_fails_on_a_violation(capsys: Any, tmp_path: Path) -> None:
    edit(sound_message(), state="QUEUED")
    code, out, err = run(capsys, "--json")
    assert (code, json.loads(out)["I2"]) == (1, 1)
    assert err.strip().endswith("found.")
    code, out, _ = run(capsys)
    assert code == 1
    assert "messages that were accepted and are called not sent: 1" in out
    assert "QUEUED 1" in out
    with pytest.raises(CommandError, match=r"cannot be read: .*\."):
        call_command("verify_invariants", "--ledger", str(tmp_path / "missing"))
