"""Steps that several walks through the dashboard begin with."""

from typing import Any

from tests.installation import Installation

PASSWORD = "a long pass phrase"


def make_superuser(installation: Installation) -> None:
    """Make the one user of an empty installation."""
    installation.environment["DJANGO_SUPERUSER_PASSWORD"] = PASSWORD
    installation.manage("createsuperuser", "--no-input", "--username", "root", "--email", "root@example.com")


def log_in(page: Any, installation: Installation) -> None:
    """Log in through the form and stand on Home."""
    page.goto(f"{installation.url}/admin/")
    page.fill("#id_username", "root")
    page.fill("#id_password", PASSWORD)
    page.get_by_role("button", name="Log in").click()


def fill_in_connection(page: Any, *, company: str, site_id: str, guest: str) -> None:
    """Fill in the page "Connect a client" with a company's tokens, as the sandbox names them."""
    for label, value in (
        ("Client name", f"{company.title()} Goods"), ("Site ID", site_id),
        ("Access token or loyalty token", f"loyalty-{company}"), ("App key", f"app-{company}"),
        ("Sign-up source ID", "132109"), ("Legacy token", f"legacy-{company}"), ("Guest phone", guest),
    ):  # fmt: skip
        page.get_by_label(label, exact=label == "Site ID").fill(value)
