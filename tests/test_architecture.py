"""Data flows one way: messaging → loyalty → attentive_integration. Verbs do not know the edges that call them."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APPS = ("attentive_integration", "loyalty", "messaging")
# The composition root wires the rooms together; it is no part of the leaf library that the other rooms import.
COMPOSITION_ROOT = {"urls", "dashboard", "celery", "settings", "wsgi", "apps", "checks", "health"}
EDGES = {"tasks", "admin", "api", "views", "urls", "forms", "management", "demo"}


def modules(app: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / app).rglob("*.py")):
        parts = path.relative_to(ROOT / app).with_suffix("").parts
        if "migrations" not in parts:
            yield parts[0], path


def imports(path: Path) -> set[str]:
    """Return the absolute dotted names that a module imports."""
    package = path.relative_to(ROOT).parent.parts
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            module = f"{base}{node.module or ''}".rstrip(".")
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


def test_the_arrows_run_one_way() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for app, below in (("attentive_integration", ("loyalty", "messaging")), ("loyalty", ("messaging",)))
        for room, path in modules(app)
        if not (app == "attentive_integration" and room in COMPOSITION_ROOT)
        for name in imports(path)
        if name.split(".")[0] in below
    ]
    assert wrong == []


def test_verbs_import_no_edges() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for app in ("loyalty", "messaging")
        for room, path in modules(app)
        if room not in EDGES
        for name in imports(path)
        if name.split(".")[0] in APPS and len(name.split(".")) > 1 and name.split(".")[1] in EDGES
    ]
    assert wrong == []


def test_only_http_uses_requests() -> None:
    users = [
        str(path.relative_to(ROOT))
        for app in APPS
        for _, path in modules(app)
        if any(name.split(".")[0] == "requests" for name in imports(path))
    ]
    assert users in ([], ["attentive_integration/http.py"])
