"""From a list of labelled files to a model, in one go and from Python.

    python examples/train_from_csv.py my_files.csv --out my_model/

The list has the columns path (relative to the list, or absolute) and label (real or fake), and if wanted group (files of one
group stay in one split: one source, one person), split (train, validation, test), method and dataset:

    path,label,group
    alice/01.mp4,real,alice
    alice/01_swapped.mp4,fake,alice

The same as `dfpipe extract --videos my_files.csv` (or `--images` for stills) and `dfpipe train`.
"""

import argparse
from pathlib import Path

from dfpipe.config import load_config
from dfpipe.preprocess.extract import extract
from dfpipe.train.loop import train


def main() -> None:
    """Parses the flags, extracts and trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path)
    parser.add_argument("--out", type=Path, default=Path("my_model"))
    parser.add_argument("--config", default="default", help="a recipe by name, or a YAML file")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    flags = parser.parse_args()
    config = load_config(flags.config, flags.settings)
    found = extract([flags.list], [], flags.out / "faces", config)
    print(f"{found.states}; {found.crops} crops, by split: {found.splits}")
    trained = train(config, flags.out / "faces", flags.out / "runs", flags.config)
    print(f"best epoch {trained.best_epoch}, validation AUC {trained.validation['auc']}")
    print(f"next: dfpipe infer clip.mp4 --model {trained.model}")


if __name__ == "__main__":  # files are read in child processes, which import this script
    main()
