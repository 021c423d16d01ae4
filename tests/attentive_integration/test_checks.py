"""System checks: silent where all is well, and with a stable id where it is not."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.checks import run_checks
from django.core.management.utils import get_random_secret_key

ROOT = Path(__file__).resolve().parent.parent.parent


def ours(*, deploy: bool) -> set[str]:
    found = run_checks(include_deployment_checks=deploy)
    assert all(message.hint for message in found if str(message.id).startswith("loyalty_sms."))
    return {str(message.id) for message in found if str(message.id).startswith("loyalty_sms.")}


@pytest.fixture
def sound(settings: Any) -> Any:
    settings.SECRET_KEY = get_random_secret_key()
    settings.PUBLIC_URL, settings.ALLOWED_HOSTS = "https://sms.example.com", ["sms.example.com"]
    settings.ATTENTIVE_API_URL = "https://api.attentivemobile.com"
    settings.REDIS_URL, settings.ENVIRONMENT_LABEL, settings.DEBUG = "redis://127.0.0.1:6379/0", "LIVE", False
    return settings


def test_a_sound_configuration_has_no_finding(sound: Any) -> None:
    assert ours(deploy=True) == set()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"FIELD_ENCRYPTION_KEYS": ["short"]}, {"loyalty_sms.E001"}),
        ({"FIELD_ENCRYPTION_KEYS": [Fernet.generate_key().decode(), "é" * 44]}, {"loyalty_sms.E001"}),
        ({"RATE_LIMITS": {"DEFAULT": 150, "ANNEX_CLOUD": 0}}, {"loyalty_sms.E002"}),
        ({"SECRET_KEY": "short"}, {"loyalty_sms.W001"}),
        ({"SECRET_KEY": "ab" * 40}, {"loyalty_sms.W001"}),
        ({"PUBLIC_URL": "http://sms.example.com"}, {"loyalty_sms.W002"}),
        ({"PUBLIC_URL": "http://sms.example.com", "ENVIRONMENT_LABEL": "DEMO"}, set()),
        ({"PUBLIC_URL": "http://sms.example.com", "DEBUG": True}, set()),
        ({"PUBLIC_URL": "https://other.example.com:8443"}, {"loyalty_sms.W003"}),
        ({"DATABASE_IS_SQLITE": False, "REDIS_URL": ""}, {"loyalty_sms.W004"}),
        ({"DATABASE_IS_SQLITE": True, "REDIS_URL": ""}, set()),
        ({"ATTENTIVE_API_URL": "http://api.example.com"}, {"loyalty_sms.W005"}),
        ({"ATTENTIVE_API_URL": "http://127.0.0.1:8900"}, set()),
    ],
)
def test_each_fault_has_its_id(sound: Any, changes: dict[str, Any], found: set[str]) -> None:
    for name, value in changes.items():
        setattr(sound, name, value)
    assert ours(deploy=True) == found
    assert ours(deploy=False) == {name for name in found if ".E" in name}


def test_a_deployment_over_https_has_no_finding_at_all(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "DATA_DIR": str(tmp_path), "DATABASE_URL": "", "REDIS_URL": "", "DEBUG": "False", "ENVIRONMENT_LABEL": "LIVE",
        "SECRET_KEY": get_random_secret_key(), "PUBLIC_URL": "https://sms.example.com",
        "ALLOWED_HOSTS": "sms.example.com",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "INFO"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "System check identified no issues (0 silenced).")
