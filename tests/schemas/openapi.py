"""Attentive's own specification, where the environment variable ATTENTIVE_OPENAPI names its file (YAML or JSON)."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from jsonschema import Draft4Validator


def specification() -> dict[str, Any] | None:
    """Return the specification, or None when ATTENTIVE_OPENAPI is not set."""
    name = os.environ.get("ATTENTIVE_OPENAPI")
    return yaml.safe_load(Path(name).read_text()) if name else None


def check_request(document: dict[str, Any], method: str, path: str, body: Any) -> bool:
    """Check the body of a request against the specification; False when the specification has no such request.

    Raises jsonschema.ValidationError for a wrong body, and for a field that the specification does not document.
    """
    prefix = urlsplit(document["servers"][0]["url"]).path.rstrip("/")
    operation = (
        document["paths"].get(path.removeprefix(prefix), {}).get(method.lower()) if path.startswith(prefix) else None
    )
    if not operation or "requestBody" not in operation:
        return False
    strict = _closed({name: part for name, part in document["components"].items() if name == "schemas"})
    schema = _closed(operation["requestBody"]["content"]["application/json"]["schema"])
    Draft4Validator({"allOf": [schema], "components": strict}).validate(body)
    return True


def check_answer(document: dict[str, Any], method: str, path: str, status: int, body: Any) -> bool:
    """Check an answer against the specification; False when the specification has no such answer or no body for it.

    Raises jsonschema.ValidationError for a wrong body, and for a field that the specification does not document.
    """
    prefix = urlsplit(document["servers"][0]["url"]).path.rstrip("/")
    if not path.startswith(f"{prefix}/"):
        return False
    operation = document["paths"].get(path.removeprefix(prefix), {}).get(method.lower(), {})
    content = operation.get("responses", {}).get(str(status), {}).get("content", {})
    if "application/json" not in content:
        return False
    strict = _closed({name: part for name, part in document["components"].items() if name == "schemas"})
    Draft4Validator({"allOf": [_closed(content["application/json"]["schema"])], "components": strict}).validate(body)
    return True


def _closed(schema: Any) -> Any:
    """Return the schema with every object that lists its properties closed to others."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed["additionalProperties"] = schema.get("additionalProperties", False)
    return closed
