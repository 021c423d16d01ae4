"""The product's settings with the texts of a pseudo-locale (`pseudo_locale.py`) instead of the English ones."""

import os

from attentive_integration.settings import *  # noqa: F403

LOCALE_PATHS = [os.environ["PSEUDO_LOCALE"]]
