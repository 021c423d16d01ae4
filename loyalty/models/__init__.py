from .actions import ActionType, LoyaltyAction
from .jobs import ExportJob, ImportIssue, ImportJob, MemberChange
from .members import Consent, ConsentEvent, Member
from .segments import Segment, SegmentMember
from .sites import AccessToken, AuditEntry, Breaker, ClientLink, SendingStop, SignUpSource, Site, SiteMembership

__all__ = [
    "AccessToken",
    "ActionType",
    "AuditEntry",
    "Breaker",
    "ClientLink",
    "Consent",
    "ConsentEvent",
    "ExportJob",
    "ImportIssue",
    "ImportJob",
    "LoyaltyAction",
    "Member",
    "MemberChange",
    "Segment",
    "SegmentMember",
    "SendingStop",
    "SignUpSource",
    "Site",
    "SiteMembership",
]
