"""Stop everything, for one site or for all: nothing is sent and nobody is asked until somebody ends the stop."""

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from loyalty import audit
from loyalty.models import SendingStop, Site
from loyalty.models.scope import Someone, known_user


def is_stopped(site_id: int) -> bool:
    """Tell whether a stop of this site, or of all sites, stands."""
    return SendingStop.objects.filter(Q(site=None) | Q(site_id=site_id), ended_at=None).exists()


@transaction.atomic
def stop(site: Site | None, *, by: Someone, note: str = "") -> SendingStop:
    """Stop one site, or all sites with None. Calls under way end; no other begins. A second stop is the first one."""
    standing = SendingStop.objects.filter(site=site, ended_at=None).first()
    if standing is not None:
        return standing
    audit.record("sending.stopped", site=site, user=by, target=str(site or "*"), new={"note": note})
    return SendingStop.objects.create(site=site, note=note[:300], stopped_by=known_user(by))


@transaction.atomic
def end(site: Site | None, *, by: Someone) -> bool:
    """End the stop of one site, or the one of all sites; False when there was none."""
    standing = SendingStop.objects.filter(site=site, ended_at=None)
    ended = standing.update(ended_at=timezone.now(), ended_by=known_user(by)) > 0
    if ended:
        audit.record("sending.resumed", site=site, user=by, target=str(site or "*"))
    return ended
