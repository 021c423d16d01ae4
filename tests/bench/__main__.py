"""`make bench`: the timed promises, each a ratio within one run or a peak of memory; exits with 1 if one is missed."""

import argparse
import sys

from tests.bench import export, importing

BENCHES = {"import": importing.rows, "export": export.rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="which ones; all of them when none is named")
    options = parser.parse_args()
    missed = 0
    for name in options.names or BENCHES:
        for row in BENCHES[name]():
            fits = row["value"] <= row["at_most"]
            missed += not fits
            verdict = "ok" if fits else "MISSED"
            print(f"{row['measure']:<66} {row['value']:>8} (at most {row['at_most']})  {verdict}  {row['note']}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
