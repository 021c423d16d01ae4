"""What text a database takes."""

import re

# NUL, which PostgreSQL refuses, and half of a surrogate pair, which is no character: a cut through an emoji leaves one.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Tell whether both databases can hold the text."""
    return _UNSTORABLE.search(text) is None
