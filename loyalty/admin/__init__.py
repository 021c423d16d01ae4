"""The admin pages of sites, members, imports, segments, exports and consent; one module per page family."""

from loyalty.admin import audit, consents, exports, imports, members, segments, sites, users

__all__ = ["audit", "consents", "exports", "imports", "members", "segments", "sites", "users"]
