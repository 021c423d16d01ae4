"""Celery's side of loyalty: each task is a wake-up for work that stands in the database."""

import time

from celery import shared_task
from django.contrib.auth import get_user_model

from attentive_integration.heartbeats import shown
from attentive_integration.wake import wake
from loyalty import imports, reconciliation, segments, subscriptions
from loyalty.models import ImportJob, Segment, Site

# Celery's tasks are short; what is left is taken by the next one.
_SECONDS = 20.0
# An import makes room for others after this long; going on costs a second look at the rows before. The job's own lease
# tells whether its worker lives, so the task may last.
_IMPORT_SECONDS = 600.0
_IMPORT_TASKS = {
    "CHECK": "loyalty.tasks.import_check",
    "IMPORT": "loyalty.tasks.import_run",
    "UNDO": "loyalty.tasks.import_undo",
}
_LONG = {"soft_time_limit": 1_700, "time_limit": 1_800}


@shared_task(name="loyalty.tasks.subscribe_waiting")
@shown("loyalty.tasks.subscribe_waiting")
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


@shared_task(name="loyalty.tasks.reconcile_silent_sites")
@shown("loyalty.tasks.reconcile_silent_sites")
def reconcile_silent_sites() -> None:
    """Look for opt-outs that were not heard, at each live site whose webhooks are silent."""
    for site in reconciliation.silent_sites():
        wake("loyalty.tasks.reconcile_site", site.pk)


@shared_task(name="loyalty.tasks.reconcile_site")
def reconcile_site(site_id: int) -> None:
    """Look for opt-outs of one site that were not heard, for a while."""
    site = Site.objects.filter(pk=site_id).first()
    if site is not None:
        reconciliation.reconcile(site, deadline=time.monotonic() + _SECONDS)


@shared_task(name="loyalty.tasks.resume_jobs")
@shown("loyalty.tasks.resume_jobs")
def resume_jobs() -> None:
    """Wake the imports that wait: whose wake-up was lost, whose worker died, or that came after another one."""
    for job_id, phase in imports.due_jobs().values_list("pk", "phase"):
        wake(_IMPORT_TASKS[phase], job_id)


@shared_task(name="loyalty.tasks.import_files_expire")
def import_files_expire() -> None:
    """Delete the uploads and rejects files whose time is over."""
    imports.delete_expired()


@shared_task(name="loyalty.tasks.import_check", **_LONG)
def import_check(job_id: int) -> None:
    """Go through a file without writing anything, for a while."""
    job = ImportJob.objects.filter(pk=job_id, phase=ImportJob.Phase.CHECK).first()
    if job is not None:
        fence = job.fence
        _go_on(imports.check_import(job, deadline=time.monotonic() + _IMPORT_SECONDS), fence)


@shared_task(name="loyalty.tasks.import_run", **_LONG)
def import_run(job_id: int) -> None:
    """Import a file, for a while."""
    job = ImportJob.objects.filter(pk=job_id, phase=ImportJob.Phase.IMPORT).first()
    if job is not None:
        fence = job.fence
        _go_on(imports.run_import(job, deadline=time.monotonic() + _IMPORT_SECONDS), fence)


@shared_task(name="loyalty.tasks.import_undo", **_LONG)
def import_undo(job_id: int) -> None:
    """Undo an import, for a while."""
    job = ImportJob.objects.filter(pk=job_id, phase=ImportJob.Phase.UNDO, undone_at=None).first()
    if job is not None:
        fence = job.fence
        _go_on(imports.undo_import(job, deadline=time.monotonic() + _IMPORT_SECONDS), fence)


def _go_on(job: ImportJob, fence: int) -> None:
    """Wake the next worker where there is more to do. One that waits for another import is woken by `resume_jobs`."""
    if job.state == ImportJob.State.PENDING and job.fence > fence:
        wake(_IMPORT_TASKS[job.phase], job.pk)


@shared_task(name="loyalty.tasks.push_segment", **_LONG)
def push_segment(segment_id: int, user_id: int) -> None:
    """Hand a large segment to Attentive; what came of it stands on the segment."""
    segment = Segment.objects.select_related("site").filter(pk=segment_id).first()
    if segment is not None:
        segments.push_to_attentive(segment, get_user_model().objects.filter(pk=user_id).first())
