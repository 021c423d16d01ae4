"""JSON schemas, of our own writing, of every request that goes to the vendors and every answer that we read.

Each file holds one vendor: `paths` names the schema of a request by method and path, `$defs` holds the schemas.
"""

import re
from json import loads
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

_FOLDER = Path(__file__).parent
_FILES = {name: loads((_FOLDER / f"{name}.json").read_text()) for name in ("attentive", "annex_cloud")}


def check(vendor: str, name: str, instance: Any) -> None:
    """Raise jsonschema.ValidationError unless the instance fits the schema, such as "me.answer" of "attentive"."""
    schema = {"$ref": f"#/$defs/{name}", "$defs": _FILES[vendor]["$defs"]}
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(instance)


def request_name(vendor: str, method: str, path: str) -> str:
    """Return the name of the schema of a request, such as "subscribe"; KeyError for a call that no schema describes."""
    for pattern, name in _FILES[vendor]["paths"].items():
        if re.fullmatch(pattern, f"{method} {path}"):
            return name
    raise KeyError(f"No schema describes {method} {path}.")
