"""The command that scripts call, and exports in processes that are killed or that members change under."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from loyalty.models import Segment
from tests.factories import make_site
from tests.installation import ROOT, Installation

_SEED = """
import json
from loyalty.models import Consent, Member, Segment, Site
sites = [Site.objects.create(client_name=name, site_id=str(number)) for number, name in ((1, "One"), (2, "Two"))]
for site in sites:
    phones = [f"+1{area}555{number:04d}" for area in (770, 404, 212, 312, 415, 206) for number in range(2000)]
    Member.objects.bulk_create(
        [Member(site=site, phone=phone, tier="Gold" if i % 2 else "Silver") for i, phone in enumerate(phones)],
        batch_size=5000,
    )
    Consent.objects.bulk_create(
        [Consent(site=site, address=phone, state="SUBSCRIBED") for phone in phones], batch_size=5000
    )
rules = {"Gold": {"tier": "Gold"}, "All": {}, "Spoilt": {"tir": "Gold"}}
print(json.dumps({name: str(Segment.objects.create(site=sites[0], name=name, rules=rules[name]).pk) for name in rules}))
"""


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with Installation(web=False) as running:
        yield running


@pytest.fixture(scope="module")
def segments(installation: Installation) -> dict[str, str]:
    """Two sites of 12,000 subscribed members each, half of them Gold; the ids of the first one's segments by name."""
    return json.loads(installation.run("shell", "-v0", "-c", _SEED).stdout)


def test_the_last_line_is_the_manifest(installation: Installation, segments: dict[str, str]) -> None:
    out = installation.folder / "gold"
    made = installation.manage("export_segment", segments["Gold"], "--out", str(out), "--json")
    assert (made["rows"], made["left_out"], made["format"], made["segment"]) == (6_000, {}, "ATTENTIVE", "Gold")
    (entry,) = made["files"]
    lines = (out / entry["name"]).read_bytes().splitlines()
    assert lines[0] == b"phone" and len(set(lines)) == 6_001
    assert json.loads((out / "manifest.json").read_text()) == made
    done = installation.run("export_segment", segments["Gold"], "--out", str(out))
    assert done.returncode == 0 and "6000 rows" in done.stdout


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "out", "said"),
    [
        ("999999", "x", "There is no segment 999999."),
        ("gold", "x", "There is no segment gold."),
        ("9" * 30, "x", "There is no segment"),
        ("Spoilt", "x", "Unknown rule “tir”"),
        ("All", "a-file", "is no folder that files can be put into"),
    ],
)
def test_refusals_are_one_sentence_and_leave_nothing(tmp_path: Path, name: str, out: str, said: str) -> None:
    (tmp_path / "a-file").write_text("mine")
    site = make_site()
    made = {
        segment.name: str(segment.pk)
        for segment in (
            Segment.objects.create(site=site, name="All", rules={}),
            Segment.objects.create(site=site, name="Spoilt", rules={"tir": "Gold"}),
        )
    }
    with pytest.raises(CommandError) as refused:
        call_command("export_segment", made.get(name, name), "--out", str(tmp_path / out))
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir() if path.name != "files"] == ["a-file"]


def test_a_full_disk_is_one_sentence(installation: Installation, segments: dict[str, str]) -> None:
    out = installation.folder / "full"
    done = subprocess.run(
        # No file may grow beyond 100 blocks of 1,024 bytes.
        ["bash", "-c", 'ulimit -f 100; exec "$@"', "-", sys.executable, "manage.py", "export_segment", segments["All"],
         "--out", out],
        cwd=ROOT, env={**installation.environment, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip() == f"CommandError: The disk under {out} is full. Free some space and export again; " + (
        "nothing half-written was left."
    )
    assert not out.exists()


def test_one_snapshot_while_members_change(installation: Installation, segments: dict[str, str]) -> None:
    # Each transaction moves as many members into Gold as out of it, so that any moment has 6,000.
    swapping = """
import random, time
from django.db import transaction
from loyalty.models import Member
site = Member.objects.filter(site__site_id="1")
gold, silver = (list(site.filter(tier=tier).values_list("pk", flat=True)) for tier in ("Gold", "Silver"))
while True:
    random.shuffle(gold); random.shuffle(silver)
    with transaction.atomic():
        Member.objects.filter(pk__in=gold[:400]).update(tier="Silver")
        Member.objects.filter(pk__in=silver[:400]).update(tier="Gold")
    gold[:400], silver[:400] = silver[:400], gold[:400]
"""
    writer = installation.start("manage.py", "shell", "-v0", "-c", swapping)
    try:
        time.sleep(3)
        for form in ("attentive", "spreadsheet"):
            out = installation.folder / f"moving-{form}"
            made = installation.manage(
                "export_segment", segments["Gold"], "--out", str(out), "--format", form, "--json"
            )
            assert made["rows"] == 6_000
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.wait()


_MAKE_JOB = """
from loyalty.models import Segment
from loyalty.exports import start_export
segment = Segment.objects.get(name="All")
print(start_export(segment.site, segment=segment, format="SPREADSHEET").pk)
"""
_RUN_JOB = """
from django.utils import timezone
from loyalty.models import ExportJob
from messaging.exports import run_export
job = ExportJob.objects.get(pk={job})
ExportJob.objects.filter(pk=job.pk, state="RUNNING").update(lease_until=timezone.now())
job = run_export(job)
print(job.state, job.rows, job.file.path if job.file else "-", job.fence)
"""


def test_a_killed_export_ends_whole_when_it_is_run_again(installation: Installation, segments: dict[str, str]) -> None:
    job = installation.run("shell", "-v0", "-c", _MAKE_JOB).stdout.strip()
    command = ("manage.py", "shell", "-v0", "-c", _RUN_JOB.format(job=job))
    stored, work = installation.folder / "files" / "exports", installation.folder / "unfinished-exports"
    moments = random.Random(7)
    for start in range(1, 4):
        process = installation.start(*command)
        while not (work / f"{job}-{start}").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.15))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = installation.run(*command[1:])
    state, rows, path, fence = done.stdout.split()
    assert (state, rows) == ("COMPLETE", "12000"), done.stderr
    content = Path(path).read_bytes()
    assert content.count(b"\r\n") == 12_001
    assert len({line.split(b",")[0] for line in content.splitlines()}) == 12_001
    # A file that was whole when its process was killed is not listed, and nothing half-written is left over.
    assert all(other.read_bytes().count(b"\r\n") == 12_001 for other in stored.rglob("*") if other.is_file())
    assert list(work.iterdir()) == []
    assert 2 <= int(fence) <= 4
