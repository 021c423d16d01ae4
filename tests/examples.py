"""How many examples a property is tried with."""

from django.conf import settings


def examples(count: int) -> int:
    """Return `count` for the run on SQLite, and a fifth of it for the one on PostgreSQL, which repeats a sample."""
    return count if settings.DATABASE_IS_SQLITE else max(10, count // 5)
