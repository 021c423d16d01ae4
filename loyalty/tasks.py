"""Celery's side of loyalty: each task is a wake-up for work that stands in the database."""

import time

from celery import shared_task

from attentive_integration.wake import wake
from loyalty import subscriptions
from loyalty.models import Site

# Celery's tasks are short; what is left is taken by the next one.
_SECONDS = 20.0


@shared_task(name="loyalty.tasks.subscribe_waiting")
def subscribe_waiting() -> None:
    """Wake the queue of each site in which members wait to be asked."""
    for site_id in subscriptions.sites_with_waiting_members():
        wake("loyalty.tasks.subscribe_site", site_id)


@shared_task(name="loyalty.tasks.subscribe_site")
def subscribe_site(site_id: int) -> None:
    """Ask the waiting members of one site to subscribe, for a while."""
    site = Site.objects.filter(pk=site_id).first()
    if site is not None:
        # Not ready, or paused meanwhile: staff see why on the site's page.
        subscriptions.subscribe_if_ready(site, deadline=time.monotonic() + _SECONDS)
