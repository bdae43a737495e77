"""What an extraction leaves: manifest and input table, written from the ledger, with splits and a leak check."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfpipe.config import Config, to_yaml
from dfpipe.files import atomic_file
from dfpipe.ledger import Ledger
from dfpipe.preprocess.groups import group_key, together
from dfpipe.preprocess.jobs import Job
from dfpipe.preprocess.manifest import CONFIG, CROPS_SCHEMA, INPUTS, INPUTS_SCHEMA, MANIFEST, write_table
from dfpipe.preprocess.sources import Source
from dfpipe.preprocess.splits import assign, assign_folds, check_leaks
from dfpipe.types import State


@dataclass(frozen=True)
class Summary:
    """How an extraction ended. The states of `states` add up to `inputs`."""

    out: Path
    inputs: int
    resumed: int  # of these, finished by an earlier run
    states: dict[str, int]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    crops: int  # in the whole folder, as is the next
    splits: dict[str, dict[str, int]]  # split -> label -> crops
    reasons: dict[str, str]  # input -> why it failed

    @property
    def failed(self) -> int:
        """Inputs that nothing could be had from."""
        return sum(count for state, count in self.states.items() if State(state).failed)


def publish(
    ledger: Ledger, sources: Sequence[Source], jobs: Sequence[Job], resumed: int, out: Path, config: Config
) -> Summary:
    """Divides the inputs into splits, checks for leaks, and writes the tables from the ledger."""
    rows = dict(ledger.rows())
    _give_splits(list(rows.values()), config)
    crop_rows = [
        {**{name: row.get(name) for name in CROPS_SCHEMA.names}, **crop}
        for row in rows.values()
        for crop in row["crop_rows"]
    ]
    write_table(out / MANIFEST, CROPS_SCHEMA, crop_rows)
    write_table(out / INPUTS, INPUTS_SCHEMA, [{n: row.get(n) for n in INPUTS_SCHEMA.names} for row in rows.values()])
    missing = tuple(name for source in sources for name in source.missing)
    for path, text in ((out / CONFIG, to_yaml(config)), (out / "missing.txt", "".join(f"{m}\n" for m in missing))):
        with atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
    splits: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for crop in crop_rows:
        splits[crop["split"]][{0: "real", 1: "fake"}.get(crop["label"], "unlabelled")] += 1
    mine = [rows[job.key] for job in jobs]
    return Summary(
        out=out,
        inputs=len(jobs),
        resumed=resumed,
        states=dict(Counter(row["state"] for row in mine)),
        missing=missing,
        notes=(*(note for source in sources for note in source.notes), *_copies(list(rows.values()))),
        crops=len(crop_rows),
        splits={split: dict(labels) for split, labels in splits.items()},
        reasons={row["path"]: f"{row['state']}: {row['reason']}" for row in mine if State(row["state"]).failed},
    )


def _give_splits(rows: Sequence[dict[str, Any]], config: Config) -> None:
    """Keeps the publisher's splits and divides the other groups; fills in `split` and `fold` of every row.

    Groups that hold the same file go together: a copy under another name leaks as well as the original.
    """
    published = {_group_key(row): row["split"] for row in rows if row["split"] is not None}
    open_rows = [row for row in rows if _group_key(row) not in published]
    same = together([_group_key(row), f"content {row['sha256']}"] for row in rows if row["sha256"])
    given = assign(_labels_of(open_rows, same), config.preprocess.split, config.seed)
    folds = (
        assign_folds(_labels_of(rows, same), config.preprocess.folds, config.seed) if config.preprocess.folds else {}
    )
    for row in rows:
        key = _group_key(row)
        row["split"] = row["split"] or published.get(key) or given[same.get(key, key)]
        row["fold"] = folds.get(same.get(key, key))
    check_leaks([_group_key(row) for row in rows], [row["split"] for row in rows])


def _copies(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Says how many files a publisher put into two splits. They are kept: the splits are the publisher's."""
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["sha256"]:
            splits[row["sha256"]].add(row["split"])
    count = sum(len(found) > 1 for found in splits.values())
    told = f"{count} files lie byte for byte in two of the publisher's splits: figures measured on them are too good"
    return [told] if count else []


def _labels_of(rows: Sequence[dict[str, Any]], same: Mapping[str, str]) -> dict[str, list[int | None]]:
    """The labels that occur in each group, groups with the same content counting as one."""
    labels_of: dict[str, list[int | None]] = defaultdict(list)
    for row in rows:
        key = _group_key(row)
        labels_of[same.get(key, key)].append(row["label"])
    return labels_of


def _group_key(row: dict[str, Any]) -> str:
    return group_key(row["dataset"], row["group"])
