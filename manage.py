#!/usr/bin/env python
"""Django's command-line entry point; `python manage.py demo` is where a newcomer begins."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "attentive_integration.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("Django is not installed in this Python. Run `make run`, or `pip install -r requirements.txt` first.")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
