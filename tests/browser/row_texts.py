"""What the rows of an installation say, so that it can be told from what the pages say: a JSON list of texts.

Runs in a process of its own with an installation's environment (`Installation.run_module`).
"""

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "attentive_integration.settings")
django.setup()

from django.apps import apps  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.db import models  # noqa: E402

# Codes of ours, which pages are to say in words.
_CODES = {"event", "reason"}
_TEXTS = models.CharField | models.TextField | models.JSONField


def texts() -> set[str]:
    """Return the texts in every column but those of our own codes."""
    found: set[str] = set()
    rooms = (apps.get_app_config(name) for name in ("loyalty", "messaging"))
    for model in (User, *(model for room in rooms for model in room.get_models())):
        for field in model._meta.concrete_fields:
            if not isinstance(field, _TEXTS) or field.choices or field.name in _CODES:
                continue
            for value in model._default_manager.values_list(field.name, flat=True).distinct():
                found |= set(_leaves(value))
    return {text.strip() for text in found if len(text.strip()) > 1}


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        yield from value.splitlines()
    elif isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from _leaves(one)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(sorted(texts())) + "\n")
