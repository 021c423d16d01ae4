"""How many queries pages make: addresses on standard input, one JSON object of address → number on standard output.

Runs in a process of its own with an installation's environment (`Installation.run_module`).
"""

import json
import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "attentive_integration.settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402


def count(addresses: list[str]) -> dict[str, int]:
    """Return the queries of each address, as its second visitor causes them: what is kept in memory is there."""
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.get(username="root"))
    counts = {}
    for address in addresses:
        client.get(address)
        with CaptureQueriesContext(connection) as captured:
            client.get(address)
        counts[address] = len(captured)
    return counts


if __name__ == "__main__":
    sys.stdout.write(json.dumps(count(sys.stdin.read().split())) + "\n")
