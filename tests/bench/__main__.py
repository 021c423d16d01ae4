"""`make bench`: the timed promises, each a ratio within one run, a pace or a peak of memory; 1 if one is missed.

python -m tests.bench [NAME …]              all of them when none is named
python -m tests.bench NAME --sizes N …      with the sizes that its tasks take, for a shorter run or a longer one
"""

import argparse
import platform
import sys
from os import cpu_count

from tests.bench.measuring import Task

_FAST = {"RATE_LIMIT_DEFAULT": "1000000"}
TASKS = {
    "import": [Task("importing.members"), Task("importing.members", on_sqlite=True)],
    "large-import": [Task("importing.sizes")],
    "stock-import": [Task("importing.against_stock"), Task("importing.against_stock", on_sqlite=True)],
    "export": [Task("exporting.forms")],
    "send": [
        Task("sending.throughput", environment=_FAST),
        Task("sending.pace"),
        Task("sending.slow_site", environment=_FAST),
    ],
    "ask": [Task("asking.paces")],
    "pages": [Task("pages.dashboard")],
    "tick": [Task("ticking.over_old_messages", environment=_FAST)],
    "ingest": [Task("ingest.actions", web=True)],
    "recover": [Task("recovery.after_a_kill"), Task("recovery.after_a_flush", environment=_FAST)],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*TASKS, []], help="which ones; all of them when none is named")
    parser.add_argument("--sizes", nargs="*", default=[], help="what the tasks are given instead of their own sizes")
    options = parser.parse_args()
    print(f"{platform.machine()}, {cpu_count()} cores, Python {platform.python_version()}", flush=True)
    missed = 0
    for name in options.names or TASKS:
        for task in TASKS[name]:
            for row in task.run(*options.sizes):
                missed += not row.holds
                print(row, flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
