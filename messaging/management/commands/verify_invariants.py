"""`manage.py verify_invariants`: counts violations of what must always hold."""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from messaging import acceptance_ledger, invariants


class Command(BaseCommand):
    help = "Counts violations of what must always hold, in the database and against a ledger of accepted requests."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--ledger", metavar="FILE", help="JSON lines of the requests that Attentive accepted")
        parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        found = invariants.violations()
        compared = None
        if options["ledger"]:
            compared = self._compare(Path(options["ledger"]))
            for key, names in compared.violations.items():
                found[key].update(names)
        counts = {key: sum(names.values()) for key, names in found.items()}
        states = invariants.states()
        if options["json"]:
            result: dict[str, Any] = {**counts, "violations": counts, "findings": found, "states": states}
            if compared:
                result["ledger"] = {"texts": compared.texts, "unread": compared.unread}
            self.stdout.write(json.dumps(result))
        else:
            self._describe(found, counts, states, compared)
        if total := sum(counts.values()):
            self.stderr.write(_("%(count)d violations were found.") % {"count": total})
            sys.exit(1)

    def _compare(self, path: Path) -> acceptance_ledger.Comparison:
        try:
            compared = acceptance_ledger.compare(path)
        except OSError as error:
            raise CommandError(
                _("The ledger %(path)s cannot be read: %(cause)s. Give the path of a readable file.")
                % {"path": path, "cause": error.strerror}
            ) from None
        # A last line may be torn by a crash; more than that is perhaps another kind of file.
        if compared.unread > 1 or not compared.texts:
            self.stderr.write(
                _("Ledger %(path)s: %(texts)d texts, %(unread)d lines that are no JSON objects. Is it the right file?")
                % {"path": path, "texts": compared.texts, "unread": compared.unread}
            )
        return compared

    def _describe(
        self,
        found: dict[str, dict[str, int]],
        counts: dict[str, int],
        states: dict[str, int],
        compared: acceptance_ledger.Comparison | None,
    ) -> None:
        for key, invariant in invariants.INVARIANTS.items():
            verdict = str(counts[key]) if invariant.checks or counts[key] else _("measured by make bench")
            self.stdout.write(f"{key:<4}{invariant.title!s:<40}{verdict:>8}")
            for name, count in found[key].items():
                self.stdout.write(f"      {name}: {count}")
        shown = ", ".join(f"{state} {count}" for state, count in states.items() if count)
        self.stdout.write(_("Messages: %(states)s") % {"states": shown or _("none")})
        if compared:
            self.stdout.write(
                _("Ledger: %(texts)d texts, %(unread)d lines that could not be read")
                % {"texts": compared.texts, "unread": compared.unread}
            )
