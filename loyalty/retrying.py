"""Runs a transaction again when another writer came between: a deadlock, or a row made at the same moment."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from django.db import IntegrityError, OperationalError, transaction

from loyalty.models import Site

_ATTEMPTS = 5
_PAUSE_SECONDS = 0.1

T = TypeVar("T")


def retrying(site_id: int, step: Callable[[], T]) -> T:
    """Return what `step` returns in a transaction that wrote as a whole.

    From the second attempt on, nobody else can add rows to the site meanwhile: a new row of a site takes a share of the
    site's own row, which is locked first. Otherwise steady traffic could come between each time.
    """
    for attempt in range(_ATTEMPTS - 1):
        with suppress(IntegrityError, OperationalError):
            return _run(site_id, step, alone=attempt > 0)
        time.sleep(_PAUSE_SECONDS)
    return _run(site_id, step, alone=True)


@transaction.atomic
def _run(site_id: int, step: Callable[[], T], *, alone: bool) -> T:
    if alone:
        Site.objects.select_for_update().filter(pk=site_id).first()
    return step()
