"""An import that dies at random slices ends where an undisturbed one does.

Here a death is an exception that nobody can catch; `python -m tests.soak imports` kills real processes.
"""

import io
import random
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest
from django.utils import timezone

from loyalty import imports
from loyalty.imports import run
from loyalty.models import ImportJob, Site
from tests.soak.import_kills import differences, members_file, picture, site_with_members

pytestmark = pytest.mark.django_db

ROWS, SLICE, DEATHS = 240, 12, 5


class Died(BaseException):
    """The worker is gone, and can say nothing any more."""


def start(site: Site) -> ImportJob:
    options = {"subscribe": True}
    job = imports.start_import(site, io.BytesIO(members_file(1, ROWS)), "members.csv", options=options)
    imports.set_mapping(job, imports.propose_mapping(job))
    return job


def test_deaths_at_random_slices_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "slices", partial(run.slices, size=SLICE))
    undisturbed = imports.run_import(start(site_with_members(ROWS)))
    job, chance = start(site_with_members(ROWS)), random.Random(2)
    for _ in range(DEATHS):
        # Each slice has a point before and one after its commit.
        points = iter([None] * chance.randint(1, 6))

        def die(point: str, points: Iterator[None] = points) -> None:
            try:
                next(points)
            except StopIteration:
                raise Died from None

        with monkeypatch.context() as patched:
            patched.setattr(run, "crash_point", die)
            with pytest.raises(Died):
                imports.run_import(job)
        ImportJob.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
        job = ImportJob.objects.get(pk=job.pk)
        assert (job.state, job.read < ROWS) == (ImportJob.State.RUNNING, True)
    job = imports.run_import(job)
    found = picture(job)
    assert found["counts"]["read"] == ROWS and min(found["counts"].values()) > 0
    assert differences(found, picture(undisturbed)) == []
