"""What an extraction leaves: manifest and input table, written from the ledger, with splits and a leak check."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfpipe import __version__
from dfpipe.config import Config, to_yaml
from dfpipe.files import atomic_file, stamp
from dfpipe.ledger import Ledger
from dfpipe.preprocess.groups import group_key, together
from dfpipe.preprocess.manifest import (
    CONFIG,
    CROPS_SCHEMA,
    INPUTS,
    INPUTS_SCHEMA,
    MANIFEST,
    read_columns,
    table_writer,
)
from dfpipe.preprocess.splits import assign, assign_folds, check_leaks
from dfpipe.store import Url
from dfpipe.types import State

MISSING = "missing.txt"
TABLES = (MANIFEST, INPUTS, CONFIG, MISSING)  # what is written from the ledger
_DECIDING = ("dataset", "group", "label", "split", "sha256")  # what of an input decides which split it goes to


@dataclass(frozen=True)
class Summary:
    """How an extraction ended. The states of `states` add up to `inputs`."""

    out: Path | Url
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
    ledger: Ledger,
    missing: tuple[str, ...],
    notes: Sequence[str],
    keys: Sequence[str],
    resumed: int,
    out: Path,
    config: Config,
) -> Summary:
    """Divides the inputs into splits, checks for leaks, and writes the tables from the ledger.

    Where nothing has changed since they were written they stay as they are.

    Args:
        ledger: Of `out`, with all its inputs.
        missing: What the datasets name and was not found.
        notes: What looks odd, for the summary.
        keys: The inputs that the summary is of.
        resumed: How many of them were finished before.
        out: Output folder.
        config: The settings that the folder is made with.
    """
    settings = (to_yaml(config), "".join(f"{m}\n" for m in missing))
    if ledger.published is None or ledger.published != _stamp(out, settings):
        _write_tables(ledger, out, config)
        for name, text in zip((CONFIG, MISSING), settings, strict=True):
            with atomic_file(out / name) as temporary:
                temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
        ledger.publish(_stamp(out, settings))
    return _summary(notes, keys, resumed, out, missing)


def _stamp(out: Path, settings: Sequence[str]) -> str:
    """Changes whenever a file that was written does, or what it is made of."""
    told = repr((__version__, stamp(out / name for name in TABLES), settings))
    return hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()


def _write_tables(ledger: Ledger, out: Path, config: Config) -> None:
    """Both tables, input by input: the crops of a large collection are millions of rows."""
    facts = {key: {name: row[name] for name in _DECIDING} for key, row in ledger.rows()}
    _give_splits(list(facts.values()), config)
    with table_writer(out / MANIFEST, CROPS_SCHEMA) as crops, table_writer(out / INPUTS, INPUTS_SCHEMA) as inputs:
        for key, row in ledger.rows():
            row |= facts[key]
            inputs.add(row)
            for crop in row.pop("crop_rows"):
                crops.add({**row, **crop})


def _summary(notes: Sequence[str], keys: Sequence[str], resumed: int, out: Path, missing: tuple[str, ...]) -> Summary:
    """How it ended, from the tables."""
    columns = ("dataset", "name", "path", "state", "reason", "split", "sha256")
    inputs = read_columns(out / INPUTS, INPUTS_SCHEMA, columns)
    crops = read_columns(out / MANIFEST, CROPS_SCHEMA, ("split", "label"))
    row_of = {f"{d}/{n}": i for i, (d, n) in enumerate(zip(inputs["dataset"], inputs["name"], strict=True))}
    mine = [row_of[key] for key in keys]
    states = dict(Counter(inputs["state"][row] for row in mine))
    failed = {state for state in states if State(state).failed}
    splits: dict[str, dict[str, int]] = defaultdict(dict)
    for (split, label), count in Counter(zip(crops["split"], crops["label"], strict=True)).items():
        splits[split][{0: "real", 1: "fake"}.get(label, "unlabelled")] = count
    return Summary(
        out=out,
        inputs=len(keys),
        resumed=resumed,
        states=states,
        missing=missing,
        notes=(*notes, *_copies(inputs["sha256"], inputs["split"])),
        crops=len(crops["split"]),
        splits=dict(splits),
        reasons={
            inputs["path"][row]: f"{inputs['state'][row]}: {inputs['reason'][row]}"
            for row in mine
            if inputs["state"][row] in failed
        },
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


def _copies(contents: Sequence[str], splits: Sequence[str]) -> list[str]:
    """Says how many files a publisher put into two splits. They are kept: the splits are the publisher's."""
    found = Counter(content for content, _ in set(zip(contents, splits, strict=True)) if content)
    count = sum(number > 1 for number in found.values())
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
