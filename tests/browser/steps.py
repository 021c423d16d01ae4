"""Steps that several walks through the dashboard begin with."""

from typing import Any

from tests.installation import Installation

PASSWORD = "a long pass phrase"
# The user who supports one site of the demo, and may do nothing else.
SUPPORT = "sam"

# A list as a client would send it, in columns with names of its own and with rows to mend.
LIST = (
    b"Mobile;E-Mail;First name;Tier;Points balance;Shoe size\n"
    b"(770) 555-0191;ada@example.com;Ada;Gold;1240;38\n"
    b"404-555-0192;grace@example.com;Grace;Silver;410;40\n"
    b"+1 212 555 0193;alan@example.com;Alan;Bronze;95;43\n"
    b"1.21255E+10;mend@example.com;Radia;Bronze;20;41\n"
    b"312 555 0194;ken@example.com;Ken;Platinum;2210;44\n"
    b"call me;linus@example.com;Linus;Bronze;5;45\n"
)


def fill_with_demo(installation: Installation) -> None:
    """Fill an empty installation with the demo's data, checked and sent as far as it goes."""
    installation.manage("demo", "--seed")
    installation.manage("check_sites", "--site", "1000001", "--site", "1000002")
    installation.manage("run_campaigns")


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


def connection_of(company: str, site_id: str, guest: str) -> dict[str, str]:
    """Return what the page "Connect a client" asks for, with a company's tokens as the sandbox names them."""
    return {
        "Client name": f"{company.title()} Goods", "Site ID": site_id,
        "Access token or loyalty token": f"loyalty-{company}", "App key": f"app-{company}",
        "Sign-up source ID": "132109", "Legacy token": f"legacy-{company}", "Guest phone": guest,
    }  # fmt: skip


def fill_in_connection(page: Any, *, company: str, site_id: str, guest: str) -> None:
    """Fill in the page "Connect a client"."""
    for label, value in connection_of(company, site_id, guest).items():
        page.get_by_label(label, exact=label == "Site ID").fill(value)
