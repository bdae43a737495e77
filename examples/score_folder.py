"""Judges every file in a folder and writes the verdicts as a CSV table.

    python examples/score_folder.py FOLDER verdicts.csv
    python examples/score_folder.py FOLDER verdicts.csv --model runs/NAME/model.safetensors

The same as `dfpipe infer FOLDER`, for programs that want to go on with the verdicts themselves. Nothing is skipped: what is
no media file, or cannot be read, gets a row with ERROR and the reason, and an empty score.
"""

import argparse
import csv
from pathlib import Path

from dfpipe import Detector

COLUMNS = ("path", "verdict", "p_fake", "people", "fake_from_s", "reason", "cautions")


def main() -> None:
    """Parses the flags and judges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--model", type=Path, help="default: the newest under runs/, else the one that ships")
    flags = parser.parse_args()
    detector = Detector.load(flags.model)
    files = sorted(path for path in flags.folder.rglob("*") if path.is_file())
    with flags.table.open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, COLUMNS)
        table.writeheader()
        for verdict in detector.judge_all(files):  # as they come, in any order
            first = min((part.start_s for part in verdict.segments), default=None)
            table.writerow(
                {
                    "path": verdict.path,
                    "verdict": verdict.verdict.name,
                    "p_fake": verdict.p_fake,  # None is written as an empty cell: there is no score without a face
                    "people": len(verdict.people),
                    "fake_from_s": first,
                    "reason": verdict.reason,
                    "cautions": "; ".join(verdict.cautions),
                }
            )
    print(f"{len(files)} verdicts in {flags.table}")


if __name__ == "__main__":  # files are read in child processes, which import this script
    main()
