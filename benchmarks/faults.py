"""The table of bad inputs and faults: what is expected, what is seen.

    python benchmarks/faults.py [--only TEXT] [--markdown FILE]

Makes every bad input, does every fault, and prints a line for each. Exit 1 if any differs. The rows are those of the
tests in tests/faults, so that there is one table only. Takes four minutes of processor time.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# The rows lie beside their tests, which are no package; the processes that they start take this path over.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "faults"))

_HEAD = """# Bad inputs and faults

Written by `python benchmarks/faults.py --markdown docs/faults.md`. What of it is promised: [reliability.md](reliability.md).
The words before a colon are what was looked at; `infer` and `extract` are states, several where more than one is right.
"""


def main() -> None:
    """Runs and prints."""
    # Not at the top: the processes that parse files import this script, and shall not load all of dfpipe for it.
    from table import Table, quiet, rows_in

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose names hold it")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="where the table is written too, for the pages")
    args = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        names = {row.name for row in rows_in(Path()) if args.only in row.name}
        table = Table(Path(scratch), names)
        found = []
        for number, outcome in enumerate(table, start=1):
            found.append([re.sub(rf"{re.escape(scratch)}/(row\d+/)?", "", cell) for cell in _cells(number, outcome)])
            print("  ".join(found[-1]), flush=True)
        table.close()
    if args.markdown:
        args.markdown.write_text(_markdown(found), encoding="utf-8")
    count = {
        verdict: sum(row[-1] == verdict for row in found) for verdict in ("ok", "skipped", "known limit", "DIFFERENT")
    }
    print(", ".join(f"{number} {verdict}" for verdict, number in count.items()))
    sys.exit(1 if count["DIFFERENT"] else 0)


def _cells(number: int, outcome: Any) -> list[str]:
    from bench import in_words
    from table import KNOWN_LIMITS

    different = "known limit" if outcome.row.name in KNOWN_LIMITS else "DIFFERENT"
    verdict = "skipped" if outcome.skipped else different if outcome.wrong else "ok"
    seen = outcome.skipped or in_words(
        {name: outcome.observed[name] for name in outcome.row.expected if name in outcome.observed}
    )
    if outcome.wrong:
        seen = "; ".join(outcome.wrong)
    words = [f"{outcome.row.name} ({outcome.row.fault})", in_words(outcome.row.expected), seen]
    return [f"{number:3}", *(_plain(text) for text in words), f"{outcome.seconds:.1f} s", verdict]


def _plain(text: str) -> str:
    """On one line, of signs that every terminal shows."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def _markdown(rows: Iterable[list[str]]) -> str:
    lines = [_HEAD, "| # | input or fault | expected | observed | took | |", "|---|---|---|---|---|---|"]
    escaped = ([cell.replace("|", "\\|").replace("<", "&lt;") for cell in row] for row in rows)
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in escaped)]) + "\n"


if __name__ == "__main__":
    main()
