from .actions import ActionType, LoyaltyAction
from .jobs import ExportJob, ImportJob
from .members import Consent, ConsentEvent, Member
from .segments import Segment, SegmentMember
from .sites import AccessToken, AuditEntry, Breaker, SendingStop, SignUpSource, Site, SiteMembership

__all__ = [
    "AccessToken",
    "ActionType",
    "AuditEntry",
    "Breaker",
    "Consent",
    "ConsentEvent",
    "ExportJob",
    "ImportJob",
    "LoyaltyAction",
    "Member",
    "Segment",
    "SegmentMember",
    "SendingStop",
    "SignUpSource",
    "Site",
    "SiteMembership",
]
