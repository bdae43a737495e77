"""What an extraction has to do: the inputs of the named folders, each with what shapes its crops."""

import hashlib
import json
import logging
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dfpipe import __version__
from dfpipe.config import Config, LimitsConfig, to_mapping
from dfpipe.errors import ConfigError, MediaError, SourceError
from dfpipe.fetching import run_fetched
from dfpipe.ledger import Ledger
from dfpipe.names import as_text
from dfpipe.preprocess.facefinder import crop_scale_task, setup_of, typical_crop_scale
from dfpipe.preprocess.remote import located, scan_url
from dfpipe.preprocess.sources import Source, scan
from dfpipe.store import Url
from dfpipe.types import MediaItem, Origin, State

log = logging.getLogger(__name__)

_INPUTS_OF = "inputs of "  # begins the name of a note
STILLS_SAMPLE = 48  # stills looked at to decide whether a set consists of face crops


@dataclass(frozen=True)
class Job:
    """One input on its way to a worker."""

    item: MediaItem
    key: str
    fingerprint: str
    crop_scale: float | None  # of a still that is a face crop already; None = look for faces
    crop_format: str
    jpeg_quality: int

    @property
    def path(self) -> Path:
        """Where the worker finds it."""
        return self.item.path

    @property
    def origin(self) -> Origin | None:
        """Where it is fetched from."""
        return self.item.origin


def scan_all(
    videos: Sequence[Path | Url], images: Sequence[Path | Url], limits: LimitsConfig, scratch: Path
) -> list[Source]:
    """Recognises everything in the named folders; archives among them within the limits.

    Args:
        videos: Folders of clips.
        images: Folders of stills.
        limits: What an archive may hold.
        scratch: An empty folder for what is fetched from stores.

    Raises:
        SourceError: No folder is named, or one holds nothing usable.
    """
    named = [("videos", root) for root in videos] + [("images", root) for root in images]
    if not named:
        raise SourceError("nothing to extract: name at least one folder with --videos or --images")
    sources = []
    for number, (kind, root) in enumerate(named):
        place = scratch / str(number)
        place.mkdir()
        if isinstance(root, Url):
            sources += scan_url(root, kind, limits, place)
        else:
            sources += located(scan(root, kind, limits), place)
    seen: dict[str, Path] = {}
    for source in sources:
        for item in source.items:
            first = seen.setdefault(key_of(item), source.root)
            if first is not source.root:
                raise SourceError(
                    f"{first} and {source.root} both hold {key_of(item)}: name a folder once, rename one of two datasets "
                    "of equal name, or extract them to different --out"
                )
    return sources


def jobs_of(
    source: Source, config: Config, limit: int, shard: tuple[int, int], ledger: Ledger | None = None, **running: Any
) -> Iterator[Job]:
    """The jobs of one collection: at most `limit` of its items, of those the ones of a shard (I, N).

    Stills are told from face crops by a look at some of them, which the ledger remembers. `running` says how they are
    looked at: engine, workers and bounds of `dfpipe.workers.run_all`.
    """
    stills = source.kind == "images" or any(item.members for item in source.items[:1])
    crop_scale = _stills_scale(source.items, config, ledger, **running) if stills else None
    part, parts = shard
    spread = _spread(source.items, limit)
    items = [item for item in spread if zlib.crc32(key_of(item).encode()) % parts == part - 1]
    settings = {
        "faces": to_mapping(config.preprocess.faces),
        "crop_format": config.preprocess.crop_format,
        "jpeg_quality": config.preprocess.jpeg_quality,
        "crop_scale": crop_scale,
    }
    for item in items:
        fingerprint = _fingerprint(item, settings)
        cfg = config.preprocess
        yield Job(item, key_of(item), fingerprint, crop_scale, cfg.crop_format, cfg.jpeg_quality)


def note_inputs(sources: Sequence[Source], limit: int, ledger: Ledger) -> None:
    """Notes what inputs there are in all shards together, so that `merge` can tell which are in none.

    Each shard notes them all, as nobody knows which will be run: about 50 bytes per input (the size of its name).
    """
    for source in sources:
        names = [key_of(item) for item in _spread(source.items, limit)]
        ledger.write_note(f"{_INPUTS_OF}{source.dataset}: {source.layout}", json.dumps(names))


def noted_inputs(ledgers: Iterable[Ledger]) -> set[str]:
    """All inputs that were noted so; folders that were extracted without shards note none."""
    notes = (note for ledger in ledgers for note in ledger.notes())
    return {key for name, text in notes if name.startswith(_INPUTS_OF) for key in json.loads(text)}


def key_of(item: MediaItem) -> str:
    """What an input is called in the ledger."""
    return as_text(f"{item.dataset}/{item.name}")


def _spread(items: tuple[MediaItem, ...], limit: int) -> tuple[MediaItem, ...]:
    """At most `limit` items, evenly spread, so that a small run still sees every part and label."""
    if not limit or len(items) <= limit:
        return items
    return tuple(items[i * len(items) // limit] for i in range(limit))


def _stills_scale(items: Sequence[MediaItem], config: Config, ledger: Ledger | None, **running: Any) -> float | None:
    """The framing of stills that are face crops already, or None if faces must be looked for."""
    if config.preprocess.stills == "detect" or not items:
        return None
    sample = _spread(tuple(items), STILLS_SAMPLE)
    note = f"scale of {_sample_print(sample, config)}"
    known = ledger.note(note) if ledger is not None else None
    scale: float | None = json.loads(known) if known is not None else _measured_scale(sample, config, **running)
    if ledger is not None and known is None:
        ledger.write_note(note, json.dumps(scale))
    if scale is None and config.preprocess.stills == "as-is":
        scale = config.preprocess.faces.crop_scale  # told that they are crops, but cannot measure: take the usual
    found = f"are face crops of scale {scale:.2f}: taken whole" if scale else "are whole pictures: faces are looked for"
    log.info("%s: the stills %s", items[0].dataset, found)
    return scale


def _sample_print(sample: Sequence[MediaItem], config: Config) -> str:
    """Changes whenever one of the stills does, or anything that shapes what is found in them."""
    facts = [[key_of(item), _file_facts(item), item.members] for item in sample]
    told = json.dumps([__version__, to_mapping(config.preprocess), facts], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _measured_scale(sample: Sequence[MediaItem], config: Config, **running: Any) -> float | None:
    looks = run_fetched(crop_scale_task, sample, setup=finder_setup(config), **running)
    return typical_crop_scale([None if isinstance(scale, MediaError) else scale for _, scale in looks])


def _fingerprint(item: MediaItem, settings: dict[str, Any]) -> str:
    """Changes whenever the file or anything that shapes its crops or row does."""
    facts = [_file_facts(item), settings, item.label, item.method, item.group, item.split, item.members]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _file_facts(item: MediaItem) -> list[int | str]:
    if item.origin is not None:
        return [item.origin.size, item.origin.stamp]
    try:
        stat = item.path.stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def unfinished(jobs: Sequence[Job], ledger: Ledger, redo: Sequence[str]) -> list[Job]:
    """The jobs that no earlier run finished with the same file and settings, and those whose state is to be redone."""
    for state in redo:
        if state not in set(State):
            raise ConfigError(f"unknown state {state!r} for --redo; there are: {', '.join(State)}")
    again = {key for key, row in ledger.rows() if row["state"] in redo} if redo else set()
    finished = ledger.fingerprints()
    return [job for job in jobs if finished.get(job.key) != job.fingerprint or job.key in again]


def finder_setup(config: Config) -> partial[None]:
    """The set-up of a worker that finds faces with these settings."""
    return setup_of(config.preprocess.faces, config.preprocess.limits)
