"""An import that is killed time and again, and goes on: it must end in the very table of an undisturbed one.

The file has everything that could be counted or written twice: phones and loyalty IDs that come again in later slices,
members that were there before, cells that clear, and rows that are rejected.
"""

import csv
import io
import random
import signal
import time
from datetime import UTC, datetime
from itertools import count
from typing import Any

from loyalty.models import Consent, ImportJob, Member, MemberChange, Site
from tests.factories import make_member, make_site
from tests.installation import Installation
from tests.soak.people import phone

ROWS = 6_000
SLICE = 50
_COLUMNS = ("phone", "email", "external_id", "first_name", "tier", "points", "joined_at")
_JOINED = datetime(2026, 3, 1, 15, tzinfo=UTC)
_COUNTERS = ("read", "created", "updated", "unchanged", "duplicate", "rejected")
# What the child process runs: the command as it is, but in small slices.
_PROGRAM = """
from functools import partial
from django.core.management import call_command
from loyalty.imports import run
run.slices = partial(run.slices, size={size})
call_command("import_members", "--site", {site!r}, {path!r}, "--subscribe")
"""


def site_with_members(rows: int) -> Site:
    """Make a site that knows a quarter of the people in the file."""
    site = make_site()
    for number in range(0, rows // 2, 2):
        make_member(
            site, phone=phone(number), external_id=f"M{number}", email=f"m{number}@example.com", tier="Silver",
            joined_at=_JOINED,
        )  # fmt: skip
    return site


def members_file(seed: int, rows: int) -> bytes:
    """Return a file of so many rows; the same for the same seed."""
    chance = random.Random(seed)
    numbers = count()
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for _ in range(rows):
        number = next(numbers)
        earlier = chance.randrange(number + 1)
        who, member_id = chance.choices(
            [(phone(number), f"M{number}"), (phone(earlier), ""), (phone(number), f"M{earlier}"), ("1.77E+10", "")],
            [80, 8, 8, 4],
        )[0]
        writer.writerow([
            who, chance.choice(["", f"m{number}@example.com", "--"]), member_id, chance.choice(["Ada", "Grace", ""]),
            chance.choice(["Gold", "Silver", "--", ""]), chance.choice(["", "--", str(number), "many"]),
            _JOINED.isoformat(),
        ])  # fmt: skip
    return text.getvalue().encode()


def picture(job: ImportJob) -> dict[str, Any]:
    """Return all that an import has left behind, without what differs between two sites: keys and times of writing."""
    members = Member.objects.filter(site=job.site).order_by("pk")
    changes = MemberChange.objects.filter(job=job).order_by("member", "pk")
    phones = dict(members.values_list("pk", "phone"))
    with job.rejects_file.open("rb") as file:
        rejects = file.read()
    return {
        "state": (job.phase, job.state, job.error),
        "counts": {name: getattr(job, name) for name in _COUNTERS},
        "findings": job.findings,
        "members": list(members.values_list(
            "phone", "email", "external_id", "first_name", "last_name", "tier", "points", "joined_at",
            "replaced_by__phone", "created_by_import__file_name",
        )),
        "changes": [(phones[change.member_id], _named(change.changes, phones)) for change in changes],
        "issues": list(job.issues.order_by("pk").values_list("kind", "line", "field", "code", "reason", "cells")),
        "consents": list(Consent.objects.filter(site=job.site).order_by("address").values_list("address", "state")),
        "rejects": rejects,
    }  # fmt: skip


def _named(fields: dict[str, Any], phones: dict[int, str]) -> dict[str, Any]:
    """Return a change with the phones of the members that it names by their keys."""
    return {name: [phones.get(pk) for pk in pair] if name == "replaced_by" else pair for name, pair in fields.items()}


def differences(killed: dict[str, Any], undisturbed: dict[str, Any]) -> list[str]:
    return [f"other {name} than in an undisturbed import" for name in undisturbed if killed[name] != undisturbed[name]]


class ImportKills:
    """Imports one file twice in an installation: undisturbed, and with a process that is killed at random slices."""

    def __init__(self, installation: Installation, seed: int) -> None:
        self.installation = installation
        self.random = random.Random(seed)
        self.path = installation.write("members.csv", members_file(seed, ROWS))

    def run(self, kills: int) -> list[str]:
        """Return what went wrong; nothing when both ended the same."""
        undisturbed, killed = site_with_members(ROWS), site_with_members(ROWS)
        self._start(undisturbed).wait(timeout=300)
        problems = []
        for rows in sorted(self.random.sample(range(SLICE, ROWS * 9 // 10, SLICE), kills)):
            process = self._start(killed)
            while process.poll() is None and self._read(killed) < rows:
                time.sleep(0.001)
            # Anywhere in the slice.
            time.sleep(self.random.uniform(0, 0.01))
            process.send_signal(signal.SIGKILL)
            if (status := process.wait(timeout=60)) != -signal.SIGKILL:
                problems.append(f"a process ended with {status} before it was killed")
        self._start(killed).wait(timeout=300)
        jobs = [ImportJob.objects.get(site=site) for site in (killed, undisturbed)]
        return problems + differences(*map(picture, jobs))

    def _start(self, site: Site) -> Any:
        program = _PROGRAM.format(size=SLICE, site=site.site_id, path=self.path)
        return self.installation.start("manage.py", "shell", "-v0", "-c", program)

    def _read(self, site: Site) -> int:
        return next(iter(ImportJob.objects.filter(site=site).values_list("read", flat=True)), 0)
