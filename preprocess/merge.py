"""Joins what the shards of an extraction left to the one folder that a run without shards would have left."""

import contextlib
import filecmp
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from dfpipe.config import Config, load_config
from dfpipe.errors import ConfigError, DataError, SourceError
from dfpipe.files import TEMPORARY, atomic_file, disk_errors, locked, scratch_folder, sweep
from dfpipe.ledger import LEDGER, Ledger
from dfpipe.outbox import Outbox
from dfpipe.preprocess.jobs import noted_inputs
from dfpipe.preprocess.manifest import CONFIG
from dfpipe.preprocess.publish import MISSING, TABLES, Summary, publish
from dfpipe.preprocess.tree import some
from dfpipe.store import Url, get, put

_FETCHES = 16  # crops at a time from a store; they only wait
_OF_THE_RUN = ("seconds", "path")  # what of an input's row may differ between two machines that found the same
_CROP = re.compile(r"crops/[0-9a-f]{2}/[0-9a-f]+/[0-9_]+\.[a-z]+")  # as extraction names them


@dataclass(frozen=True)
class Merged:
    """How a merge ended."""

    summary: Summary  # of the whole folder
    shards: int
    absent: tuple[str, ...]  # inputs that the shards knew of and none of them has


def merge(places: Sequence[Path | Url], out: Path | Url) -> Merged:
    """Puts the inputs and crops of all shards into `out` and writes the tables anew.

    Crops are hard links where the file system allows it, else copies; the shards are not changed and can be deleted. A
    merge that was stopped goes on when it is started again, and more shards can be merged into the same folder later.

    Args:
        places: Output folders of finished extractions, here or in a store; one that was merged before is as good.
        out: Output folder, here or in a store. What it holds already of a shard's inputs is replaced by what the shard
            has.

    Raises:
        SourceError: A folder holds no finished extraction.
        ConfigError: Two of them were made with different settings; the message says in what they differ.
        DataError: An input is in two of them with different content or outcome.
        LeakError: The publisher's splits share a source.
        ResourceError: Disk full, or a store gives or takes nothing; finished inputs stay valid.
        UsageError: Another run is writing to one of the folders.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch_folder()) / "out" if isinstance(out, Url) else out
        stack.enter_context(locked(folder))
        sweep(folder)
        shards = [_shard(stack, place, folder) for place in dict.fromkeys(places) if _is_other(place, out)]
        here = _Shard(out, folder)
        if isinstance(out, Url):
            here.fetch(out)
        if (folder / LEDGER).is_file():
            here.check()  # a merge writes the settings first
        whole = [*([here] if (folder / CONFIG).is_file() else []), *shards]
        config = _common_config(whole)
        if not (folder / CONFIG).is_file():  # before anything else: a merge that is stopped keeps them
            with atomic_file(folder / CONFIG) as temporary:
                temporary.write_bytes((whole[0].folder / CONFIG).read_bytes())
            if isinstance(out, Url):
                put(folder / CONFIG, out / CONFIG)
        ledgers = {shard: _opened(stack, shard) for shard in shards}
        for shard, ledger in ledgers.items():
            if ledger.published is None:
                raise SourceError(
                    f"{shard} is not finished: run the same 'dfpipe extract' again, or leave the folder out"
                )
        merged = _opened(stack, here)
        before = len(merged.fingerprints())
        _check_twice(ledgers, here, merged)
        outbox = stack.enter_context(Outbox(out, folder, merged, TABLES)) if isinstance(out, Url) else None
        for shard, ledger in ledgers.items():
            _take(shard, ledger, folder, merged, outbox)
        keys = list(merged.fingerprints())
        absent = tuple(sorted(noted_inputs([merged, *ledgers.values()]).difference(keys)))
        summary = publish(merged, _missing(whole), (), keys, before, folder, config)
        if outbox is not None:
            outbox.publish()
        return Merged(replace(summary, out=out), len(shards), absent)


@dataclass(frozen=True)
class _Shard:
    """One of the folders to join."""

    place: Path | Url  # as it was named
    folder: Path  # the same, or what was copied of a store

    def __str__(self) -> str:
        return str(self.place)

    def fetch(self, url: Url) -> None:
        """Copies all but the crops of one in a store, as far as it is there."""
        for name in (LEDGER, CONFIG, MISSING):
            get(url / name, self.folder / name)

    def check(self) -> None:
        """Refuses what is no extraction."""
        for name in (LEDGER, CONFIG):
            if not (self.folder / name).is_file():
                raise SourceError(
                    f"{self} holds no finished extraction (no {name}): name the --out of 'dfpipe extract'"
                )

    @contextlib.contextmanager
    def crops(self, names: Sequence[str]) -> Iterator[None]:
        """Has some crops in `folder` for a moment."""
        if not isinstance(self.place, Url) or not names:
            yield
            return
        place = self.place
        with ThreadPoolExecutor(_FETCHES) as threads:
            list(threads.map(lambda name: get(place / name, self.folder / name), names))
        yield
        shutil.rmtree((self.folder / names[0]).parent)


def _is_other(place: Path | Url, out: Path | Url) -> bool:
    if isinstance(place, Path) and isinstance(out, Path):
        return place.resolve() != out.resolve()
    return place != out


def _shard(stack: contextlib.ExitStack, place: Path | Url, out: Path) -> _Shard:
    """One of the folders, held for this run; of one in a store, a copy of all but the crops."""
    if isinstance(place, Url):
        digest = hashlib.sha256(str(place).encode()).hexdigest()[:16]
        folder = out / f"{TEMPORARY}{os.getpid()}-{digest}"  # on the disk where the crops are wanted
        folder.mkdir()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        shard = _Shard(place, folder)
        shard.fetch(place)
        shard.check()
        return shard
    shard = _Shard(place, place)
    shard.check()
    stack.enter_context(locked(place))
    return shard


def _opened(stack: contextlib.ExitStack, shard: _Shard) -> Ledger:
    ledger = Ledger(shard.folder / LEDGER)
    stack.callback(ledger.close)
    return ledger


# ---- settings --------------------------------------------------------------------------------------------------------


def _common_config(folders: Sequence[_Shard]) -> Config:
    """The settings that all folders were made with."""
    if not folders:
        raise SourceError("nothing to merge: name the folders of the shards")
    first, *others = folders
    told = _settings(first)
    for other in others:
        theirs = _settings(other)
        differing = [
            f"{name} is {told.get(name)!r} and {theirs.get(name)!r}"
            for name in dict.fromkeys([*told, *theirs])
            if told.get(name) != theirs.get(name)
        ]
        if differing:
            raise ConfigError(
                f"{first} and {other} were made with different settings ({'; '.join(differing[:5])}): extract one of "
                "them again, or merge them to different --out"
            )
    return load_config(str(first.folder / CONFIG))


def _settings(shard: _Shard) -> dict[str, Any]:
    """All settings of a folder by their dotted names."""
    try:
        return dict(_dotted(yaml.safe_load((shard.folder / CONFIG).read_text(encoding="utf-8"))))
    except (OSError, yaml.YAMLError, ValueError, AttributeError) as error:
        raise DataError(f"{CONFIG} of {shard} is damaged: run the same 'dfpipe extract' again") from error


def _dotted(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


# ---- inputs ----------------------------------------------------------------------------------------------------------


def _check_twice(ledgers: Mapping[_Shard, Ledger], out: _Shard, merged: Ledger) -> None:
    """Refuses inputs that two folders tell different things of; of `out` only another content counts: it may be older."""
    owner: dict[str, _Shard] = {}
    for shard, ledger in ledgers.items():
        for key in ledger.fingerprints():
            if (other := owner.setdefault(key, shard)) is not shard:
                mine, theirs = _row(ledger, key), _row(ledgers[other], key)
                differing = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
                if set(differing).difference(_OF_THE_RUN):
                    raise DataError(
                        f"{key} is in {other} and in {shard} and not the same (other {', '.join(sorted(differing))}): "
                        "leave one of the folders out, or extract it again"
                    )
    for key in merged.fingerprints():
        if key in owner:
            old, new = _row(merged, key)["sha256"], _row(ledgers[owner[key]], key)["sha256"]
            if old and new and old != new:
                raise DataError(
                    f"{key} in {owner[key]} has another content than what was merged into {out} before: merge all shards "
                    "into a new --out"
                )


def _row(ledger: Ledger, key: str) -> dict[str, Any]:
    row = ledger.row(key)
    if row is None:
        raise LookupError(key)  # its keys have just been read, under a lock
    return row


def _take(shard: _Shard, ledger: Ledger, out: Path, merged: Ledger, outbox: Outbox | None) -> None:
    """All inputs of a shard: first the crops, then, when they are on the disk or sent, the rows in one go."""
    new = [key for key, row in ledger.rows() if row != merged.row(key)]
    if new:
        for key in new:
            names = _crop_names(shard, _row(ledger, key))
            with shard.crops(names):
                _take_crops(shard, names, out)
            if outbox is not None and names:
                outbox.send((out / names[0]).parent)
        os.sync()  # once for all: to flush 32 crops of each input costs 10 ms (see `replace_durably`)
        prints = ledger.fingerprints()
        merged.record_all((key, prints[key], _row(ledger, key)) for key in new)
    for name, text in ledger.notes():
        if merged.note(name) != text:
            merged.write_note(name, text)


def _crop_names(shard: _Shard, row: Mapping[str, Any]) -> list[str]:
    """The crops of one input, all in its folder. A shard may come from anybody: no other file is touched for it."""
    names = [str(crop["crop"]) for crop in row["crop_rows"]]
    odd = [name for name in names if not _CROP.fullmatch(name) or Path(name).parent != Path(names[0]).parent]
    if odd:
        raise DataError(
            f"the ledger of {shard} names crops that no extraction writes ({some(odd)}): leave the folder out"
        )
    return names


def _take_crops(shard: _Shard, names: Sequence[str], out: Path) -> None:
    """Puts the crops of one input in place in one step, unless they are there."""
    if not names:
        return
    place = Path(names[0]).parent
    final = out / place
    if final.is_dir():
        if _same(shard.folder / place, final):
            return
        shutil.rmtree(final)
    temporary = out / f"{TEMPORARY}{os.getpid()}-{place.name}"
    with disk_errors(out):
        temporary.mkdir()
        try:
            for name in names:
                if not (shard.folder / name).is_file():
                    raise DataError(
                        f"{name} is named by the ledger of {shard} and not there: extract that shard again, or leave it out"
                    )
                _link(shard.folder / name, temporary / Path(name).name)
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(final)
        except (OSError, DataError):
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _same(folder: Path, other: Path) -> bool:
    """Whether two folders hold the same files."""
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    if names != sorted(os.listdir(other)):
        return False
    pairs = [(folder / name, other / name) for name in names]
    return all(a.samefile(b) or filecmp.cmp(a, b, shallow=False) for a, b in pairs)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _missing(shards: Sequence[_Shard]) -> tuple[str, ...]:
    """What the datasets name and no shard found: shards of one run all say the same."""
    paths = [shard.folder / MISSING for shard in shards]
    lists = [path.read_text(encoding="utf-8", errors="surrogateescape") for path in paths if path.is_file()]
    return tuple(dict.fromkeys(line for text in lists for line in text.splitlines()))


def absent_text(names: Sequence[str]) -> str:
    """Which inputs no shard has, in a line."""
    return f"{len(names)} inputs are in none of the shards ({some(names)}): run the missing shards and merge again"
